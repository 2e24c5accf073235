"""The workloads: what each measures, with how many tasks, and its rows in the report."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from benchmarks import measures
from benchmarks.box import Box
from benchmarks.contenders.base import Client, Contender

_C_contra = TypeVar("_C_contra", bound=Client, contravariant=True)


@dataclass(frozen=True)
class Metric:
    """One row of the report."""

    key: str
    """What a measurement calls it; unique within the workload."""
    title: str
    unit: str
    more_is_better: bool = True
    ours_only: bool = False

    @property
    def is_speed(self) -> bool:
        """Whether it is a throughput, and so belongs into the chart."""
        return self.unit == "/s"


@dataclass(frozen=True)
class Workload(Generic[_C_contra]):
    """``measure`` gets a contender that was opened for this many tasks and connections,
    a box to warm up in and the box that counts. It returns its metrics by key."""

    key: str
    metrics: tuple[Metric, ...]
    measure: Callable[[_C_contra, int, Box, Box], Awaitable[dict[str, float]]] | None
    """None for what is not measured inside a contender's process."""
    tasks: int = 1
    ours_only: bool = False
    connections: int | None = None
    """The pool's size where connections are checked out of one; None: the client's own way."""


def speed(title: str) -> tuple[Metric, ...]:
    """The one metric of a workload that measures throughput."""
    return (Metric("ops", title, "/s"),)


# What is measured of one server and of a cluster alike.

GETS: tuple[Workload[Client], ...] = (
    Workload("get-1", speed("GET, 1 task"), measures.get, tasks=1),
    Workload("get-50", speed("GET, 50 tasks"), measures.get, tasks=50),
    Workload("get-200", speed("GET, 200 tasks"), measures.get, tasks=200),
)
LATENCY: Workload[Client] = Workload(
    "latency-50",
    (
        Metric("p50", "GET, 50 tasks: p50", "µs", more_is_better=False),
        Metric("p99", "GET, 50 tasks: p99", "µs", more_is_better=False),
    ),
    measures.latency,
    tasks=50,
)
MIXED: Workload[Client] = Workload(
    "mixed-50", speed("80/20 GET/SET, 50 tasks"), measures.mixed, tasks=50
)
PIPELINES: Workload[Client] = Workload(
    "pipeline", speed("Pipelines of 100, 4 tasks"), measures.pipelines, tasks=4
)

IMPORT = "import"

_ALL: tuple[Workload[Contender], ...] = (
    *GETS,
    Workload("get-1000", speed("GET, 1,000 tasks"), measures.get, tasks=1000),
    LATENCY,
    Workload(
        "measuring",
        (
            Metric(
                "cost",
                "What measuring costs, GET by 50 tasks",
                "%",
                more_is_better=False,
                ours_only=True,
            ),
        ),
        measures.measuring,
        tasks=50,
        ours_only=True,
    ),
    MIXED,
    Workload("set-10k", speed("SET of 10 kB, 50 tasks"), measures.set_large, tasks=50),
    PIPELINES,
    Workload(
        "checkout",
        speed("Checkout + GET, 50 tasks"),
        measures.checkout,
        tasks=50,
        connections=50,
    ),
    Workload(
        "bare",
        speed("Bare checkout + GET, 50 tasks"),
        measures.bare_checkout,
        tasks=50,
        connections=50,
    ),
    Workload(
        "acquire",
        speed("Acquire + release alone, 1 task"),
        measures.acquire,
        tasks=1,
        connections=50,
    ),
    Workload("pubsub", speed("Publish → receive, 50 tasks"), measures.pubsub, tasks=50),
    Workload(
        "memory",
        (
            Metric("resident", "Resident, 500 connections open", "MiB", more_is_better=False),
            Metric("added", "… more than before opening them", "MiB", more_is_better=False),
        ),
        measures.memory,
        connections=500,
    ),
    Workload(
        IMPORT,
        (
            Metric("total", "Import", "ms", more_is_better=False),
            Metric(
                "added",
                "… beyond redis-py's own",
                "ms",
                more_is_better=False,
                ours_only=True,
            ),
        ),
        measure=None,
    ),
)

WORKLOADS = {workload.key: workload for workload in _ALL}
