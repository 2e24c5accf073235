"""A lane: one shared connection that many tasks use at once, and that mends itself.

States
------
=========  ===========================  ==========================================
state      ``submit`` is                left for
=========  ===========================  ==========================================
open       the connection's own         parking when it is lost or at a bound
parking    ``_park_one``                open, when connected and all is sent
cooling    ``_submit_cooling``          open, when the server's refusals were repeated
closed     ``_refuse``                  nothing
=========  ===========================  ==========================================

``submit`` is an attribute that is swapped at each change of state, so that in the
open state, which is nearly always, a command costs no test and no call more than
on a bare connection.

Order
-----
What cannot be sent now waits in ``_parked``, in the order in which it was issued, and
leaves in that order. Commands to resend go to its head. A command that the server
refused for the moment is repeated only when no later command on one of its keys is in
flight, for that one may succeed and must not be overtaken; commands on its keys
that are issued while it waits are parked behind it.

Honesty
-------
A parked command that was never written fails as NOT_SENT; one that was written
before (``exposed``) fails as UNKNOWN, however often it was tried since.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.commands import is_repeatable, keys_of, lookup
from redisutils.connection.packing import unpack
from redisutils.connection.protocol import Connection, Owner, fill_in, lost
from redisutils.connection.reply import Batch, Reply, Waker
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    PoolClosed,
    PoolTimeout,
    RedisUtilsError,
    with_outcome,
)
from redisutils.metrics import PoolMetrics
from redisutils.pool.pool import Lease, Pool
from redisutils.retry import RetryPolicy

__all__ = ["Lane"]

logger = logging.getLogger("redisutils.lane")


class Lane(Owner):
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        name: stands in messages.
        peer: the server's name, for messages.
        pool: where the connection is taken from, and goes back to.
        policy: how commands are repeated.
        patience: seconds of silence after which a connection is given up even though no other
            one could be opened to compare.
    """

    __slots__ = (
        "_alarm",
        "_alarm_handle",
        "_cool_handle",
        "_connection",
        "_last_on_key",
        "_lease",
        "_loop",
        "_metrics",
        "_opening",
        "_parked",
        "_patience",
        "_policy",
        "_pool",
        "_probing",
        "_spare",
        "_tainted",
        "_trouble",
        "_waker",
        "closed",
        "name",
        "peer",
        "submit",
        "submit_many",
    )

    submit: Callable[[bytes, bool, float], Reply]
    """Issue one packed command: (payload, decode, timeout). Never fails by itself
    for want of a connection: what is wrong is raised from the reply."""
    submit_many: Callable[[bytes, int, bool, float], Batch]
    """Issue several, contiguously: (payload, size, decode, timeout)."""

    def __init__(
        self,
        name: str,
        peer: str,
        pool: Pool[Connection],
        policy: RetryPolicy,
        metrics: PoolMetrics,
        *,
        patience: float,
    ) -> None:
        self.name = name
        self.peer = peer
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._waker = Waker(self._loop)
        self._pool = pool
        self._policy = policy
        self._metrics = metrics
        self._patience = patience
        self._lease: Lease[Connection] | None = None
        self._spare: Lease[Connection] | None = None
        self._connection: Connection | None = None
        self._parked: deque[Reply] = deque()
        self._last_on_key: dict[bytes, Reply] = {}
        self._trouble: str | None = None
        self._tainted = False
        self._opening: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[None] | None = None
        self._cool_handle: asyncio.TimerHandle | None = None
        self._alarm = inf
        self._alarm_handle: asyncio.TimerHandle | None = None
        self._hold()

    def __repr__(self) -> str:
        state = (
            "closed"
            if self.closed
            else "connecting"
            if self._opening
            else "open"
            if self._connection
            else "idle"
        )
        return f"<Lane {self.name} to {self.peer}, {state}, {self.depth} in flight or waiting>"

    @property
    def depth(self) -> int:
        """Commands in flight and commands that wait to be sent."""
        return len(self._parked) + (self._connection.in_flight if self._connection else 0)

    @property
    def connection(self) -> Connection | None:
        """The connection it has now."""
        return self._connection

    # -- parking -----------------------------------------------------------------

    def _hold(self) -> None:
        """From now on, commands wait."""
        self.submit = self._park_one
        self.submit_many = self._park_batch

    def _park_one(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        reply = fill_in(self._reply(Reply), payload, decode, timeout)
        self._park(reply)
        return reply

    def _park_batch(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Batch:
        batch = fill_in(self._reply(Batch), payload, decode, timeout)
        batch.size = size
        batch.values = []
        self._park(batch)
        return batch

    def _reply(self, kind: type[Any]) -> Any:
        return kind(loop=self._waker)

    def _park(self, reply: Reply) -> None:
        self._parked.append(reply)
        self._expect_expiry(reply.deadline)
        if self._connection is None:
            self._open()

    def _expect_expiry(self, deadline: float) -> None:
        if deadline < self._alarm:
            if self._alarm_handle is not None:
                self._alarm_handle.cancel()
            self._alarm = deadline
            self._alarm_handle = self._loop.call_later(
                max(0.0, deadline - monotonic()), self._on_alarm
            )

    def _on_alarm(self) -> None:
        """Fail the parked commands whose budget is spent. O(parked)."""
        self._alarm = inf
        self._alarm_handle = None
        now = monotonic()
        self._parked = deque(reply for reply in self._parked if not self._expired(reply, now))
        self._expect_expiry(min((reply.deadline for reply in self._parked), default=inf))

    def _expired(self, reply: Reply, now: float) -> bool:
        """Whether ``reply`` need not be sent any more; its caller has been told."""
        if reply.done():
            return True
        if reply.deadline > now:
            return False
        self._metrics.timeouts += 1
        connection = self._connection
        if connection is None:
            why = self._trouble or "no connection yet"
        else:
            why = f"{connection.in_flight} commands were in flight before it"
        reply.fail(
            CommandTimeout(
                f"waited {now - reply.issued:.3g} s for {self.peer} (lane {self.name!r}): {why}",
                outcome=reply.outcome_unsent(),
            )
        )
        return True

    def _release(self) -> None:
        """Send what is parked; open the lane if all of it could be sent."""
        connection = self._connection
        if connection is None or self._cool_handle is not None:
            return
        now = monotonic()
        parked = self._parked
        while parked and not connection.blocked:
            reply = parked.popleft()
            if not self._expired(reply, now):
                connection.send(reply)
                if connection.closed:  # the write itself found it dead: on_lost has parked it
                    return
        if not parked and not connection.blocked:
            self._last_on_key.clear()
            self.submit = connection.submit
            self.submit_many = connection.submit_many

    # -- connecting --------------------------------------------------------------

    def _open(self) -> None:
        if self._opening is None:
            self._opening = self._loop.create_task(self._connect())
            self._opening.add_done_callback(self._opened)

    async def _connect(self) -> None:
        """Get a connection, for as long as someone waits for it."""
        failures = 0
        started = monotonic()
        while self._parked:
            try:
                lease, self._spare = self._spare, None
                if lease is None or lease.item.closed:
                    lease = await self._pool.get(wait=inf)
            except (ConnectFailed, PoolTimeout) as error:
                failures += 1
                self._trouble = str(error)
                self._metrics.errors[type(error).__name__] += 1
                self._disappoint(error, failures, monotonic() - started)
                if self._parked:
                    await asyncio.sleep(self._policy.backoff.delay(failures))
            else:
                self._adopt(lease)
                return

    def _opened(self, task: asyncio.Task[None]) -> None:
        """The task is over. Nothing that it raised is lost: it goes to those who waited."""
        self._opening = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._trouble = str(error)
            if not isinstance(error, RedisUtilsError):
                logger.error("lane %s: connecting failed", self.name, exc_info=error)
            while self._parked:
                self._parked.popleft().fail(error)
        elif self._parked and self._connection is None and not self.closed:
            self._open()

    def _disappoint(self, error: ConnectFailed | PoolTimeout, failures: int, took: float) -> None:
        """An attempt failed: tell those for whom it was the last."""
        fatal = isinstance(error, ConnectFailed) and error.fatal
        allowed = 0 if fatal or self._policy.mode == "never" else self._policy.max_retries
        kept: deque[Reply] = deque()
        for reply in self._parked:
            if reply.done():
                continue
            if reply.tries() <= allowed:
                kept.append(reply)
                continue
            told: RedisUtilsError
            if fatal:
                told = type(error)(str(error))
            else:
                told = ConnectFailed(
                    f"{error}; tried {failures} time{'s' * (failures > 1)} in {took:.2g} s"
                )
            told.__cause__ = error
            reply.fail(with_outcome(told, reply.outcome_unsent()))
        self._parked = kept
        self._metrics.retries["connect"] += len(kept)

    def _adopt(self, lease: Lease[Connection]) -> None:
        """A connection for us: send what waits."""
        self._lease = lease
        self._connection = lease.item
        lease.item.owner = self
        lease.item.tainted = self._tainted
        self._trouble = None
        logger.debug("lane %s: connected to %s", self.name, self.peer)
        self._release()

    # -- what the connection tells us ----------------------------------------------

    def on_lost(
        self, connection: Connection, error: ConnectionLost, unanswered: Sequence[Reply], unsent: int
    ) -> None:
        if self._lease is not None:
            self._lease.release(discard=True)
        self._lease = self._connection = None
        self._stop_cooling()
        self._trouble = str(error)
        self._hold()
        if unanswered:
            logger.warning("lane %s: %s, %d in flight", self.name, error, len(unanswered))
            self._metrics.errors[type(error).__name__] += 1
        now = monotonic()
        again: list[Reply] = []
        written = len(unanswered) - unsent
        for position, reply in enumerate(unanswered):
            if reply.done():
                continue
            if position < written:
                reply.exposed = True
                may_resend = not self._tainted and self._policy.may_resend(lambda: _repeatable(reply))
            else:
                may_resend = not self._tainted and self._policy.mode != "never"
            if not may_resend or self.closed or reply.tries() > self._policy.max_retries:
                reply.fail(lost(error, reply.outcome_unsent() is Outcome.UNKNOWN))
            elif not self._expired(reply, now):
                self._metrics.retries["lost"] += 1
                if isinstance(reply, Batch):
                    reply.values.clear()
                again.append(reply)
        self._parked.extendleft(reversed(again))
        self._expect_expiry(min((reply.deadline for reply in again), default=inf))
        if self._parked and not self.closed:
            self._open()

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        policy = self._policy
        if self.closed or reply.done() or not policy.may_repeat_rejected(code):
            return False
        if reply.tries() > policy.max_retries:
            return False
        if self._cool_handle is None:
            self._last_on_key = {
                key: flying for flying in connection.unanswered for key in _keys(flying)
            }
        if any(self._last_on_key.get(key, reply) is not reply for key in _keys(reply)):
            return False  # a later command on this key is in flight and must not be overtaken
        delay = policy.backoff.delay(reply.attempts)
        if monotonic() + delay >= reply.deadline:
            return False
        self._metrics.retries[code] += 1
        if isinstance(reply, Batch):
            reply.values.clear()
        self._trouble = str(value)
        self._parked.append(reply)
        self._expect_expiry(reply.deadline)
        if self._cool_handle is None:
            self._cool_handle = self._loop.call_later(delay, self._cooled)
            if not connection.blocked:
                self.submit = self._submit_cooling
                self.submit_many = self._submit_many_cooling
        return True

    def _submit_cooling(
        self, payload: bytes, decode: bool, timeout: float
    ) -> Reply:
        reply = fill_in(self._reply(Reply), payload, decode, timeout)
        self._send_or_park(reply)
        return reply

    def _submit_many_cooling(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Batch:
        batch = fill_in(self._reply(Batch), payload, decode, timeout)
        batch.size = size
        batch.values = []
        self._send_or_park(batch)
        return batch

    def _send_or_park(self, reply: Reply) -> None:
        """Some commands wait to be repeated: park ``reply`` behind them if it shares a key."""
        keys = _keys(reply)
        waiting = {key for parked in self._parked for key in _keys(parked)}
        if self._connection is None or not waiting.isdisjoint(keys):
            self._park(reply)
            return
        self._last_on_key.update(dict.fromkeys(keys, reply))
        self._connection.send(reply)

    def _cooled(self) -> None:
        self._cool_handle = None
        self._hold()
        self._release()

    def _stop_cooling(self) -> None:
        if self._cool_handle is not None:
            self._cool_handle.cancel()
            self._cool_handle = None

    def on_blocked(self, connection: Connection) -> None:
        self._hold()

    def on_unblocked(self, connection: Connection) -> None:
        self._release()

    # -- a peer that says nothing --------------------------------------------------

    def on_silent(self, connection: Connection, seconds: float) -> None:
        """Slow server or dead connection? Another connection tells: when the server answers
        there and still not here, this one is dead. Without one to compare, patience ends it."""
        if seconds >= self._patience:
            connection.abort(_silent(self.peer, seconds))
        elif self._probing is None:
            self._probing = self._loop.create_task(self._probe(connection))
            self._probing.add_done_callback(self._probed)

    async def _probe(self, connection: Connection) -> None:
        heard = connection.last_heard
        try:
            lease = await self._pool.get(wait=0)
        except (ConnectFailed, PoolTimeout, PoolClosed, ConnectionLost):
            return  # nothing learnt
        if self._connection is connection and connection.last_heard == heard:
            if self._spare is not None:
                self._spare.release()
            self._spare = lease
            connection.abort(_silent(self.peer, monotonic() - heard, "while it answers others"))
        else:
            lease.release()

    def _probed(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._metrics.background_errors += 1
            logger.error("lane %s: probing failed", self.name, exc_info=error)

    # -- the end -------------------------------------------------------------------

    def taint(self) -> None:
        """The connection's state is about to change: never give it back for others to use, and
        repeat nothing on another one, which would not have that state."""
        self._tainted = True
        if self._connection is not None:
            self._connection.tainted = True

    async def drained(self) -> None:
        """Wait until everything issued so far has been answered or has failed."""
        pending = [r for r in self._parked if not r.done()]
        if self._connection is not None:
            pending += [r for r in self._connection.unanswered if not r.done()]
        if pending:
            await asyncio.wait(pending)

    def close(self) -> None:
        """Give the connection back; what waits or is in flight fails."""
        if self.closed:
            return
        self.closed = True
        self._stop_cooling()
        if self._alarm_handle is not None:
            self._alarm_handle.cancel()
        self.submit = self._refuse_one
        self.submit_many = self._refuse_many
        for task in (self._opening, self._probing):
            if task is not None:
                task.cancel()
        connection, lease = self._connection, self._lease
        if connection is not None:
            if connection.in_flight:
                connection.abort(ConnectionLost(f"lane {self.name!r} to {self.peer} was closed"))
            else:
                connection.owner = Owner()
                self._connection = self._lease = None
                if lease is not None:
                    lease.release()
        if self._spare is not None:
            self._spare.release()
            self._spare = None
        while self._parked:
            reply = self._parked.popleft()
            reply.fail(with_outcome(self._is_closed(), reply.outcome_unsent()))
        self.submit = self._refuse_one
        self.submit_many = self._refuse_many

    def _refuse_one(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        raise self._is_closed()

    def _refuse_many(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Batch:
        raise self._is_closed()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"lane {self.name!r} to {self.peer} is closed")


def _repeatable(reply: Reply) -> bool:
    """Whether executing it again has the same effect and the same answer as executing it once."""
    return all(
        words[0] in _BRACKETS or is_repeatable(lookup(words), words)
        for words in unpack(reply.payload)
    )


_BRACKETS: Final = (b"MULTI", b"EXEC")
"""What a transaction is wrapped in: it may be repeated if all that is within may."""


def _keys(reply: Reply) -> set[bytes]:
    return {key for words in unpack(reply.payload) for key in keys_of(words)}


def _silent(peer: str, seconds: float, more: str = "") -> ConnectionLost:
    return ConnectionLost(f"{peer} has been silent on this connection for {seconds:.3g} s {more}".rstrip())
