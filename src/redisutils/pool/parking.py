"""The commands that wait to be sent: for a connection, for room on it, or for their turn.

They leave in the order in which they were issued, those that are to be sent again included. One
whose budget is spent fails, by one alarm for all; it is never sent any more. One that was never
written fails as NOT_SENT, others with what became of them before (``Reply.fate``).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterator
from math import inf
from operator import attrgetter
from time import monotonic
from typing import Final

from redisutils.connection.reply import Reply
from redisutils.errors import CommandTimeout, RedisUtilsError, with_outcome
from redisutils.metrics.counters import PoolMetrics

__all__ = ["Parking"]

_ISSUED: Final = attrgetter("issued")


class Parking:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Its length counts also those whose callers have gone, until they are met.

    Args:
        whose: the peer and the lane, for messages.
        metrics: where timeouts are counted.
        why: asked for what the commands wait for while nothing is wrong, as one of them fails.
    """

    __slots__ = (
        "_alarm",
        "_alarm_handle",
        "_loop",
        "_metrics",
        "_replies",
        "_unsorted",
        "_whose",
        "on_deserted",
        "_why",
        "trouble",
    )

    def __init__(self, whose: str, metrics: PoolMetrics, why: Callable[[], str]) -> None:
        self._whose = whose
        self._metrics = metrics
        self._why = why
        self.trouble: str | None = None
        """What is wrong, for whoever knows it to say: why they wait, then."""
        self.on_deserted: Callable[[], None] = lambda: None
        """Called when the last that waited has run out of time, or its caller had gone."""
        self._loop = asyncio.get_running_loop()
        self._replies: deque[Reply] = deque()
        self._unsorted = False
        self._alarm = inf  # never later than the earliest deadline
        self._alarm_handle: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._replies)

    def __iter__(self) -> Iterator[Reply]:
        return iter(self._replies)

    # -- in and out ----------------------------------------------------------------

    def add(self, reply: Reply) -> None:
        """``reply`` waits behind all others, for now: :meth:`put_back` sorts."""
        self._replies.append(reply)
        self._expect_expiry(reply.deadline)

    def put_back(self, replies: Collection[Reply]) -> None:
        """``replies`` have to wait after all, and all stand in the order of issue again."""
        self._replies = deque(sorted((*replies, *self._replies), key=_ISSUED))
        self._unsorted = False
        self._expect_expiry(min((reply.deadline for reply in replies), default=inf))

    def insert(self, reply: Reply) -> None:
        """``reply``, from elsewhere, has to wait here: behind all that was issued before it, or at
        the same moment and came before it. O(1): they are sorted when the next is taken, however
        many came meanwhile."""
        if self._replies and self._replies[-1].issued > reply.issued:
            self._unsorted = True
        self._replies.append(reply)
        self._expect_expiry(reply.deadline)

    def take(self, now: float) -> Reply | None:
        """The next that is still to be sent; it does not wait any more."""
        if self._unsorted:
            self.put_back(())
        while self._replies:
            reply = self._replies.popleft()
            if not self.expired(reply, now):
                return reply
        return None

    def take_all(self, now: float) -> list[Reply]:
        """All that are still to be sent, in the order of issue."""
        taken = [reply for reply in self._replies if not self.expired(reply, now)]
        taken.sort(key=_ISSUED)
        self._replies.clear()
        self._unsorted = False
        return taken

    def withdraw(self, wanted: Callable[[Reply], bool]) -> list[Reply]:
        """Those that are wanted elsewhere, in the order of issue; the others stay."""
        withdrawn: list[Reply] = []
        kept: deque[Reply] = deque()
        for reply in self._replies:
            (withdrawn if wanted(reply) else kept).append(reply)
        self._replies = kept
        withdrawn.sort(key=_ISSUED)
        return withdrawn

    # -- failing -------------------------------------------------------------------

    def expired(self, reply: Reply, now: float) -> bool:
        """Whether ``reply`` need not be sent any more; its caller has been told."""
        if reply.done():
            return True
        if reply.deadline > now:
            return False
        why = self._why() if self.trouble is None else self.trouble
        error = CommandTimeout(
            f"waited {now - reply.issued:.3g} s for {self._whose}: {why}",
            outcome=reply.fate,
        )
        if not reply.is_own:
            self._metrics.ran_out(error)
        reply.fail(error, self._metrics)
        return True

    def count_attempt(self, allowed: int, error: Callable[[], RedisUtilsError]) -> None:
        """An attempt was in vain. Those that have had more than ``allowed`` of them fail with an
        ``error`` of their own; the others are left."""
        kept: deque[Reply] = deque()
        for reply in self._replies:
            if reply.done():
                continue
            if reply.tries() <= allowed:
                kept.append(reply)
            else:
                reply.fail(with_outcome(error(), reply.fate), self._metrics)
        self._replies = kept

    def fail_all(self, error: Callable[[], RedisUtilsError]) -> None:
        """Each fails with an ``error`` of its own."""
        while self._replies:
            reply = self._replies.popleft()
            if not reply.done():  # its caller has not gone
                reply.fail(with_outcome(error(), reply.fate), self._metrics)

    def close(self) -> None:
        """No alarm any more: the rest is about to fail."""
        if self._alarm_handle is not None:
            self._alarm_handle.cancel()

    # -- the alarm -----------------------------------------------------------------

    def _expect_expiry(self, deadline: float) -> None:
        if deadline < self._alarm:
            if self._alarm_handle is not None:
                self._alarm_handle.cancel()
            self._alarm = deadline
            self._alarm_handle = self._loop.call_later(
                max(0.0, deadline - monotonic()), self._on_alarm
            )

    def _on_alarm(self) -> None:
        """Fail those whose budget is spent. O(waiting)."""
        self._alarm = inf
        self._alarm_handle = None
        now = monotonic()
        self._replies = deque(reply for reply in self._replies if not self.expired(reply, now))
        self._expect_expiry(min((reply.deadline for reply in self._replies), default=inf))
        if not self._replies:
            self.on_deserted()
