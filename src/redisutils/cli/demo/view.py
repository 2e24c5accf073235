"""The run while it lasts: a live picture on a terminal, one line a second elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.live import Live
from rich.text import Text

from redisutils.cli.demo.figures import KINDS
from redisutils.cli.demo.frame import Facts, Frame, milliseconds, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from decimal import Decimal

    from rich.console import Console

__all__ = ["LiveView", "PlainView"]

LABEL: Final = 19
"""Columns of the left-hand labels: the longest kind, and a gap."""
INDENT: Final = 2
WIDEST: Final = 100


class LiveView:
    """Redraws one picture in place, and leaves nothing behind: the summary takes over.

    Draws only when shown a frame, on the event loop that is being measured. So the picture
    is one text, without tables inside tables: those take rich several times as long. A
    thread that redraws would hold the interpreter just as long, at moments of its own.
    """

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._before: dict[str, Decimal] = {}
        self._arrows: dict[str, tuple[str, str]] = {}
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, frame: Frame) -> None:
        """Redraw."""
        width = max(40, min(self._console.width - 2 * INDENT, WIDEST))
        picture = Text(no_wrap=True, overflow="crop")
        for line in self._lines(frame, width):
            line.truncate(width, overflow="ellipsis")
            picture.append("\n" + " " * INDENT).append_text(line)
        self._live.update(picture, refresh=True)

    def _lines(self, frame: Frame, width: int) -> Iterator[Text]:
        facts = self._facts
        yield Text.assemble(
            ("redisutils demo", "bold"),
            (f"   {facts.source} · {facts.tasks:,} tasks · {facts.server}", "dim"),
        )
        yield Text()
        yield self._progress(frame, width)
        yield Text()
        yield self._throughput(frame)
        for row in sparkline(frame.rates[LABEL - width :], rows=2):
            yield Text.assemble(_label(""), (row, "cyan"))
        yield Text()
        yield from self._latencies(frame)
        yield Text()
        yield self._pool(frame)
        yield self._checks(frame)
        yield self._market(frame, width)
        yield Text()
        if facts.dashboard:
            yield Text.assemble(_label("dashboard"), (facts.dashboard, f"link {facts.dashboard}"))
        yield Text("Ctrl-C ends the run and shows the table", style="dim")

    def _progress(self, frame: Frame, width: int) -> Text:
        if not self._facts.limit:
            return Text.assemble(_label("running for"), f"{frame.elapsed:,.1f} s, until Ctrl-C")
        told = f"{frame.fraction:4.0%}   {frame.elapsed:,.1f} s of {self._facts.limit}"
        room = max(10, width - len(told) - 2)
        halves = round(frame.fraction * room * 2)
        done = "━" * (halves // 2) + "╸" * (halves % 2)
        return Text.assemble(
            (done, "cyan"), ("─" * (room - len(done)), "bright_black"), f"  {told}"
        )

    def _throughput(self, frame: Frame) -> Text:
        now = frame.now
        per = now.seconds or 1.0
        return Text.assemble(
            _label("throughput"),
            (f"{now.commands / per:,.0f}", "bold cyan"),
            " commands/s   ",
            (f"{now.trades / per:,.0f}", "bold cyan"),
            " trades/s",
        )

    def _latencies(self, frame: Frame) -> Iterator[Text]:
        heads = "".join(f"{head:>9}   " for head in ("p50", "p95", "p99", "max"))
        yield Text.assemble(_label("latency"), (heads, "dim"))
        for kind in KINDS:
            shot = frame.loop.timings.kinds[kind].snapshot()
            p50, p95, p99, top = (
                f"{milliseconds(value):>9}   " for value in (shot.p50, shot.p95, shot.p99, shot.max)
            )
            yield Text.assemble(_label(kind), p50, p95, (p99, "bold"), top)

    def _pool(self, frame: Frame) -> Text:
        status = frame.status
        return Text.assemble(
            _label("pool"),
            f"{status.size} of {status.max_size} connections, {status.available} free, ",
            (f"{status.waiting} waiting", "yellow" if status.waiting else ""),
        )

    def _checks(self, frame: Frame) -> Text:
        loop = frame.loop
        wrong, lost = loop.checks.wrong, loop.lost
        return Text.assemble(
            _label("checked"),
            f"{loop.checks.compared:,} values, ",
            (f"{wrong:,} wrong", "bold red" if wrong else "green"),
            f"; {loop.received:,} events, ",
            (f"{lost:,} lost", "bold red" if lost else "green"),
        )

    def _market(self, frame: Frame, width: int) -> Text:
        line = Text.assemble(_label("market"))
        for symbol, trade in sorted(frame.loop.ticker.items()):
            before = self._before.get(symbol, trade.price)
            if trade.price != before:
                self._arrows[symbol] = ("▲", "green") if trade.price > before else ("▼", "red")
            self._before[symbol] = trade.price
            price = f"{symbol} {trade.price} "
            if len(line) + len(price) < width:
                line.append_text(Text.assemble(price, self._arrows.get(symbol, " "), "  "))
        return line


class PlainView:
    """One line a second, for logs and pipes."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._next = 1.0
        self._commands = self._trades = 0
        self._at = 0.0

    def __enter__(self) -> PlainView:
        facts = self._facts
        self._print(f"redisutils demo: {facts.source}, {facts.tasks:,} tasks, {facts.server}")
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
        loop, now = frame.loop, frame.now
        per = frame.elapsed - self._at
        trades = loop.trades
        commands_per = (frame.metrics.commands - self._commands) / per
        trades_per = (trades - self._trades) / per
        self._commands, self._trades, self._at = frame.metrics.commands, trades, frame.elapsed
        done = f" {frame.fraction:4.0%}" if self._facts.limit else ""
        self._print(
            f"{frame.elapsed:6.1f} s{done}  {commands_per:>8,.0f} commands/s"
            f"  {trades_per:>7,.0f} trades/s  p50 {milliseconds(now.p50)}"
            f"  p99 {milliseconds(now.p99)}  {loop.checks.wrong} wrong, {loop.lost} lost"
        )

    def _print(self, line: str) -> None:
        # Not through rich's wrapping: a line of a log stays one line.
        self._console.file.write(line + "\n")
        self._console.file.flush()


def _label(text: str) -> tuple[str, str]:
    return text.ljust(LABEL), "dim"
