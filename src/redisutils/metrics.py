"""What a pool counts, and the frozen snapshot it shows.

The hot path appends one float per command to a list and nothing else; the list
is folded into the histogram in bulk, at C speed (see ``LatencyHistogram.fold``).
"""

from __future__ import annotations

import sys
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

__all__ = ["LatencyHistogram", "LatencySnapshot", "MetricsSnapshot", "PoolMetrics"]

FOLD_AT: Final = 1024
"""Samples that may wait for folding: bounds memory, and the pause that folding makes."""

_HIGH_HALF: Final = 1 if sys.byteorder == "little" else 0


@dataclass(frozen=True, slots=True)
class LatencySnapshot:
    """Latencies in seconds, from issuing a command to handing over its answer.

    Percentiles are within 0.4 % of a recorded value; ``count``, ``mean`` and ``max`` are exact.
    """

    count: int
    mean: float
    p50: float
    p95: float
    p99: float
    max: float


class LatencyHistogram:
    """A log-linear histogram of durations: fixed memory, error at most 0.4 %.

    A bucket is the upper half of a duration's IEEE 754 single: sign, eight bits of
    exponent and seven of mantissa, that is, 128 linear steps in each power of two.
    Such halves sort as the durations do. From 1 µs to 1,000 s there are 3,840 of them,
    which is all that the table can hold.
    """

    __slots__ = ("_buckets", "_count", "_max", "_sum", "pending")

    def __init__(self) -> None:
        self.pending: list[float] = []
        """Durations in seconds, not yet folded. Append here; fold at ``FOLD_AT``."""
        self._buckets: Counter[int] = Counter()
        self._count = 0
        self._sum = 0.0
        self._max = 0.0

    def fold(self) -> None:
        """Count what is pending. O(pending), about 0.1 µs each."""
        pending = self.pending
        if not pending:
            return
        halves = memoryview(array("f", pending).tobytes()).cast("H")
        self._buckets.update(halves[_HIGH_HALF::2])
        self._count += len(pending)
        self._sum += sum(pending)
        self._max = max(self._max, *pending)
        pending.clear()

    def snapshot(self) -> LatencySnapshot:
        """Fold, and read percentiles. O(buckets in use · log)."""
        self.fold()
        count = self._count
        if not count:
            return LatencySnapshot(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        ranks = [max(1, -(-count * percent // 100)) for percent in (50, 95, 99)]
        values: list[float] = []
        seen = 0
        for half in sorted(self._buckets):
            seen += self._buckets[half]
            while len(values) < len(ranks) and seen >= ranks[len(values)]:
                values.append(min(_middle(half), self._max))
        p50, p95, p99 = values
        return LatencySnapshot(count, self._sum / count, p50, p95, p99, self._max)


def _middle(half: int) -> float:
    """The middle of the bucket whose durations have this upper half."""
    return memoryview(array("I", [half << 16 | 0x8000]).tobytes()).cast("f")[0]


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """``pool.metrics()``: counts since the pool was opened."""

    commands: int
    """Replies received, error replies included; each command of a pipeline counts."""
    latency: LatencySnapshot
    """One sample a command, and one a pipeline."""
    errors: Mapping[str, int]
    """Errors by class name, server errors included, whether or not a retry mended them."""
    retries: Mapping[str, int]
    """Commands sent again or queued anew, by reason: an error code such as ``LOADING``,
    ``lost`` (connection died), ``connect`` (no connection could be made)."""
    timeouts: int
    """Commands whose budget ran out."""
    bytes_in: int
    bytes_out: int
    connections_created: int
    connections_recycled: int
    connections_discarded: int
    waits: int
    """Checkouts that had to wait for a connection."""
    utilisation: float
    """Connections in use, lanes included, by the pool's maximum: 0 to 1."""
    background_errors: int
    """Failures inside the pool's own health task: logged, never fatal."""


class PoolMetrics:
    """The live counters behind a ``MetricsSnapshot``. One event loop only: no lock."""

    __slots__ = (
        "background_errors",
        "batched",
        "bytes_in",
        "bytes_out",
        "connections_created",
        "connections_discarded",
        "connections_recycled",
        "errors",
        "latency",
        "retries",
        "timeouts",
        "waits",
    )

    def __init__(self) -> None:
        self.latency = LatencyHistogram()
        self.batched = 0
        """Replies in pipelines beyond the one sample that each pipeline leaves."""
        self.errors: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.timeouts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_created = 0
        self.connections_recycled = 0
        self.connections_discarded = 0
        self.waits = 0
        self.background_errors = 0

    def snapshot(self, utilisation: float) -> MetricsSnapshot:
        """All of it as it is now. ``utilisation`` is the pool's to know."""
        latency = self.latency.snapshot()
        return MetricsSnapshot(
            commands=latency.count + self.batched,
            latency=latency,
            errors=MappingProxyType(dict(self.errors)),
            retries=MappingProxyType(dict(self.retries)),
            timeouts=self.timeouts,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            connections_created=self.connections_created,
            connections_recycled=self.connections_recycled,
            connections_discarded=self.connections_discarded,
            waits=self.waits,
            utilisation=utilisation,
            background_errors=self.background_errors,
        )
