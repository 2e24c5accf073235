"""Opening a lane's connection, for as long as a command waits for it.

It takes a place in the pool, which it keeps when the connection dies: behind those who wait for
connections of their own, some of them for ever, a lane might not get another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from math import inf
from time import monotonic
from typing import Final

from redisutils.connection.protocol import Connection
from redisutils.errors import (
    CircuitOpen,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    PoolTimeout,
    RedisUtilsError,
)
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.breaker import Breaker
from redisutils.pool.parking import Parking
from redisutils.pool.pool import Lease, Pool
from redisutils.retry import Reconnecting, RetryPolicy

__all__ = ["SHORTEST_ATTEMPT", "Connector"]

logger = logging.getLogger("redisutils.lane")

SHORTEST_ATTEMPT: Final = 1.0
"""Seconds that an attempt to connect has at least, however short the commands' budgets: a
distant server's handshake takes some."""


class Connector:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        name: the lane's, for messages.
        peer: the server's name, for messages.
        pool: where connections are taken from.
        policy: asked how attempts are repeated, which may change.
        metrics: where errors and repetitions are counted.
        breaker: asked whether they may wait.
        parked: the commands that wait for the connection, and fail when it cannot be had.
        patience: the seconds that whoever waits has at most.
        spare: asked first for a connection that was opened for something else, with its place.
        adopt: called with the new connection.
        wanted: asked, when that is done, whether another connection is needed.
    """

    __slots__ = (
        "_adopt",
        "_breaker",
        "_lease",
        "_loop",
        "_metrics",
        "_name",
        "_opening",
        "_parked",
        "_patience",
        "_peer",
        "_policy",
        "_pool",
        "_refusing",
        "_resting",
        "_spare",
        "_stopped",
        "_wanted",
        "failure",
    )

    def __init__(
        self,
        name: str,
        peer: str,
        pool: Pool[Connection],
        policy: Callable[[], RetryPolicy],
        metrics: PoolMetrics,
        breaker: Breaker,
        parked: Parking,
        *,
        patience: float,
        spare: Callable[[], Lease[Connection] | None],
        adopt: Callable[[Connection], None],
        wanted: Callable[[], bool],
    ) -> None:
        self._name = name
        self._peer = peer
        self._pool = pool
        self._policy = policy
        self._metrics = metrics
        self._breaker = breaker
        self._parked = parked
        self._patience = patience
        self._spare = spare
        self._adopt = adopt
        self._wanted = wanted
        self._loop = asyncio.get_running_loop()
        self._lease: Lease[Connection] | None = None
        self._opening: asyncio.Task[None] | None = None
        self._refusing = False
        self._resting: asyncio.Future[None] | None = None
        self._stopped = False  # whether it was told to end, and nobody is to be told so
        self.failure: str | None = None
        """What the last attempt failed of; None before the first, and after one that got
        through."""

    @property
    def opening(self) -> bool:
        """Whether a connection is being opened."""
        return self._opening is not None

    def open(self) -> None:
        """Begin to open a connection, unless one is being opened or stands ready; refuse those who
        wait while none is to be had."""
        if self.open_at_once():
            return
        if self._refused():
            if not self._refusing:
                self._refusing = True
                # Not at once: who tries over and over must leave the probe its turn.
                self._loop.call_soon(self._refuse_or_open)
        elif self._opening is None:
            # Nobody's context: the connection outlives whoever asked first.
            self._opening = self._loop.create_task(self._connect(), context=Context())
            self._opening.add_done_callback(self._opened)

    def open_at_once(self) -> bool:
        """Take one that stands ready, if there is one: no more is to be waited for."""
        if self._opening is not None:
            return False
        lease = self._spare()
        if lease is not None:
            self.leave()
        elif self._lease is None:  # no place that is to be refilled
            lease = self._pool.get_at_once()
        if lease is None:
            return False
        self._lease = lease
        self.failure = None
        self._adopt(lease.item)
        return True

    def _refuse_or_open(self) -> None:
        self._refusing = False
        if self._refused():
            self.refuse()
        elif self._wanted():
            self.open()

    def _refused(self) -> bool:
        """Whether none is to be had: none may be opened, and none stands idle."""
        if not self._breaker.refuses:
            return False
        return not (self._pool.ready if self._lease is None else self._pool.idle())

    def refuse(self) -> None:
        """The breaker lets nobody wait, and connects by itself."""
        if self._opening is not None:
            self._stopped = True
            self._opening.cancel()
        self._parked.fail_all(self._breaker.refusal)

    def desert(self) -> None:
        """Nobody waits any more: leave the pool's queue. An attempt to connect goes on, for whoever
        comes next."""
        if self._opening is not None and self._lease is None and self._pool.shortage():
            self._stopped = True
            self._opening.cancel()

    def vacate(self) -> None:
        """The connection is lost. Its place in the pool is kept."""
        assert self._lease is not None  # nothing is adopted without
        self._pool.vacate(self._lease)

    def leave(self) -> None:
        """Give the place in the pool back, and the connection if there is one."""
        lease, self._lease = self._lease, None
        if lease is not None:
            lease.release()

    def cancel(self) -> None:
        """Stop opening."""
        if self._opening is not None:
            self._opening.cancel()

    async def _connect(self) -> None:
        reconnecting = Reconnecting()
        started = monotonic()
        while self._parked:
            if self._refused():  # while this was on its way
                self._parked.fail_all(self._breaker.refusal)
                return
            try:
                lease = await self._take()
            except CircuitOpen:  # those that stood idle were not fit
                self._parked.fail_all(self._breaker.refusal)
                return
            except (ConnectFailed, PoolTimeout) as error:
                self._metrics.errors[type(error).__name__] += 1
                now = monotonic()
                fatal = isinstance(error, ConnectFailed) and error.fatal
                self.failure = error.message
                counts = reconnecting.failed(self._policy(), now, final=fatal)
                self._parked.trouble = f"{error.message}; tried {reconnecting.times()}"
                # Where the server may soon be another, a command's budget alone bounds its wait.
                waits = isinstance(error, ConnectFailed) and error.elsewhere
                if counts and not (waits and self._policy().mode != "never"):
                    tried = f"tried {reconnecting.times()} in {now - started:.2g} s"
                    self._disappoint(error, fatal, tried, reconnecting.pause)
                if self._parked:
                    await self._rest(reconnecting.pause)
            else:
                self.failure = None
                self._adopt(lease.item)
                return

    async def _rest(self, seconds: float) -> None:
        """Until the next attempt, or until somebody knows that it is worth while."""
        self._resting = self._loop.create_future()
        await asyncio.wait([self._resting], timeout=seconds)
        self._resting = None

    def hurry(self) -> None:
        """An attempt is worth while now."""
        if self._resting is not None and not self._resting.done():
            self._resting.set_result(None)

    async def _take(self) -> Lease[Connection]:
        """The pool's next."""
        # Nobody who waits now will be there when an attempt outlasts a whole budget; the next
        # one may find the network mended.
        timeouts = self._pool.timeouts
        create = min(timeouts.create, max(SHORTEST_ATTEMPT, self._patience))
        if self._lease is None:
            self._lease = await self._pool.get(wait=inf, create=create)
        else:
            await self._pool.refill(self._lease, create=create, recycle=timeouts.recycle)
        lease = self._lease
        if lease.item.closed:  # while a hook looked at it
            self._pool.vacate(lease)
            raise ConnectFailed(f"{self._peer} hung up as soon as it was connected")
        return lease

    def _opened(self, task: asyncio.Task[None]) -> None:
        """The task is over. Nothing that it raised is lost: it goes to those who waited."""
        self._opening = None
        stopped, self._stopped = self._stopped, False
        error: BaseException | None
        if stopped and task.cancelled():
            error = None
        elif task.cancelled():  # by the lane as it closes, or with all tasks of a loop that ends
            error = ConnectionLost(f"connecting to {self._peer} was cancelled")
        else:
            error = task.exception()
        if error is not None:
            if isinstance(error, RedisUtilsError):
                self._parked.trouble = error.message
            else:
                self._parked.trouble = str(error)
                with HARMLESS:
                    logger.error("lane %s: connecting failed", self._name, exc_info=error)
            self._parked.fail_all(partial(_own, error, self._peer))
        elif self._wanted():
            self.open()

    def _disappoint(
        self, error: ConnectFailed | PoolTimeout, fatal: bool, tried: str, pause: float
    ) -> None:
        """An attempt that counts failed: tell those for whom it was the last. The next is made in
        ``pause`` seconds."""
        policy = self._policy()
        allowed = 0 if fatal or policy.mode == "never" else policy.max_retries
        kind = type(error) if isinstance(error, ConnectFailed) else ConnectTimeout

        def told() -> ConnectFailed:
            own = kind(f"{error.message}; {tried}", fatal=fatal)
            own.__cause__ = error
            return own

        self._parked.count_attempt(allowed, told)
        self._metrics.retried("connect", tuple(self._parked), pause)


def _own(error: BaseException, peer: str) -> RedisUtilsError:
    """What ended connecting, as one caller's own error."""
    if isinstance(error, RedisUtilsError):
        mine = type(error)(error.message)
    else:
        mine = ConnectFailed(f"cannot connect to {peer}: {type(error).__name__}: {error}")
    mine.__cause__ = error
    return mine
