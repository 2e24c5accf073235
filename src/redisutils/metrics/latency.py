"""Latencies counted in fixed memory, and the frozen snapshot of them.

A histogram is log-linear: each power of two of seconds is divided into 32 equal buckets, of which
a duration is told by the middle, so that what is read from it is within 1.6 % of what was
recorded. Snapshots hold the buckets, and so can be subtracted: two of them tell what happened in
between.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from types import MappingProxyType
from typing import Final

__all__ = ["FOLD_AT", "LatencyHistogram", "LatencySnapshot", "bucket_of"]

FOLD_AT: Final = 2048
"""Samples that may wait for folding: bounds memory, and the pause that folding makes."""

_STEPS: Final = 32
"""Buckets in each power of two."""

_EDGES: Final = [
    (1 + step / _STEPS) * 2.0**octave for octave in range(-24, 14) for step in range(_STEPS)
] + [inf]
"""Where a bucket ends and the next begins, in seconds: from 60 ns to four hours and a half."""


@dataclass(frozen=True, slots=True)
class LatencySnapshot:
    """Durations in seconds. Percentiles are within 1.6 % of a recorded value."""

    count: int
    total: float
    """The sum of them all."""
    mean: float
    p50: float
    p95: float
    p99: float
    p999: float
    max: float
    counts: Mapping[int, int] = field(repr=False)
    """How many are in each bucket that has any: what the rest is read from."""

    def percentile(self, percent: float) -> float:
        """The duration that ``percent`` of a hundred do not exceed; 0 if there are none.
        O(buckets in use)."""
        return _percentiles(self.counts, self.count, self.max, (percent,))[0]

    def at_most(self, bounds: Sequence[float]) -> list[int]:
        """How many did not exceed each of the ascending ``bounds``, to the bucket: what a
        Prometheus histogram is made of. O(buckets in use + bounds)."""
        found: list[int] = []
        buckets = iter(sorted(self.counts.items()))
        bucket, count = next(buckets, (len(_EDGES), 0))
        upto = 0
        for bound in bounds:
            while bucket < len(_EDGES) and _middle(bucket) <= bound:
                upto += count
                bucket, count = next(buckets, (len(_EDGES), 0))
            found.append(upto)
        return found

    def spread(self) -> list[tuple[float, int]]:
        """The durations in ascending order, each with how many there were of it: for plots."""
        return [(_middle(bucket), count) for bucket, count in sorted(self.counts.items())]

    def since(self, earlier: LatencySnapshot) -> LatencySnapshot:
        """What was counted after ``earlier``, a snapshot of the same histogram. Its ``max`` is as
        near as the percentiles."""
        counts = {
            bucket: left
            for bucket, count in self.counts.items()
            if (left := count - earlier.counts.get(bucket, 0)) > 0
        }
        top = min(_middle(max(counts)), self.max) if counts else 0.0
        if self.max > earlier.max:
            top = self.max  # it is new
        return _snapshot(counts, max(0.0, self.total - earlier.total), top)


class LatencyHistogram:
    """Counts durations: one at a time with :meth:`record`, or many in bulk with :meth:`fold`.

    In bulk they are sorted, so that a bucket's are a run whose end is found by bisection: the
    interpreter's work is by the bucket and not by the duration.
    """

    __slots__ = ("_counts", "_max", "_total", "pending")

    def __init__(self) -> None:
        self.pending: list[float] = []
        """Durations in seconds, not yet folded. Append here; fold at ``FOLD_AT``."""
        self._counts: dict[int, int] = {}
        self._total = 0.0
        self._max = 0.0

    def record(self, seconds: float, times: int = 1) -> None:
        """Count a duration ``times`` times. About half a microsecond."""
        bucket = bisect_right(_EDGES, seconds)
        counts = self._counts
        counts[bucket] = counts.get(bucket, 0) + times
        self._total += seconds * times
        self._max = max(self._max, seconds)

    def fold(self) -> None:
        """Count what is pending. O(pending · log), about 0.1 µs each."""
        pending = self.pending
        if not pending:
            return
        self._total += sum(pending)
        pending.sort()
        self._max = max(self._max, pending[-1])
        counts = self._counts
        begin, size = 0, len(pending)
        while begin < size:
            bucket = bisect_right(_EDGES, pending[begin])
            end = bisect_left(pending, _EDGES[bucket], begin)
            counts[bucket] = counts.get(bucket, 0) + end - begin
            begin = end
        pending.clear()

    def snapshot(self) -> LatencySnapshot:
        """Fold, and read percentiles. O(buckets in use)."""
        self.fold()
        return _snapshot(dict(self._counts), self._total, self._max)


def bucket_of(seconds: float) -> int:
    """The number of the bucket of a duration, as in ``LatencySnapshot.counts``."""
    return bisect_right(_EDGES, seconds)


def _snapshot(counts: dict[int, int], total: float, top: float) -> LatencySnapshot:
    count = sum(counts.values())
    p50, p95, p99, p999 = _percentiles(counts, count, top, (50, 95, 99, 99.9))
    mean = total / count if count else 0.0
    return LatencySnapshot(count, total, mean, p50, p95, p99, p999, top, MappingProxyType(counts))


def _percentiles(
    counts: Mapping[int, int], count: int, top: float, percents: Sequence[float]
) -> list[float]:
    """One duration for each of the ``percents``."""
    if not count:
        return [0.0] * len(percents)
    found: list[float] = []
    buckets = sorted(counts)
    upto = list(accumulate(map(counts.__getitem__, buckets)))
    for percent in percents:
        rank = -(-count * percent // 100)
        at = min(bisect_left(upto, rank), len(buckets) - 1)
        found.append(min(_middle(buckets[at]), top))
    return found


def _middle(bucket: int) -> float:
    """The middle of a bucket; of the last one, which has no end, its beginning."""
    begin = _EDGES[bucket - 1] if bucket else 0.0
    return begin if _EDGES[bucket] == inf else (begin + _EDGES[bucket]) / 2
