"""The feed: makes a pool's frames, once for all who watch it.

It costs the pool one snapshot and one health check each second, some three thousandths of a
processor, whoever watches. So it goes on when nobody does, and who opens the page sees the last
minutes. A viewer that does not keep up loses frames; the feed waits for nobody.

Commands share the event loop with it, so no step of it may be long: it lets them pass between the
snapshot, the frame and its JSON, and wakes a few viewers at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from functools import cached_property
from time import monotonic, time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from redisutils.errors import ConfigError, PoolClosed
from redisutils.metrics import MetricsSnapshot
from redisutils.monitor.checks import Checks
from redisutils.monitor.frame import Frame, HealthFrame, Status
from redisutils.monitor.framing import make_frame

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool

__all__ = ["KEPT", "Feed", "Sheet", "Viewer"]

logger = logging.getLogger("redisutils.monitor")

KEPT: Final = 300
"""Frames that are kept for those who come later."""

KEPT_BYTES: Final = 8 * 1024 * 1024
"""What they may take; 300 are 1 MB as a rule."""

BEHIND: Final = 4
"""Frames that wait for a viewer at most. Older ones are lost to it."""

_TOGETHER: Final = 4
"""Viewers that are woken in one turn of the loop: to send to one takes some 0.1 ms."""

_LARGE: Final = ("slow", "nodes")
"""What the latest frame tells of, and the history does not."""

_FIRST: Final = 0.25
"""Seconds of the first interval, for somebody to have something to see."""


@dataclass(frozen=True)
class Sheet:
    """A frame, and its JSON, which is written once, when first asked for."""

    frame: Frame

    @cached_property
    def data(self) -> bytes:
        """All of it."""
        large = {name: self.frame[name] for name in _LARGE}
        return self._rest + b"," + _encode(large)[1:]

    @cached_property
    def slim(self) -> bytes:
        """Without the slow commands and the nodes, which the next frame tells of again: for the
        history."""
        return self._rest + b"," + _encode(dict.fromkeys(_LARGE, ()))[1:]

    @cached_property
    def _rest(self) -> bytes:
        return _encode({name: part for name, part in self.frame.items() if name not in _LARGE})[:-1]


class Viewer:
    """Somebody who watches: an asynchronous iterator of the frames that are made from now on.
    It ends with the feed. Leave it with ``with``, or :meth:`leave`."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._sheets: deque[Sheet] = deque(maxlen=BEHIND)
        self._news = asyncio.Event()
        self._over = False
        self.lost = 0
        """Frames that this viewer was too slow for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Watch no longer."""
        self._feed._viewers.discard(self)
        self.end()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sheet:
        while not self._sheets:
            if self._over:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._sheets.popleft()

    def give(self, sheet: Sheet) -> None:
        """For the feed: here is another."""
        self.lost += len(self._sheets) == BEHIND
        self._sheets.append(sheet)
        self._news.set()

    def end(self) -> None:
        """For the feed: there will be no more."""
        self._over = True
        self._news.set()


class Feed:
    """Makes a frame of ``pool`` each ``interval``, from :meth:`start` until the pool is closed.

    The pool need not be open yet. It belongs to the event loop in which it is started.

    Args:
        interval: seconds from one frame to the next.

    Raises:
        ConfigError: ``interval`` is not a positive number.
    """

    def __init__(self, pool: RedisPool, *, interval: float = 1.0) -> None:
        if not interval > 0:
            raise ConfigError(f"Feed(interval={interval!r}): must be a positive number of seconds")
        self._pool = pool
        self._interval = interval
        self._checks = Checks(pool)
        self._task: asyncio.Task[None] | None = None
        self._elsewhere = False  # the pool was found to belong to another event loop
        self._status: Status = "healthy"
        self._viewers: set[Viewer] = set()
        self._kept: deque[bytes] = deque()
        self._size = 0  # of them all
        self.latest: Sheet | None = None
        """The last frame; None before the first."""
        self.sidecar = False
        """Set it where the pool is the monitor's own, for those who watch to know."""
        self.error: str | None = None
        """What the feed itself failed of, while it fails. It is told in the frame's reasons."""

    def __repr__(self) -> str:
        state = "running" if self.running else "not running"
        return f"<Feed of {self._pool!r}: {state}, {self.viewers} watch, {len(self._kept)} kept>"

    @property
    def running(self) -> bool:
        """Whether frames are being made."""
        return self._task is not None and not self._task.done()

    @property
    def viewers(self) -> int:
        """How many watch."""
        return len(self._viewers)

    def history(self) -> list[bytes]:
        """The last frames as JSON, oldest first, each without its slow commands."""
        return list(self._kept)

    def start(self) -> None:
        """Begin, in the running event loop. Does nothing when it runs, when the pool is closed, or
        belongs to another loop."""
        if not self.running and not self._pool.closed and not self._elsewhere:
            self._task = asyncio.get_running_loop().create_task(self._run(), context=Context())

    async def stop(self) -> None:
        """End. Those who watch come to their end, too."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})

    def watch(self) -> Viewer:
        """Somebody who watches from now on. Starts the feed."""
        self.start()
        viewer = Viewer(self)
        if self.running:
            self._viewers.add(viewer)
        else:
            viewer.end()
        return viewer

    async def first(self, timeout: float) -> Sheet | None:
        """The latest frame; the first, if there is none yet. Starts the feed.

        Args:
            timeout: seconds to wait for it; None is returned after that, or at the feed's end.
        """
        self.start()
        if self.latest is None:
            with self.watch() as viewer:
                try:
                    async with asyncio.timeout(timeout):
                        await anext(viewer, None)
                except TimeoutError:
                    pass
        return self.latest

    # -- the task --------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            before = await self._first_snapshot()
            if before is not None and self._pool.server.loop is not asyncio.get_running_loop():
                self._refuse()
                return
            due = monotonic() + min(self._interval, _FIRST)
            while before is not None and not self._pool.closed:
                await asyncio.sleep(due - monotonic())
                before = await self._turn(before)
                # What was missed is not made up for.
                due = max(due + self._interval, monotonic())
        finally:
            for viewer in list(self._viewers):
                viewer.leave()
            await self._checks.stop()

    def _refuse(self) -> None:
        self._elsewhere = True
        self.error = (
            f"the pool of {self._pool.config.endpoint} was opened in another event loop than the "
            "one that serves its monitor: open the pool where the application runs, such as in "
            "its lifespan"
        )
        logger.error("%s", self.error)

    async def _first_snapshot(self) -> MetricsSnapshot | None:
        """Of a pool that may not be open yet; None if it never was."""
        while True:
            try:
                return self._pool.metrics()
            except PoolClosed:
                if self._pool.closed:
                    return None
                await asyncio.sleep(min(self._interval, _FIRST))

    async def _turn(self, before: MetricsSnapshot) -> MetricsSnapshot:
        """Make a frame and show it. Never fails: what goes wrong is logged, and shown."""
        now = before
        try:
            if not self._pool.closed:
                await self._checks.look()
            health = self._checks.health
            self._note(health)
            now = self._pool.metrics()
            await _let_pass()
            frame = make_frame(
                before,
                now,
                at=time(),
                health=health,
                server=self._checks.server,
                endpoints=self._checks.endpoints,
                closed=self._pool.closed,
                sidecar=self.sidecar,
            )
            await _let_pass()
            await self._show(Sheet(frame))
            self.error = None
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
            if told != self.error:  # or the log would say it each second
                where = self._pool.config.endpoint
                logger.error("the feed of %s failed: %s", where, told, exc_info=error)
            await self._failed(told)
        return now

    async def _show(self, sheet: Sheet) -> None:
        slim = sheet.slim  # first: a frame that is no JSON shall not be the latest
        self.latest = sheet
        if len(self._kept) == KEPT:
            self._size -= len(self._kept.popleft())
        self._kept.append(slim)
        self._size += len(slim)
        while self._size > KEPT_BYTES and len(self._kept) > 1:
            self._size -= len(self._kept.popleft())
        for number, viewer in enumerate(list(self._viewers), 1):
            viewer.give(sheet)
            if number % _TOGETHER == 0:
                await _let_pass()

    def _note(self, health: HealthFrame) -> None:
        """Log that it is well or not, when that has changed."""
        status = health["status"]
        if status == self._status or self._pool.closed:
            return
        self._status = status
        why = ": " + "; ".join(health["reasons"]) if health["reasons"] else ""
        # Its return, too: whoever reads of an outage wants to read of its end.
        logger.warning("%s is %s%s", self._pool.config.endpoint, status, why)

    async def _failed(self, told: str) -> None:
        self.error = told
        if self.latest is None:
            return
        last = self.latest.frame
        health = last["health"]
        mine = "the dashboard's feed failed, and these figures are old: "
        reasons = [reason for reason in health["reasons"] if not reason.startswith(mine)]
        status = "degraded" if health["status"] == "healthy" else health["status"]
        await self._show(
            Sheet(
                {
                    **last,
                    "at": round(time(), 3),
                    "health": {
                        "status": status,
                        "reasons": [mine + told, *reasons],
                        "round_trip": health["round_trip"],
                    },
                }
            )
        )


async def _let_pass() -> None:
    """Let the loop do what is due."""
    await asyncio.sleep(0)


def _encode(part: Any) -> bytes:
    return json.dumps(part, allow_nan=False, separators=(",", ":")).encode()
