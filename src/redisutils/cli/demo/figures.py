"""What the demo measures: durations by kind, and samples over time."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from redisutils.metrics import LatencyHistogram, LatencySnapshot

__all__ = ["FEEDS", "KINDS", "TRIPS", "History", "Sample", "Timings", "resident_bytes"]

FOLD_AT: Final = 512
"""Durations kept unsorted before they enter their histogram: bounds the pause this makes."""

TRIPS: Final = ("quote read", "order placed", "report applied", "tape written")
"""Calls of a service, until it has returned."""
FEEDS: Final = ("live quote", "order event")
"""From sending to receiving: a quote by its subscription, a report by the account's events."""
KINDS: Final = TRIPS + FEEDS


class Timings:
    """Durations by kind over the whole run, and of all trips and feeds since the last sample."""

    def __init__(self) -> None:
        self.kinds = {kind: LatencyHistogram() for kind in KINDS}
        self._trips, self._feeds = LatencyHistogram(), LatencyHistogram()

    def note(self, kind: str, seconds: float) -> None:
        """Note a duration of one of the ``KINDS``."""
        recent = self._trips if kind in TRIPS else self._feeds
        for histogram in (self.kinds[kind], recent):
            histogram.pending.append(seconds)
            if len(histogram.pending) >= FOLD_AT:
                histogram.fold()

    def take_recent(self) -> tuple[LatencySnapshot, LatencySnapshot]:
        """Trips and feeds since the last call."""
        taken = self._trips.snapshot(), self._feeds.snapshot()
        self._trips, self._feeds = LatencyHistogram(), LatencyHistogram()
        return taken


@dataclass(frozen=True, slots=True)
class Sample:
    """One interval of a run. Times in seconds; percentiles are 0.0 when nothing ran."""

    at: float
    """The interval's end, since the run began."""
    seconds: float
    commands: int
    trades: int
    fills: int
    p50: float
    p95: float
    p99: float
    feeds_p99: float

    def joined(self, after: Sample) -> Sample:
        """This interval and the next as one: counts add up, percentiles are the worse ones."""
        return Sample(
            at=after.at,
            seconds=self.seconds + after.seconds,
            commands=self.commands + after.commands,
            trades=self.trades + after.trades,
            fills=self.fills + after.fills,
            p50=max(self.p50, after.p50),
            p95=max(self.p95, after.p95),
            p99=max(self.p99, after.p99),
            feeds_p99=max(self.feeds_p99, after.feeds_p99),
        )


class History:
    """A run's samples, never more than ``limit``: when full, neighbours are joined."""

    def __init__(self, limit: int = 1000) -> None:
        self._limit = limit
        self._width = 1
        self._forming: Sample | None = None
        self._in_forming = 0
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Append an interval. Amortised O(1)."""
        self._forming = self._forming.joined(sample) if self._forming else sample
        self._in_forming += 1
        if self._in_forming < self._width:
            return
        self.samples.append(self._forming)
        self._forming, self._in_forming = None, 0
        if len(self.samples) >= self._limit:
            pairs = zip(self.samples[::2], self.samples[1::2], strict=True)
            self.samples = [one.joined(two) for one, two in pairs]
            self._width *= 2


def resident_bytes() -> int | None:
    """This process's resident memory now; its peak where only that is known; else None."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
