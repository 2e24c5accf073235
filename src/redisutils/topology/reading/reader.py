"""A lane that reads from copies: what is the same for a slot's owner and its replicas, and for a
primary that sentinels tell of and its.

Whom to ask is a lane's own question, and so is the road of a command, on which each step counts.
Here is what comes before and after: what such a lane keeps, what waits for somebody who may be
asked, and what becomes of reads at a server that is not to be asked any more.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from redisutils.commands import is_blocking, lookup
from redisutils.connection.packing import OwnPayload, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import Outcome
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.reading import ReadCounts
from redisutils.pool.judgement import repeatable
from redisutils.pool.lane import Lane
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.heads import READS, named_slot
from redisutils.topology.cluster.keys import commands_in
from redisutils.topology.cluster.resending import detached
from redisutils.topology.plan import Reading
from redisutils.topology.reading.choosing import Choosing
from redisutils.topology.reading.figures import Copy, Figures
from redisutils.topology.reading.hedging import Budget, Hedging
from redisutils.topology.reading.watching import Watching
from redisutils.topology.reading.writes import Writes

__all__ = ["Reader", "all_read", "only_reads"]

C = TypeVar("C", bound=Copy)

Place: TypeAlias = Lane | Holding
"""What takes commands: a server's lane, or what holds them until there is one."""


class Copies(Protocol[C]):
    """What all lanes know together of those that have the same data."""

    counts: ReadCounts
    budget: Budget
    writes: list[Writes]
    by_others: Writes
    watching: Watching[C]

    def replicas_of(self, primary: C, /) -> Sequence[C]: ...


class Reader(ABC, Generic[C]):
    """See the module's docstring.

    Args:
        copies: what is known of those that may be read from.
        reading: where this lane reads.
        unread: holds what nobody may be asked for.
        metrics: where what is issued again is counted.
    """

    closed: bool

    def __init__(
        self, copies: Copies[C], reading: Reading, unread: Holding, metrics: PoolMetrics
    ) -> None:
        self._copies = copies
        self._counts = copies.counts
        self._retried = metrics.retried
        self._unread = unread
        self._resting: set[Reply] = set()
        self._writes: Writes | None = None
        if reading.own_writes > 0:
            self._writes = Writes(reading.own_writes)
            copies.writes.append(self._writes)
        self._choosing: Choosing[C] = Choosing(
            reading, self._replicas_of, self._load, copies.counts
        )
        self._hedging: Hedging[C] | None = None
        if reading.hedge > 0 and reading.source != "primary":
            self._hedging = Hedging(
                self.loop,
                copies.budget,
                self._all_for,
                self._choosing.another,
                self._ask,
                copies.counts,
            )

    # -- what each lane says itself --------------------------------------------------------

    @property
    @abstractmethod
    def loop(self) -> AbstractEventLoop:
        """The event loop it belongs to."""

    @property
    @abstractmethod
    def _policy(self) -> RetryPolicy:
        """What may be issued again."""

    @abstractmethod
    def lane_of(self, copy: C, /) -> Place:
        """The lane of one server, opened when first asked for."""

    @abstractmethod
    def _opened(self, copy: C, /) -> Lane | None:
        """The same, if it was opened."""

    @abstractmethod
    def _load(self, copy: C, /) -> int:
        """How many answers it owes."""

    @abstractmethod
    def only_reads(self, reply: Reply) -> bool:
        """Whether another server may answer it instead."""

    @abstractmethod
    def reroute(self, reply: Reply) -> None:
        """Issue again what was issued before, wherever it is to be asked now."""

    @abstractmethod
    def hand_over(self, reply: Reply, target: Callable[[], Place]) -> None:
        """Let what ``target()`` gives issue what was issued before."""

    @abstractmethod
    def _place_for(self, reply: Reply) -> Place | None:
        """What a read is to be asked of now; None if several are."""

    # -- whom to ask -----------------------------------------------------------------------

    def _replicas_of(self, primary: C) -> Sequence[C]:
        """Asked some times a second as long as there are reads."""
        self._copies.watching.want(primary)
        return self._copies.replicas_of(primary)

    def _all_for(self, primary: C) -> list[C]:
        return [copy for group in self._choosing.ranks(primary).groups for copy in group]

    def _ask(self, copy: C, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        return self.lane_of(copy).submit(OwnPayload(payload), decode, timeout)

    # -- what waits for somebody -----------------------------------------------------------

    def on_changed(self) -> None:
        """Who may be read from has changed: what waits for somebody looks again."""
        self._choosing.changed()
        self._look_again()

    def _look_again(self) -> None:
        resting = self._resting
        for reply in self._unread.parked.withdraw(lambda one: one not in resting):
            self.reroute(reply)

    def rest(self, reply: Reply, seconds: float) -> None:
        """Issue it again in so many seconds."""
        self._resting.add(reply)
        self._unread.take_over(reply)
        self.loop.call_later(seconds, self._rested, reply)

    def _rested(self, reply: Reply) -> None:
        self._resting.discard(reply)
        if not self.closed:
            self._look_again()

    def _why_none(
        self, primary: object, replicas: Iterable[tuple[object, Figures]], *, fit: str, none: str
    ) -> str:
        """Why nobody may be read from.

        Args:
            primary: its name.
            replicas: the name of each, and what is known of it.
            fit: why one is not asked that might be.
            none: why there are none.
        """
        bound = self._choosing.reading.max_lag
        told = []
        for name, figures in replicas:
            if not figures.proven:
                why = figures.trouble
            elif monotonic() - figures.fresh_at <= bound:
                why = fit
            elif figures.fresh_at > -inf:
                why = f"it is behind by more than REDIS_READ_MAX_LAG_SECONDS={bound:g}"
            else:
                why = figures.trouble or "how far it is behind is not known yet"
            told.append(f"{name}: {why}")
        return (
            f"no replica of {primary} may be read from ({'; '.join(told) or none})"
            "; REDIS_READ_FROM=prefer-replica reads from the primary then"
        )

    # -- what was issued, and has to go elsewhere --------------------------------------------

    def issue_refused(
        self, reply: Reply, code: str, pause: float, issue: Callable[[Reply], None]
    ) -> None:
        """A server has refused a read, with ``code``: ``issue`` it again, after so many seconds."""
        reply.redirects += 1
        self._retried(code, (reply,), pause)
        self._counts.moved_on += 1
        if reply.fate is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        if isinstance(reply, Batch):
            reply.values = []
        if pause:
            self.rest(reply, pause)
        else:
            issue(reply)

    def leave(self, copy: C, /) -> None:
        """Reads that wait to be sent to ``copy`` are asked of another. O(waiting there)."""
        lane = self._opened(copy)
        if lane is not None:
            waiting = lane.withdraw(self.only_reads)
            self._counts.moved_on += len(waiting)
            for reply in waiting:
                self.reroute(reply)

    def give_up(self, copy: C, /) -> None:
        """Reads that ``copy`` does not answer are asked of another, if there is one. What it may
        answer later is nobody's. O(in flight there)."""
        self.leave(copy)
        lane = self._opened(copy)
        if lane is None:
            return
        policy = self._policy
        for reply in list(lane.owed()):
            if reply.done() or reply.attempts >= policy.max_retries or not self.only_reads(reply):
                continue
            place = self._place_for(reply)
            if place is not lane and policy.may_resend(partial(repeatable, reply)):
                self._counts.moved_on += 1
                again = detached(reply, self.loop)
                again.fate = Outcome.UNKNOWN
                again.attempts += 1
                if place is None:
                    self.reroute(again)
                else:
                    self.hand_over(again, partial(_itself, place))

    # -- the end -----------------------------------------------------------------------------

    def _stop_reading(self) -> None:
        """What this lane wrote is remembered by the others."""
        if self._hedging is not None:
            self._hedging.close()
        if self._writes is not None:
            self._copies.writes.remove(self._writes)
            self._copies.by_others.absorb(self._writes)


def _itself(place: Place) -> Place:
    return place


def only_reads(words: Sequence[bytes]) -> bool:
    """Whether a replica may answer this: it reads keys, and does not wait for others."""
    command = lookup(words)
    return command.read_anywhere and not is_blocking(command, words)


def all_read(payload: bytes, size: int, reads: Callable[[Sequence[bytes]], bool]) -> bool:
    """Whether a replica may answer all of these.

    Args:
        reads: asked about those whose key does not stand in the usual place.
    """
    for command in commands_in(payload, size):
        name, slot = named_slot(command)
        if not (READS[name] if slot is not None else reads(unpack(command)[0])):
            return False
    return True
