"""One line of the table: how a figure is written, and whether it is good."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

__all__ = ["Measure", "Unit", "Verdict"]

_SHORT = 0.1
"""Seconds below which a duration says more about the machine than about the client."""


class Unit(enum.Enum):
    """What a figure is."""

    COUNT = "count"
    SECONDS = "s"
    RATIO = "ratio"
    YES = "yes or no"


class Verdict(enum.Enum):
    """How a figure is to be seen."""

    GOOD = "good"
    BAD = "bad"
    PLAIN = "plain"


@dataclass(frozen=True)
class Measure:
    """What a scenario counts.

    ``limit`` is what still counts as good (of YES: what does); None says that more is neither
    good nor bad. ``patience``: seconds after which a duration was not waited for any more.
    """

    key: str
    title: str
    unit: Unit
    limit: float | None
    patience: float | None = None

    def text(self, value: float | None) -> str:
        """``value`` for people. Durations are rounded: what matters of them is their size."""
        if value is None:
            return f"> {self.patience:g} s"
        match self.unit:
            case Unit.YES:
                return "yes" if value else "no"
            case Unit.RATIO:
                return f"{value:.1f}" if value < 9.95 else f"{value:.0f}"
            case Unit.SECONDS if value < _SHORT:
                return f"< {_SHORT:g} s"
            case Unit.SECONDS:
                return f"{value:.1f} s"
        return f"{value:,.0f}"

    def verdict(self, value: float | None) -> Verdict:
        """Whether ``value`` is as it should be."""
        if self.limit is None:
            return Verdict.PLAIN
        if self.unit is Unit.YES:
            return Verdict.GOOD if value == self.limit else Verdict.BAD
        return Verdict.GOOD if (math.inf if value is None else value) <= self.limit else Verdict.BAD
