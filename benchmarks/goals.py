"""What a suite wants of ours, told beside what was measured."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.contenders import OURS
from benchmarks.results import Results, Row, times


@dataclass(frozen=True)
class Goal:
    """A bound on one row: of ours over a peer, or, where ``peer`` is None, of the figure itself."""

    row: str
    """A row's key."""
    bound: float
    """Of a ratio the least; of a figure the most where less is better, else the least."""
    peer: str | None = None

    def told(self, results: Results) -> dict[str, str] | None:
        """What is wanted, what came, and whether that is enough; None if the row was not run."""
        row = next((row for row in results.rows() if row.key == self.row), None)
        if row is None:
            return None
        value = self._measured(results, row)
        unit = "" if self.peer is not None else f" {row.metric.unit}".replace(" /", "/")
        at_least = self.peer is not None or row.metric.more_is_better
        if value is None:
            verdict = "not measured"
        else:
            verdict = "yes" if (value >= self.bound if at_least else value <= self.bound) else "NO"
        return {
            "what": row.metric.title + (f", ÷ {self.peer}" if self.peer is not None else ""),
            "wanted": f"{'≥' if at_least else '≤'} {self._write(self.bound)}{unit}",
            "measured": "" if value is None else f"{self._write(value)}{unit}",
            "reached": verdict,
        }

    def _measured(self, results: Results, row: Row) -> float | None:
        if self.peer is None:
            return results.median(row, OURS)
        return results.ratio(row, OURS, self.peer)

    def _write(self, value: float) -> str:
        if self.peer is not None:
            return times(value)
        return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
