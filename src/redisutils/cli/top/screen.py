"""A frame, and those before it, as lines of text that fit a terminal."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from textwrap import wrap
from time import localtime, strftime
from typing import TYPE_CHECKING, Final

from rich.text import Text

from redisutils.cli.drawing import duration, short, size
from redisutils.cli.parts import legend, parts_bar
from redisutils.cli.top.nodes import node_lines
from redisutils.cli.top.panels import (
    LABEL,
    error_lines,
    few,
    label,
    long_time,
    pool_lines,
    process_line,
    server_lines,
    spark,
    tables,
)

if TYPE_CHECKING:
    from redisutils.cli.top.source import News
    from redisutils.monitor.frame import Frame

__all__ = ["Screen", "plain_line"]

INDENT: Final = 2
KEPT: Final = 300

ROOMY: Final = 32
"""Lines of a terminal from which on there are blank ones between the parts."""

_STATUS: Final = {
    "healthy": ("●", "bold green"),
    "degraded": ("▲", "bold yellow"),
    "unhealthy": ("✖", "bold red"),
}
_UNKNOWN: Final = ("?", "bold")


class Screen:
    """What is shown, and what it was made of.

    Args:
        title: what is watched.
        own: whether it is a pool of our own, of which only the server is of interest.
    """

    def __init__(self, title: str, *, own: bool = False) -> None:
        self._title = title
        self._own = own
        self._frames: deque[Frame] = deque(maxlen=KEPT)
        self._frozen: tuple[Frame, ...] | None = None
        self.trouble: str | None = None
        """Why there are no frames."""

    @property
    def latest(self) -> Frame | None:
        """The last frame that came."""
        return self._frames[-1] if self._frames else None

    @property
    def paused(self) -> bool:
        """Whether what is shown stays as it is. Frames are kept meanwhile."""
        return self._frozen is not None

    def pause(self) -> None:
        """Hold what is shown, or go on."""
        self._frozen = tuple(self._frames) if self._frozen is None else None

    def take(self, news: News) -> None:
        """What has come."""
        self.trouble = news.trouble
        if len(news.frames) > 1:
            self._frames.clear()  # a history is the whole of it
        self._frames.extend(news.frames)

    def lines(self, width: int, height: int | None = None) -> list[Text]:
        """The picture, no wider and no higher than that.

        Args:
            height: None for as many lines as there are.
        """
        frames = self._frozen or tuple(self._frames)
        room = max(40, width - 2 * INDENT)
        if not frames:
            found = [Text(self._title, "bold"), Text(self.trouble or "waiting for a first frame…")]
        else:
            found = self._picture(frames, room, height)
        if height is not None:
            # The way out is shown on the smallest of terminals.
            found = [*found[: height - 2], Text(), self._footer()][:height]
        for line in found:
            line.truncate(room, overflow="ellipsis")
        return [Text(" " * INDENT).append_text(line) for line in found]

    def _footer(self) -> Text:
        if self.paused:
            return Text("paused", "bold yellow").append("   space goes on, q quits", "dim")
        return Text("q quits, space pauses", "dim")

    def _picture(self, frames: Sequence[Frame], room: int, height: int | None) -> list[Text]:
        frame = frames[-1]
        tight = height is not None and height < ROOMY and not self._own
        gap = [] if tight else [Text()]
        bars = 1 if tight else 2
        above = [
            *self._head(frame, room),
            *gap,
            *(self._served if self._own else self._throughput)(frames, room, bars),
            *gap,
            *self._latency(frames, room),
            *gap,
        ]
        if not self._own:
            above += [*pool_lines(frame, room), *error_lines(frame)]
        below = [*server_lines(frame["server"], room)]
        if not self._own:
            below.append(process_line(frame))
        free = 1000 if height is None else height - len(above) - len(below) - len(gap) - 2
        # Where there is much to show, each has its part.
        nodes = list(node_lines(frame, room, free if self._own else max(5, free // 2)))
        if nodes:
            nodes = [*nodes, *gap] if self._own else [Text(), *nodes]
        between = [] if self._own else list(tables(frame, room, free - len(nodes)))
        picture = [*above, *nodes, *between, *(gap if between else ()), *below]
        if self.trouble:
            head = len(list(self._head(frame, room)))
            picture[head:] = [Text(line.plain, "bright_black") for line in picture[head:]]
        return picture

    # -- from above ------------------------------------------------------------------------

    def _head(self, frame: Frame, room: int) -> Iterator[Text]:
        health, server = frame["health"], frame["server"]
        mark, style = _STATUS.get(health["status"], _UNKNOWN)
        if self.trouble:
            mark, style = _UNKNOWN
        word = "lost" if self.trouble else health["status"]
        head = Text.assemble((f"{mark} {word}   ", style), (frame["endpoint"], "bold"))
        if server is not None:
            told = [f"{server['kind']} {server['version'] or ''}".strip(), server["role"]]
            if server["uptime"] is not None:
                told.append(f"up {long_time(server['uptime'])}")
            head.append(f"   {', '.join(part for part in told if part)}", "dim")
        clock = strftime("%H:%M:%S", localtime(max(0.0, frame["at"])))
        head.truncate(room - len(clock) - 2, overflow="ellipsis")
        head.append(" " * (room - len(clock) - head.cell_len)).append(clock, "dim")
        yield head
        if self.trouble:
            lost = f"{self.trouble}; trying again. What is below is old."
            for line in wrap(lost, room)[:3]:
                yield Text(line, "bold red")
        if frame["closed"]:
            yield Text("the pool is closed", "bold red")
        for reason in health["reasons"][:3]:
            for line in wrap(reason, room, subsequent_indent="  ")[:3]:
                yield Text(line, style.removeprefix("bold "))
        if len(health["reasons"]) > 3:
            yield Text(f"and {len(health['reasons']) - 3} more", "dim")
        breaker = frame["breaker"]
        if breaker["state"] not in ("closed", ""):
            yield Text(
                f"circuit breaker {breaker['state']} for {duration(breaker['seconds'])}: "
                f"{breaker['refused']:,} calls refused"
                + (f"; {breaker['error']}" if breaker["error"] else ""),
                "red",
            )

    def _throughput(self, frames: Sequence[Frame], room: int, bars: int) -> Iterator[Text]:
        now = frames[-1]["throughput"]
        failing = now["failures"] > 0
        yield Text.assemble(
            label("throughput"),
            (f"{now['commands']:,.0f}", "bold cyan"),
            " commands/s   ",
            (f"{few(now['failures'])} failed/s", "bold red" if failing else "dim"),
            (f"   {size(now['bytes_out'])}/s out, {size(now['bytes_in'])}/s in", "dim"),
        )
        yield from spark(
            [frame["throughput"]["commands"] for frame in frames], room, "cyan", bars, short
        )

    def _served(self, frames: Sequence[Frame], room: int, bars: int) -> Iterator[Text]:
        """What the server does for everybody: a pool of our own does nothing worth showing."""
        served = [(frame["server"]["ops"] or 0.0) if frame["server"] else 0.0 for frame in frames]
        yield Text.assemble(
            label("throughput"), (f"{served[-1]:,.0f}", "bold cyan"), " commands/s, everybody's"
        )
        if any(served):
            yield from spark(served, room, "cyan", bars, short)

    def _latency(self, frames: Sequence[Frame], room: int) -> Iterator[Text]:
        latency = frames[-1]["latency"]
        line = Text.assemble(label("our PINGs" if self._own else "latency"))
        for name, value in (
            ("p50", latency["p50"]), ("p95", latency["p95"]), ("p99", latency["p99"]),
            ("99.9", latency["p999"]), ("max", latency["max"]),
        ):  # fmt: skip
            line.append(f"{name} ", "dim")
            line.append(f"{duration(value):<7}", "bold" if name == "p99" else "")
            line.append("" if name == "max" else "  ")
        yield line
        yield from spark(
            [frame["latency"]["p99"] or 0.0 for frame in frames], room, "blue", 1, duration
        )
        splits = frames[-1]["split"]
        for name in ("p50", "p99"):
            bar = parts_bar(splits[name], room - LABEL)
            line = Text.assemble(label(f"{name} made of"))
            yield line.append_text(bar if bar.plain else Text("nothing measured", "dim"))
        yield Text(" " * LABEL).append_text(legend())


def plain_line(frame: Frame) -> str:
    """A frame in one line, for logs and pipes."""
    latency, pool = frame["latency"], frame["pool"]
    told = [
        strftime("%H:%M:%S", localtime(max(0.0, frame["at"]))),
        f"{frame['health']['status']:<9}",
        f"{frame['throughput']['commands']:>9,.0f}/s",
        f"p50 {duration(latency['p50'])}, p99 {duration(latency['p99'])}",
        f"{few(frame['throughput']['failures'])} failed/s",
        f"pool {pool['in_use']:,} of {pool['max_size']:,}, {pool['waiting']:,} waiting",
    ]
    reasons = f"  ({'; '.join(frame['health']['reasons'])})" if frame["health"]["reasons"] else ""
    return "  ".join(told) + reasons
