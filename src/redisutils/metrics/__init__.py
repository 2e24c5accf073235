"""What a pool counts and measures, and the frozen snapshot it shows.

======== =====================================================================================
module   what it is
======== =====================================================================================
latency  the histogram of durations, and its snapshot
split    what a command's latency is made of
meter    which commands are measured, and how
measures where measured commands are counted
slow     the slowest of the last minutes
pulse    the event loop's lag, the garbage collector's pauses, the process's memory
counters all that a pool counts
merging  one snapshot of many servers
reading  where reads went that replicas may answer
events   log records of what matters, and never a flood of them
breaking what a snapshot says of a circuit breaker
observer who may watch commands one by one
snapshot ``pool.metrics()``
======== =====================================================================================
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from redisutils.metrics.breaking import BreakerStatus
from redisutils.metrics.counters import Gauges, PoolMetrics
from redisutils.metrics.latency import FOLD_AT, LatencyHistogram, LatencySnapshot
from redisutils.metrics.reading import ReadMetrics
from redisutils.metrics.slow import SlowCommand
from redisutils.metrics.split import PARTS, Composition, Split

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import (
        CommandMetrics,
        LaneMetrics,
        MetricsSnapshot,
        NodeMetrics,
        ProcessMetrics,
        Rates,
    )

__all__ = [
    "FOLD_AT",
    "PARTS",
    "BreakerStatus",
    "CommandMetrics",
    "Composition",
    "Gauges",
    "LaneMetrics",
    "LatencyHistogram",
    "LatencySnapshot",
    "MetricsSnapshot",
    "NodeMetrics",
    "PoolMetrics",
    "ProcessMetrics",
    "Rates",
    "ReadMetrics",
    "SlowCommand",
    "Split",
]


def __getattr__(name: str) -> Any:
    """The classes of a snapshot, when they are first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("redisutils.metrics.snapshot"), name)
