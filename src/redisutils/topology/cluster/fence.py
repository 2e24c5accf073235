"""What holds commands back while nobody may be asked: because the owner of their slot is not
known, or because the slot moves.

Order
-----
A slot has moved from X to Y. What is in flight at X was issued before: X executes it, or refuses
it, and then it is for Y. Only when the last of it is settled may what was issued since go to Y,
or the two could change places. Meanwhile all of it waits here, in the order of issue.

Nodes need not agree at once, and Y might refuse the first command and execute the second. So where
anything was refused, its first goes to Y alone, and the others follow when that was accepted.

A command of several keys that have not all arrived (TRYAGAIN) is refused until they have, which is
for whoever moves them to say. While nobody else wants the slot it may take its budget; but others
it holds up for ``HOLD`` seconds at most, then it fails with what was said.

What X refused must not run after what X executed later, on the same key (it had lost the slot for
a moment): then it fails with what X said.

X may never answer. When nothing was heard of it for ``PATIENCE`` seconds, or at once if it was
silent before, what it owes is given up (``Debtor.settle``): its answer, should it come, is nobody's
any more, since a server that has lost a slot may acknowledge a write that is lost with it. Of
several servers that owe something each is given its own time.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable
from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.connection.reply import Reply, new_batch, new_reply
from redisutils.errors import Outcome, RedisUtilsError, code_of, outcome_of
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.parking import Parking
from redisutils.topology.cluster.keys import keys_in

__all__ = ["HOLD", "PATIENCE", "Debtor", "Fence", "Holding"]

PATIENCE: Final = 0.5
"""Seconds for which a server that has lost a slot may be silent before it has answered what it was
sent."""

HOLD: Final = 0.1
"""Seconds for which what is refused with TRYAGAIN may hold up what was issued later."""

LATE: Final = 0.1
"""Seconds by which an event loop that is later than that has not read what has come meanwhile."""


class Holding:
    """Commands that wait until it is known where they go.

    Args:
        whose: for messages.
        metrics: where timeouts are counted.
        why: asked what they wait for.
        check: raises if the caller is in another event loop, or all is closed.
        on_parked: called with each new one.
    """

    __slots__ = ("_check", "_loop", "_on_parked", "parked")

    def __init__(
        self,
        whose: str,
        metrics: PoolMetrics,
        why: Callable[[], str],
        check: Callable[[], None],
        on_parked: Callable[[], None] = lambda: None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._check = check
        self._on_parked = on_parked
        self.parked = Parking(whose, metrics, why)

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command, which waits."""
        self._check()
        reply = new_reply(self._loop, payload, decode, timeout)
        self.parked.add(reply)
        self._on_parked()
        return reply.future

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue several, which wait together."""
        self._check()
        batch = new_batch(self._loop, payload, size, decode, timeout)
        self.parked.add(batch)
        self._on_parked()
        return batch.future

    def take_over(self, reply: Reply) -> None:
        """What was issued before has to wait, in the order of issue."""
        self.parked.insert(reply)
        self._on_parked()

    def close(self, error: Callable[[], RedisUtilsError]) -> None:
        """All that wait fail."""
        self.parked.close()
        self.parked.fail_all(error)


class Debtor:
    """A server that owes answers for slots which it has lost.

    Args:
        patience: seconds of silence after which it is given up.
        heard: when something was heard of it last (``time.monotonic``).
        settle: called with what is given up.
    """

    __slots__ = ("heard", "patience", "settle")

    def __init__(
        self,
        patience: float,
        heard: Callable[[], float],
        settle: Callable[[list[Reply]], None],
    ) -> None:
        self.patience = patience
        self.heard = heard
        self.settle = settle


class Fence(Holding):
    """See the module's docstring.

    Args:
        whose, metrics, why, check: as :class:`Holding` has them.
        slots: for which it stands.
        send: sends one command to the owner of its slot.
        lift: called once when it stands no longer, with what waited.
    """

    __slots__ = (
        "_armed",
        "_asked",
        "_behind",
        "_giving_way",
        "_lift",
        "_metrics",
        "_pause",
        "_pending",
        "_ran",
        "_refused",
        "_send",
        "_timers",
        "_way_free_at",
        "lifted",
        "slots",
    )

    def __init__(
        self,
        whose: str,
        metrics: PoolMetrics,
        why: Callable[[], str],
        check: Callable[[], None],
        *,
        slots: frozenset[int],
        send: Callable[[Reply], None],
        lift: Callable[[Fence, list[Reply]], None],
    ) -> None:
        super().__init__(whose, metrics, why, check, self._mind_who_waits)
        self.slots = slots
        self.lifted = False
        self._metrics = metrics
        self._send = send
        self._lift = lift
        self._pending: dict[Reply, Debtor | None] = {}  # and who owes it, if he may be given up
        self._behind: set[Fence] = set()
        self._armed: Reply | None = None
        self._asked: Reply | None = None
        self._refused: dict[Reply, Any] = {}  # and what was said
        self._ran: list[Reply] = []
        self._timers: dict[Debtor, asyncio.TimerHandle] = {}
        self._pause: asyncio.TimerHandle | None = None
        self._way_free_at = inf  # loop time
        self._giving_way: asyncio.TimerHandle | None = None

    # -- what it stands for --------------------------------------------------------------

    def await_(self, pending: Iterable[Reply], debtor: Debtor | None) -> None:
        """Stand until these have been answered, or refused, or are given up.

        Args:
            debtor: who owes them; None if he has not lost the slot: that may take as long as their
                budgets.
        """
        self._pending.update(dict.fromkeys(pending, debtor))
        if debtor is not None:
            self._wait(debtor, debtor.patience)

    def await_asked(self, reply: Reply) -> None:
        """Stand until ``reply`` has been answered, or refused, by who is asked by way of exception.
        That may take as long as its budget: who is asked has lost nothing."""
        self.await_((reply,), None)
        self._asked = reply

    def stand_behind(self, others: Iterable[Fence]) -> None:
        """Stand until those others are lifted, too: see :meth:`freed`."""
        self._behind.update(others)

    def freed(self, other: Fence) -> None:
        """That one stands no longer."""
        if other in self._behind:
            self._behind.discard(other)
            self.look()

    def comes_before(self, reply: Reply) -> bool:
        """Whether something that was refused here, or is asked by way of exception, has to be
        settled before ``reply`` may be asked so."""
        asked = self._asked
        return bool(self._refused) or (
            asked is not None and asked is not reply and asked in self._pending and not asked.done()
        )

    # -- patience ------------------------------------------------------------------------

    def _wait(self, debtor: Debtor, seconds: float) -> None:
        # When it is due goes with it: uvloop's handle does not always tell.
        self._timers[debtor] = self._loop.call_later(
            seconds, self._look_at_the_time, debtor, monotonic() + seconds
        )

    def _look_at_the_time(self, debtor: Debtor, due: float) -> None:
        now = monotonic()
        left = debtor.heard() + debtor.patience - now
        if now - due > LATE:
            left = LATE
        if left > 0 and debtor.patience:
            self._wait(debtor, left)
        else:
            del self._timers[debtor]
            self._give_up(debtor)

    def _give_up(self, debtor: Debtor) -> None:
        late = [
            reply for reply, whose in self._pending.items() if whose is debtor and not reply.done()
        ]
        for reply in late:
            del self._pending[reply]
        if late:
            debtor.settle(late)
        self.look()

    # -- how it goes on ------------------------------------------------------------------

    def refuse(self, reply: Reply, refusal: Any, seconds: float = 0.0) -> None:
        """``reply`` was refused with ``refusal``. It waits here for its turn, and all for
        ``seconds`` at least."""
        self._pending.pop(reply, None)
        self._refused[reply] = refusal
        if self._way_free_at == inf and code_of(refusal) == "TRYAGAIN":
            self._way_free_at = self._loop.time() + HOLD
        self.take_over(reply)
        if seconds and self._pause is None:
            self._pause = self._loop.call_later(seconds, self._paused)
        self.look()

    def passed(self, reply: Reply) -> None:
        """``reply`` goes its own way: no answer to it is to be waited for."""
        if reply in self._pending:
            del self._pending[reply]
            self.look()

    def look(self, _: object = None) -> None:
        """Go on if nothing is pending. Answers come in their order, so the last one is watched:
        O(pending) each time it is settled."""
        if self.lifted:
            return
        pending = self._pending
        while pending and next(reversed(pending)).done():
            self._ran.append(pending.popitem()[0])
        if pending:
            last = next(reversed(pending))
            if last is not self._armed:
                self._armed = last
                last.future.add_done_callback(self.look)
        elif self._pause is None and not self._behind:
            self._go_on()

    def _go_on(self) -> None:
        self._stop_waiting()
        self._drop_overtaken()
        first = self.parked.take(monotonic()) if self._refused else None
        if first is None:
            self._end()
            return
        self._refused.clear()
        self._pending[first] = None
        self._send(first)
        self.look()

    def _drop_overtaken(self) -> None:
        """Fail what cannot run in its order any more. O(refused x ran), both of which are few."""
        ran, self._ran = self._ran, []
        for later in ran:
            if not _may_have_run(later):
                continue
            keys = set(keys_in(later.payload))
            for reply, refusal in self._refused.items():
                if (
                    reply.issued < later.issued
                    and not reply.done()
                    and not keys.isdisjoint(keys_in(reply.payload))
                ):
                    reply.fail(refusal, self._metrics)

    def _paused(self) -> None:
        self._pause = None
        self.look()

    def _mind_who_waits(self) -> None:
        """Somebody came. Who comes behind a TRYAGAIN need not wait for ever."""
        if (
            self._giving_way is None
            and self._way_free_at != inf
            and len(self.parked) > len(self._refused)
        ):
            self._giving_way = self._loop.call_at(self._way_free_at, self._give_way)

    def _give_way(self) -> None:
        self._giving_way = None
        for reply, refusal in self._refused.items():
            if code_of(refusal) == "TRYAGAIN" and not reply.done():
                reply.fail(refusal, self._metrics)
        if self._pause is not None:
            self._pause.cancel()
            self._paused()

    def _stop_waiting(self) -> None:
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._giving_way is not None:
            self._giving_way.cancel()
            self._giving_way = None

    def _end(self) -> None:
        self.lifted = True
        self.parked.close()
        self._lift(self, self.parked.take_all(monotonic()))

    def close(self, error: Callable[[], RedisUtilsError]) -> None:
        self.lifted = True
        self._stop_waiting()
        if self._pause is not None:
            self._pause.cancel()
        super().close(error)


def _may_have_run(reply: Reply) -> bool:
    if reply.future.cancelled():
        return True
    error = reply.future.exception()
    return error is None or outcome_of(error) not in (Outcome.NOT_SENT, Outcome.REJECTED)
