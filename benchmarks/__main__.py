"""The command line: ``python -m benchmarks``."""

from __future__ import annotations

import sys
from typing import Any

from benchmarks import command, hosting, reference
from benchmarks.contenders import OURS, REFERENCE, ROSTER
from benchmarks.suite import Suite, Wording
from benchmarks.workloads import WORKLOADS, Workload


def _covers(workload: Workload[Any], contender: str) -> bool:
    if contender == REFERENCE:
        return not workload.ours_only and reference.covers(workload)
    return contender == OURS or not workload.ours_only


SUITE = Suite(
    catalogue="benchmarks.workloads",
    roster=ROSTER,
    workloads=WORKLOADS,
    stage=hosting.stage,
    covers=_covers,
    wording=Wording(
        stem="latest",
        title="Benchmark",
        introduction=(
            "Every measurement runs in a process of its own, on uvloop, all contenders in turn "
            "against the same server. redis-benchmark runs without `-P`, a connection per task; "
            "it has no equivalent of some workloads. Pipelines count commands. A checkout gives a "
            "connection of one's own with the library's methods, a bare one what lies below them, "
            "where there is such a thing: in redis-py `client.client()` and "
            "`pool.get_connection()`."
        ),
        peers=("redis-py", "valkey-glide", REFERENCE),
        base="redis-py",
        chart_title="Throughput relative to redis-py",
    ),
    takes_url=True,
)

if __name__ == "__main__":
    sys.exit(
        command.main(
            SUITE,
            "python -m benchmarks",
            "Compare redisutils with its peers, side by side on this machine.",
        )
    )
