"""What came out: one value per row, contender and round; medians and ratios of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.workloads import Metric, Workload

TIMES = "\N{MULTIPLICATION SIGN}"

Values = dict[int, float]
"""By round; a round that failed is absent."""


def times(ratio: float) -> str:
    """A ratio as it is written everywhere: three digits."""
    if ratio >= 100:
        return f"{ratio:,.0f}{TIMES}"
    return f"{ratio:.1f}{TIMES}" if ratio >= 10 else f"{ratio:.2f}{TIMES}"


@dataclass(frozen=True)
class Row:
    """A metric of a workload."""

    workload: str
    metric: Metric

    @property
    def key(self) -> str:
        """Unique in a report."""
        return f"{self.workload}.{self.metric.key}"


@dataclass
class Results:
    """Everything that a report shows."""

    contenders: dict[str, str]
    """Names in the order of the columns, with their versions."""
    workloads: list[Workload[Any]]
    machine: dict[str, str]
    settings: dict[str, Any]
    values: dict[tuple[str, str], Values] = field(default_factory=dict)
    """By the row's key and the contender's name."""
    notes: list[str] = field(default_factory=list)
    """What was skipped, and why."""
    failures: list[str] = field(default_factory=list)

    def rows(self) -> list[Row]:
        """The rows of the report in their order."""
        return [
            Row(workload.key, metric) for workload in self.workloads for metric in workload.metrics
        ]

    def add(self, workload: str, contender: str, round_: int, measured: dict[str, float]) -> None:
        """Note what one process measured."""
        for metric, value in measured.items():
            self.values.setdefault((f"{workload}.{metric}", contender), {})[round_] = value

    def of(self, row: Row, contender: str) -> list[float]:
        """What was measured, round by round; empty if nothing was."""
        return list(self.values.get((row.key, contender), {}).values())

    def median(self, row: Row, contender: str) -> float | None:
        """The median over rounds."""
        values = self.of(row, contender)
        return median(values) if values else None

    def ratio(self, row: Row, contender: str, peer: str) -> float | None:
        """How many times better ``contender`` is than ``peer``: over 1 is better, also
        where less is better. Computed within each round; the median of those."""
        ours = self.values.get((row.key, contender), {})
        theirs = self.values.get((row.key, peer), {})
        ratios = [ours[n] / theirs[n] for n in ours.keys() & theirs.keys() if ours[n] and theirs[n]]
        if not ratios:
            return None
        return median(ratios if row.metric.more_is_better else [1 / ratio for ratio in ratios])

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {
            "machine": self.machine,
            "contenders": self.contenders,
            "settings": self.settings,
            "notes": self.notes,
            "failures": self.failures,
            "rows": [
                {
                    "row": row.key,
                    "title": row.metric.title,
                    "unit": row.metric.unit,
                    "more_is_better": row.metric.more_is_better,
                    "rounds": {name: self.of(row, name) for name in self.contenders},
                    "median": {name: self.median(row, name) for name in self.contenders},
                }
                for row in self.rows()
            ],
        }
