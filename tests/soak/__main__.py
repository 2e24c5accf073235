"""``python -m tests.soak``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop

from redisutils.testing import find_servers

from . import chart, page
from .progress import shown
from .run import Plan, Record, soak

_LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. 0; 1 if anything was as it must not be; 130 if it was
    interrupted before anything was."""
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
    record = Record(plan)

    def show(latest: Record) -> None:
        nonlocal record
        record = latest
        show_user(latest)

    try:
        with shown(plan) as show_user, asyncio.Runner(loop_factory=_LOOPS[asked.loop]) as runner:
            record = runner.run(soak(plan, show))
    except KeyboardInterrupt:
        record.interrupted = True
        _say(page.summary(record))
        return _complain(record) or 130
    for place, write in ((asked.plot, chart.draw), (asked.page, page.write)):
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            write(record, place)
            _say(f"written: {place}")
    _say(page.summary(record))
    return _complain(record)


def _complain(record: Record) -> int:
    if not record.complaints:
        return 0
    again = f"--seed {record.plan.seed} draws the same faults again, not the same interleaving"
    _say(f"{len(record.complaints)} complaints ({again}):")
    _say("\n".join(f"- {complaint}" for complaint in record.complaints))
    return 1


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not (minutes > 0 and math.isfinite(minutes)):
        raise argparse.ArgumentTypeError(f"{text} must be a number greater than 0")
    return minutes


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
    parser.add_argument("--minutes", type=_minutes, default=10.0, help="default: %(default)g")
    parser.add_argument("--seed", type=int, help="of the faults and the users; default: any")
    default = "default: %(default)s"
    parser.add_argument("--server", choices=servers, default=servers[0], help=default)
    parser.add_argument("--loop", choices=list(_LOOPS), default="uvloop", help=default)
    parser.add_argument("--plot", type=Path, metavar="SVG", help="where to draw the run")
    parser.add_argument("--page", type=Path, metavar="MD", help="where to write about it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
