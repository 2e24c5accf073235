"""What came out: figures, or how it failed, by scenario and client."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.measure import Measure, Verdict
from benchmarks.faults.stage import Figures

BAD = "✗"
"""The mark of what a perfect client would not show."""


@dataclass(frozen=True)
class Cell:
    """One figure of one client, as the table shows it."""

    text: str
    verdict: Verdict

    @property
    def marked(self) -> str:
        """The text with a mark if it is bad, for eyes and terminals that tell no red from green,
        and as much space if not."""
        return f"{self.text} {BAD if self.verdict is Verdict.BAD else ' '}"


@dataclass
class Results:
    """Everything that is shown."""

    clients: dict[str, str]
    """Names in the order of the columns, with their versions."""
    scenarios: list[str]
    facts: dict[str, str]
    seed: int
    scale: float = 1.0
    figures: dict[tuple[str, str], Figures] = field(default_factory=dict)
    """By scenario and client."""
    failures: dict[tuple[str, str], str] = field(default_factory=dict)
    """What became of a client whose process has left no figures."""
    notes: list[str] = field(default_factory=list)

    def cell(self, scenario: str, measure: Measure, client: str) -> Cell:
        """What to show. A client that crashed or hung has that in each cell of the scenario."""
        figures = self.figures.get((scenario, client))
        if figures is None:
            return Cell("no result", Verdict.BAD)
        value = figures[measure.key]
        return Cell(measure.text(value), measure.verdict(value))

    def bad(self, client: str, scenario: str) -> list[str]:
        """Where ``client`` is not what it should be in ``scenario``: measures and figures."""
        return [
            f"{measure.title}: {cell.text}"
            for measure in SCENARIOS[scenario].measures
            if (cell := self.cell(scenario, measure, client)).verdict is Verdict.BAD
        ]

    def flawless(self, client: str) -> bool:
        """Whether ``client`` is what it should be everywhere."""
        return not any(self.bad(client, scenario) for scenario in self.scenarios)

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON. Durations in seconds, null for one that did not end."""
        return {
            "clients": self.clients,
            "facts": self.facts,
            "seed": self.seed,
            "scale": self.scale,
            "notes": self.notes,
            "scenarios": {
                key: {
                    client: self.figures.get((key, client), self.failures.get((key, client)))
                    for client in self.clients
                }
                for key in self.scenarios
            },
        }
