"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import redis

from benchmarks import report, runner
from benchmarks.choices import chosen
from benchmarks.contenders import REFERENCE, ROSTER
from benchmarks.server import Server
from benchmarks.workloads import WORKLOADS

_FOLDER = Path(__file__).parent / "results"
_CONTENDERS = [*ROSTER, REFERENCE]


def main() -> int:
    """Run what the command line asks for. 0, or 1 if any measurement failed."""
    options = _parser().parse_args()
    # So that being told to stop also stops the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = runner.Plan(
        contenders=options.contenders,
        workloads=options.only,
        rounds=1 if options.quick else options.rounds,
        seconds=0.3 if options.quick else options.seconds,
        warmup=0.1 if options.quick else options.warmup,
        url=options.url,
    )
    try:
        results = runner.run(plan)
    except redis.RedisError as error:
        print(f"The server cannot be used: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    report.show(results)
    for line in [*results.notes, *results.failures]:
        print(line)
    whole = options.contenders == _CONTENDERS and options.only == list(WORKLOADS)
    if options.out is not None or (whole and not options.quick):
        for path in report.write(results, options.out or _FOLDER, "latest"):
            print(f"written: {path}")
    else:
        print("Nothing was written: only a whole run replaces the results, others need --out.")
    return 1 if results.failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Compare redisutils with its peers, side by side on this machine.",
    )
    parser.add_argument("--rounds", type=_positive, default=3, help="default: %(default)s")
    parser.add_argument(
        "--seconds",
        type=float,
        default=1.5,
        help="of each measurement, default: %(default)s",
    )
    parser.add_argument(
        "--warmup",
        type=float,
        default=0.3,
        help="seconds before each measurement, default: %(default)s",
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round of 0.3 s each, to see that all works"
    )
    parser.add_argument(
        "--only",
        type=lambda text: chosen(text, list(WORKLOADS)),
        default=list(WORKLOADS),
        metavar="WORKLOAD,…",
        help=", ".join(WORKLOADS),
    )
    parser.add_argument(
        "--contenders",
        type=lambda text: chosen(text, _CONTENDERS),
        default=_CONTENDERS,
        metavar="NAME,…",
        help=", ".join(_CONTENDERS),
    )
    parser.add_argument(
        "--url",
        type=_url,
        help="redis://[user:password@]host[:port] of the server to use; a private one otherwise",
    )
    parser.add_argument("--out", type=Path, help="folder to write to, default: benchmarks/results")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("1 or more")
    return number


def _url(text: str) -> str:
    try:
        Server.from_url(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


if __name__ == "__main__":
    sys.exit(main())
