"""The pool's housekeeping: one task that PINGs what is idle and replaces what is dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic
from typing import Final

from redis.exceptions import RedisError

from redisutils.connection.packing import OwnPayload, pack
from redisutils.connection.protocol import Connection
from redisutils.errors import CircuitOpen, ConnectionLost, Outcome, RedisUtilsError, outcome_of
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.background import Background
from redisutils.pool.lane import Lane
from redisutils.pool.manager import ConnectionManager
from redisutils.pool.model import Usage
from redisutils.pool.pool import Pool
from redisutils.pool.settings import PoolSettings

__all__ = ["Housekeeper"]

logger = logging.getLogger("redisutils.health")

_PING: Final = OwnPayload(pack(("PING",)))

_LONGEST_ROUND: Final = 30.0
"""Seconds between rounds at most, when there is anything to look after."""


class Housekeeper:
    """Looks after a pool's idle connections and its lanes, for as long as it runs.

    Each round closes what has expired, PINGs every connection from which nothing was heard
    for the interval, and fills up to ``min_idle``. What fails in a round is logged and
    counted (``background_errors``), and the next round comes all the same.
    """

    def __init__(
        self,
        pool: Pool[Connection],
        manager: ConnectionManager,
        lanes: Callable[[], Iterable[Lane]],
        settings: PoolSettings,
        metrics: PoolMetrics,
    ) -> None:
        self._pool = pool
        self._manager = manager
        self._lanes = lanes
        self._settings = settings
        self._metrics = metrics
        self._background = Background(self._run, self._pause)

    def start(self) -> None:
        """Begin. Does nothing when there is nothing to look after."""
        if self._pause() != inf:
            self._background.begin()

    def abandon(self) -> None:
        """End, without waiting for it."""
        self._background.end()

    async def stop(self) -> None:
        """End, and wait until it has."""
        self._background.end()
        await self._background.ended()

    def _pause(self) -> float:
        """Seconds from one round to the next; ``inf`` when no round is needed."""
        settings = self._settings
        bounds = [settings.health_check_interval, settings.max_idle, settings.max_lifetime]
        if settings.min_idle:
            bounds.append(_LONGEST_ROUND)
        shortest = min(bounds)
        # Twice within each bound, so that none is overstepped by more than half.
        return inf if shortest == inf else min(_LONGEST_ROUND, shortest / 2)

    async def _run(self) -> None:
        while True:
            try:
                await self.round()
            except CircuitOpen:
                pass  # as is told already; the breaker looks after that
            except Exception as error:
                self._metrics.background_errors += 1
                expected = isinstance(error, RedisUtilsError)
                with HARMLESS:
                    logger.warning(
                        "health check of %s failed: %s",
                        self._pool.name,
                        error,
                        exc_info=None if expected else error,
                    )
            await asyncio.sleep(self._pause())

    async def round(self) -> None:
        """One round, now.

        Raises:
            RedisUtilsError: no new connection could be made for ``min_idle``.
        """
        self._drop(self._manager.expired)
        budget = min(self._settings.command_timeout, _LONGEST_ROUND)
        lanes = list(self._lanes())
        idle = [connection for connection, _ in self._pool.idle()]
        carrying = [lane.connection for lane in lanes if lane.connection is not None]
        # PING without checking out: a connection's replies come in order, so whoever checks it out
        # from here on is not disturbed. Whoever had it before was, were there an await between.
        due = [connection for connection in (*idle, *carrying) if self._is_due(connection)]
        pings = [connection.submit(_PING, False, budget) for connection in due]
        answers = asyncio.gather(*pings, return_exceptions=True)
        mends = [self._mend(lane, budget) for lane in lanes if lane.lost]
        await asyncio.gather(answers, *mends)
        for connection, answer in zip(due, answers.result(), strict=True):
            self._judge(connection, answer)
        self._drop(lambda connection, _: connection.closed)
        for lane in lanes:
            if lane.connection is not None and monotonic() >= lane.connection.retire_at:
                lane.renew()
        while self._pool.status().available < self._settings.min_idle:
            if not await self._pool.add_idle():
                break

    def _drop(self, unfit: Callable[[Connection, Usage], bool]) -> None:
        for connection in self._pool.retain(lambda *idle: not unfit(*idle)).removed:
            self._pool.discard(connection)

    def _is_due(self, connection: Connection) -> bool:
        unheard = monotonic() - connection.last_heard
        return not connection.in_flight and unheard >= self._settings.health_check_interval / 2

    def _judge(self, connection: Connection, answer: object) -> None:
        """Close a connection that does not answer PING."""
        if not isinstance(answer, Exception) or outcome_of(answer) is Outcome.REJECTED:
            return  # LOADING, NOPERM, BUSY: not a kind answer, but one
        self._metrics.background_errors += 1
        with HARMLESS:
            logger.warning("health check: %r did not answer PING: %s", connection, answer)
        connection.lose(ConnectionLost(f"{connection.peer} did not answer PING"))

    async def _mend(self, lane: Lane, budget: float) -> None:
        """Have a lane that lost its connection open another before somebody needs it."""
        if not lane.lost:  # any more
            return
        try:
            await lane.unwatched(_PING, False, budget)
        except CircuitOpen:
            pass
        except RedisError as error:
            if outcome_of(error) is Outcome.REJECTED:
                return
            self._metrics.background_errors += 1
            with HARMLESS:
                logger.warning("health check: %r cannot connect again: %s", lane, error)
