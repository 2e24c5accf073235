"""``python -m tests.soak``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence
from pathlib import Path

from tests import long_runs
from tests.long_runs import LOOPS, say

from . import chart, page
from .progress import shown
from .run import Plan, Record, soak


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
    say(f"{asked.minutes:g} minutes on {asked.server} and {asked.loop}, --seed {seed}")
    record = Record(plan)

    def show(latest: Record) -> None:
        nonlocal record
        record = latest
        show_user(latest)

    try:
        with shown(plan) as show_user, asyncio.Runner(loop_factory=LOOPS[asked.loop]) as runner:
            record = runner.run(soak(plan, show))
    except KeyboardInterrupt:
        record.interrupted = True
        say(page.summary(record))
        return _complain(record) or 130
    for place, write in ((asked.plot, chart.draw), (asked.page, page.write)):
        if place is not None:
            place.parent.mkdir(parents=True, exist_ok=True)
            write(record, place)
            say(f"written: {place}")
    say(page.summary(record))
    return _complain(record)


def _complain(record: Record) -> int:
    if not record.complaints:
        return 0
    again = f"--seed {record.plan.seed} draws the same faults again, not the same interleaving"
    say(f"{len(record.complaints)} complaints ({again}):")
    say("\n".join(f"- {complaint}" for complaint in record.complaints))
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = long_runs.parser(
        "python -m tests.soak",
        "Do all that users do, for minutes, on a network and a server that fail at "
        "random; then nothing may be lost, doubled, mixed up, late or left behind.",
        minutes=10.0,
        seed_of="the faults and the users",
    )
    parser.add_argument("--plot", type=Path, metavar="SVG", help="where to draw the run")
    parser.add_argument("--page", type=Path, metavar="MD", help="where to write about it")
    return parser


if __name__ == "__main__":
    sys.exit(main())
