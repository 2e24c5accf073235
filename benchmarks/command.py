"""The command line of a suite."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

import redis

from benchmarks import report, runner
from benchmarks.choices import chosen
from benchmarks.contenders import REFERENCE
from benchmarks.server import Server
from benchmarks.suite import Suite

_FOLDER = Path(__file__).parent / "results"


def main(suite: Suite, program: str, description: str) -> int:
    """Run what the command line asks for. 0, or 1 if any measurement failed."""
    contenders = [
        name
        for name in (*suite.roster, REFERENCE)
        if any(suite.covers(workload, name) for workload in suite.workloads.values())
    ]
    workloads = list(suite.workloads)
    options = _parser(suite, contenders, program, description).parse_args()
    # So that being told to stop also stops the server.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    plan = runner.Plan(
        suite=suite,
        contenders=options.contenders,
        workloads=options.only,
        rounds=1 if options.quick else options.rounds,
        seconds=0.3 if options.quick else options.seconds,
        warmup=0.1 if options.quick else options.warmup,
        url=options.url if suite.takes_url else None,
    )
    try:
        results = runner.run(plan)
    except redis.RedisError as error:
        print(f"The server cannot be used: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    report.show(results, suite.wording)
    for line in [*results.notes, *results.failures]:
        print(line)
    whole = options.contenders == contenders and options.only == workloads
    if options.out is not None or (whole and not options.quick):
        for path in report.write(results, suite.wording, options.out or _FOLDER):
            print(f"written: {path}")
    else:
        print("Nothing was written: only a whole run replaces the results, others need --out.")
    return 1 if results.failures else 0


def _parser(
    suite: Suite, contenders: list[str], program: str, description: str
) -> argparse.ArgumentParser:
    workloads = list(suite.workloads)
    parser = argparse.ArgumentParser(prog=program, description=description)
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
        type=lambda text: chosen(text, workloads),
        default=workloads,
        metavar="WORKLOAD,…",
        help=", ".join(workloads),
    )
    parser.add_argument(
        "--contenders",
        type=lambda text: chosen(text, contenders),
        default=contenders,
        metavar="NAME,…",
        help=", ".join(contenders),
    )
    if suite.takes_url:
        parser.add_argument(
            "--url",
            type=_url,
            help="redis://[user:password@]host[:port] of the server to use; "
            "a private one otherwise",
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
