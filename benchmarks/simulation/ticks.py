"""How bursty real trading is: what a hot symbol's slot has to bear beyond its mean."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path


@dataclass(frozen=True)
class Bursts:
    """Trades of one symbol in windows of one length, of those windows that have any."""

    window: float
    """Seconds."""
    mean: float
    """Trades per second over the whole file."""
    p99: float
    """Trades per second in one window of a hundred, or more."""
    most: float
    """In the busiest window."""


def bursts(path: Path, windows: tuple[float, ...] = (1.0, 0.1, 0.01)) -> list[Bursts]:
    """Of a CSV, gzipped or not, whose first column ``DateTime`` is an ISO time of a trade.

    Raises OSError or ValueError for a file that is not like that.
    """
    moments = list(_moments(path))
    if len(moments) < 2:
        raise ValueError(f"{path} has no two trades")
    mean = len(moments) / (moments[-1] - moments[0])
    found = []
    for window in windows:
        counts = sorted(Counter(moment // window for moment in moments).values())
        found.append(
            Bursts(window, mean, counts[len(counts) * 99 // 100] / window, counts[-1] / window)
        )
    return found


def _moments(path: Path) -> Iterator[float]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        for row in csv.DictReader(lines):
            yield datetime.fromisoformat(row["DateTime"]).replace(tzinfo=UTC).timestamp()
