"""A lane: one shared connection that many tasks use at once, and that mends itself.

States
------
=========  ===========================  ==========================================
state      ``submit`` is                left for
=========  ===========================  ==========================================
open       the connection's own         parking when it is lost or at a bound
parking    ``_park_one``                open, when connected and all is sent
cooling    ``_submit_cooling``          parking, then open, when what the server refused may
                                        be repeated
closed     ``_refuse``                  nothing
=========  ===========================  ==========================================

``submit`` is an attribute that is swapped at each change of state, so that in the
open state, which is nearly always, a command costs no test and no call more than
on a bare connection.

Order
-----
What cannot be sent now waits in ``_parked``, and leaves in the order in which it was
issued, commands to be sent again included. A command that the server refused for the
moment is repeated unless a later one on one of its keys has run meanwhile; commands on
its keys that are issued while it waits are parked behind it: see
:mod:`redisutils.pool.cooling`.

Honesty
-------
A parked command that was never written fails as NOT_SENT, one that the server has refused
as REJECTED; one that was on a connection that died (``Reply.fate``) fails as UNKNOWN,
whatever became of it since.

A peer that says nothing
------------------------
A slow server and a dead connection look alike from here. Another connection tells: if the
server answers there and still not here, this one is dead. When no other can be had, it is
given up after ``patience``, or at the end of its oldest command's budget if that is later.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context
from functools import partial
from math import inf
from operator import attrgetter
from time import monotonic
from typing import Any, Final

from redis.exceptions import ResponseError

from redisutils.commands import is_blocking, is_repeatable, lookup
from redisutils.connection.packing import pack, unpack
from redisutils.connection.protocol import Connection, Owner, lost
from redisutils.connection.reply import Batch, Reply, Waker, new_batch, new_reply
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    Outcome,
    PoolClosed,
    PoolTimeout,
    RedisUtilsError,
    WrongLoop,
    with_outcome,
)
from redisutils.metrics import PoolMetrics
from redisutils.pool.cooling import Cooling
from redisutils.pool.pool import Lease, Pool
from redisutils.retry import RetryPolicy

__all__ = ["Lane"]

logger = logging.getLogger("redisutils.lane")

_PING: Final = pack(("PING",))

_ISSUED: Final = attrgetter("issued")

_LONGEST_PROBE: Final = 5.0
"""Seconds for each step of asking a server by another connection; then it is asked anew."""

_SHORTEST_ATTEMPT: Final = 1.0
"""Seconds that an attempt to connect has at least, however short the commands' budgets: a
distant server's handshake takes some."""


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
        "_cooling",
        "_connection",
        "_draining",
        "_lease",
        "_loop",
        "_metrics",
        "_opening",
        "_parked",
        "_patience",
        "_pool",
        "_probing",
        "_spare",
        "_stale",
        "_tainted",
        "_trouble",
        "_waker",
        "__weakref__",
        "closed",
        "name",
        "peer",
        "policy",
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
        self._waker = Waker.of(self._loop)
        self._pool = pool
        self.policy = policy
        self._metrics = metrics
        self._patience = patience
        self._lease: Lease[Connection] | None = None
        self._spare: Lease[Connection] | None = None
        self._connection: Connection | None = None
        self._parked: deque[Reply] = deque()
        self._cooling: Cooling | None = None
        self._trouble: str | None = None
        self._tainted = False
        self._draining = False
        self._stale = False
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
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it belongs to."""
        return self._loop

    @property
    def depth(self) -> int:
        """Commands in flight and commands that wait to be sent."""
        return len(self._parked) + (self._connection.in_flight if self._connection else 0)

    @property
    def connection(self) -> Connection | None:
        """The connection it has now."""
        return self._connection

    @property
    def lost(self) -> bool:
        """Whether it had a connection, or tried to, and has none now, and would open another."""
        return (
            self._connection is None
            and self._opening is None
            and self._trouble is not None
            and self.submit == self._park_one
        )

    # -- parking -----------------------------------------------------------------

    def _hold(self) -> None:
        """From now on, commands wait."""
        if self._draining:
            self.submit = self._refuse_one
            self.submit_many = self._refuse_many
            return
        self.submit = self._park_one
        self.submit_many = self._park_batch

    def _park_one(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        reply = new_reply(self._checked_waker(), payload, decode, timeout)
        self._park(reply)
        return reply

    def _park_batch(self, payload: bytes, size: int, decode: bool, timeout: float) -> Batch:
        batch = new_batch(self._checked_waker(), payload, size, decode, timeout)
        self._park(batch)
        return batch

    def _checked_waker(self) -> Waker:
        """For a reply of ours, if it is asked for in our loop."""
        if not self._waker.is_here():
            raise WrongLoop(
                f"lane {self.name!r} to {self.peer} belongs to another event loop: open a pool "
                "in each loop (asyncio.run makes a new one each time)"
            )
        return self._waker

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
        if self._trouble is not None:
            why = self._trouble
        elif connection is None:
            why = self._pool.shortage() or "no connection yet"
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
        if connection is None or self._cooling is not None:
            return
        now = monotonic()
        parked = self._parked
        while parked and not connection.blocked:
            reply = parked.popleft()
            if not self._expired(reply, now):
                connection.send(reply)
                if connection.closed:  # the write itself found it dead: on_lost has parked it
                    return
        if not parked and not connection.blocked and not self._draining:
            self._trouble = None
            self.submit = connection.submit
            self.submit_many = connection.submit_many

    # -- connecting --------------------------------------------------------------

    def _open(self) -> None:
        if self._opening is None:
            # Nobody's context: the connection outlives whoever asked first.
            self._opening = self._loop.create_task(self._connect(), context=Context())
            self._opening.add_done_callback(self._opened)

    async def _connect(self) -> None:
        """Get a connection, for as long as someone waits for it."""
        failures = 0
        started = monotonic()
        while self._parked:
            try:
                lease = await self._take()
            except (ConnectFailed, PoolTimeout) as error:
                failures += 1
                self._trouble = f"{error}; tried {_times(failures)}"
                self._metrics.errors[type(error).__name__] += 1
                self._disappoint(error, failures, monotonic() - started)
                if self._parked:
                    await asyncio.sleep(self.policy.backoff.delay(failures))
            else:
                self._adopt(lease)
                return

    async def _take(self) -> Lease[Connection]:
        """The spare connection, or the pool's next."""
        lease, self._spare = self._spare, None
        if lease is not None:
            if not lease.item.closed:
                return lease
            lease.release(discard=True)
        # Nobody who waits now will be there when an attempt outlasts a whole budget; the next
        # one may find the network mended.
        timeouts = self._pool.timeouts
        create = min(timeouts.create, max(_SHORTEST_ATTEMPT, self._patience))
        if self._lease is None:
            self._lease = await self._pool.get(wait=inf, create=create)
        else:
            await self._pool.refill(self._lease, create=create, recycle=timeouts.recycle)
        lease = self._lease
        if lease.item.closed:  # while a hook looked at it
            self._pool.vacate(lease)
            raise ConnectFailed(f"{self.peer} hung up as soon as it was connected")
        return lease

    def _opened(self, task: asyncio.Task[None]) -> None:
        """The task is over. Nothing that it raised is lost: it goes to those who waited."""
        self._opening = None
        error: BaseException | None
        if task.cancelled():  # by us in close(), or with all tasks of a loop that ends
            error = ConnectionLost(f"connecting to {self.peer} was cancelled")
        else:
            error = task.exception()
        if error is not None:
            self._trouble = str(error)
            if not isinstance(error, RedisUtilsError):
                logger.error("lane %s: connecting failed", self.name, exc_info=error)
            while self._parked:
                reply = self._parked.popleft()
                reply.fail(with_outcome(_own(error, self.peer), reply.outcome_unsent()))
        elif self._parked and self._connection is None and not self.closed:
            self._open()

    def _disappoint(self, error: ConnectFailed | PoolTimeout, failures: int, took: float) -> None:
        """An attempt failed: tell those for whom it was the last."""
        fatal = isinstance(error, ConnectFailed) and error.fatal
        allowed = 0 if fatal or self.policy.mode == "never" else self.policy.max_retries
        kept: deque[Reply] = deque()
        for reply in self._parked:
            if reply.done():
                continue
            if reply.tries() <= allowed:
                kept.append(reply)
                continue
            kind = type(error) if isinstance(error, ConnectFailed) else ConnectTimeout
            told = kind(f"{error}; tried {_times(failures)} in {took:.2g} s", fatal=fatal)
            told.__cause__ = error
            reply.fail(with_outcome(told, reply.outcome_unsent()))
        self._parked = kept
        if kept:
            self._metrics.retries["connect"] += len(kept)

    def _adopt(self, lease: Lease[Connection]) -> None:
        """A connection for us: send what waits."""
        if self._lease is not None and self._lease is not lease:
            self._lease.release()
        self._lease = lease
        self._connection = lease.item
        lease.item.owner = self
        lease.item.tainted = self._tainted
        self._trouble = None  # what was wrong before is mended
        logger.debug("lane %s: connected to %s", self.name, self.peer)
        self._release()

    # -- what the connection tells us ----------------------------------------------

    def on_lost(
        self,
        connection: Connection,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        # Its place in the pool is kept: behind those who wait for connections of their own, some
        # of them for ever, a lane might not get another.
        if self._lease is not None:
            self._pool.vacate(self._lease)
        self._connection = None
        cooling = self._stop_cooling()
        self._trouble = str(error)
        self._hold()
        if unanswered:
            # One that is closed on purpose with answers owed to those who have gone is no warning.
            level = logging.DEBUG if self.closed else logging.WARNING
            logger.log(level, "lane %s: %s, %d in flight", self.name, error, len(unanswered))
            self._metrics.errors[type(error).__name__] += 1
        now = monotonic()
        again: list[Reply] = []
        written = len(unanswered) - unsent
        for position, reply in enumerate(unanswered):
            if reply.done():
                continue
            if position < written:
                reply.fate = Outcome.UNKNOWN
                may_resend = not self._tainted and self.policy.may_resend(
                    partial(_repeatable, reply)
                )
            else:
                may_resend = not self._tainted and self.policy.mode != "never"
            if not may_resend or self.closed or reply.tries() > self.policy.max_retries:
                reply.fail(with_outcome(lost(error, True), reply.outcome_unsent()))
            elif not self._expired(reply, now):
                self._metrics.retries["lost"] += 1
                if isinstance(reply, Batch):
                    reply.values.clear()
                again.append(reply)
        if cooling is not None:
            self._drop_overtaken(cooling)
        if self._tainted and not self.closed:
            self._lose_state()
        self._parked = deque(sorted((*again, *self._parked), key=_ISSUED))
        self._expect_expiry(min((reply.deadline for reply in again), default=inf))
        if self._parked and not self.closed:
            self._open()

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        policy = self.policy
        if self.closed or reply.done() or not policy.may_repeat_rejected(code):
            return False
        if not _refused_by_the_server(reply):
            return False
        delay = policy.backoff.delay(reply.tries())
        cooling = self._cooling
        if reply.attempts > policy.max_retries or monotonic() + delay >= reply.deadline:
            if cooling is not None:
                cooling.give_up(reply)
            return False
        self._metrics.retries[code] += 1
        if reply.outcome_unsent() is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        if isinstance(reply, Batch):
            reply.values = []
            self._trouble = next(str(each) for each in value if isinstance(each, Exception))
        else:
            self._trouble = str(value)
        self._parked.append(reply)
        self._expect_expiry(reply.deadline)
        if cooling is None:
            cooling = self._cooling = Cooling(reply, connection.unanswered)
            self._cool_handle = self._loop.call_later(delay, self._cooled)
            self._send_what_may_be(connection)
        elif cooling.trying and self._cool_handle is None:
            self._cool_handle = self._loop.call_later(delay, self._cooled)
        cooling.refuse(reply, value)
        if cooling.awaited is reply:
            self._loop.call_soon(self._advance)
        return True

    def _send_what_may_be(self, connection: Connection) -> None:
        """While some commands wait to be repeated, send the others."""
        if not connection.blocked and not self._draining:
            self.submit = self._submit_cooling
            self.submit_many = self._submit_many_cooling

    def _submit_cooling(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        reply = new_reply(self._checked_waker(), payload, decode, timeout)
        self._send_or_park(reply)
        return reply

    def _submit_many_cooling(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Batch:
        batch = new_batch(self._checked_waker(), payload, size, decode, timeout)
        self._send_or_park(batch)
        return batch

    def _send_or_park(self, reply: Reply) -> None:
        """Some commands wait to be repeated: park ``reply`` behind them if it shares a key."""
        cooling, connection = self._cooling, self._connection
        if cooling is None or connection is None or cooling.holds_back(reply):
            self._park(reply)
        else:
            connection.send(reply)

    def _cooled(self) -> None:
        """The time has come to repeat what was refused, once all that was sent is answered."""
        self._cool_handle = None
        self._hold()
        if self._cooling is not None:
            self._cooling.settle()
            self._advance()

    def _advance(self, _: object = None) -> None:
        """Go on to the next phase if this one is over."""
        cooling, connection = self._cooling, self._connection
        if cooling is None or connection is None or self._cool_handle is not None:
            return
        awaited = cooling.unanswered()
        if awaited is not None:
            if awaited is not cooling.awaited:
                cooling.awaited = awaited
                awaited.add_done_callback(self._advance)
        elif cooling.trying or not self._try_again(cooling, connection):
            self._stop_cooling()
            self._release()

    def _try_again(self, cooling: Cooling, connection: Connection) -> bool:
        """Repeat what was refused. Returns False if there is nothing."""
        self._drop_overtaken(cooling)
        now = monotonic()
        waiting = [reply for reply in self._parked if not self._expired(reply, now)]
        waiting.sort(key=_ISSUED)
        trial = cooling.try_again(waiting)
        again = set(trial)
        self._parked = deque(reply for reply in waiting if reply not in again)
        for reply in trial:
            connection.send(reply)
        if self._cooling is cooling and trial:  # the connection lives
            self._send_what_may_be(connection)
            self._advance()
        return bool(trial)

    def _stop_cooling(self) -> Cooling | None:
        if self._cool_handle is not None:
            self._cool_handle.cancel()
            self._cool_handle = None
        cooling, self._cooling = self._cooling, None
        return cooling

    @staticmethod
    def _drop_overtaken(cooling: Cooling) -> None:
        """What cannot be repeated in its order fails with what the server said. It is done then,
        and so is not sent."""
        for reply, refusal in cooling.overtaken():
            if isinstance(reply, Batch):
                reply.set_result(refusal)
            else:
                reply.fail(refusal)

    def on_blocked(self, connection: Connection) -> None:
        self._hold()

    def on_unblocked(self, connection: Connection) -> None:
        self._release()

    # -- a peer that says nothing --------------------------------------------------

    def on_silent(self, connection: Connection, seconds: float) -> None:
        """Slow server or dead connection? See the module's docstring."""
        oldest = connection.unanswered[0]
        if _blocks(oldest):
            return  # on a client's single connection: silence is what it asked for
        wanted = 0.0 if oldest.done() else oldest.timeout
        if seconds >= max(self._patience, wanted):
            connection.abort(_silent(self.peer, seconds))
        elif self._probing is None:
            self._probing = self._loop.create_task(self._probe(connection), context=Context())
            self._probing.add_done_callback(self._probed)

    async def _probe(self, connection: Connection) -> None:
        heard, unwritten = connection.last_heard, connection.unwritten
        attempt = min(max(_SHORTEST_ATTEMPT, self._patience / 4), _LONGEST_PROBE)
        try:
            lease = await self._pool.get(wait=0, create=attempt, recycle=attempt)
        except (ConnectFailed, PoolTimeout, PoolClosed, ConnectionLost):
            return  # nothing learnt
        try:
            # The first shows that the server answers now, and not only a moment ago. What it
            # owed us on the silent connection it has sent by then: the second lets it arrive.
            await lease.item.submit(_PING, False, attempt)
            await lease.item.submit(_PING, False, attempt)
        except ResponseError as error:
            if str(error).startswith("BUSY"):
                lease.release()
                return  # it runs a script, perhaps the one that we wait for
        except (CommandTimeout, ConnectionLost):
            lease.release(discard=True)
            return
        except BaseException:
            lease.release(discard=True)
            raise
        silent = connection.last_heard == heard and connection.unwritten >= unwritten
        if self._connection is connection and silent:
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

    # -- renewal -------------------------------------------------------------------

    def renew(self) -> None:
        """Change to a new connection as soon as what is in flight has been answered, for one that
        has lived long enough. What is issued meanwhile waits, and keeps its order."""
        connection = self._connection
        if connection is None or connection.blocked or self._cooling is not None:
            return
        if self._tainted or self._draining:
            return
        self._hold()
        awaited = [reply for reply in connection.unanswered if not reply.done()]
        if awaited:
            awaited[-1].add_done_callback(lambda _: self._loop.call_soon(self._change, connection))
        else:
            self._change(connection)

    def _change(self, old: Connection) -> None:
        if old is not self._connection:
            return  # it was lost meanwhile, which comes to the same
        if old.in_flight:
            self._release()  # answers are owed to callers who have gone: another time
        else:
            old.close()

    # -- the end -------------------------------------------------------------------

    def taint(self) -> None:
        """The connection's state is about to change: never give it back for others to use, repeat
        nothing on another one, and when it is lost refuse what is issued from then on, which would
        run in another state. The next call of this method ends the refusing."""
        if self._stale:
            self._stale = False
            self._hold()
        self._tainted = True
        if self._connection is not None:
            self._connection.tainted = True

    def abandon(self) -> None:
        """Close the connection: a command that blocks on it has lost its caller."""
        if self._connection is not None and self._connection.in_flight:
            self._connection.abort(
                ConnectionLost(f"a blocking command on {self.peer} was abandoned by its caller")
            )

    async def drain(self) -> None:
        """Refuse what is issued from now on, and wait until all before it has been answered or has
        failed."""
        self._draining = True
        self._hold()
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
            self._connection = None
        self._lease = None
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

    def _lose_state(self) -> None:
        """A tainted connection is lost."""
        self._stale = True
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        self.submit = self._refuse_stale
        self.submit_many = self._refuse_stale_many
        while self._parked:
            reply = self._parked.popleft()
            reply.fail(with_outcome(self._is_stale(), reply.outcome_unsent()))

    def _refuse_stale(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        raise self._is_stale()

    def _refuse_stale_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Batch:
        raise self._is_stale()

    def _is_stale(self) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self.peer} was lost, and with it what SELECT, AUTH and the like "
            "had set: set it again, or make another client",
            outcome=Outcome.NOT_SENT,
        )

    def _refuse_one(self, payload: bytes, decode: bool, timeout: float) -> Reply:
        raise self._is_closed()

    def _refuse_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Batch:
        raise self._is_closed()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"lane {self.name!r} to {self.peer} is closed")


_RUNS_CODE: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})


def _refused_by_the_server(reply: Reply) -> bool:
    """Whether an error with a server's code can only be the server's own. A script, a function or a
    module may answer BUSY or LOADING as well, after it has done a part of its work."""
    commands = map(lookup, unpack(reply.payload))
    return all(command.known and command.name not in _RUNS_CODE for command in commands)


def _blocks(reply: Reply) -> bool:
    return any(is_blocking(lookup(words), words) for words in unpack(reply.payload))


def _repeatable(reply: Reply) -> bool:
    """Whether executing it again has the same effect and the same answer as executing it once."""
    return all(
        words[0] in _BRACKETS or is_repeatable(lookup(words), words)
        for words in unpack(reply.payload)
    )


_BRACKETS: Final = (b"MULTI", b"EXEC")
"""What a transaction is wrapped in: it may be repeated if all that is within may."""


def _times(count: int) -> str:
    return f"{count} time{'s' * (count != 1)}"


def _own(error: BaseException, peer: str) -> RedisUtilsError:
    """What ended connecting, as one caller's own error."""
    if isinstance(error, RedisUtilsError):
        mine = type(error)(str(error))
    else:
        mine = ConnectFailed(f"cannot connect to {peer}: {type(error).__name__}: {error}")
    mine.__cause__ = error
    return mine


def _silent(peer: str, seconds: float, more: str = "") -> ConnectionLost:
    return ConnectionLost(
        f"{peer} has been silent on this connection for {seconds:.3g} s {more}".rstrip()
    )
