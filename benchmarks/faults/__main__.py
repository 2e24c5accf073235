"""The command line: ``python -m benchmarks.faults``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from benchmarks.choices import chosen
from benchmarks.contenders import OURS
from benchmarks.faults import page, runner, table
from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.clients import ADAPTERS

_ROOT = Path(__file__).resolve().parent.parent.parent
_PAGE = _ROOT / "docs" / "faults.md"
_RAW = _ROOT / "benchmarks" / "results" / "faults.json"


def main() -> int:
    """Run what the command line asks for. 0, or 1 if redisutils is not what it should be."""
    options = _parser().parse_args()
    # So that being told to stop also stops the servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = runner.Plan(options.only, options.contenders, options.seed, options.scale)
    try:
        results = runner.run(plan)
    except KeyboardInterrupt:
        return 130
    table.show(results)
    whole = plan.clients == list(ADAPTERS) and plan.scenarios == list(SCENARIOS)
    complete = whole and plan.scale == 1 and len(results.clients) == len(ADAPTERS)
    if options.out is not None or complete:
        out: Path | None = options.out
        paths = (out / "faults.md", out / "faults.json") if out else (_PAGE, _RAW)
        for path in page.write(results, *paths):
            print(f"written: {path}")
    else:
        print("Nothing was written: only a whole run replaces the page, others need --out.")
    return 0 if OURS not in results.clients or results.flawless(OURS) else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description="Do the same to redisutils and its peers, and see what their callers see.",
    )
    parser.add_argument(
        "--only",
        type=lambda text: chosen(text, list(SCENARIOS)),
        default=list(SCENARIOS),
        metavar="SCENARIO,…",
        help=", ".join(SCENARIOS),
    )
    parser.add_argument(
        "--contenders",
        type=lambda text: chosen(text, list(ADAPTERS)),
        default=list(ADAPTERS),
        metavar="NAME,…",
        help=", ".join(ADAPTERS),
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of what is left to chance, default: %(default)s"
    )
    parser.add_argument(
        "--scale",
        type=_share,
        default=1.0,
        help="share of a whole run's counts and durations, default: %(default)s",
    )
    parser.add_argument("--out", type=Path, help="folder for faults.md and faults.json")
    return parser


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError("more than 0, and 1 at most")
    return share


if __name__ == "__main__":
    sys.exit(main())
