"""What was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Finding", "Say", "Severity", "Stop"]

Severity = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a step found."""

    step: str
    severity: Severity
    """``ok``: as it should be. ``note``: worth knowing. ``warning``: will hurt one day.
    ``error``: hurts now."""
    found: str
    """What is so."""
    remedy: str | None = None
    """What to do about it."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Figures and names for programs; durations are seconds, sizes bytes."""


class Stop(Exception):
    """What stands on this step cannot be looked at."""


class Say:
    """How a step tells its findings.

    Args:
        step: its name.
        tell: given each finding at once.
    """

    def __init__(self, step: str, tell: Callable[[Finding], None]) -> None:
        self._step = step
        self._tell = tell

    def ok(self, found: str, **facts: Any) -> None:
        """It is as it should be."""
        self._tell(Finding(self._step, "ok", found, None, facts))

    def note(self, found: str, remedy: str | None = None, **facts: Any) -> None:
        """It is worth knowing."""
        self._tell(Finding(self._step, "note", found, remedy, facts))

    def warning(self, found: str, remedy: str, **facts: Any) -> None:
        """It will hurt one day."""
        self._tell(Finding(self._step, "warning", found, remedy, facts))

    def error(self, found: str, remedy: str, **facts: Any) -> None:
        """It hurts now."""
        self._tell(Finding(self._step, "error", found, remedy, facts))
