"""A lane over a primary that moves, and over its replicas for what only reads.

As :mod:`redisutils.topology.cluster.reading_lane`, and with the same that is not promised, for
servers that all have the same data.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from redisutils.commands import keys_of, may_write
from redisutils.connection.packing import pack, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import PoolClosed, RedisUtilsError, code_of, with_outcome
from redisutils.pool.lane import Lane
from redisutils.retry import TRANSIENT, RetryPolicy
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.heads import READS, named_slot
from redisutils.topology.cluster.keys import slots_in
from redisutils.topology.plan import Reading
from redisutils.topology.reading.reader import Reader, all_read, only_reads
from redisutils.topology.sentinel.copies import Copies, Member

__all__ = ["ReadingLane"]

_MULTI: Final = pack(("MULTI",))


class ReadingLane(Reader[Member]):
    """See the module's docstring, and ``Reader``. Belongs to the event loop that runs when it is
    made.

    Args:
        name: of the lanes it reads and writes by.
        copies: the servers.
        reading: where this lane reads.
    """

    _copies: Copies

    def __init__(self, name: str, copies: Copies, reading: Reading) -> None:
        self.name = name
        self.closed = False
        server = copies.primary.server
        self._primary = copies.primary
        self._metrics = server.metrics
        self._lanes: dict[Member, Lane] = {}
        unread = Holding(
            f"{copies.primary.name} (lane {name!r})",
            server.metrics,
            self._why_unread,
            server.check_usable,
            partial(copies.watching.want, copies.primary),
        )
        super().__init__(copies, reading, unread, server.metrics)

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
        if not payload.startswith(_MULTI) and all_read(payload, size, _reads_keys):
            target = self._target(slots_in(payload) if self._writes is not None else ())
            return target.submit_many(payload, size, decode, timeout)
        answer = self.lane_of(self._primary).submit_many(payload, size, decode, timeout)
        if self._writes is not None:
            for bucket in slots_in(payload) or (None,):
                self._writes.note(bucket, answer)
        return answer

    def _submit_otherwise(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        (words,) = unpack(payload)
        if _reads_keys(words):
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

    @property
    def _policy(self) -> RetryPolicy:
        return self._primary.server.settings.retry

    def _opened(self, member: Member) -> Lane | None:
        return self._lanes.get(member)

    def _load(self, member: Member) -> int:
        return self.lane_of(member).depth

    def _why_unread(self) -> str:
        replicas = self._copies.replicas_of(self._primary)
        return self._why_none(
            self._primary.name,
            [(replica.name, replica.figures) for replica in replicas],
            fit="it has refused this, and is about to be asked again",
            none="sentinels know of none that is up",
        )

    # -- what was issued, and has to go elsewhere ------------------------------------------

    def only_reads(self, reply: Reply) -> bool:
        """Whether another server may answer it instead."""
        return not reply.payload.startswith(_MULTI) and all(map(_reads_keys, unpack(reply.payload)))

    def reroute(self, reply: Reply) -> None:
        """Let somebody answer a read that was issued before."""
        self.hand_over(reply, partial(self._place_for, reply))

    def hand_over(self, reply: Reply, target: Callable[[], Lane | Holding]) -> None:
        """Let what ``target()`` gives issue what was issued before."""
        try:
            target().take_over(reply)
        except RedisUtilsError as error:  # the pool is being closed
            reply.fail(with_outcome(error, reply.fate), self._metrics)

    def _place_for(self, reply: Reply) -> Lane | Holding:
        return self._target(slots_in(reply.payload))

    def at_primary(self, reply: Reply) -> None:
        """Let the primary answer it, if that may be asked."""
        if self._choosing.reading.source == "replica":
            self.reroute(reply)
        else:
            self.lane_of(self._primary).take_over(reply)

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
        self._stop_reading()

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
        if self._member is self._copies.primary or not self._lane.only_reads(reply):
            return False
        settings = self._copies.primary.server.settings
        policy = settings.retry
        if code == "NOSCRIPT":  # scripts are not replicated
            issue = self._lane.at_primary
        elif code in TRANSIENT and policy.may_repeat_rejected(code):
            self._copies.away(self._member, f"it answers {code}")
            issue = self._lane.reroute
        else:
            return False
        if reply.redirects > policy.max_retries or monotonic() >= reply.deadline:
            return False
        pause = policy.backoff.delay(reply.redirects) if reply.redirects else 0.0
        self._lane.issue_refused(reply, code, pause, issue)
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
            if self._lane.only_reads(reply):
                self._copies.counts.moved_on += 1
                self._lane.reroute(reply)
            else:
                kept.append(reply)
        return kept

    def on_silent(self) -> None:
        self._copies.away(self._member, "it is silent")
        self._lane.give_up(self._member)


def _reads_keys(words: Sequence[bytes]) -> bool:
    # What reads without naming a key may belong to a sequence of calls, as SCAN does.
    return only_reads(words) and bool(keys_of(words))
