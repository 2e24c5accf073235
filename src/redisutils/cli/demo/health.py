"""The parts of the live picture that tell how the pool does: rates, latency, lanes, faults."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rich.text import Text

from redisutils.cli.demo.columns import Column, row
from redisutils.cli.demo.figures import KINDS
from redisutils.cli.demo.frame import Frame
from redisutils.cli.drawing import duration, short, sparkline

if TYPE_CHECKING:
    from redisutils.metrics import LaneMetrics

__all__ = ["LATENCY", "latency_line", "latency_table", "pool_lines", "rate_line", "rates"]

LABEL: Final = 12

_LATENCY: Final = (
    Column("latency", 16, left=True),
    Column("count", 7),
    Column("p50", 8),
    Column("p99", 8),
    Column("max", 8),
)
LATENCY: Final = 55
"""Characters that the table of latencies takes."""


def rate_line(frame: Frame) -> Text:
    """What is done in a second."""
    now = frame.now
    per = now.seconds or 1.0
    line = _label("throughput")
    for count, what in (
        (now.commands, "commands"), (now.trades, "trades"), (now.fills, "fills"),
    ):  # fmt: skip
        line.append(f"{count / per:>7,.0f}", "bold").append(f" {what}/s  ")
    return line


def rates(frame: Frame, width: int, rows: int) -> Iterator[Text]:
    """Commands a second as they were."""
    for bars in sparkline(frame.rates[LABEL - width :], rows=rows):
        yield Text.assemble(" " * LABEL, (bars, "cyan"))


def latency_line(frame: Frame, width: int) -> Text:
    """Of all commands together, as the pool has measured them."""
    shot = frame.metrics.latency
    line = _label("latency")
    for name, value in (("p50", shot.p50), ("p95", shot.p95), ("p99", shot.p99), ("max", shot.max)):
        line.append(f"{name} ", "dim").append(f"{duration(value):<9}", "bold" * (name == "p99"))
    told = "of all commands"
    return line.append(told, "dim") if line.cell_len + len(told) <= width else line


def latency_table(frame: Frame) -> list[Text]:
    """Each kind of call and of delivery, and all commands."""
    shown = [True] * len(_LATENCY)
    lines = [row(_LATENCY, shown, None)]
    shots = [(kind, frame.day.timings.kinds[kind].snapshot()) for kind in KINDS]
    for name, shot in (*shots, ("all commands", frame.metrics.latency)):
        figures = [duration(value) for value in (shot.p50, shot.p99, shot.max)]
        if not shot.count:
            figures = ["–"] * 3
        cells = [(name, "dim"), (short(shot.count), ""), *((one, "") for one in figures)]
        cells[3] = (cells[3][0], "bold")
        lines.append(row(_LATENCY, shown, cells))
    return lines


def pool_lines(frame: Frame, width: int) -> Iterator[Text]:
    """The pool and its lanes; faults; and what was compared."""
    status, metrics = frame.status, frame.metrics
    line = _label("pool").append(f"{status.size} of {status.max_size} connections, ")
    line.append(f"{status.waiting} waiting", "yellow" if status.waiting else "")
    before = "; in flight: "
    # What is down is seen, however many there are.
    for lane in sorted(metrics.lanes, key=lambda one: (one.connected, -one.in_flight, one.name)):
        told = Text.assemble(before, f"{lane.name} ")
        told.append(f"{lane.in_flight}" if lane.connected else "down", _style_of(lane))
        if line.cell_len + told.cell_len <= width:
            line.append_text(told)
            before = ", "
    yield line
    yield _checked(frame)


def _style_of(lane: LaneMetrics) -> str:
    if not lane.connected:
        return "bold red"
    return "yellow" if lane.blocked or lane.waiting else "bold"


def _checked(frame: Frame) -> Text:
    day, metrics = frame.day, frame.metrics
    wrong, lost = day.checks.wrong, day.lost
    # That a script has to be loaded first is none.
    faults = sum(count for name, count in metrics.errors.items() if name != "NoScriptError")
    retries = sum(metrics.retries.values())
    line = _label("checked").append(f"{day.checks.compared:,} values, ")
    line.append(f"{wrong:,} wrong", "bold red" if wrong else "green")
    line.append(f"; {day.blotter.received:,} events, ")
    line.append(f"{lost:,} lost", "bold red" if lost else "green")
    line.append("; ").append(f"{faults:,} faults", "yellow" if faults else "")
    return line.append(", ").append(f"{retries:,} retries", "yellow" if retries else "")


def _label(text: str) -> Text:
    return Text(no_wrap=True).append(text.ljust(LABEL), "dim")
