"""What is counted while a run lasts. Fixed memory, however long it does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from redisutils.errors import CommandTimeout, outcome_of
from redisutils.metrics import LatencyHistogram, LatencySnapshot

__all__ = ["LATE", "Figures", "Row", "joined"]

LATE: Final = 0.001
"""Seconds after which a start counts as late."""


class Row:
    """One command of the mix, or all pipelines."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.service = LatencyHistogram()
        """From sending to the answer."""
        self.response = LatencyHistogram()
        """From when it should have been sent, to the answer. Only when there is a schedule."""
        self.failed = 0
        self.overdue = 0
        """Those that failed and are in the histograms all the same: see ``Figures.fail``."""
        self.took = self.service.pending.append
        self.waited = self.response.pending.append

    def fold(self) -> None:
        """Count what is pending."""
        self.service.fold()
        self.response.fold()


class Figures:
    """Of one run.

    Args:
        rows: what to tell apart.
    """

    def __init__(self, rows: Iterable[str]) -> None:
        self.rows = {name: Row(name) for name in rows}
        self.errors: Counter[tuple[str, str]] = Counter()
        """By class and outcome."""
        self.examples: list[str] = []
        """The first message of each."""
        self.lag = LatencyHistogram()
        """How late those started that this program had time to start in time."""
        self.busy = 0
        """Starts that were late since all tasks were at work."""
        self.due = 0
        """Calls that the schedule had, when it is over."""
        self.behind = 0
        """Those of them that had not been started at its end."""
        self.unstarted = 0
        """Those that never were."""
        self.seconds = 0.0
        """How long it was measured, when it is over."""

    @property
    def overdue(self) -> int:
        """Those whose budget ran out: they raised, and are in the histograms."""
        return sum(row.overdue for row in self.rows.values())

    @property
    def failed(self) -> int:
        """Those that raised."""
        return self.errors.total()

    def fold(self) -> None:
        """Count what is pending, everywhere."""
        for row in self.rows.values():
            row.fold()
        self.lag.fold()

    def fail(self, row: Row, error: BaseException, took: float, late: float | None) -> None:
        """Count a command that raised.

        One whose budget ran out has taken at least so long, and leaving it out would flatter the
        tail. What failed of something else says nothing about latency.

        Args:
            took: seconds since it was sent.
            late: seconds since it should have been sent, when there is a schedule.
        """
        outcome = outcome_of(error)
        what = type(error).__name__, outcome.name if outcome else "UNSAID"
        if what not in self.errors and len(self.examples) < 5:
            self.examples.append(f"{what[0]}: {error}")
        self.errors[what] += 1
        row.failed += 1
        if isinstance(error, CommandTimeout):
            row.overdue += 1
            row.service.record(took)
            if late is not None:
                row.response.record(late)

    def service(self) -> LatencySnapshot:
        """Of all commands."""
        return joined(row.service.snapshot() for row in self.rows.values())

    def response(self) -> LatencySnapshot:
        """Of all commands."""
        return joined(row.response.snapshot() for row in self.rows.values())


def joined(shots: Iterable[LatencySnapshot]) -> LatencySnapshot:
    """Several as one."""
    shots = [shot for shot in shots if shot.count]
    if len(shots) == 1:
        return shots[0]
    together = LatencyHistogram()
    for shot in shots:
        for seconds, count in shot.spread():
            together.record(seconds, count)
    found = together.snapshot()
    top = max((shot.max for shot in shots), default=0.0)
    total = sum(shot.total for shot in shots)
    return replace(found, max=top, total=total, mean=total / found.count if found.count else 0.0)
