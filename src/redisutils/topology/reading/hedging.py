"""Hedged reads: what is not answered within the p95 is asked of another server as well, and the
first answer is taken.

How long is too long
--------------------
The p95 of the **quickest** of those that may be asked. Of a server that has become slow the p95 is
slow too, and by its own measure nothing would ever take too long there.

What it may cost
----------------
Each read earns ``share`` of a hedge, and ``SAVED`` are kept at most: so never more than that share
of the reads is asked twice, and when all servers are slow at once, which hedging would only make
worse, no more than a handful at a time.

What becomes of the other answer
--------------------------------
It comes in its place, to nobody, and is dropped: a connection's queue never changes. The caller
awaits the answer of the first server; when the second is quicker, that future is given its value.
A refusal of the second is no answer: the first is still waited for.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future, TimerHandle
from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, Generic, NamedTuple, TypeVar

from redisutils.errors import RedisUtilsError
from redisutils.metrics.reading import ReadCounts
from redisutils.topology.reading.figures import Copy, Pace

__all__ = ["Asked", "Budget", "Hedging"]

C = TypeVar("C", bound=Copy)

SAVED: Final = 10.0
"""Hedges that can be saved up."""

SOONEST: Final = 0.0005
"""Seconds that are never too long: the event loop's own hiccups are of that size."""

SAMPLE: Final = 8
"""One in so many reads is timed; all are until ``FIRST`` have been."""

FIRST: Final = 32

RENEWED: Final = 0.1
"""Seconds for which it stands what is too long."""


class Budget:
    """How often another server may be asked.

    Args:
        share: hedges for each read, 0 to 1.
    """

    __slots__ = ("_saved", "_share")

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = 0.0

    def earn(self) -> None:
        """There was a read."""
        self._saved = min(SAVED, self._saved + self._share)

    def spend(self) -> bool:
        """Whether one may be hedged; then it is paid for."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


class Asked(NamedTuple, Generic[C]):
    """A read that waits for its answer."""

    answer: Future[Any]
    issued: float
    copy: C
    """Who was asked."""
    payload: bytes
    decode: bool
    timeout: float


class _Queue(Generic[C]):
    """Reads of one primary's data, the oldest first."""

    __slots__ = ("asked", "delay", "primary", "renew_at", "timer")

    def __init__(self, primary: C) -> None:
        self.primary = primary
        self.asked: deque[Asked[C]] = deque()
        self.delay = inf
        self.renew_at = 0.0
        self.timer: TimerHandle | None = None


class Hedging(Generic[C]):
    """See the module's docstring. One for each lane. No timer of its own for each read: they are
    waited for in the order of issue, with one timer for a primary and its replicas.

    Args:
        budget: shared by all lanes.
        copies: of a primary, all that may be asked for what it has.
        another: the one to ask besides (primary, asked); None if there is none.
        ask: asks another (copy, payload, decode, timeout).
        counts: where hedges are counted.
    """

    __slots__ = ("_another", "_ask", "_budget", "_copies", "_counts", "_loop", "_queues", "_skip")

    def __init__(
        self,
        loop: AbstractEventLoop,
        budget: Budget,
        copies: Callable[[C], list[C]],
        another: Callable[[C, C], C | None],
        ask: Callable[[C, bytes, bool, float], Future[Any]],
        counts: ReadCounts,
    ) -> None:
        self._loop = loop
        self._budget = budget
        self._copies = copies
        self._another = another
        self._ask = ask
        self._counts = counts
        self._queues: dict[C, _Queue[C]] = {}
        self._skip = 0

    def watch(
        self,
        primary: C,
        copy: C,
        answer: Future[Any],
        payload: bytes,
        decode: bool,
        timeout: float,
    ) -> None:
        """``copy`` has just been asked for something that ``primary`` has."""
        now = monotonic()
        self._budget.earn()
        pace = copy.figures.pace
        self._skip -= 1
        if self._skip <= 0 or len(pace) < FIRST:
            self._skip = SAMPLE
            answer.add_done_callback(partial(_time, pace, now))
        queue = self._queues.get(primary)
        if queue is None:
            queue = self._queues[primary] = _Queue(primary)
        if queue.renew_at <= now:
            self._renew(queue, now)
        if queue.delay == inf:
            return
        queue.asked.append(Asked(answer, now, copy, payload, decode, timeout))
        if queue.timer is None:
            queue.timer = self._loop.call_later(queue.delay, self._look, queue)

    def forget(self, primary: C) -> None:
        """It is none any more, or has gone."""
        queue = self._queues.pop(primary, None)
        if queue is not None and queue.timer is not None:
            queue.timer.cancel()

    def close(self) -> None:
        """Ask nobody any more."""
        for primary in list(self._queues):
            self.forget(primary)

    def _renew(self, queue: _Queue[C], now: float) -> None:
        copies = self._copies(queue.primary)
        known = [copy.figures.pace.p95() for copy in copies] if len(copies) > 1 else []
        queue.delay = max(SOONEST, min(known, default=inf))
        queue.renew_at = now + (RENEWED if queue.delay < inf else RENEWED / 10)

    def _look(self, queue: _Queue[C]) -> None:
        """Hedge what has waited for too long. O(reads since the last time)."""
        queue.timer = None
        now = monotonic()
        asked, delay = queue.asked, queue.delay
        while asked and (asked[0].answer.done() or now - asked[0].issued >= delay):
            late = asked.popleft()
            if not late.answer.done() and not self._hedge(queue.primary, late, now):
                # Nobody to ask, or no more to spend: the same is true of those behind it.
                while asked and now - asked[0].issued >= delay:
                    asked.popleft()
        if asked:
            # Not for each of them: a quarter later than too long is soon enough.
            rest = max(asked[0].issued + delay - now, delay / 4)
            queue.timer = self._loop.call_later(rest, self._look, queue)

    def _hedge(self, primary: C, late: Asked[C], now: float) -> bool:
        left = late.issued + late.timeout - now
        try:
            copy = self._another(primary, late.copy) if left > 0 else None
            if copy is None or not self._budget.spend():
                return False
            second = self._ask(copy, late.payload, late.decode, left)
        except RedisUtilsError:  # the pool is being closed
            return False
        self._counts.hedged += 1
        second.add_done_callback(partial(self._second, late, copy, now))
        return True

    def _second(self, late: Asked[C], copy: C, asked_at: float, second: Future[Any]) -> None:
        """The second has answered, or failed."""
        if second.cancelled() or second.exception() is not None:
            return
        copy.figures.pace.note(monotonic() - asked_at)
        if not late.answer.done():
            self._counts.hedges_won += 1
            late.answer.set_result(second.result())


def _time(pace: Pace, issued: float, answer: Future[Any]) -> None:
    if not answer.cancelled():
        pace.note(monotonic() - issued)
