"""The command line: ``python -m benchmarks.cluster``."""

from __future__ import annotations

import sys

from benchmarks import command
from benchmarks.cluster.stage import stage
from benchmarks.cluster.workloads import WORKLOADS, covers
from benchmarks.contenders import REFERENCE, STANDALONE
from benchmarks.contenders.clusters import ROSTER
from benchmarks.goals import Goal
from benchmarks.suite import Suite, Wording

SUITE = Suite(
    catalogue="benchmarks.cluster.workloads",
    roster=ROSTER,
    workloads=WORKLOADS,
    stage=stage,
    covers=covers,
    wording=Wording(
        stem="cluster",
        title="Benchmark of cluster clients",
        introduction=(
            "Every measurement runs in a process of its own, on uvloop, all contenders in turn "
            "against the same three primaries. These share one core, the client has the other: "
            "what is compared is clients, not what a cluster gains by having three machines.\n\n"
            f"`{STANDALONE}` is our own client against one server that has that core for itself. "
            "Keys lie all over the slots. `redis-benchmark --cluster` runs without `-P`, on one "
            "thread, a connection per task. Pipelines count commands, MGET counts keys. "
            "Routing is timed for GETs that were sent before, whose slots are remembered. "
            "Slots move one at a time, there and back; each is half-way for 50 ms, and an eighth "
            "of the calls ask for its keys.\n\n"
            "In the outage a third of the tasks call for the dead node and are not counted; they "
            "give up after a second and try again after 10 ms. "
            "A share beyond 100 % is the processor time that they no longer take."
        ),
        peers=("redis-py", "valkey-glide", STANDALONE, REFERENCE),
        base="redis-py",
        chart_title="Throughput on a cluster of three, relative to redis-py's RedisCluster",
        goals=(
            Goal("get-50.ops", 10, "redis-py"),
            Goal("get-50.ops", 3, "valkey-glide"),
            Goal("get-50.ops", 0.6, STANDALONE),
            Goal("pipeline.ops", 6, "redis-py"),
            Goal("routing.cost", 2),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(
        command.main(
            SUITE,
            "python -m benchmarks.cluster",
            "Compare redisutils with other clients of a cluster, side by side on this machine.",
        )
    )
