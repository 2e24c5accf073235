"""What is seen while it runs: a bar on a terminal, plain lines elsewhere.

The bar is redrawn between timed measurements only: a thread that draws would take its time
from the very core that is measured.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


class Progress(ABC):
    """Told before and after each measurement."""

    @abstractmethod
    def begin(self, label: str) -> None:
        """``label`` is measured now."""

    @abstractmethod
    def end(self, label: str, outcome: str) -> None:
        """It came out as ``outcome``, failed ones included."""


class Lines(Progress):
    """A line for each measurement, on standard error."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._done = 0

    def begin(self, label: str) -> None:
        """Nothing: the line comes with the outcome."""

    def end(self, label: str, outcome: str) -> None:
        """Print both."""
        self._done += 1
        print(f"[{self._done}/{self._total}] {label}: {outcome}", file=sys.stderr, flush=True)


class _Drawn(Progress):
    def __init__(self, bar: Bar, total: int) -> None:
        self._bar = bar
        self._task = bar.add_task("starting", total=total, last="")

    def begin(self, label: str) -> None:
        self._bar.update(self._task, description=label)
        self._bar.refresh()

    def end(self, label: str, outcome: str) -> None:
        if outcome.startswith("failed"):
            self._bar.console.print(f"{label}: {outcome}", style="red", markup=False)
        self._bar.update(self._task, advance=1, last=outcome)
        self._bar.refresh()


@contextmanager
def shown(total: int, *, ticking: bool = False) -> Iterator[Progress]:
    """The progress of ``total`` measurements, in the manner that suits standard error.

    ``ticking`` redraws the bar all the time, for what is counted rather than timed.
    """
    if not sys.stderr.isatty():
        yield Lines(total)
        return
    from rich.console import Console  # only where it is seen
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
        TextColumn("[dim]{task.fields[last]}"),
    )
    with Bar(*columns, console=Console(stderr=True), auto_refresh=ticking) as bar:
        yield _Drawn(bar, total)
