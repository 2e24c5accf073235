"""The workloads of a cluster."""

from __future__ import annotations

from typing import Any

from benchmarks import reference
from benchmarks.cluster import measures as of_clusters
from benchmarks.contenders import OURS, REFERENCE, STANDALONE
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.workloads import GETS, LATENCY, MIXED, PIPELINES, Metric, Workload, speed

MOVING = "moving"
OUTAGE = "outage"

_ALL: tuple[Workload[ClusterClient], ...] = (
    *GETS,
    LATENCY,
    Workload(
        "processor-50",
        (Metric("cpu", "Client's processor time, GET by 50 tasks", "µs", more_is_better=False),),
        of_clusters.processor,
        tasks=50,
    ),
    Workload(
        "routing",
        (
            Metric(
                "cost", "Routing of a GET sent before", "µs", more_is_better=False, ours_only=True
            ),
        ),
        of_clusters.routing,
        ours_only=True,
    ),
    MIXED,
    PIPELINES,
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
    if workload.ours_only:
        return contender == OURS
    if contender == REFERENCE:
        return reference.covers(workload)
    return contender != STANDALONE or workload.key not in (MOVING, OUTAGE)
