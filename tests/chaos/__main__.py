"""``python -m tests.chaos``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from collections.abc import Sequence

from tests import long_runs
from tests.long_runs import LOOPS, say

from .run import Record, play
from .scenarios import SCENARIOS
from .sentinel import failovers

_ABOUT = {
    **{name: scenario.about for name, scenario in SCENARIOS.items()},
    "sentinel": "a primary that sentinels watch over dies, hangs, or is replaced by choice",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for. 0; 1 if anything was as it must not be; 130 if it was
    interrupted before anything was."""
    asked = _parser().parse_args(arguments)
    seed = random.randrange(1_000_000) if asked.seed is None else asked.seed
    names = asked.only or list(_ABOUT)
    records: list[Record] = []
    interrupted = False
    say(f"{asked.minutes:g} minutes on {asked.server} and {asked.loop}, --seed {seed}")
    try:
        with asyncio.Runner(loop_factory=LOOPS[asked.loop]) as runner:
            for name in names:
                say(f"\n{name}: {_ABOUT[name]}")
                seconds = 60 * asked.minutes / len(names)
                if name == "sentinel":
                    playing = failovers(seconds, seed, asked.server, say)
                else:
                    playing = play(name, seconds, seed, asked.server, say)
                records.append(runner.run(playing))
    except KeyboardInterrupt:
        interrupted = True
    say("\n" + "\n".join(map(_summary, records)))
    complaints = [f"{record.name}, {one}" for record in records for one in record.complaints]
    if complaints:
        say(f"\n{len(complaints)} complaints (--seed {seed}):")
        say("\n".join(f"- {complaint}" for complaint in complaints))
        return 1
    say("interrupted: nothing was found so far" if interrupted else "all is well")
    return 130 if interrupted else 0


def _summary(record: Record) -> str:
    seen = ", ".join(f"{count} {name}" for name, count in sorted(record.outcomes.items()))
    verdict = "well" if record.well else f"{len(record.complaints)} complaints"
    pace = record.turns / record.seconds if record.seconds else 0.0
    return (
        f"{record.name:<11} {record.rounds:>4} rounds {record.turns:>8} turns {pace:>6.0f}/s  "
        f"errors: {seen or 'none'}  {verdict}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = long_runs.parser(
        "python -m tests.chaos",
        "Let everything happen to clusters and sentinels that can, while callers "
        "work; then nothing may be lost, doubled, out of order or answered wrongly.",
        minutes=8.0,
        seed_of="all that is random",
    )
    parser.add_argument(
        "--only", action="append", choices=list(_ABOUT), help="one of them; may be repeated"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
