"""One client and one scenario, in a process of its own.

``python -m benchmarks.faults.worker '{"client": …, "scenario": …, "seed": …, "scale": …}'``
prints what was counted as one line of JSON. Exit code 1 and one line of text if that failed; the
traceback goes to standard error.
"""

from __future__ import annotations

import json
import os
import random
import sys
import traceback
from typing import Any

import uvloop

from benchmarks.children import summary
from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.clients import load
from benchmarks.faults.network import Network
from benchmarks.faults.stage import Figures, Stage
from benchmarks.machine import allow_many_sockets
from redisutils.testing import EmbeddedServer


async def play(order: dict[str, Any]) -> Figures:
    """Carry out ``order``. Raises what the client raises outside of its calls."""
    scenario = SCENARIOS[order["scenario"]]
    adapter = load(order["client"])
    async with (
        EmbeddedServer(password="", appendonly=scenario.durable) as server,
        Network(server.host, server.port) as network,
    ):
        rng = random.Random(f"{order['seed']} {scenario.key}")
        return await scenario.play(Stage(server, network, adapter, rng, order["scale"]))


def main() -> int:
    """Read the order from the command line, print the figures or what went wrong."""
    allow_many_sockets()
    try:
        figures = uvloop.run(play(json.loads(sys.argv[1])))
    except Exception as error:
        traceback.print_exc()
        print(summary(error))
        return 1
    print(json.dumps(figures))
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of a client may wait for ever for a call that was given up.
    os._exit(code)
