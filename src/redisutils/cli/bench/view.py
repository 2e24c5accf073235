"""The terminal while a run lasts.

What draws holds up the event loop that is being measured, and a picture composed by rich takes
several milliseconds: at four a second, the slowest hundredth of all commands would be of our own
making. So this one is put together by hand, in some 0.1 ms, twice a second.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from redisutils.cli.drawing import duration, share, short, sparkline

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import Console

__all__ = ["LINES", "Facts", "Frame", "LiveView", "PlainView", "QuietView", "Times", "View"]

Times = tuple[float | None, float | None, float | None]
"""p50, p99 and the longest, in seconds; None when nothing was measured."""

LINES: Final = 18
"""Of a terminal that holds the live picture."""

LABEL: Final = 14
WIDEST: Final = 100


@dataclass(frozen=True, slots=True)
class Facts:
    """What does not change during a run."""

    server: str
    load: str
    """Mix, sizes and tasks, in words."""
    rate: float | None


@dataclass(frozen=True, slots=True)
class Frame:
    """The latest interval of a run."""

    phase: str
    """``warming up`` or ``measuring``."""
    elapsed: float
    """Seconds since this phase began."""
    fraction: float
    """How much of the phase is done: 0.0 to 1.0."""
    rate: float
    """Commands per second."""
    service: Times
    response: Times | None
    errors: tuple[tuple[str, int], ...]
    """Since the beginning, by class and outcome."""
    backlog: int
    cpu: float
    """Of this program: share of one core."""


class View(Protocol):
    """Something that shows a run while it lasts. Entered around the run."""

    def __enter__(self) -> View: ...
    def __exit__(self, *exc: object) -> None: ...
    def show(self, frame: Frame) -> None:
        """Show ``frame``, quickly."""


class QuietView:
    """Shows nothing."""

    def __enter__(self) -> QuietView:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, frame: Frame) -> None:
        """Nothing."""


class LiveView:
    """Redraws a picture in place, and leaves nothing behind: the summary takes over."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._rates: deque[float] = deque(maxlen=WIDEST)
        self._drawn = 0
        self._codes: dict[str, tuple[str, str]] = {}

    def __enter__(self) -> LiveView:
        self._console.show_cursor(False)
        return self

    def __exit__(self, *exc: object) -> None:
        self._write([])
        self._console.show_cursor(True)

    def show(self, frame: Frame) -> None:
        """Redraw."""
        self._rates.append(frame.rate)
        width = max(40, min(self._console.width - 2, WIDEST))
        self._write([self._painted(line, width) for line in self._lines(frame, width)])

    def _write(self, lines: list[str]) -> None:
        # Up to where the last picture began, and away with it.
        begin = f"\x1b[{self._drawn}F" if self._drawn else ""
        self._console.file.write(begin + "\x1b[0J" + "".join(f"{line}\n" for line in lines))
        self._console.file.flush()
        self._drawn = len(lines)

    def _painted(self, line: list[tuple[str, str]], width: int) -> str:
        """A line's pieces with their colours, cut at the terminal's edge: a line that wrapped
        would be two when they are counted."""
        painted, room = ["  "], width - 2
        for text, style in line:
            some = text if len(text) <= room else f"{text[: max(0, room - 1)]}…"[:room]
            room -= len(some)
            before, after = self._code(style)
            painted.append(f"{before}{some}{after}")
        return "".join(painted)

    def _code(self, style: str) -> tuple[str, str]:
        """What switches a style on and off on this terminal."""
        found = self._codes.get(style)
        if found is None:
            system = self._console._color_system
            painted = (
                self._console.get_style(style).render("\0", color_system=system) if style else "\0"
            )
            before, _, after = painted.partition("\0")
            found = self._codes[style] = before, after
        return found

    def _lines(self, frame: Frame, width: int) -> Iterator[list[tuple[str, str]]]:
        facts = self._facts
        yield []
        yield [("redisutils bench", "bold"), (f"   {facts.server}", "dim")]
        yield [(facts.load, "dim")]
        yield []
        yield self._progress(frame, width)
        yield []
        asked = f" of {facts.rate:,.0f}" if facts.rate else ""
        yield [
            _label("throughput"),
            (f"{frame.rate:,.0f}", "bold cyan"),
            (f"{asked} commands/s", ""),
            (f"   {frame.backlog:,} due and waiting" if frame.backlog else "", "yellow"),
        ]
        for row in sparkline(list(self._rates)[LABEL + 2 - width :], rows=2):
            yield [_label(""), (row, "cyan")]
        yield [_label("latency"), (f"{'p50':>8}    {'p99':>8}    {'max':>8}", "dim")]
        if frame.response is not None:
            yield self._times("response", frame.response)
        yield self._times("service", frame.service)
        yield [_label("this program"), (f"{share(frame.cpu)} of a core", "")]
        yield self._errors(frame)
        yield []
        yield [("Ctrl-C ends the run and shows what there is", "dim")]

    def _progress(self, frame: Frame, width: int) -> list[tuple[str, str]]:
        told = f"  {frame.phase} {frame.fraction:4.0%}   {frame.elapsed:,.1f} s"
        room = max(10, width - len(told) - 2)
        halves = round(min(1.0, frame.fraction) * room * 2)
        done = "━" * (halves // 2) + "╸" * (halves % 2)
        return [(done, "cyan"), ("─" * (room - len(done)), "bright_black"), (told, "")]

    def _times(self, name: str, times: Times) -> list[tuple[str, str]]:
        p50, p99, top = (f"{duration(value):>8}    " for value in times)
        return [_label(name), (p50, ""), (p99, "bold"), (top, "")]

    def _errors(self, frame: Frame) -> list[tuple[str, str]]:
        if not frame.errors:
            return [_label("errors"), ("none", "green")]
        told = ", ".join(f"{count:,} {name}" for name, count in frame.errors)
        return [_label("errors"), (told, "bold red")]


class PlainView:
    """One line a second, for logs and pipes."""

    def __init__(self, console: Console, facts: Facts) -> None:
        self._console = console
        self._facts = facts
        self._next = 1.0
        self._phase = ""

    def __enter__(self) -> PlainView:
        self._print(f"redisutils bench: {self._facts.load}; {self._facts.server}")
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def show(self, frame: Frame) -> None:
        """Print a line if the last one is a second old."""
        if frame.phase != self._phase:
            self._phase, self._next = frame.phase, 1.0
        # Frames come every half second, about.
        if frame.elapsed < self._next - 0.25:
            return
        self._next = max(self._next, float(int(frame.elapsed + 0.25))) + 1.0
        response = ""
        if frame.response is not None:
            response = f"response p99 {duration(frame.response[1])}, "
        told = ", ".join(f"{count:,} {name}" for name, count in frame.errors)
        backlog = f", {short(frame.backlog)} due and waiting" if frame.backlog else ""
        self._print(
            f"{frame.elapsed:6.1f} s {frame.phase} {frame.rate:>8,.0f} commands/s  {response}"
            f"p50 {duration(frame.service[0])}, p99 {duration(frame.service[1])}"
            f"{backlog}  {f'errors: {told}' if told else 'no errors'}"
        )

    def _print(self, line: str) -> None:
        # Not through rich's wrapping: a line of a log stays one line.
        self._console.file.write(line + "\n")
        self._console.file.flush()


def _label(text: str) -> tuple[str, str]:
    return text.ljust(LABEL), "dim"
