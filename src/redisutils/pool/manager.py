"""How a pool makes, checks and closes Redis connections."""

from __future__ import annotations

import itertools
import logging
import random
import weakref
from asyncio import Future
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

from redis.exceptions import ResponseError

from redisutils.connection.alarm import FOREVER
from redisutils.connection.dial import dial as dial_one
from redisutils.connection.options import ConnectOptions
from redisutils.connection.packing import OwnPayload, pack, pack_many
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, ConnectFailed, ConnectionLost
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.breaker import Breaker
from redisutils.pool.judgement import blocks
from redisutils.pool.model import Expired, Silent, Usage
from redisutils.pool.scouting import Scouted

__all__ = ["ConnectionManager", "Dial"]

FRESH_FOR: Final = 0.5
"""Seconds for which a connection that has just answered needs no PING before it is handed out
again. A server that dies within them is met by the first command, as it always could be."""

LIFETIME_JITTER: Final = 0.1
"""The part of ``max_lifetime`` by which connections' ends are spread, so that those that were
opened together are not all replaced together."""


Dial = Callable[[], Coroutine[Any, Any, Connection]]

_PING: Final = OwnPayload(pack(("PING",)))


class ConnectionManager:
    """deadpool's manager for Redis.

    Args:
        options: how to connect.
        silence: seconds without an answer after which a lane asks whether its peer is still
            there, and an idle connection is not waited for any more.
        max_lifetime, max_idle: seconds, ``inf`` for no bound.
        breaker: refuses to connect while the server is known dead, and learns from each attempt.
        dial: makes a connection where that takes more than ``options``: of a server that moves.
    """

    def __init__(
        self,
        options: ConnectOptions,
        metrics: PoolMetrics,
        breaker: Breaker,
        *,
        silence: float = inf,
        max_lifetime: float = inf,
        max_idle: float = inf,
        dial: Dial | None = None,
    ) -> None:
        self.options = options
        self._metrics = metrics
        self._patience = min(silence, FOREVER)
        self._max_lifetime = max_lifetime
        self._max_idle = max_idle
        self._pings = itertools.count(1)
        self.open: weakref.WeakSet[Connection] = weakref.WeakSet()
        """All that have been made and may still be open, whoever has them."""
        dialed = dial or partial(dial_one, options, metrics, silence=silence)
        self._breaker = breaker
        self.scouted = Scouted(partial(breaker.attempt, dialed))
        self.on_abandoned: Callable[[Connection], None] = lambda _: None
        """Told of a connection that is about to be closed with answers still owed."""

    async def create(self) -> Connection:
        self._breaker.check()
        return await self.connect()

    async def connect(self) -> Connection:
        """A new connection, whatever the breaker says."""
        began = monotonic()
        try:
            connection = await self.scouted.dial()
        except ConnectFailed as error:
            self._metrics.events.note(
                "connect_failed", logging.WARNING, "%s", error.message, error=error.message
            )
            raise
        took = monotonic() - began
        if self._metrics.observer is not None:
            self._metrics.observer.created(took)
        self._metrics.events.note(
            "connected",
            logging.INFO,
            "connected to %s in %.1f ms",
            connection.peer,
            1000 * took,
            seconds=took,
        )
        self.open.add(connection)
        if self._max_lifetime != inf:
            spread = 1 - LIFETIME_JITTER * random.random()
            connection.retire_at = monotonic() + self._max_lifetime * spread
        return connection

    def fit(self, item: Connection, usage: Usage) -> bool:
        return (
            monotonic() - item.last_heard < FRESH_FOR
            and not item.needs_reset
            and not item.held
            and not self.expired(item, usage)
        )

    async def recycle(self, item: Connection, usage: Usage) -> None:
        """UNWATCH and PING with a number of its own, as deadpool-redis does: an echo of another
        number, or of none, shows a connection that is out of step."""
        if self.expired(item, usage):
            raise Expired(f"{item!r} has had its time")
        number = str(next(self._pings)).encode()
        try:
            answers = await item.submit_many(
                OwnPayload(pack_many((("UNWATCH",), ("PING", number)))), 2, False, self._patience
            )
        except CommandTimeout as error:
            raise Silent(f"{item!r} does not answer") from error
        unwatched, echo = answers
        if isinstance(unwatched, ResponseError) and item.needs_reset:
            raise ConnectionLost(f"{item!r} may still be watching keys: {unwatched}")
        # A user who may not PING, or a server that refuses it (MISCONF), is answered all the same.
        if echo != number and not isinstance(echo, ResponseError):
            raise ConnectionLost(f"{item!r} is out of step: it answered PING with something else")
        item.needs_reset = False

    def doubt(self, items: Sequence[Connection]) -> None:
        """PING them. The server has just answered somebody, so whoever stays silent is dead."""
        for item in items:
            if not item.closed:
                answer = item.submit(_PING, False, self._patience)
                answer.add_done_callback(partial(_judge, item))

    def expired(self, item: Connection, usage: Usage) -> bool:
        """Whether an idle connection is of no more use: closed, too old, or idle for too long. A
        health check is no use, or nothing would ever be idle."""
        return (
            item.closed
            or (item.retire_at != inf and monotonic() >= item.retire_at)
            or (self._max_idle != inf and usage.idle_for() > self._max_idle)
        )

    def reusable(self, item: Connection) -> bool:
        if item.closed or item.tainted:
            return False
        if item.in_flight:
            # Answers owed to callers who have gone come in their order, before recycling's PING;
            # unless one of them was to be waited for.
            if not all(reply.done() and not blocks(reply) for reply in item.owed()):
                return False
            item.needs_reset = True
        return True

    def discard(self, item: Connection) -> None:
        try:
            if not item.closed and any(map(blocks, item.owed())):
                self.on_abandoned(item)
        finally:
            item.close()


def _judge(item: Connection, answer: Future[Any]) -> None:
    if not answer.cancelled() and isinstance(answer.exception(), CommandTimeout):
        item.lose(ConnectionLost(f"{item.peer} was silent on an idle connection"))
