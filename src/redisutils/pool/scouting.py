"""Connecting to a server that may have become reachable only after we began.

An attempt whose first bytes were lost hangs, for as long as the system repeats them ever more
rarely or for good, although the network is long mended; from a server that is merely slow it
cannot be told. A younger attempt tells. While one takes long, a **scout** tries beside it, over
and over, giving up quickly each time. When it gets through, the oldest of those who wait has its
connection, and the others begin anew: the server has answered somebody who came after them. A
server that is slow to answer is waited for all the same, by the attempts that do not give up.

A scout takes a free place of the pool. Where there is none, the youngest attempt begins anew
instead, and is the scout; if it is the only one, ever more rarely.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextvars import Context
from time import monotonic
from typing import Any, Final

from redisutils.connection.protocol import Connection
from redisutils.errors import RedisUtilsError

__all__ = ["Scouted"]

logger = logging.getLogger("redisutils.pool")

SCOUT_AFTER: Final = 0.75
"""Seconds that an attempt takes before a scout is sent. Connecting takes five round trips with
TLS, and some time in a busy server."""

SCOUT_FOR: Final = 0.75
"""Seconds for each of the scout's attempts. A server that comes back is found within a second."""


class Scouted:
    """Opens connections by way of ``dial``, and sends scouts for those that take long."""

    def __init__(self, dial: Callable[[], Coroutine[Any, Any, Connection]]) -> None:
        self._dial = dial
        self.reserve: Callable[[], bool] = lambda: False
        """Asked for a place for a scout; False if there is none."""
        self.unreserve: Callable[[], None] = lambda: None
        """Told when the scout needs its place no more."""
        # Who waits since when, oldest first. What they are told: a connection, or None to begin
        # anew.
        self._waiting: dict[asyncio.Future[Connection | None], float] = {}
        self._callers = 0
        self._scout: asyncio.Task[None] | None = None

    async def dial(self) -> Connection:
        """A new connection. Raises what ``dial`` does."""
        connection = None
        self._callers += 1
        try:
            while connection is None:
                connection = await self._attempt()
        finally:
            self._callers -= 1
            if not self._callers and self._scout is not None:
                self._scout.cancel()
        return connection

    async def _attempt(self) -> Connection | None:
        """A connection, or None when it is better to begin anew."""
        loop = asyncio.get_running_loop()
        own = loop.create_task(self._dial())
        told: asyncio.Future[Connection | None] = loop.create_future()
        began = self._waiting[told] = monotonic()
        timer = loop.call_later(SCOUT_AFTER, self._send_scout)
        either: list[asyncio.Future[Any]] = [own, told]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            _dismiss(own)
            if told.done() and (found := told.result()) is not None:
                found.close()
            raise
        finally:
            timer.cancel()
            del self._waiting[told]
        if told.done():
            _dismiss(own)
            return told.result()
        connection = own.result()
        if monotonic() - began < SCOUT_FOR:
            self._overtaken(began)
        return connection

    def _overtaken(self, began: float) -> None:
        """One that began then has got through quickly: whoever hangs for longer begins anew."""
        for told, since in self._waiting.items():
            if since + SCOUT_AFTER <= began and not told.done():
                told.set_result(None)

    def _send_scout(self) -> None:
        if self._scout is None:
            loop = asyncio.get_running_loop()
            self._scout = loop.create_task(self._try_over_and_over(), context=Context())
            self._scout.add_done_callback(self._returned)

    def _returned(self, scout: asyncio.Task[None]) -> None:
        self._scout = None
        if scout.cancelled():
            return
        if (error := scout.exception()) is not None:
            logger.error("looking whether the server can be reached failed", exc_info=error)
            return
        # Whoever had just begun when it set out has not been overtaken, and his alarm found it
        # under way.
        late = monotonic() - SCOUT_AFTER
        if any(since <= late and not told.done() for told, since in self._waiting.items()):
            self._send_scout()

    async def _try_over_and_over(self) -> None:
        pause = SCOUT_FOR
        while True:
            until = monotonic() + SCOUT_FOR
            if self.reserve():
                try:
                    if await self._got_through():
                        return
                finally:
                    self.unreserve()
            elif self._waiting:  # nobody does between two attempts
                *older, youngest = self._waiting
                if not youngest.done():
                    youngest.set_result(None)
                if not older:
                    until += pause
                    pause *= 2
            await asyncio.sleep(until - monotonic())

    async def _got_through(self) -> bool:
        """The scout's own attempt."""
        began = monotonic()
        try:
            async with asyncio.timeout(SCOUT_FOR):
                connection = await self._dial()
        except (RedisUtilsError, TimeoutError):
            return False  # Those who wait hear what is wrong from attempts of their own.
        oldest = next((told for told in self._waiting if not told.done()), None)
        if oldest is None:  # all have got through in this turn
            connection.close()
        else:
            oldest.set_result(connection)
            self._overtaken(began)
        return True


def _dismiss(attempt: asyncio.Task[Connection]) -> None:
    """Nobody wants its connection any more."""
    attempt.cancel()
    attempt.add_done_callback(_close_unwanted)


def _close_unwanted(attempt: asyncio.Task[Connection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
