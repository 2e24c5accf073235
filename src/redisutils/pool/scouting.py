"""Connecting to a server that may have become reachable only after we began.

An attempt whose first bytes were lost hangs, for as long as the system repeats them ever more
rarely or for good, although the network is long mended; from a server that is merely slow it
cannot be told. A younger attempt tells. While one takes long, a **scout** tries beside it, over
and over, giving up quickly each time. When it gets through, the oldest of those who wait has its
connection, and the others begin anew: the server has answered somebody who came after them. A
server that is slow to answer is waited for all the same, by the attempts that do not give up.

There is one scout at a time: a pool has one socket more than it may have connections, and only
while connecting takes long.
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
from redisutils.metrics.events import HARMLESS

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
        # Who waits since when, oldest first. What they are told: a connection, or None to begin
        # anew.
        self._waiting: dict[asyncio.Future[Connection | None], float] = {}
        self._callers = 0
        self._scout: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[Any]] = set()
        """Tasks that were cancelled and have not ended yet."""

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
                self._cancel(self._scout)
                self._scout = None
        return connection

    async def ended(self) -> None:
        """Wait until nothing is left of attempts and scouts that nobody wants any more."""
        while self._ending:
            await asyncio.wait(self._ending)

    def _cancel(self, task: asyncio.Task[Any]) -> None:
        if not task.done():
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

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
            self._dismiss(own)
            if told.done() and (found := told.result()) is not None:
                found.close()
            raise
        finally:
            timer.cancel()
            del self._waiting[told]
        if told.done():
            self._dismiss(own)
            return told.result()
        connection = own.result()
        if monotonic() - began < SCOUT_FOR:
            self._overtaken(began)
        return connection

    def _dismiss(self, attempt: asyncio.Task[Connection]) -> None:
        """Nobody wants its connection any more."""
        self._cancel(attempt)
        attempt.add_done_callback(_close_unwanted)

    def _overtaken(self, began: float) -> None:
        """One that began then has got through quickly: whoever has hung for long begins anew."""
        now = monotonic()
        for told, since in self._waiting.items():
            if since < began and since + SCOUT_AFTER <= now and not told.done():
                told.set_result(None)

    def _send_scout(self) -> None:
        if self._scout is None:
            loop = asyncio.get_running_loop()
            self._scout = loop.create_task(self._try_over_and_over(), context=Context())
            self._scout.add_done_callback(self._returned)

    def _returned(self, scout: asyncio.Task[None]) -> None:
        if self._scout is scout:
            self._scout = None
        if not scout.cancelled() and (error := scout.exception()) is not None:
            with HARMLESS:
                logger.error("looking whether the server can be reached failed", exc_info=error)

    async def _try_over_and_over(self) -> None:
        """The scout's life, which ends with the last caller."""
        while True:
            now = monotonic()
            until = min(self._waiting.values(), default=now) + SCOUT_AFTER
            if until <= now:  # somebody has waited for long
                until = now + SCOUT_FOR
                await self._try()
            await asyncio.sleep(until - monotonic())

    async def _try(self) -> None:
        """An attempt of the scout's own."""
        began = monotonic()
        try:
            async with asyncio.timeout(SCOUT_FOR):
                connection = await self._dial()
        except (RedisUtilsError, TimeoutError):
            return  # Those who wait hear what is wrong from attempts of their own.
        oldest = next((told for told in self._waiting if not told.done()), None)
        if oldest is None:  # all have got through in this turn
            connection.close()
        else:
            oldest.set_result(connection)
            self._overtaken(began)


def _close_unwanted(attempt: asyncio.Task[Connection]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()
