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
from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.commands import is_blocking, lookup, may_write
from redisutils.connection.packing import OwnPayload, pack, unpack
from redisutils.connection.reply import Reply
from redisutils.pool.lane import Lane
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.heads import READS, named_slot
from redisutils.topology.cluster.keys import commands_in, slots_in
from redisutils.topology.cluster.lane import ClusterLane, Target
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.reading import Copies
from redisutils.topology.cluster.reading_redirects import ReadingRedirects
from redisutils.topology.cluster.redirects import MULTI, is_asking
from redisutils.topology.cluster.roles import Known
from redisutils.topology.plan import Reading
from redisutils.topology.reading.choosing import Choosing
from redisutils.topology.reading.hedging import Hedging
from redisutils.topology.reading.writes import Writes

__all__ = ["ReadingLane"]

_READONLY: Final = OwnPayload(pack(("READONLY",)))

MAP_WITHIN: Final = 0.2
"""Seconds in which there should be a new map, when a replica knows a slot to be elsewhere."""

_LISTEN_FOR: Final = 2.0
"""Seconds that a node may take to hear that it is read from."""


def only_reads(words: Sequence[bytes]) -> bool:
    """Whether a replica may answer this: it reads keys, and does not wait for others."""
    command = lookup(words)
    return command.read_anywhere and not is_blocking(command, words)


class ReadingLane(ClusterLane):
    """See the module's docstring, and ``ClusterLane``.

    Args:
        copies: what is known of those that may be read from.
        reading: where this lane reads.
    """

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
        self._copies = copies
        super().__init__(name, cluster, everywhere, private=private)
        self._counts = copies.counts
        self._source = reading.source
        self._writes: Writes | None = None
        if reading.own_writes > 0:
            self._writes = Writes(reading.own_writes)
            copies.writes.append(self._writes)
        self._choosing: Choosing[Node] = Choosing(
            reading, self._replicas_of, self._load, copies.counts
        )
        self._refused = cluster.nowhere
        self._unread = Holding(
            self._whose,
            cluster.metrics,
            self._why_unread,
            self.check,
            cluster.refresher.want,
        )
        self._resting: set[Reply] = set()
        self._hedging: Hedging[Node] | None = None
        if reading.hedge > 0 and reading.source != "primary":
            self._hedging = Hedging(
                self.loop, copies.budget, self._all_for, self._other, self._ask, copies.counts
            )

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
        if payload.startswith(MULTI) or not _all_read(payload, size):
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

    def _replicas_of(self, primary: Node) -> Sequence[Node]:
        """Asked some times a second as long as there are reads."""
        self._copies.watching.want(primary)
        return primary.replicas

    def _load(self, node: Node) -> int:
        lane = self._lanes[node]
        return lane.depth if isinstance(lane, Lane) else 0

    def _all_for(self, primary: Node) -> list[Node]:
        return [node for group in self._choosing.ranks(primary).groups for node in group]

    def _other(self, primary: Node, than: Node) -> Node | None:
        return self._choosing.another(primary, than)

    def _ask(self, node: Node, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        return self._lanes[node].submit(OwnPayload(payload), decode, timeout)

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
        self._refused = self._owners[slots_in(reply.payload)[0]]
        self._unread.take_over(reply)
        self.loop.call_later(seconds, self._rested, reply)

    def _rested(self, reply: Reply) -> None:
        self._resting.discard(reply)
        if not self.closed:
            self._look_again()

    def _why_unread(self) -> str:
        """Why nobody may be read from."""
        primary = self._refused
        if primary is self._cluster.nowhere:
            return self._cluster.why_unknown()
        bound = self._choosing.reading.max_lag
        told = []
        for replica in primary.replicas:
            figures = replica.figures
            if not figures.proven:
                why = figures.trouble
            elif monotonic() - figures.fresh_at <= bound:
                why = "it says that its slot is elsewhere"
            elif figures.fresh_at > -inf:
                why = f"it is behind by more than REDIS_READ_MAX_LAG_SECONDS={bound:g}"
            else:
                why = figures.trouble or "how far it is behind is not known yet"
            told.append(f"{replica.address}: {why}")
        return (
            f"no replica of {primary.address} may be read from ({'; '.join(told) or 'it has none'})"
            "; REDIS_READ_FROM=prefer-replica reads from the primary then"
        )

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

    def leave(self, node: Node) -> None:
        """Reads that wait to be sent to ``node`` are asked of another. O(waiting there)."""
        lane = self._lanes.get(node)
        if isinstance(lane, Lane):
            waiting = lane.withdraw(self.only_reads)
            self._counts.moved_on += len(waiting)
            for reply in waiting:
                self.reroute(reply)

    def give_up(self, node: Node) -> None:
        """Reads that ``node`` does not answer are asked of another, if there is one. What it may
        answer later is nobody's. O(in flight there)."""
        self.leave(node)
        lane = self._lanes.get(node)
        policy = self._cluster.settings.retry
        if not isinstance(lane, Lane) or policy.mode == "never":
            return
        late = [
            reply
            for reply in lane.owed()
            if not reply.done()
            and reply.attempts < policy.max_retries
            and self.only_reads(reply)
            and self._has_another(reply, lane)
        ]
        if late:
            self._counts.moved_on += len(late)
            self.resending.settle(str(node.address), late)

    def _has_another(self, reply: Reply, lane: Lane) -> bool:
        slots = slots_in(reply.payload)
        return not self._together(slots) or self._reading_target(slots) is not lane

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
            if self._hedging is not None:
                self._hedging.close()
            if self._writes is not None:
                self._copies.writes.remove(self._writes)
                self._copies.by_others.absorb(self._writes)
        super().close()


def _forget(answer: Future[Any]) -> None:
    if not answer.cancelled():
        answer.exception()


def _all_read(payload: bytes, size: int) -> bool:
    """Whether a replica may answer all of these."""
    for command in commands_in(payload, size):
        name, slot = named_slot(command)
        if not (READS[name] if slot is not None else only_reads(unpack(command)[0])):
            return False
    return True
