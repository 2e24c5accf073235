"""The run while it lasts: a live picture on a terminal, lines elsewhere."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from rich.live import Live
from rich.text import Text

from redisutils.cli.drawing import duration, short, sparkline

if TYPE_CHECKING:
    from rich.console import Console

    from redisutils.cli.demo.failover.story import Event, Story
    from redisutils.metrics import MetricsSnapshot

__all__ = ["Facts", "Lines", "Picture", "View"]

LABEL: Final = 14
WIDEST: Final = 100
INDENT: Final = 2


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change during a run."""

    servers: str
    tasks: int
    seconds: float
    dashboard: str = ""


class View(Protocol):
    """Shows a run. Entered around it."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, story: Story, before: MetricsSnapshot, now: MetricsSnapshot) -> None:
        """What has happened between two snapshots."""


class Picture:
    """Redraws one picture in place; the closing table takes over."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._rates: deque[float] = deque(maxlen=200)
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Picture:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, story: Story, before: MetricsSnapshot, now: MetricsSnapshot) -> None:
        """Redraw."""
        width = max(40, min(self._console.width - 2 * INDENT, WIDEST))
        picture = Text(no_wrap=True, overflow="crop")
        for line in self._lines(story, before, now, width):
            line.truncate(width, overflow="ellipsis")
            picture.append("\n" + " " * INDENT).append_text(line)
        self._live.update(picture, refresh=True)

    def _lines(
        self, story: Story, before: MetricsSnapshot, now: MetricsSnapshot, width: int
    ) -> Iterator[Text]:
        facts = self._facts
        seconds = max(now.at - before.at, 1e-6)
        yield Text.assemble(
            ("redisutils demo --kill", "bold"), (f"   {facts.tasks} tasks · {facts.servers}", "dim")
        )
        yield Text()
        yield self._progress(story, width)
        yield Text()
        rate = (now.commands - before.commands) / seconds
        self._rates.append(rate)
        yield Text.assemble(_label("throughput"), (f"{rate:,.0f}", "bold cyan"), " commands/s")
        for row in sparkline(list(self._rates)[LABEL - width :], rows=2):
            yield Text.assemble(_label(""), (row, "cyan"))
        yield Text()
        yield from _nodes(before, now, seconds)
        yield Text()
        yield _writes(story)
        yield Text()
        for event in story.events:
            yield Text.assemble(_label(f"{event.at:6.2f} s"), (event.words, event.style))
        yield Text()
        if facts.dashboard:
            yield Text.assemble(_label("dashboard"), (facts.dashboard, f"link {facts.dashboard}"))
        yield Text("Ctrl-C ends the run and shows the table", style="dim")

    def _progress(self, story: Story, width: int) -> Text:
        fraction = min(1.0, story.elapsed / self._facts.seconds)
        told = f"{fraction:4.0%}   {min(story.elapsed, self._facts.seconds):,.1f} s"
        told += f" of {self._facts.seconds:g} s"
        room = max(10, width - len(told) - 2)
        halves = round(fraction * room * 2)
        done = "━" * (halves // 2) + "╸" * (halves % 2)
        return Text.assemble(
            (done, "cyan"), ("─" * (room - len(done)), "bright_black"), f"  {told}"
        )


def _nodes(before: MetricsSnapshot, now: MetricsSnapshot, seconds: float) -> Iterator[Text]:
    """What goes to each node. One that goes away is not there any more."""
    known = {node.endpoint: node for node in before.nodes}
    for number, node in enumerate(now.nodes):
        delta = node.since(known.get(node.endpoint))
        up = node.connected and node.breaker.state == "closed"
        mark, style = ("●", "green") if up else ("✖", "bold red")
        told = f"{delta.commands / seconds:>9,.0f}/s   p99 {duration(delta.latency.p99 or None):<8}"
        yield Text.assemble(
            _label("nodes" if number == 0 else ""),
            (f"{mark} ", style),
            f"{node.endpoint:<18}",
            told if up else ("no connection", "red"),
        )


def _writes(story: Story) -> Text:
    wrong = story.findings.wrong
    return Text.assemble(
        _label("writes"),
        f"{short(story.acknowledged)} acknowledged, ",
        (f"{story.unknown} unknown", "yellow" if story.unknown else ""),
        f", {story.refused} refused; ",
        (f"{wrong} wrong answers", "bold red" if wrong else "green"),
    )


class Lines:
    """One line a second, and one for each event."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._next = 1.0
        self._told = 0
        self._commands = 0
        self._at = 0.0

    def __enter__(self) -> Lines:
        facts = self._facts
        self._print(f"redisutils demo --kill: {facts.tasks} tasks, {facts.servers}")
        if facts.dashboard:
            self._print(f"dashboard: {facts.dashboard}")
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, story: Story, before: MetricsSnapshot, now: MetricsSnapshot) -> None:
        """Print what is new."""
        for event in story.events[self._told :]:
            self._event(event)
        self._told = len(story.events)
        if story.elapsed < self._next:
            return
        elapsed = story.elapsed
        rate = (now.commands - self._commands) / max(elapsed - self._at, 1e-6)
        self._commands, self._at = now.commands, elapsed
        self._next = int(elapsed) + 1.0
        self._print(
            f"{elapsed:6.1f} s  {rate:>8,.0f} commands/s  {story.acknowledged:,} acknowledged, "
            f"{story.unknown} unknown, {story.refused} refused, {story.findings.wrong} wrong"
        )

    def _event(self, event: Event) -> None:
        self._print(f"{event.at:6.2f} s  * {event.words}")

    def _print(self, line: str) -> None:
        # Not through rich's wrapping: a line of a log stays one line.
        self._console.file.write(line + "\n")
        self._console.file.flush()


def _label(text: str) -> tuple[str, str]:
    return text.ljust(LABEL), "dim"
