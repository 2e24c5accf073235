"""``python -m tests.soak``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from redisutils.testing import find_servers

from . import chart, page
from .progress import shown
from .run import Plan, soak

_LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. 0, or 1 if anything was as it must not be."""
    asked = _parser().parse_args(arguments)
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    plan = Plan(
        seconds=60 * asked.minutes,
        seed=seed,
        server=asked.server,
        loop=asked.loop,
        calm_every=min(60.0, 15 * asked.minutes),
    )
    _say(f"{asked.minutes:g} minutes on {asked.server} and {asked.loop}, --seed {seed}")
    try:
        with shown(plan) as show, asyncio.Runner(loop_factory=_LOOPS[asked.loop]) as runner:
            record = runner.run(soak(plan, show))
    except KeyboardInterrupt:
        return 130
    for place, write in ((asked.plot, chart.draw), (asked.page, page.write)):
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            write(record, place)
            _say(f"written: {place}")
    _say(page.summary(record))
    if not record.complaints:
        return 0
    _say(f"{len(record.complaints)} complaints (again with --seed {seed}):")
    _say("\n".join(f"- {complaint}" for complaint in record.complaints))
    return 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.soak",
        description="Do all that users do, for minutes, on a network and a server that fail at "
        "random; then nothing may be lost, doubled, mixed up, late or left behind.",
    )
    servers = list(find_servers())
    parser.add_argument("--minutes", type=float, default=10.0, help="default: %(default)g")
    parser.add_argument("--seed", type=int, help="of the faults and the users; default: any")
    default = "default: %(default)s"
    parser.add_argument("--server", choices=servers, default=servers[0], help=default)
    parser.add_argument("--loop", choices=list(_LOOPS), default="uvloop", help=default)
    parser.add_argument("--plot", type=Path, metavar="SVG", help="where to draw the run")
    parser.add_argument("--page", type=Path, metavar="MD", help="where to write about it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
