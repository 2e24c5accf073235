"""Checking connections out of a server's pool: at once, within a caller's seconds, or patiently.

The pool knows only connections. What is added here is what callers are promised: that a server
known dead is waited for by nobody, that where another one may soon take its place this is waited
for, that a checkout which failed is counted, and that what a client takes for itself is tried again
as commands are, and ends when all is closed.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Final

from redisutils.connection.noting import Note
from redisutils.connection.protocol import Connection
from redisutils.errors import (
    CircuitOpen,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    PoolTimeout,
    RedisUtilsError,
)
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.breaker import Breaker
from redisutils.pool.pool import Lease, Pool
from redisutils.retry import Reconnecting, RetryPolicy

__all__ = ["Checkouts", "Trying"]

_GRACE: Final = 0.01
"""Seconds past a budget in which the pool may say itself what a checkout waited for in vain."""


class Trying:
    """A checkout that is tried again while a failover is under way.

    Args:
        policy: when.
        budget: seconds for all of it.
        metrics: where repetitions are counted.
        began: when the first attempt did (``time.monotonic``); None for now.
    """

    def __init__(
        self,
        policy: RetryPolicy,
        budget: float,
        metrics: PoolMetrics,
        began: float | None = None,
    ) -> None:
        self._policy = policy
        self._budget = budget
        self._metrics = metrics
        self._began = monotonic() if began is None else began
        self._reconnecting = Reconnecting()
        self._last: ConnectFailed | None = None

    @property
    def left(self) -> float:
        """Seconds."""
        return max(0.0, self._budget - (monotonic() - self._began))

    async def rest(self, error: ConnectFailed, waits: bool, *, at_once: bool = False) -> None:
        """An attempt has failed: return when it is time for the next.

        Args:
            waits: whether there may be another server soon.
            at_once: whether there is one already.

        Raises:
            ConnectFailed: that is not so, or there is no time left; the error itself, if it is the
                first.
        """
        now = monotonic()
        self._reconnecting.failed(self._policy, now)
        pause = 0.0 if at_once else self._reconnecting.pause
        may = waits and not error.fatal and self._policy.mode != "never"
        if not may or self.left <= pause:
            if self._last is None:
                raise error
            times, took = self._reconnecting.times(), now - self._began
            raise type(error)(f"{error.message}; tried {times} in {took:.2g} s") from error
        self._last = error
        self._metrics.retried("connect")
        await asyncio.sleep(pause)

    def told(self, error: PoolTimeout) -> PoolTimeout:
        """With the reason, if there is one, of all the attempts before."""
        if self._last is None:
            return error
        return PoolTimeout(f"{error.message}; before that: {self._last.message}", error.phase)


class Checkouts:
    """The ways to a connection of one's own.

    Args:
        peer: the server's name, for messages.
        pool: where connections are taken from.
        breaker: asked whether anybody may wait for one.
        policy: how patient checkouts are repeated; may be replaced.
        check_usable: raises if the server may not be used here, or any more.
    """

    def __init__(
        self,
        peer: str,
        pool: Pool[Connection],
        metrics: PoolMetrics,
        breaker: Breaker,
        policy: RetryPolicy,
        check_usable: Callable[[], None],
    ) -> None:
        self._peer = peer
        self._pool = pool
        self._metrics = metrics
        self._breaker = breaker
        self.policy = policy
        self._check_usable = check_usable
        self.note: Note | None = None
        """See ``Connection.note``."""
        self._lent: weakref.WeakSet[Lease[Connection]] = weakref.WeakSet()

    def at_once(self) -> Lease[Connection] | None:
        """A connection of the caller's own if one is idle and fit; else None: see :meth:`get`.
        Raises as ``check_usable`` does."""
        self._check_usable()
        lease = self._pool.get_at_once()
        if lease is not None:
            lease.item.note = self.note
        return lease

    async def get(self, wait: float | None = None) -> Lease[Connection]:
        """A connection of the caller's own.

        That no connection can be made is an error at once, as in deadpool; but where another
        server may soon take over (``ConnectFailed.elsewhere``), that is waited for.

        Args:
            wait: seconds for all of it, instead of the pool's for each phase, of which those for
                ``create`` bound the waiting for another server; with 0 only an idle one or a new
                one will do, and the pool's own seconds bound that.

        Raises:
            CircuitOpen: the server is known dead, or turns out to be meanwhile, and no idle one
                is fit. Otherwise what ``pool.get`` raises.
        """
        began = monotonic()
        try:
            async with self._breaker.guard():
                try:
                    return await self._take(wait)
                except ConnectFailed as error:
                    return await self._take_from_another(error, began, wait)
        except RedisUtilsError as error:
            self.failed(error, wait)
            raise

    async def _take_from_another(
        self, error: ConnectFailed, began: float, wait: float | None
    ) -> Lease[Connection]:
        """What :meth:`get` does after a first attempt, which began then and failed."""
        budget = self._pool.timeouts.create if wait is None else wait
        trying = Trying(self.policy, budget, self._metrics, began)
        while True:
            await trying.rest(error, error.elsewhere)
            try:
                return await self._take(trying.left)
            except ConnectFailed as another:
                error = another
            except PoolTimeout as late:
                raise trying.told(late) from late.__cause__

    async def once(self, wait: float | None = None) -> Lease[Connection]:
        """As :meth:`get`, but nobody else is waited for."""
        try:
            return await self.attempt(wait)
        except RedisUtilsError as error:
            self.failed(error, wait)
            raise

    async def attempt(self, wait: float | None = None) -> Lease[Connection]:
        """As :meth:`once`, for who counts what has :meth:`failed` himself."""
        async with self._breaker.guard():
            return await self._take(wait)

    async def _take(self, wait: float | None) -> Lease[Connection]:
        self._check_usable()
        if wait is None:
            lease = await self._pool.get()
        else:
            lease = await self._pool.get(wait=wait, total=wait or inf)
        lease.item.note = self.note
        return lease

    def failed(self, error: RedisUtilsError, wait: float | None = None) -> None:
        """Count an error that a caller is told who would have waited so many seconds."""
        tried = wait == 0 and isinstance(error, PoolTimeout) and error.phase == "wait"
        if not tried:  # to try once is an answer either way
            self._metrics.failed(error)

    async def patiently(self, budget: float) -> Lease[Connection]:
        """A checkout that tries again as long as no connection can be made, as a lane does: for
        what a client takes a connection for by itself. Such a one is lent: see :meth:`lend`.

        Args:
            budget: seconds for all of it.

        Raises:
            CommandTimeout: they are over.
            CircuitOpen: the server is known dead, or turns out to be meanwhile. Otherwise what
                ``pool.get`` raises.
        """
        try:
            async with self._breaker.guard():
                return await self._get_within(budget)
        except RedisUtilsError as error:
            if isinstance(error, CommandTimeout):
                self._metrics.ran_out(error)
            self._metrics.failed(error)
            raise

    async def _get_within(self, budget: float) -> Lease[Connection]:
        policy = self.policy
        allowed = 0 if policy.mode == "never" else policy.max_retries
        started = monotonic()
        reconnecting = Reconnecting()
        while True:
            left = max(0.0, budget - (monotonic() - started))
            bound = asyncio.timeout(left + _GRACE)
            try:
                async with bound:
                    self._check_usable()
                    lease = await self._pool.get(wait=min(self._pool.timeouts.wait, left))
                if monotonic() - started < budget:
                    self.lend(lease)
                    lease.item.note = self.note
                    return lease
                lease.release()  # too late for a command to be sent
                raise self._no_time(budget)
            except TimeoutError:
                if not bound.expired():
                    raise  # a hook's own
                raise self._no_time(budget) from None
            except CircuitOpen:
                raise  # those that stood idle were not fit
            except ConnectFailed as error:
                if error.fatal:
                    raise
                now = monotonic()
                took = now - started
                counts = reconnecting.failed(policy, now)
                waits = error.elsewhere and policy.mode != "never"
                spent = counts and not waits and reconnecting.failures > allowed
                if spent or took + reconnecting.pause >= budget:
                    raise type(error)(
                        f"{error.message}; tried {reconnecting.times()} in {took:.2g} s"
                    ) from error
                self._metrics.retried("connect")
                await asyncio.sleep(reconnecting.pause)

    def _no_time(self, budget: float) -> CommandTimeout:
        return CommandTimeout(
            f"no connection to {self._peer} could be had within {budget:.3g} s",
            outcome=Outcome.NOT_SENT,
        )

    def lend(self, lease: Lease[Connection]) -> None:
        """It ends with :meth:`end_lent`."""
        self._lent.add(lease)

    def end_lent(self) -> None:
        """Break off blocking commands, subscriptions and the like, which might wait for ever. What
        callers have checked out themselves goes on, as in deadpool, until they give it back."""
        for lease in list(self._lent):
            if not lease.released:
                lease.item.abort(ConnectionLost(f"{self._pool.name} was closed"))
