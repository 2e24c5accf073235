"""The workloads of a cluster."""

from __future__ import annotations

from typing import Any

from benchmarks import measures, reference
from benchmarks.cluster import measures as of_clusters
from benchmarks.contenders import REFERENCE, STANDALONE
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.workloads import Metric, Workload, speed

MOVING = "moving"
OUTAGE = "outage"

_ALL: tuple[Workload[ClusterClient], ...] = (
    Workload("get-1", speed("GET, 1 task"), measures.get, tasks=1),
    Workload("get-50", speed("GET, 50 tasks"), measures.get, tasks=50),
    Workload("get-200", speed("GET, 200 tasks"), measures.get, tasks=200),
    Workload(
        "latency-50",
        (
            Metric("p50", "GET, 50 tasks: p50", "µs", more_is_better=False),
            Metric("p99", "GET, 50 tasks: p99", "µs", more_is_better=False),
        ),
        measures.latency,
        tasks=50,
    ),
    Workload(
        "processor-50",
        (Metric("cpu", "Client's processor time, GET by 50 tasks", "µs", more_is_better=False),),
        of_clusters.processor,
        tasks=50,
    ),
    Workload("mixed-50", speed("80/20 GET/SET, 50 tasks"), measures.mixed, tasks=50),
    Workload(
        "pipeline",
        speed("Pipelines of 100, 4 tasks"),
        measures.pipelines,
        tasks=4,
    ),
    Workload("mget", speed("MGET of 50 keys, 4 tasks"), of_clusters.mget, tasks=4),
    Workload(
        MOVING,
        (
            Metric("ops", "GET, 50 tasks, while slots move", "/s"),
            Metric("failed", "… calls that fail", "of 10,000", more_is_better=False),
        ),
        of_clusters.while_moving,
        tasks=50,
    ),
    Workload(
        OUTAGE,
        (
            Metric("ops", "GET, 48 tasks, a node dead", "/s"),
            Metric("share", "… of what it was before", "%"),
        ),
        of_clusters.outage,
        tasks=48,
    ),
)

WORKLOADS = {workload.key: workload for workload in _ALL}


def covers(workload: Workload[Any], contender: str) -> bool:
    """Whether ``contender`` can do it: no slots move where there is one server."""
    if contender == REFERENCE:
        return reference.covers(workload)
    return contender != STANDALONE or workload.key not in (MOVING, OUTAGE)
