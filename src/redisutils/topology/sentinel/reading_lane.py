"""A lane over a primary that moves, and over its replicas for what only reads.

As :mod:`redisutils.topology.cluster.reading_lane`, and with the same that is not promised, for
servers that all have the same data.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.commands import is_blocking, keys_of, lookup, may_write
from redisutils.connection.packing import OwnPayload, pack, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import Outcome, PoolClosed, RedisUtilsError, code_of, with_outcome
from redisutils.pool.judgement import repeatable
from redisutils.pool.lane import Lane
from redisutils.retry import TRANSIENT
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.heads import READS, named_slot
from redisutils.topology.cluster.keys import commands_in, slots_in
from redisutils.topology.cluster.resending import detached
from redisutils.topology.plan import Reading
from redisutils.topology.reading.choosing import Choosing
from redisutils.topology.reading.hedging import Hedging
from redisutils.topology.reading.writes import Writes
from redisutils.topology.sentinel.copies import Copies, Member

__all__ = ["ReadingLane"]

_MULTI: Final = pack(("MULTI",))


class ReadingLane:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        name: of the lanes it reads and writes by.
        copies: the servers.
        reading: where this lane reads.
    """

    def __init__(self, name: str, copies: Copies, reading: Reading) -> None:
        self.name = name
        self.closed = False
        self._copies = copies
        self._counts = copies.counts
        server = copies.primary.server
        self._primary = copies.primary
        self._metrics = server.metrics
        self._lanes: dict[Member, Lane] = {}
        self._resting: set[Reply] = set()
        self._writes: Writes | None = None
        if reading.own_writes > 0:
            self._writes = Writes(reading.own_writes)
            copies.writes.append(self._writes)
        self._choosing: Choosing[Member] = Choosing(
            reading, self._replicas_of, self._load, copies.counts
        )
        self._unread = Holding(
            f"{copies.primary.name} (lane {name!r})",
            server.metrics,
            self._why_unread,
            server.check_usable,
            partial(copies.watching.want, copies.primary),
        )
        self._hedging: Hedging[Member] | None = None
        if reading.hedge > 0 and reading.source != "primary":
            self._hedging = Hedging(
                server.loop,
                copies.budget,
                self._all,
                self._choosing.another,
                self._ask,
                self._counts,
            )

    @property
    def loop(self) -> AbstractEventLoop:
        """The event loop it belongs to."""
        return self._copies.primary.server.loop

    # -- the road of a command -----------------------------------------------------------

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command. See ``Connection.submit``."""
        name, bucket = named_slot(payload)
        if bucket is None:
            return self._submit_otherwise(payload, decode, timeout)
        if reads := READS[name]:
            return self._read((bucket,), payload, decode, timeout)
        answer = self.lane_of(self._primary).submit(payload, decode, timeout)
        if self._writes is not None and reads is False:
            self._writes.note(bucket, answer)
        return answer

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue several, contiguously. What only reads may go to a replica, as a whole."""
        if not payload.startswith(_MULTI) and _all_read(payload, size):
            target = self._target(slots_in(payload) if self._writes is not None else ())
            return target.submit_many(payload, size, decode, timeout)
        answer = self.lane_of(self._primary).submit_many(payload, size, decode, timeout)
        if self._writes is not None:
            for bucket in slots_in(payload) or (None,):
                self._writes.note(bucket, answer)
        return answer

    def _submit_otherwise(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        (words,) = unpack(payload)
        if _only_reads(words):
            return self._read(slots_in(payload), payload, decode, timeout)
        answer = self.lane_of(self._primary).submit(payload, decode, timeout)
        if self._writes is not None and may_write(words):
            for bucket in slots_in(payload) or (None,):
                self._writes.note(bucket, answer)
        return answer

    def _read(
        self, buckets: Sequence[int], payload: bytes, decode: bool, timeout: float
    ) -> Future[Any]:
        if self._hedging is None or self._is_written(buckets):
            return self._target(buckets).submit(payload, decode, timeout)
        member = self._choosing.choose(self._primary)
        if member is None:
            return self._unread.submit(payload, decode, timeout)
        answer = self.lane_of(member).submit(payload, decode, timeout)
        self._counts.from_replicas += member is not self._primary
        self._hedging.watch(self._primary, member, answer, payload, decode, timeout)
        return answer

    # -- whom to ask -----------------------------------------------------------------------

    def _is_written(self, buckets: Sequence[int]) -> bool:
        return self._writes is not None and any(map(self._copies.written, buckets))

    def _target(self, buckets: Sequence[int]) -> Lane | Holding:
        if self._is_written(buckets):
            return self.lane_of(self._primary)
        member = self._choosing.choose(self._primary)
        if member is None:
            return self._unread
        self._counts.from_replicas += member is not self._primary
        return self.lane_of(member)

    def lane_of(self, member: Member) -> Lane:
        """The lane of one server, opened when first asked for."""
        lane = self._lanes.get(member)
        if lane is None:
            lane = self._lanes[member] = member.server.lane(self.name)
            lane.router = _Router(self, member, self._copies)
        return lane

    def _replicas_of(self, primary: Member) -> Sequence[Member]:
        self._copies.watching.want(primary)
        return self._copies.replicas_of(primary)

    def _load(self, member: Member) -> int:
        return self.lane_of(member).depth

    def _all(self, primary: Member) -> list[Member]:
        return [member for group in self._choosing.ranks(primary).groups for member in group]

    def _ask(self, member: Member, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        return self.lane_of(member).submit(OwnPayload(payload), decode, timeout)

    def on_changed(self) -> None:
        """Who may be read from has changed: what waits for somebody looks again."""
        self._choosing.changed()
        self._look_again()

    def _look_again(self) -> None:
        resting = self._resting
        for reply in self._unread.parked.withdraw(lambda one: one not in resting):
            self.reread(reply)

    def _why_unread(self) -> str:
        bound = self._choosing.reading.max_lag
        told = []
        for replica in self._copies.replicas_of(self._primary):
            figures = replica.figures
            why = figures.trouble or "how far it is behind is not known yet"
            if figures.proven and figures.fresh_at > -inf:
                why = f"it is behind by more than REDIS_READ_MAX_LAG_SECONDS={bound:g}"
            told.append(f"{replica.name}: {why}")
        return (
            f"no replica of {self._primary.name} may be read from "
            f"({'; '.join(told) or 'sentinels know of none that is up'}); "
            "REDIS_READ_FROM=prefer-replica reads from the primary then"
        )

    # -- what was issued, and has to go elsewhere ------------------------------------------

    def reread(self, reply: Reply) -> None:
        """Let somebody answer a read that was issued before."""
        try:
            self._target(slots_in(reply.payload)).take_over(reply)
        except RedisUtilsError as error:  # the pool is being closed
            reply.fail(with_outcome(error, reply.fate), self._metrics)

    def at_primary(self, reply: Reply) -> None:
        """Let the primary answer it, if that may be asked."""
        if self._choosing.reading.source == "replica":
            self.reread(reply)
        else:
            self.lane_of(self._primary).take_over(reply)

    def rest(self, reply: Reply, seconds: float) -> None:
        """Let somebody answer it in so many seconds."""
        self._resting.add(reply)
        self._unread.take_over(reply)
        self.loop.call_later(seconds, self._rested, reply)

    def _rested(self, reply: Reply) -> None:
        self._resting.discard(reply)
        if not self.closed:
            self._look_again()

    def leave(self, member: Member) -> None:
        """Reads that wait to be sent to ``member`` are asked of another. O(waiting there)."""
        lane = self._lanes.get(member)
        if lane is not None:
            waiting = lane.withdraw(only_reads)
            self._counts.moved_on += len(waiting)
            for reply in waiting:
                self.reread(reply)

    def give_up(self, member: Member) -> None:
        """Reads that ``member`` does not answer are asked of another, if there is one. What it may
        answer later is nobody's. O(in flight there)."""
        self.leave(member)
        lane = self._lanes.get(member)
        policy = self._primary.server.settings.retry
        if lane is None or policy.mode == "never":
            return
        for reply in lane.owed():
            if reply.done() or reply.attempts >= policy.max_retries or not only_reads(reply):
                continue
            target = self._target(slots_in(reply.payload))
            if target is not lane and policy.may_resend(partial(repeatable, reply)):
                again = detached(reply, self.loop)
                again.fate = Outcome.UNKNOWN
                again.attempts += 1
                self._counts.moved_on += 1
                target.take_over(again)

    def forget(self, member: Member) -> None:
        """It has gone."""
        self._choosing.changed()
        self.leave(member)
        self._lanes.pop(member, None)

    def close(self) -> None:
        """What waits for somebody fails; the lanes are their servers'."""
        if self.closed:
            return
        self.closed = True
        self._unread.close(self._is_closed)
        if self._hedging is not None:
            self._hedging.close()
        if self._writes is not None:
            self._copies.writes.remove(self._writes)
            self._copies.by_others.absorb(self._writes)

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"lane {self.name!r} to {self._primary.name} is closed")


class _Router:
    """What one server's lane asks when it is refused. See :class:`redisutils.pool.router.Router`.

    Args:
        lane: over all.
        member: whose lane asks.
        copies: told of who is not to be read from.
    """

    __slots__ = ("_copies", "_lane", "_member")

    def __init__(self, lane: ReadingLane, member: Member, copies: Copies) -> None:
        self._lane = lane
        self._member = member
        self._copies = copies

    def on_refused(self, reply: Reply, value: Any, code: str) -> bool:
        if self._member is self._copies.primary or not only_reads(reply):
            return False
        settings = self._copies.primary.server.settings
        policy = settings.retry
        if code == "NOSCRIPT":  # scripts are not replicated
            issue = self._lane.at_primary
        elif code in TRANSIENT and policy.may_repeat_rejected(code):
            self._copies.away(self._member, f"it answers {code}")
            issue = self._lane.reread
        else:
            return False
        if reply.redirects > policy.max_retries or monotonic() >= reply.deadline:
            return False
        pause = policy.backoff.delay(reply.redirects) if reply.redirects else 0.0
        reply.redirects += 1
        self._copies.primary.server.metrics.retried(code, (reply,), pause)
        self._copies.counts.moved_on += 1
        if reply.fate is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        if isinstance(reply, Batch):
            reply.values = []
        if pause:
            self._lane.rest(reply, pause)
        else:
            issue(reply)
        return True

    def on_partly_refused(self, batch: Batch, values: list[Any]) -> bool:
        """A script that a replica does not have, among other reads."""
        if not any(code_of(value) == "NOSCRIPT" for value in values):
            return False
        return self.on_refused(batch, values, "NOSCRIPT")

    def on_lost(self, again: Sequence[Reply]) -> list[Reply]:
        self._copies.away(self._member, "the connection to it was lost")
        kept: list[Reply] = []
        for reply in again:
            if only_reads(reply):
                self._copies.counts.moved_on += 1
                self._lane.reread(reply)
            else:
                kept.append(reply)
        return kept

    def on_silent(self) -> None:
        self._copies.away(self._member, "it is silent")
        self._lane.give_up(self._member)


def only_reads(reply: Reply) -> bool:
    """Whether another server may answer it instead."""
    return not reply.payload.startswith(_MULTI) and all(map(_only_reads, unpack(reply.payload)))


def _only_reads(words: Sequence[bytes]) -> bool:
    command = lookup(words)
    # What reads without naming a key may belong to a sequence of calls, as SCAN does.
    return command.read_anywhere and not is_blocking(command, words) and bool(keys_of(words))


def _all_read(payload: bytes, size: int) -> bool:
    for command in commands_in(payload, size):
        name, bucket = named_slot(command)
        if not (READS[name] if bucket is not None else _only_reads(unpack(command)[0])):
            return False
    return True
