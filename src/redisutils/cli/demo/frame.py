"""What a view is given to show: fixed facts once, and a frame several times a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from redisutils import PoolStatus
from redisutils.cli.demo.day import TradingDay
from redisutils.cli.demo.figures import Sample
from redisutils.metrics import MetricsSnapshot

__all__ = ["Facts", "Frame", "View"]


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change during a run."""

    source: str
    tasks: int
    server: str
    limit: str
    """What ends the run, in words: ``10 s``, ``5,000 trades``, ``the tape``. Empty: Ctrl-C."""
    dashboard: str = ""
    """Where the dashboard is, while the run lasts; empty if there is none."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A run at one moment."""

    elapsed: float
    """Seconds since it began."""
    fraction: float | None
    """How much of it is done: 0.0 to 1.0; None if nobody knows."""
    now: Sample
    """The latest interval."""
    rates: tuple[float, ...]
    """Commands per second in the latest intervals, oldest first."""
    day: TradingDay
    status: PoolStatus
    metrics: MetricsSnapshot


class View(Protocol):
    """Something that shows a run while it lasts. Entered around the run."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, frame: Frame) -> None:
        """Show ``frame``. Must be quick: it runs on the event loop that is measured."""
