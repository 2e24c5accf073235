"""A lane over a cluster that reads from replicas, too.

What only reads goes to whom :mod:`redisutils.topology.reading.choosing` says; everything else, as
in every lane, to the slot's owner. A pipeline without MULTI that only reads is spread over
replicas, others go to the owners whole.

What is not promised
--------------------
A replica has what its primary had a moment ago. A read may therefore not see a write that was
acknowledged before it, not even the caller's own, and the next read of another replica may see
less than this one did. ``own_writes`` closes the first for what this program has written; who needs
more reads from the primary.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from redisutils.commands import may_write
from redisutils.connection.packing import OwnPayload, pack, unpack
from redisutils.connection.reply import Reply
from redisutils.pool.lane import Lane
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.heads import READS, named_slot
from redisutils.topology.cluster.keys import slots_in
from redisutils.topology.cluster.lane import ClusterLane, Target
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.reading import Copies
from redisutils.topology.cluster.reading_redirects import ReadingRedirects
from redisutils.topology.cluster.redirects import MULTI, is_asking
from redisutils.topology.cluster.roles import Known
from redisutils.topology.plan import Reading
from redisutils.topology.reading.reader import Reader, all_read, only_reads

__all__ = ["ReadingLane"]

_READONLY: Final = OwnPayload(pack(("READONLY",)))

MAP_WITHIN: Final = 0.2
"""Seconds in which there should be a new map, when a replica knows a slot to be elsewhere."""

_LISTEN_FOR: Final = 2.0
"""Seconds that a node may take to hear that it is read from."""


class ReadingLane(ClusterLane, Reader[Node]):
    """See the module's docstring, ``ClusterLane`` and ``Reader``.

    Args:
        copies: what is known of those that may be read from.
        reading: where this lane reads.
    """

    _copies: Copies

    def __init__(
        self,
        name: str,
        cluster: Known,
        everywhere: Everywhere,
        copies: Copies,
        reading: Reading,
        *,
        private: bool = False,
    ) -> None:
        ClusterLane.__init__(self, name, cluster, everywhere, private=private)
        self._source = reading.source
        self._refused = cluster.nowhere
        unread = Holding(
            self._whose,
            cluster.metrics,
            self._why_unread,
            self.check,
            cluster.refresher.want,
        )
        Reader.__init__(self, copies, reading, unread, cluster.metrics)

    # -- the road of a command -------------------------------------------------------

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command. See ``ClusterLane.submit``."""
        name, slot = named_slot(payload)
        if slot is None:
            return self._submit_otherwise(payload, decode, timeout)
        if reads := READS[name]:
            return self._read(slot, payload, decode, timeout)
        answer = self._target(slot).submit(payload, decode, timeout)
        if self._writes is not None and reads is False:
            self._writes.note(slot, answer)
        return answer

    unwatched = submit

    def _read(self, slot: int, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        if self._fenced and slot in self._fenced:
            return self._fenced[slot].submit(payload, decode, timeout)
        primary = self._owners[slot]
        if self._writes is not None and self._copies.written(slot):
            return self._lanes[primary].submit(payload, decode, timeout)
        node = self._choosing.choose(primary)
        if node is None:
            self._refused = primary
            return self._unread.submit(payload, decode, timeout)
        answer = self._lanes[node].submit(payload, decode, timeout)
        if node is not primary:
            self._counts.from_replicas += 1
        if self._hedging is not None:
            self._hedging.watch(primary, node, answer, payload, decode, timeout)
        return answer

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue several commands. See ``ClusterLane.submit_many``."""
        if payload.startswith(MULTI) or not all_read(payload, size, only_reads):
            answer = super().submit_many(payload, size, decode, timeout)
            if self._writes is not None:
                for slot in slots_in(payload) or (None,):
                    self._writes.note(slot, answer)
            return answer
        chosen: dict[Node, Target] = {}

        def target_of(slot: int) -> Target:
            """One for all of a primary's: each more is a message more."""
            if slot in self._fenced:
                return self._fenced[slot]
            primary = self._owners[slot]
            if self._writes is not None and self._copies.written(slot):
                return self._lanes[primary]
            target = chosen.get(primary)
            if target is None:
                target = chosen[primary] = self._target_to_read(primary)
            return target

        return self._spreading.issue(payload, size, decode, timeout, target_of)

    def _target_to_read(self, primary: Node) -> Target:
        node = self._choosing.choose(primary)
        if node is None:
            self._refused = primary
            return self._unread
        if node is not primary:
            self._counts.from_replicas += 1
        return self._lanes[node]

    def _issue(
        self, words: Sequence[bytes], slot: int, payload: bytes, decode: bool, timeout: float
    ) -> Future[Any]:
        if only_reads(words):
            return self._read(slot, payload, decode, timeout)
        answer = self._target(slot).submit(payload, decode, timeout)
        if self._writes is not None and may_write(words):
            self._writes.note(slot, answer)
        return answer

    def _submit_otherwise(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        answer = super()._submit_otherwise(payload, decode, timeout)
        if self._writes is not None:
            (words,) = unpack(payload)
            if may_write(words) and not slots_in(payload):  # FLUSHALL
                self._writes.note(None, answer)
        return answer

    # -- whom to ask -------------------------------------------------------------------

    @property
    def _policy(self) -> RetryPolicy:
        return self._cluster.settings.retry

    def _opened(self, node: Node) -> Lane | None:
        lane = self._lanes.get(node)
        return lane if isinstance(lane, Lane) else None

    def _load(self, node: Node) -> int:
        lane = self._lanes[node]
        return lane.depth if isinstance(lane, Lane) else 0

    def rest(self, reply: Reply, seconds: float) -> None:
        """Issue it again in so many seconds."""
        self._refused = self._owners[slots_in(reply.payload)[0]]
        super().rest(reply, seconds)

    def _why_unread(self) -> str:
        """Why nobody may be read from."""
        primary = self._refused
        if primary is self._cluster.nowhere:
            return self._cluster.why_unknown()
        return self._why_none(
            primary.address,
            [(replica.address, replica.figures) for replica in primary.replicas],
            fit="it says that its slot is elsewhere",
            none=self._why_no_replica(primary),
        )

    def _why_no_replica(self, primary: Node) -> str:
        """Why the map has none that is well."""
        down = [
            str(node.address) for node in self._cluster.nodes.values() if node.primary is primary
        ]
        if not down:
            return "it has none"
        are = "is" if len(down) == 1 else "are"
        return f"{', '.join(down)} {are} down, as the other nodes say"

    # -- what was issued, and has to go elsewhere ------------------------------------------

    def only_reads(self, reply: Reply) -> bool:
        """Whether another server may answer it instead."""
        if is_asking(reply) or reply.payload.startswith(MULTI):
            return False
        return all(only_reads(words) for words in unpack(reply.payload)) and bool(
            slots_in(reply.payload)
        )

    def reroute(self, reply: Reply) -> None:
        """Issue again what was issued before, wherever it is to be asked now."""
        slots = slots_in(reply.payload) if self.only_reads(reply) else []
        if self._together(slots):
            self.hand_over(reply, partial(self._reading_target, slots))
        else:
            super().reroute(reply)

    def _together(self, slots: Sequence[int]) -> bool:
        """Whether one server may have all of these."""
        return len({self._owners[slot] for slot in slots}) == 1 and (
            len(slots) == 1 or self._fenced.keys().isdisjoint(slots)
        )

    def _reading_target(self, slots: Sequence[int]) -> Target:
        if slots[0] in self._fenced:
            return self._fenced[slots[0]]
        owner = self._owners[slots[0]]
        if self._writes is not None and any(map(self._copies.written, slots)):
            return self._lanes[owner]
        return self._target_to_read(owner)

    def read_at_primary(self, reply: Reply) -> None:
        """Let the primary answer it; where that may not be asked, it waits for the next map."""
        if self._source == "replica":
            self.rest(reply, MAP_WITHIN)
        else:
            super().reroute(reply)

    def _place_for(self, reply: Reply) -> Target | None:
        slots = slots_in(reply.payload)
        return self._reading_target(slots) if self._together(slots) else None

    def listen(self, node: Node) -> None:
        """Tell ``node`` that it is read from though it is a replica: a connection that was made
        before anybody wanted to has not said so."""
        lane = self._lanes[node]
        if isinstance(lane, Lane):
            lane.unwatched(_READONLY, False, _LISTEN_FOR).add_done_callback(_forget)

    @property
    def holds(self) -> int:
        """See ``ClusterLane.holds``; those that wait for a replica, too."""
        return super().holds + len(self._unread.parked)

    def on_known(self) -> None:
        super().on_known()
        self.on_changed()

    def on_map(self) -> None:
        """Who follows whom has changed, and who owns what is about to."""
        self._choosing.changed()

    def forget(self, node: Node) -> None:
        """See ``ClusterLane.forget``."""
        super().forget(node)
        if self._hedging is not None:
            self._hedging.forget(node)

    def redirects_of(self, node: Node) -> ReadingRedirects:
        return ReadingRedirects(self, node, self._cluster, self._copies)

    def close(self) -> None:
        """See ``ClusterLane.close``."""
        if not self.closed:
            self._unread.close(self._is_closed)
            self._stop_reading()
        super().close()


def _forget(answer: Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()
