"""The run while it lasts: a live picture on a terminal, one line a second elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.text import Text

from redisutils.cli.demo.columns import beside
from redisutils.cli.demo.frame import Facts, Frame
from redisutils.cli.demo.health import (
    LATENCY,
    latency_line,
    latency_table,
    pool_lines,
    rate_line,
    rates,
)
from redisutils.cli.demo.panels import (
    BOOK,
    BOOK_LEAST,
    ORDERS_LEAST,
    Arrows,
    book,
    market,
    orders,
    tape_time,
)
from redisutils.cli.drawing import duration

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["LiveView", "PlainView"]

INDENT: Final = 1
WIDEST: Final = 170
GAP: Final = 3
"""Between parts that stand side by side."""


class LiveView:
    """Redraws one picture in place, and leaves nothing behind: the summary takes over.

    Draws only when shown a frame, on the event loop that is being measured. So the picture
    is one text, without tables inside tables: those take rich several times as long. A
    thread that redraws would hold the interpreter just as long, at moments of its own.
    """

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._arrows = Arrows()
        # On a screen of its own lines are overwritten, never wiped: nothing flickers.
        self._live = Live(console=console, auto_refresh=False, transient=True, screen=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, frame: Frame) -> None:
        """Redraw."""
        width = max(40, min(self._console.width - 2 * INDENT, WIDEST))
        picture = Text(no_wrap=True, overflow="crop")
        lines = self._lines(frame, width, self._console.height)
        for number, line in enumerate(lines[: self._console.height]):
            line.truncate(width, overflow="ellipsis")
            picture.append("\n" * bool(number) + " " * INDENT).append_text(line)
        self._live.update(picture, refresh=True)

    def _lines(self, frame: Frame, width: int, height: int) -> list[Text]:
        """As much as there is room for: orders and book take what the rest leaves."""
        day, facts = frame.day, self._facts
        upper = [self._head(frame, width), self._progress(frame, width), Text()]
        upper += [*market(day.blotter, day.instruments, self._arrows, width), Text()]
        lower = [Text(), rate_line(frame), latency_line(frame, width), *pool_lines(frame, width)]
        if facts.dashboard:
            link = (facts.dashboard, f"link {facts.dashboard}")
            lower.append(Text.assemble((f"{'dashboard':<12}", "dim"), link))
        room = height - len(upper) - len(lower)
        aside = width >= BOOK + ORDERS_LEAST + LATENCY + 2 * GAP
        if not aside and room > 20:
            table = latency_table(frame)
            lower[2:3] = table
            room -= len(table) - 1
        if room > 10:
            bars = list(rates(frame, width, rows=2))
            lower[2:2] = bars
            room -= len(bars)
        return [*upper, *self._middle(frame, width, room, aside=aside), *lower]

    def _middle(self, frame: Frame, width: int, rows: int, *, aside: bool) -> list[Text]:
        """Book and orders, and the latencies if there is room for them beside."""
        day = frame.day
        rows = max(2, rows) - 1
        first = next(iter(day.instruments.values()))
        narrow = width < BOOK + ORDERS_LEAST + GAP
        left, gap = (BOOK_LEAST, 2) if narrow else (BOOK, GAP)
        middle = width - left - gap - (LATENCY + GAP if aside else 0)
        lines = beside(
            book(day.blotter, first, rows, left),
            orders(day.blotter, day.instruments, rows, middle),
            left,
            gap,
        )
        if aside:
            lines = beside(lines, latency_table(frame), left + gap + middle, GAP)
        # Always as high as it may be, or all below would jump.
        return [*lines[: rows + 1], *[Text()] * (rows + 1 - len(lines))]

    def _head(self, frame: Frame, width: int) -> Text:
        facts, day = self._facts, frame.day
        line = Text.assemble(("redisutils demo", "bold"), "  ", (tape_time(day.clock()), "cyan"))
        told = (facts.source, "Ctrl-C ends it", f"{facts.tasks:,} traders", facts.server)
        for number, part in enumerate(told):
            text = ("  " if not number else " · ") + part
            if line.cell_len + len(text) <= width:
                line.append(text, "dim")
        return line

    def _progress(self, frame: Frame, width: int) -> Text:
        if frame.fraction is None:
            ends = self._facts.limit or "Ctrl-C"
            return Text.assemble(
                ("running for ", "dim"), f"{frame.elapsed:,.1f} s", (f", until {ends}", "dim")
            )
        told = f"{frame.fraction:4.0%}   {frame.elapsed:,.1f} s of {self._facts.limit}"
        room = max(10, width - len(told) - 2)
        halves = round(frame.fraction * room * 2)
        done = "━" * (halves // 2) + "╸" * (halves % 2)
        return Text.assemble(
            (done, "cyan"), ("─" * (room - len(done)), "bright_black"), f"  {told}"
        )


class PlainView:
    """One line a second, for logs and pipes."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._next = 1.0
        self._commands = self._trades = self._fills = 0
        self._at = 0.0

    def __enter__(self) -> PlainView:
        facts = self._facts
        self._print(f"redisutils demo: {facts.source}, {facts.tasks:,} traders, {facts.server}")
        if facts.dashboard:
            self._print(f"dashboard: {facts.dashboard}")
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, frame: Frame) -> None:
        """Print a line if the last one is a second old."""
        if frame.elapsed < self._next:
            return
        self._next = int(frame.elapsed) + 1.0
        day, now = frame.day, frame.now
        per = frame.elapsed - self._at
        commands, trades, fills = frame.metrics.commands, day.trades, day.fills
        self._print(
            f"{frame.elapsed:6.1f} s{self._done(frame)}"
            f"  {(commands - self._commands) / per:>8,.0f} commands/s"
            f"  {(trades - self._trades) / per:>7,.0f} trades/s"
            f"  {(fills - self._fills) / per:>6,.0f} fills/s"
            f"  p50 {duration(now.p50)}  p99 {duration(now.p99)}"
            f"{_profit(frame)}  {day.checks.wrong} wrong, {day.lost} lost"
        )
        self._commands, self._trades, self._fills = commands, trades, fills
        self._at = frame.elapsed

    def _done(self, frame: Frame) -> str:
        return "" if frame.fraction is None else f" {frame.fraction:4.0%}"

    def _print(self, line: str) -> None:
        # Not through rich's wrapping: a line of a log stays one line.
        self._console.file.write(line + "\n")
        self._console.file.flush()


def _profit(frame: Frame) -> str:
    valuation = frame.day.blotter.valuation
    totals = {} if valuation is None else valuation.totals
    return "".join(f"  P&L {total.profit:+,.2f} {total.currency}" for total in totals.values())
