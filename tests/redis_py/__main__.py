"""``python -m tests.redis_py``: see the package's description and ``--help``."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from . import baseline, jobs, servers, source, verdict
from .verdict import Verdict, Wanted


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the suite; returns 0 only if everything that passes with redis-py passes with ours."""
    asked = _parser().parse_args(arguments)
    started = time.monotonic()
    kinds = servers.KINDS if asked.server == "both" else (asked.server,)
    for kind in [kind for kind in kinds if servers.executable(kind) is None]:
        if asked.server != "both":
            raise SystemExit(f"no {kind} server is installed here")
        print(f"no {kind} server is installed here: left out")
        kinds = tuple(one for one in kinds if one != kind)
    if not kinds:
        raise SystemExit("no server is installed here")
    protocols = jobs.PROTOCOLS if asked.protocol == "all" else (asked.protocol,)
    client = "redis-py" if asked.baseline or asked.update_baseline else asked.client
    wanted = Wanted(client, tuple((k, p) for k in kinds for p in protocols), asked.keyword)

    folder = source.fetch()
    if asked.update_baseline:
        return _update(wanted, folder_passes=verdict.collect, folder=folder)
    verdicts = verdict.judge(wanted, folder, print)
    stale = [] if asked.keyword else verdict.stale(one.outcome for one in verdicts)
    print(table(verdicts))
    print(findings(verdicts, traces=asked.traces), end="")
    for entry in stale:
        print(f"DESELECTED, but there is no such test: {entry}")
    print(f"redis-py {source.installed_version()}, client {client}, ", end="")
    print(f"{time.monotonic() - started:.0f} s")
    return 0 if all(one.good for one in verdicts) and not stale else 1
