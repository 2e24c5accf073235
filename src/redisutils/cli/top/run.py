"""Showing what comes until it is enough."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError
from rich.live import Live
from rich.text import Text

from redisutils.cli.running import ending_early, loop_factory
from redisutils.cli.top.events import EventsFailed
from redisutils.cli.top.keys import pressed
from redisutils.cli.top.screen import Screen, plain_line
from redisutils.errors import ConfigError, RedisUtilsError

if TYPE_CHECKING:
    from rich.console import Console

    from redisutils.cli.top.source import News, Source

__all__ = ["Options", "run", "show"]

OK: Final = 0
UNWELL: Final = 1
"""Nobody answered, or the last frame that was asked for is not healthy."""
WRONG: Final = 2


@dataclass(frozen=True, slots=True)
class Options:
    """How to show it."""

    count: int | None = None
    """Frames after which it ends; None: when somebody says so."""
    json: bool = False
    once: bool = False
    """The picture of one frame, printed."""
    plain: bool = False
    """A line for each frame."""


def run(source: Callable[[], Source], options: Options, console: Console) -> int:
    """Show what comes on an event loop of its own.

    Returns:
        The exit code: 0; 1 when nobody answered, or the last of ``count`` frames was unhealthy;
        2 for settings that are wrong.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(show(source(), options, console))
    except ConfigError as error:
        return _complain(str(error), WRONG)
    except (EventsFailed, RedisError, RedisUtilsError) as error:
        return _complain(str(error), UNWELL)


def _complain(what: str, code: int) -> int:
    print(f"redisutils top: {what}", file=sys.stderr)
    return code


async def show(source: Source, options: Options, console: Console) -> int:
    """The same in the running event loop.

    Raises:
        EventsFailed: a dashboard could not be reached at first.
        redis.exceptions.RedisError: a private server could not be started.
    """
    live = console.is_terminal and not (options.json or options.once or options.plain)
    screen = Screen(source.title, own=source.own)
    over = asyncio.Event()
    with ending_early(over.set):
        if live:
            return await _Live(screen, console, over, options).run(source)
        writer = _Lines(screen, console, options)
        return await _until(over, _each(source, options, writer.show), screen, options)


async def _each(source: Source, options: Options, take: Callable[[News], None]) -> None:
    """Hand on what comes, until as many frames have come as were asked for."""
    left = options.count
    async for news in source.news():
        take(news)
        if news.frames and left is not None:
            left -= 1
            if left <= 0:
                return


async def _until(
    over: asyncio.Event, work: Coroutine[Any, Any, None], screen: Screen, options: Options
) -> int:
    """Run ``work`` to its end or until it is over."""
    working = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(over.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        working.cancel()
        await asyncio.wait({working, waiting})
    if not working.cancelled():
        working.result()
    latest = screen.latest
    unwell = latest is None or latest["health"]["status"] == "unhealthy"
    return UNWELL if options.count is not None and unwell else OK


class _Lines:
    """A line for each frame: for people, or JSON; or the whole picture of one."""

    def __init__(self, screen: Screen, console: Console, options: Options) -> None:
        self._screen = screen
        self._console = console
        self._options = options
        self._told: str | None = None

    def show(self, news: News) -> None:
        self._screen.take(news)
        if news.trouble is not None and news.trouble != self._told:
            _complain(f"{news.trouble}; trying again", UNWELL)
        self._told = news.trouble
        if not news.frames:
            return
        frame = news.frames[-1]  # of a history, the last
        if self._options.json:
            self._write(json.dumps(frame, separators=(",", ":")))
        elif self._options.once:
            width = self._console.width
            for line in self._screen.lines(width):
                line.rstrip()
                self._console.print(line, no_wrap=True, overflow="crop", soft_wrap=True)
        else:
            self._write(plain_line(frame))

    def _write(self, line: str) -> None:
        self._console.file.write(line + "\n")
        self._console.file.flush()


class _Live:
    """The picture on the alternate screen, drawn anew with each frame, key and change of size."""

    def __init__(
        self, screen: Screen, console: Console, over: asyncio.Event, options: Options
    ) -> None:
        self._screen = screen
        self._console = console
        self._over = over
        self._options = options
        self._live = Live(
            console=console, screen=True, auto_refresh=False, vertical_overflow="crop"
        )

    async def run(self, source: Source) -> int:
        loop = asyncio.get_running_loop()
        resized = getattr(signal, "SIGWINCH", None)
        with self._live, pressed(self._key):
            if resized is not None:
                loop.add_signal_handler(resized, self._draw)
            self._draw()
            try:
                work = _each(source, self._options, self._take)
                return await _until(self._over, work, self._screen, self._options)
            finally:
                if resized is not None:
                    loop.remove_signal_handler(resized)

    def _take(self, news: News) -> None:
        self._screen.take(news)
        self._draw()

    def _key(self, key: str) -> None:
        if key in "qQ":
            self._over.set()
        elif key == " ":
            self._screen.pause()
            self._draw()

    def _draw(self) -> None:
        width, height = self._console.size
        lines = self._screen.lines(width, height)
        picture = Text("\n", no_wrap=True, overflow="crop").join(lines)
        self._live.update(picture, refresh=True)
