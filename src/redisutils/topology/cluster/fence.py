"""What holds commands back while nobody may be asked: because the owner of their slot is not
known, or because another one still owes answers for it.

Order
-----
A slot has moved from X to Y. What is in flight at X was issued before: X executes it, or refuses
it, and then it goes to Y. Only when the last of it is settled may what was issued since go to Y,
or the two could change places. Meanwhile that waits here, in the order of issue.

X may never answer. After ``PATIENCE`` seconds, or at once if it was silent before, what it owes
is given up (``settle``): its answer, should it come, is nobody's any more, since a server that has
lost a slot may acknowledge a write that is lost with it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from redisutils.connection.reply import Reply, new_batch, new_reply
from redisutils.errors import RedisUtilsError
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.parking import Parking

__all__ = ["PATIENCE", "Fence", "Holding"]

PATIENCE: Final = 0.5
"""Seconds for which a server that has lost a slot may answer what it was sent before."""


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
        self.parked.put_back((reply,))
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
        lift: called once when it stands no longer, with what waited.
        settle: called with what is given up.
    """

    __slots__ = ("_armed", "_lift", "_pause", "_pending", "_settle", "_timer", "lifted", "slots")

    def __init__(
        self,
        whose: str,
        metrics: PoolMetrics,
        why: Callable[[], str],
        check: Callable[[], None],
        *,
        slots: frozenset[int],
        lift: Callable[[Fence, list[Reply]], None],
        settle: Callable[[list[Reply]], None],
    ) -> None:
        super().__init__(whose, metrics, why, check)
        self.slots = slots
        self.lifted = False
        self._lift = lift
        self._settle = settle
        self._pending: dict[Reply, None] = {}
        self._armed: Reply | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause: asyncio.TimerHandle | None = None

    def await_(self, pending: Iterable[Reply], patience: float) -> None:
        """Stand until these have been answered, or were handed to another server, or for
        ``patience`` seconds, after which they are given up."""
        self._pending.update(dict.fromkeys(pending))
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(patience, self._give_up)
        self._look()

    def pause(self, seconds: float) -> None:
        """Stand for so long, at least."""
        if self._pause is None:
            self._pause = self._loop.call_later(seconds, self._paused)

    def passed(self, reply: Reply) -> None:
        """``reply`` was refused, and goes to another server now."""
        if reply in self._pending:
            del self._pending[reply]
            self._look()

    def _paused(self) -> None:
        self._pause = None
        self._look()

    def _look(self, _: object = None) -> None:
        """Lift the fence if nothing is pending. Answers come in their order, so the last one is
        watched: O(pending) each time it is settled."""
        if self.lifted:
            return
        pending = self._pending
        while pending and next(reversed(pending)).done():
            pending.popitem()
        if pending:
            last = next(reversed(pending))
            if last is not self._armed:
                self._armed = last
                last.future.add_done_callback(self._look)
        elif self._pause is None:
            self._end()

    def _give_up(self) -> None:
        self._timer = None
        late = [reply for reply in self._pending if not reply.done()]
        self._pending.clear()
        if late:
            self._settle(late)
        self._look()

    def _end(self) -> None:
        self.lifted = True
        if self._timer is not None:
            self._timer.cancel()
        self.parked.close()
        self._lift(self, self.parked.take_all(monotonic()))

    def close(self, error: Callable[[], RedisUtilsError]) -> None:
        self.lifted = True
        for timer in (self._timer, self._pause):
            if timer is not None:
                timer.cancel()
        super().close(error)
