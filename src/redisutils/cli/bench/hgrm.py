"""The percentile distribution as a text that the tools around HdrHistogram plot.

Four columns: the value in milliseconds, the percentile as a fraction, how many there are up to it,
and 1/(1 - percentile), which is the logarithmic axis of such plots. Rows come closer together
towards the end: five for each time that half of what is left has been passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import floor, log2, sqrt
from typing import Final

from redisutils.cli.bench.record import Spread

__all__ = ["hgrm"]

TICKS: Final = 5
"""Rows in each halving of what is left."""


def hgrm(spread: Spread) -> str:
    """``spread`` as such a text."""
    lines = [f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}\n"]
    for seconds, fraction, upto in _rows(spread):
        line = f"{seconds * 1000:12.3f} {fraction:2.12f} {upto:10d}"
        lines.append(line if fraction == 1 else f"{line} {1 / (1 - fraction):14.2f}")
    lines += [
        f"#[Mean    = {spread.mean * 1000:12.3f}, StdDeviation   = {_deviation(spread):12.3f}]",
        f"#[Max     = {spread.max * 1000:12.3f}, Total count    = {spread.count:12d}]",
        f"#[Buckets = {38:12d}, SubBuckets     = {32:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _rows(spread: Spread) -> Iterator[tuple[float, float, int]]:
    """Value, fraction, and how many there are up to the value. O(values + log(count))."""
    fraction, upto = 0.0, 0
    for seconds, count in spread.values:
        upto += count
        while fraction * spread.count <= upto < spread.count:
            yield seconds, fraction, upto
            halvings = floor(log2(1 / (1 - fraction))) + 1
            fraction += 1 / (TICKS * 2**halvings)
    if spread.count:
        yield spread.max, 1.0, spread.count


def _deviation(spread: Spread) -> float:
    """In milliseconds."""
    if not spread.count:
        return 0.0
    squares = sum(count * (seconds - spread.mean) ** 2 for seconds, count in spread.values)
    return 1000 * sqrt(squares / spread.count)
