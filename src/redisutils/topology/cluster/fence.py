"""What holds commands back while nobody may be asked: because the owner of their slot is not
known, or because the slot moves.

Order
-----
A slot has moved from X to Y. What is in flight at X was issued before: X executes it, or refuses
it, and then it is for Y. Only when the last of it is settled may what was issued since go to Y,
or the two could change places. Meanwhile all of it waits here, in the order of issue.

Nodes need not agree at once, and Y might refuse the first command and execute the second. So where
anything was refused, its first goes to Y alone, and the others follow when that was accepted.

What X refused must not run after what X executed later, on the same key (it had lost the slot for
a moment): then it fails with what X said.

X may never answer. When nothing was heard of it for ``PATIENCE`` seconds, or at once if it was
silent before, what it owes is given up (``settle``): its answer, should it come, is nobody's any
more, since a server that has lost a slot may acknowledge a write that is lost with it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from redisutils.connection.reply import Reply, new_batch, new_reply
from redisutils.errors import Outcome, RedisUtilsError, outcome_of
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.parking import Parking
from redisutils.topology.cluster.keys import keys_in

__all__ = ["PATIENCE", "Fence", "Holding"]

PATIENCE: Final = 0.5
"""Seconds for which a server that has lost a slot may be silent before it has answered what it was
sent."""

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


class Fence(Holding):
    """See the module's docstring.

    Args:
        whose, metrics, why, check: as :class:`Holding` has them.
        slots: for which it stands.
        send: sends one command to the owner of its slot.
        lift: called once when it stands no longer, with what waited.
        settle: called with what is given up.
    """

    __slots__ = (
        "_armed",
        "_due",
        "_heard",
        "_lift",
        "_metrics",
        "_patience",
        "_pause",
        "_pending",
        "_ran",
        "_refused",
        "_send",
        "_settle",
        "_timer",
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
        settle: Callable[[list[Reply]], None],
    ) -> None:
        super().__init__(whose, metrics, why, check)
        self.slots = slots
        self.lifted = False
        self._metrics = metrics
        self._send = send
        self._lift = lift
        self._settle = settle
        self._pending: dict[Reply, None] = {}
        self._armed: Reply | None = None
        self._refused: dict[Reply, Any] = {}  # and what was said
        self._ran: list[Reply] = []
        self._patience = PATIENCE
        self._heard: Callable[[], float] = lambda: 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0  # when it goes off (``time.monotonic``); uvloop's does not always tell
        self._pause: asyncio.TimerHandle | None = None

    def await_(self, pending: Iterable[Reply], patience: float, heard: Callable[[], float]) -> None:
        """Stand until these have been answered, or refused, or nothing was heard for ``patience``
        seconds, after which they are given up.

        Args:
            heard: when something was heard last (``time.monotonic``) of the server that owes them.
        """
        self._pending.update(dict.fromkeys(pending))
        self._patience = patience
        self._heard = heard
        self._wait(patience)

    def _wait(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._due = monotonic() + seconds
        self._timer = self._loop.call_later(seconds, self._look_at_the_time)

    def _look_at_the_time(self) -> None:
        self._timer = None
        now = monotonic()
        left = self._heard() + self._patience - now
        if now - self._due > LATE:
            left = LATE
        if left > 0 and self._patience:
            self._wait(left)
        else:
            self._give_up()

    def refuse(self, reply: Reply, refusal: Any, seconds: float = 0.0) -> None:
        """``reply`` was refused with ``refusal``. It waits here for its turn, and all for
        ``seconds`` at least."""
        self._pending.pop(reply, None)
        self._refused[reply] = refusal
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
        elif self._pause is None:
            self._go_on()

    def _go_on(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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

    def _give_up(self) -> None:
        late = [reply for reply in self._pending if not reply.done()]
        self._pending.clear()
        if late:
            self._settle(late)
        self.look()

    def _end(self) -> None:
        self.lifted = True
        self.parked.close()
        self._lift(self, self.parked.take_all(monotonic()))

    def close(self, error: Callable[[], RedisUtilsError]) -> None:
        self.lifted = True
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        super().close(error)


def _may_have_run(reply: Reply) -> bool:
    if reply.future.cancelled():
        return True
    error = reply.future.exception()
    return error is None or outcome_of(error) not in (Outcome.NOT_SENT, Outcome.REJECTED)
