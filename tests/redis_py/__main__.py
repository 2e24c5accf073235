"""``python -m tests.redis_py``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from . import baseline, jobs, report, servers, source, verdict
from .jobs import Wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; returns 0 only if everything that passes with redis-py passes with ours."""
    asked = _parser().parse_args(arguments)
    started = time.monotonic()
    protocols = jobs.PROTOCOLS if asked.protocol == "all" else (asked.protocol,)
    client = "redis-py" if asked.baseline or asked.update_baseline else asked.client
    passes = tuple((kind, protocol) for kind in _kinds(asked.server) for protocol in protocols)
    wanted = Wanted(client, passes, asked.keyword)
    folder = source.fetch()
    if asked.update_baseline:
        if asked.keyword or asked.protocol != "all":
            raise SystemExit("--update-baseline stores all tests and protocols: no -k, --protocol")
        for path in baseline.update(wanted, folder):
            _say(f"written: {path}")
        return 0
    verdicts = verdict.judge(wanted, folder, _say)
    gaps = [] if asked.keyword else verdict.gaps((one.outcome for one in verdicts), folder)
    _say(report.table(verdicts))
    _say(report.findings(verdicts, gaps, traces=asked.traces))
    seconds = time.monotonic() - started
    _say(f"redis-py {source.installed_version()}, client {client}, {seconds:.0f} s")
    return 0 if all(one.good for one in verdicts) and not gaps else 1


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _kinds(asked: str) -> tuple[str, ...]:
    """Return the kinds of server to use; ``both`` is content with what is installed."""
    kinds = servers.KINDS if asked == "both" else (asked,)
    here = tuple(kind for kind in kinds if servers.installed(kind))
    for kind in sorted(set(kinds) - set(here)):
        _say(f"no {kind} server is installed here")
    if not here:
        raise SystemExit("there is no server to run on")
    return here


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.redis_py",
        description="Run redis-py's own asyncio tests on our client, on real servers.",
    )
    parser.add_argument("--server", choices=[*servers.KINDS, "both"], default="both")
    parser.add_argument("--client", choices=jobs.CLIENTS, default="redisutils")
    parser.add_argument(
        "--protocol",
        choices=[*jobs.PROTOCOLS, "all"],
        default="all",
        help="what the clients are told: nothing, protocol=2 or protocol=3 (default: each)",
    )
    parser.add_argument("-k", dest="keyword", default="", help="as pytest's -k")
    parser.add_argument("--traces", action="store_true", help="show where each test failed")
    parser.add_argument("--baseline", action="store_true", help="the same as --client redis-py")
    parser.add_argument(
        "--update-baseline",
        action="store_true",
        help="run redis-py itself twice and store what passed both times",
    )
    return parser


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (source.SourceError, servers.ServerError) as error:
        sys.exit(f"error: {error}")
