"""One contender and one workload, in a process of its own.

``python -m benchmarks.worker '{"adapter": …, "catalogue": …, "workload": …, "server": …,
"warmup": …, "seconds": …}'`` prints what was measured as one line of JSON. Exit code 1 and one line
of text if that failed; the traceback goes to standard error.
"""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module
from typing import Any, cast

import uvloop

from benchmarks.box import Box
from benchmarks.children import summary
from benchmarks.contenders import load
from benchmarks.machine import allow_many_sockets
from benchmarks.server import Server
from benchmarks.workloads import Workload


async def measure(order: dict[str, Any]) -> dict[str, float]:
    """Carry out ``order``. Raises whatever the contender raises."""
    workload: Workload[Any] = import_module(order["catalogue"]).WORKLOADS[order["workload"]]
    if workload.measure is None:
        raise ValueError(f"{workload.key} is not measured by a worker")
    contender = load(order["adapter"])(
        Server.from_dict(order["server"]), tasks=workload.tasks, connections=workload.connections
    )
    await contender.open()
    try:
        return await workload.measure(
            contender, workload.tasks, Box(order["warmup"]), Box(order["seconds"])
        )
    finally:
        await contender.close()


def main() -> int:
    """Read the order from the command line, print the measurement or what went wrong."""
    allow_many_sockets()
    # redis-py imports all of OpenTelemetry's SDK where there is one, as there is for our tests:
    # contenders are measured as most of their users have them.
    sys.modules["opentelemetry"] = cast(Any, None)
    try:
        measured = uvloop.run(measure(json.loads(sys.argv[1])))
    except Exception as error:  # noqa: BLE001  # whatever a library raises is the outcome
        traceback.print_exc()
        print(summary(error))
        return 1
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
