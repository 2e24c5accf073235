"""What a view is given to show: fixed facts once, and a frame several times a second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from redisutils import PoolStatus
from redisutils.cli.demo.figures import Sample
from redisutils.cli.demo.loop import TradingLoop
from redisutils.metrics import MetricsSnapshot

__all__ = ["Facts", "Frame", "View", "milliseconds", "sparkline"]


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
    fraction: float
    """How much of it is done: 0.0 to 1.0."""
    now: Sample
    """The latest interval."""
    rates: tuple[float, ...]
    """Commands per second in the latest intervals, oldest first."""
    loop: TradingLoop
    status: PoolStatus
    metrics: MetricsSnapshot


class View(Protocol):
    """Something that shows a run while it lasts. Entered around the run."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, frame: Frame) -> None:
        """Show ``frame``. Must be quick: it runs on the event loop that is measured."""


def milliseconds(seconds: float) -> str:
    """A duration for reading, three digits wide: ``0.412 ms``, ``4.12 ms``, ``41.2 ms``."""
    value = seconds * 1000
    if value < 1:
        return f"{value:.3f} ms"
    if value < 10:
        return f"{value:.2f} ms"
    if value < 100:
        return f"{value:.1f} ms"
    return f"{value:,.0f} ms"


_STEPS = " ▁▂▃▄▅▆▇█"


def sparkline(values: tuple[float, ...], *, rows: int = 1) -> list[str]:
    """``values`` as bars from zero to the highest, in ``rows`` lines of text, top first."""
    top = max(values, default=0.0) or 1.0
    # In eighths of a line. Never quite empty: a bar of zero is still seen to be there.
    heights = [max(1, round(value / top * 8 * rows)) for value in values]
    return [
        "".join(_STEPS[min(8, max(0, height - 8 * row))] for height in heights)
        for row in reversed(range(rows))
    ]
