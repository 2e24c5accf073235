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
on a bare connection. Whoever watches commands (``PoolMetrics.observer``) is put before it at each
change, too, and costs nothing while there is nobody.

Order
-----
What cannot be sent now is parked, and leaves in the order in which it was issued, commands
to be sent again included: see :mod:`redisutils.pool.parking`. A command that the server
refused for the moment is repeated unless a later one on one of its keys has run meanwhile;
commands on its keys that are issued while it waits are parked behind it: see
:mod:`redisutils.pool.cooling`.

Honesty
-------
A parked command that was never written fails as NOT_SENT, one that the server has refused
as REJECTED; one that was on a connection that died (``Reply.fate``) fails as UNKNOWN,
whatever became of it since.

A lost connection is replaced as soon as a command waits for one: see
:mod:`redisutils.pool.connecting`. One that stays silent is found dead by asking the server
over another: see :mod:`redisutils.pool.probing`.
"""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, NoReturn

from redisutils.connection.home import Home
from redisutils.connection.noting import Note, noted
from redisutils.connection.owner import NOBODY, Owner, lost
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Batch, Reply, new_batch, new_reply
from redisutils.errors import ConnectionLost, Outcome, PoolClosed, WrongLoop, with_outcome
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.observer import Submit, SubmitMany
from redisutils.pool.breaker import Breaker
from redisutils.pool.connecting import Connector
from redisutils.pool.cooling import Cooling
from redisutils.pool.judgement import refused_by_the_server, repeatable
from redisutils.pool.parking import Parking
from redisutils.pool.pool import Pool
from redisutils.pool.probing import Prober
from redisutils.pool.router import Router
from redisutils.retry import LONGEST_PAUSE, RetryPolicy

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import LaneMetrics

__all__ = ["Lane"]


class Lane(Owner[Connection]):
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        name: stands in messages.
        peer: the server's name, for messages.
        pool: where the connection is taken from, and goes back to.
        policy: how commands are repeated.
        breaker: asked whether commands may wait for a connection.
        patience: seconds of silence after which a connection is given up even though no other
            one could be opened to compare.
    """

    __slots__ = (
        "_home",
        "_connection",
        "_connector",
        "_cooling",
        "_draining",
        "_loop",
        "_metrics",
        "_note",
        "_parked",
        "_pool",
        "_prober",
        "_stale",
        "_tainted",
        "__weakref__",
        "closed",
        "name",
        "peer",
        "policy",
        "router",
        "submit",
        "submit_many",
        "unwatched",
        "unwatched_many",
    )

    submit: Submit
    """Issue one packed command: (payload, decode, timeout). Never fails by itself
    for want of a connection: what is wrong is raised from the reply."""
    submit_many: SubmitMany
    """Issue several, contiguously: (payload, size, decode, timeout)."""
    unwatched: Submit
    """``submit`` for the pool's own commands, which are nobody's to watch."""
    unwatched_many: SubmitMany

    def __init__(
        self,
        name: str,
        peer: str,
        pool: Pool[Connection],
        policy: RetryPolicy,
        metrics: PoolMetrics,
        breaker: Breaker,
        *,
        patience: float,
    ) -> None:
        self.name = name
        self.peer = peer
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._home = Home.of(self._loop)
        self._pool = pool
        self.policy = policy
        self.router: Router | None = None
        """Asked about what another server should do; None where there is but one."""
        self._metrics = metrics
        self._note: Note | None = None
        self._connection: Connection | None = None
        self._parked = Parking(f"{peer} (lane {name!r})", metrics, self._why_waiting)
        self._prober = Prober(name, peer, pool, metrics, patience=patience)
        self._connector = Connector(
            name,
            peer,
            pool,
            lambda: self.policy,
            metrics,
            breaker,
            self._parked,
            patience=patience,
            spare=self._prober.take_spare,
            adopt=self._adopt,
            wanted=self._wants_connection,
        )
        self._parked.on_deserted = self._connector.desert
        self._cooling: Cooling | None = None
        self._tainted = False
        self._draining = False
        self._stale = False
        self._hold()

    def __repr__(self) -> str:
        state = (
            "closed"
            if self.closed
            else "connecting"
            if self._connector.opening
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

    def metrics(self) -> LaneMetrics:
        """What it does at this moment."""
        from redisutils.metrics.snapshot import LaneMetrics

        connection = self._connection
        return LaneMetrics(
            name=self.name,
            connected=connection is not None,
            in_flight=connection.in_flight if connection is not None else 0,
            waiting=len(self._parked),
            blocked=connection is not None and connection.blocked,
            endpoint=self.peer,
        )

    @property
    def connection(self) -> Connection | None:
        """The connection it has now."""
        return self._connection

    @property
    def connect_failure(self) -> str | None:
        """Why the last attempt to connect failed, if nothing got through since."""
        return self._connector.failure

    @property
    def lost(self) -> bool:
        """Whether it had a connection, or tried to, and has none now, and would open another."""
        return (
            self._connection is None
            and not self._connector.opening
            and self._parked.trouble is not None
            and self.unwatched == self._park_one
        )

    # -- parking -----------------------------------------------------------------

    def _hold(self) -> None:
        """From now on, commands wait."""
        if self._draining:
            self._accept(self._refuse, self._refuse)
        else:
            self._accept(self._park_one, self._park_batch)

    def _accept(self, submit: Submit, submit_many: SubmitMany) -> None:
        """From now on, this is what takes commands."""
        self.unwatched, self.unwatched_many = submit, submit_many
        observer = self._metrics.observer
        if observer is not None:
            submit, submit_many = observer.watch(submit, submit_many, self._address)
        if self._note is not None:
            submit, submit_many = noted(submit, submit_many, self._note)
        self.submit, self.submit_many = submit, submit_many

    def tell(self, note: Note) -> None:
        """From now on, ``note`` is told what is issued, and not by the pool itself."""
        self._note = note
        self.watch()

    def watch(self) -> None:
        """There is another observer, or none any more."""
        self._accept(self.unwatched, self.unwatched_many)

    def _address(self) -> object:
        connection = self._connection
        return None if connection is None else connection.address

    def _park_one(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        reply = new_reply(self._checked_loop(), payload, decode, timeout)
        self._park(reply)
        return reply.future

    def _park_batch(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        batch = new_batch(self._checked_loop(), payload, size, decode, timeout)
        self._park(batch)
        return batch.future

    def _checked_loop(self) -> asyncio.AbstractEventLoop:
        """Ours, if the caller is in it."""
        if not self._home.is_here():
            raise WrongLoop(
                f"lane {self.name!r} to {self.peer} belongs to another event loop: open a pool "
                "in each loop (asyncio.run makes a new one each time), and close it before the "
                "loop ends"
            )
        return self._loop

    def _park(self, reply: Reply) -> None:
        self._parked.add(reply)
        if self._connection is None:
            self._connector.open()

    def _why_waiting(self) -> str:
        """What parked commands wait for while nothing is wrong."""
        if self._connection is None:
            return self._pool.shortage() or "no connection yet"
        if self._connection.held:
            return "nothing is written while it may be no primary any more"
        return f"{self._connection.in_flight} commands were in flight before it"

    def _release(self, connection: Connection) -> None:
        """Send what is parked; open the lane if all of it could be sent."""
        if self._cooling is not None:  # which goes on when it may
            return
        now = monotonic()
        parked = self._parked
        while not connection.blocked and (reply := parked.take(now)) is not None:
            connection.send(reply)
        if not parked and not connection.blocked and not self._draining:
            self._parked.trouble = None
            self._accept(connection.submit, connection.submit_many)

    # -- connecting --------------------------------------------------------------

    def connect_at_once(self) -> bool:
        """Have a connection now if one stands ready.

        Returns False if none does, or the lane is not to have one: a command will tell.
        """
        if self._connection is not None:
            return True
        if self.closed or self._draining or self._stale:
            return False
        return self._connector.open_at_once()

    def hurry(self) -> None:
        """To connect is worth while now, if it is waiting to."""
        self._connector.hurry()

    def refuse_waiting(self) -> None:
        """No connection is to be had: the breaker has opened."""
        if self._connection is None:
            self._connector.refuse()

    def _wants_connection(self) -> bool:
        return bool(self._parked) and self._connection is None and not self.closed

    def _adopt(self, connection: Connection) -> None:
        """A connection for us: send what waits."""
        self._connection = connection
        connection.owner = self
        connection.tainted = self._tainted
        self._parked.trouble = None  # what was wrong before is mended
        self._release(connection)

    # -- what the connection tells us ----------------------------------------------

    def on_lost(
        self,
        connection: Connection,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        self._connector.vacate()
        self._connection = None
        cooling = self._stop_cooling()
        self._parked.trouble = error.message
        self._hold()
        if unanswered:
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
                    partial(repeatable, reply)
                )
            else:
                may_resend = not self._tainted and self.policy.mode != "never"
            if not may_resend or self.closed or reply.tries() > self.policy.max_retries:
                reply.fail(with_outcome(lost(error, True), reply.fate), self._metrics)
            elif not self._parked.expired(reply, now):
                if isinstance(reply, Batch):
                    reply.values.clear()
                again.append(reply)
        self._metrics.retried("lost", again)
        if cooling is not None:
            cooling.drop_overtaken()
        if self._tainted and not self.closed:
            self._lose_state()
        if self.router is not None:
            again = self.router.on_lost(again)
        self._parked.put_back(again)
        if self._wants_connection():
            self._connector.open()

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        policy = self.policy
        if self.closed or reply.done():
            return False
        router = self.router
        if router is not None and router.on_refused(reply, value, code):
            if self._cooling is not None:
                self._cooling.give_up(reply)
            return True
        if not policy.may_repeat_rejected(code):
            return False
        if not refused_by_the_server(reply):
            return False
        delay = policy.backoff.delay(reply.tries())
        spent = reply.attempts > policy.max_retries
        if code == "CLUSTERDOWN" and router is not None:
            # The nodes are about to elect somebody: a command's budget alone bounds its wait.
            delay, spent = min(delay, LONGEST_PAUSE), False
        cooling = self._cooling
        if spent or monotonic() + delay >= reply.deadline:
            if cooling is not None:
                cooling.give_up(reply)
            return False
        self._metrics.retried(code, (reply,), delay)
        if reply.fate is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        if isinstance(reply, Batch):
            reply.values = []
            self._parked.trouble = next(str(each) for each in value if isinstance(each, Exception))
        else:
            self._parked.trouble = str(value)
        self._parked.add(reply)
        if cooling is None:
            cooling = self._cooling = Cooling(
                reply,
                connection,
                self._parked,
                self._metrics,
                hold=self._hold,
                admit=self._send_what_may_be,
                finish=self._cooled,
            )
            self._send_what_may_be(connection)
        cooling.refuse(reply, value, delay)
        return True

    def on_partly_rejected(self, connection: Connection, batch: Batch, values: list[Any]) -> bool:
        if self.closed or self.router is None or batch.done():
            return False
        return self.router.on_partly_refused(batch, values)

    def _send_what_may_be(self, connection: Connection) -> None:
        """While some commands wait to be repeated, send the others."""
        if not connection.blocked and not self._draining:
            self._accept(self._submit_cooling, self._submit_many_cooling)

    def _submit_cooling(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        reply = new_reply(self._checked_loop(), payload, decode, timeout)
        self._send_or_park(reply)
        return reply.future

    def _submit_many_cooling(
        self, payload: bytes, size: int, decode: bool, timeout: float
    ) -> Future[Any]:
        batch = new_batch(self._checked_loop(), payload, size, decode, timeout)
        self._send_or_park(batch)
        return batch.future

    def _send_or_park(self, reply: Reply) -> None:
        """Some commands wait to be repeated: park ``reply`` behind them if it shares a key."""
        cooling, connection = self._cooling, self._connection
        if cooling is None or connection is None or cooling.holds_back(reply):
            self._park(reply)
        else:
            connection.send(reply)

    def _cooled(self, connection: Connection) -> None:
        """Nothing is left to be repeated."""
        self._stop_cooling()
        self._release(connection)

    def _stop_cooling(self) -> Cooling | None:
        cooling, self._cooling = self._cooling, None
        if cooling is not None:
            cooling.stop()
        return cooling

    def on_blocked(self, connection: Connection) -> None:
        self._hold()

    def on_unblocked(self, connection: Connection) -> None:
        self._release(connection)

    def on_silent(self, connection: Connection, seconds: float) -> None:
        if self.router is not None:
            self.router.on_silent()
        self._prober.suspect(connection, seconds)

    # -- from lane to lane -----------------------------------------------------------

    def take_over(self, reply: Reply) -> None:
        """Issue what was issued before, on another lane: it goes out now, or waits in the order of
        issue. Its clock runs on."""
        if self.closed or self._draining:
            reply.fail(with_outcome(self._is_closed(), reply.fate), self._metrics)
        elif self._stale:
            reply.fail(with_outcome(self._is_stale(), reply.fate), self._metrics)
        elif self._connection is not None and self.unwatched == self._connection.submit:
            self._connection.send(reply)
        elif self._cooling is not None and self.unwatched == self._submit_cooling:
            self._send_or_park(reply)
        else:
            self._parked.insert(reply)
            if self._connection is None:
                self._connector.open()

    def withdraw(self, wanted: Callable[[Reply], bool]) -> list[Reply]:
        """Of what waits to be sent, take out what is wanted, in the order of issue. O(waiting)."""
        withdrawn = self._parked.withdraw(wanted)
        if self._cooling is not None:
            self._cooling.forget(withdrawn)
        return withdrawn

    def owed(self) -> Sequence[Reply]:
        """What is in flight, oldest first. O(in flight)."""
        return () if self._connection is None else self._connection.owed()

    # -- renewal -------------------------------------------------------------------

    def renew(self) -> None:
        """Change to a new connection as soon as what is in flight has been answered, for one that
        has lived long enough. What is issued meanwhile waits, and keeps its order."""
        connection = self._connection
        if connection is None or connection.blocked or self._cooling is not None:
            return
        if self._tainted:
            return
        self._hold()
        awaited = [reply for reply in connection.owed() if not reply.done()]
        if awaited:
            awaited[-1].future.add_done_callback(
                lambda _: self._loop.call_soon(self._change, connection)
            )
        else:
            self._change(connection)

    def _change(self, old: Connection) -> None:
        if old is not self._connection:
            return  # it was lost meanwhile, which comes to the same
        if old.in_flight:
            self._release(old)  # answers are owed to callers who have gone: another time
            return
        text = "lane %s: a new connection instead of one that has had its time"
        self._metrics.events.note("renewed", logging.INFO, text, self.name, lane=self.name)
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
        pending = [r.future for r in self._parked if not r.done()]
        if self._connection is not None:
            pending += [r.future for r in self._connection.owed() if not r.done()]
        if pending:
            await asyncio.wait(pending)

    def close(self) -> None:
        """Give the connection back; what waits or is in flight fails."""
        if self.closed:
            return
        self.closed = True
        self._stop_cooling()
        self._parked.close()
        self._accept(self._refuse, self._refuse)
        self._connector.cancel()
        connection = self._connection
        if connection is not None:
            if connection.in_flight:
                connection.abort(ConnectionLost(f"lane {self.name!r} to {self.peer} was closed"))
            else:
                connection.owner = NOBODY
            self._connection = None
        self._connector.leave()
        self._prober.close()
        self._parked.fail_all(self._is_closed)
        self._accept(self._refuse, self._refuse)

    def _lose_state(self) -> None:
        """A tainted connection is lost."""
        self._stale = True
        self._connector.leave()
        self._accept(self._refuse_stale, self._refuse_stale)
        self._parked.fail_all(self._is_stale)

    def _refuse_stale(self, *_: object) -> NoReturn:
        raise self._is_stale()

    def _is_stale(self) -> ConnectionLost:
        return ConnectionLost(
            f"the connection to {self.peer} was lost, and with it what SELECT, AUTH and the like "
            "had set: set it again, or make another client",
            outcome=Outcome.NOT_SENT,
        )

    def _refuse(self, *_: object) -> NoReturn:
        raise self._is_closed()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"lane {self.name!r} to {self.peer} is closed")
