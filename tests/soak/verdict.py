"""What the figures of a run must look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from statistics import median
from typing import Final

from .calm import Calm
from .samples import Sample

__all__ = ["MEMORY_LIMIT", "growth", "judge", "memory_growth"]

MEMORY_LIMIT: Final = 12.0
"""MB per hour by which resident memory at rest may grow in the second half of a run: 1 MB in ten
minutes' second five."""

OBJECTS_LIMIT: Final = 500
"""Python objects by which there may be more at the last calm than at the first of the second half:
the tables of a few caches, and what the collector happens to follow."""

_ENOUGH: Final = 4
_LONG_ENOUGH: Final = 150.0
"""Calms, and seconds, below which a slope says nothing: caches still fill."""

_MEGA: Final = 1_000_000


def growth(points: Sequence[tuple[float, float]]) -> float:
    """Theil and Sen's slope: the median of those between all pairs of points. A few steps, or a
    quarter of the points being wrong, do not move it. O(n²)."""
    return median(
        (second[1] - first[1]) / (second[0] - first[0])
        for first, second in combinations(points, 2)
        if second[0] > first[0]
    )


def second_half(calms: Sequence[Calm]) -> Sequence[Calm]:
    """Without the first, in which caches fill and the allocator finds its size."""
    return [calm for calm in calms if calm.at >= calms[-1].at / 2]


def memory_growth(calms: Sequence[Calm]) -> float | None:
    """MB per hour at rest in the second half; None when it is too short to tell."""
    late = second_half(calms) if calms else []
    if len(late) < _ENOUGH or late[-1].at - late[0].at < _LONG_ENOUGH:
        return None
    return growth([(calm.at, calm.memory) for calm in late]) * 3600 / _MEGA


def judge(samples: Sequence[Sample], calms: Sequence[Calm]) -> Iterator[str]:
    """What is wrong with them."""
    slope = memory_growth(calms)
    if slope is not None and slope > MEMORY_LIMIT:
        yield f"memory grows by {slope:.1f} MB per hour, and may by {MEMORY_LIMIT:.0f}"
    late = second_half(calms)
    if len(late) > 2 and late[-1].objects > late[0].objects + OBJECTS_LIMIT:
        yield f"{late[-1].objects - late[0].objects} Python objects more at the last calm"
    if samples and not any(sample.calls for sample in samples):
        yield "nothing was done at all"
