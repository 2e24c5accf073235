"""What is seen while it runs: a table that renews itself on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .run import Plan, Record

__all__ = ["shown"]

_LINES_EVERY = 10
"""Seconds between two lines."""


@contextmanager
def shown(plan: Plan) -> Iterator[Callable[[Record], None]]:
    """What to call about once a second with the run so far."""
    if not sys.stderr.isatty():
        yield _Lines(plan)
        return
    from rich.console import Console  # only where it is seen
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda record: live.update(_table(plan, record), refresh=True)


class _Lines:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._next = 0.0

    def __call__(self, record: Record) -> None:
        at = record.samples[-1].at
        if at >= self._next:
            self._next = at + _LINES_EVERY
            figures = ", ".join(f"{name} {value}" for name, value in _figures(self._plan, record))
            sys.stderr.write(figures + "\n")
            sys.stderr.flush()


def _figures(plan: Plan, record: Record) -> Iterator[tuple[str, str]]:
    last = record.samples[-1]
    yield "time", f"{last.at:.0f} of {plan.seconds:.0f} s"
    yield "weather", record.weather
    yield "calls", f"{last.calls:,.0f}/s"
    yield "p99", f"{last.p99 * 1000:.0f} ms"
    yield "loop lag", f"{last.lag * 1000:.0f} ms"
    yield "memory", f"{last.memory / 1e6:.1f} MB"
    yield "objects", f"{last.objects:,}"
    yield "descriptors", str(last.descriptors)
    yield "tasks", str(last.tasks)
    yield "clients", "?" if last.clients is None else str(last.clients)
    yield "calms", str(len(record.calms))
    yield "complaints", str(len(record.complaints))


def _table(plan: Plan, record: Record) -> Any:
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for name, value in _figures(plan, record):
        bad = name == "complaints" and value != "0"
        table.add_row(name, value, style="bold red" if bad else None)
    return table
