"""The fences of a lane over a cluster: which stand, why, and what becomes of what they held. What a
fence is, is told in :mod:`redisutils.topology.cluster.fence`."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from redisutils.connection.reply import Batch, Reply
from redisutils.errors import RedisUtilsError
from redisutils.pool.lane import Lane
from redisutils.topology.cluster.fence import PATIENCE, Debtor, Fence
from redisutils.topology.cluster.keys import SLOTS, keys_in, slots_in
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.redirects import is_asking
from redisutils.topology.cluster.roles import Known, LaneOver

__all__ = ["Fences"]


class Fenced(LaneOver, Protocol):
    """The lane before which they stand."""

    def check(self) -> None:
        """Raises WrongLoop or PoolClosed."""

    def opened(self, node: Node) -> Lane | None:
        """The lane of one node, if there is one."""


class Fences:
    """See the module's docstring.

    Args:
        lane: before which they stand.
        cluster: who owns what.
        whose: the cluster and the lane, for messages.
    """

    __slots__ = ("_cluster", "_lane", "_standing", "_whose", "by_slot")

    def __init__(self, lane: Fenced, cluster: Known, whose: str) -> None:
        self._lane = lane
        self._cluster = cluster
        self._whose = whose
        self.by_slot: dict[int, Fence] = {}
        """What stands before each slot. The same dictionary for ever."""
        self._standing: set[Fence] = set()  # each once; some only hand on what they held

    @property
    def holds(self) -> int:
        """Commands that wait behind them."""
        return sum(len(fence.parked) for fence in self._standing)

    # -- what raises them ----------------------------------------------------------------

    def slots_left(self, old: Node, slots: frozenset[int]) -> None:
        """``slots`` have another owner now than ``old``: what that owes of them comes first.
        O(in flight there)."""
        pending = self._in_flight(old, slots)
        if not pending:
            return
        fences = {self.by_slot[slot] for slot in slots if slot in self.by_slot}
        free = frozenset(slot for slot in slots if slot not in self.by_slot)
        if free:
            fences.add(self._raise(free, old, "has not answered what it was sent before"))
        debtor = self._debtor(old, 0.0 if old.suspect else PATIENCE)
        for fence in fences:
            fence.await_(pending, debtor)
            fence.look()

    def refuse(
        self, node: Node, slot: int, reply: Reply, refusal: Any, seconds: float = 0.0
    ) -> None:
        """``node`` has refused ``reply``, which is for the owner of ``slot``, after ``seconds``.
        What is issued for that slot meanwhile stays behind it."""
        fence = self.by_slot.get(slot)
        if fence is None:
            fence = self._raise_behind(node, slot, "has refused it")
        fence.refuse(reply, refusal, seconds)

    def may_ask(self, node: Node, slot: int, reply: Reply, refusal: Any) -> bool:
        """Whether ``reply``, which ``node`` has refused with ASK, may be asked of another one now.
        If not, it waits for its turn.

        A command of several keys may be refused there, too, until all of them have arrived
        (TRYAGAIN). Nothing that was issued later may be asked before that has been settled.
        """
        fence = self.by_slot.get(slot)
        if fence is not None and fence.comes_before(reply):
            fence.refuse(reply, refusal)
            return False
        if len(set(keys_in(reply.payload))) > 1:
            if fence is None:
                fence = self._raise_behind(node, slot, "has not all of its keys")
            fence.await_asked(reply)
            fence.look()
        else:
            self.passed(reply)
        return True

    def behind_all(self, payload: bytes, decode: bool, timeout: float) -> Future[Any] | None:
        """Issue a command that concerns all slots: behind what is held now, before what is issued
        later. None if nothing is held. O(slots)."""
        if not self._standing:
            return None
        fence = self.by_slot.get(0)
        if fence is None or len(fence.slots) < SLOTS:
            others = frozenset(self._standing)
            fence = self._new(frozenset(range(SLOTS)), lambda: "other slots move")
            fence.stand_behind(others)
        return fence.submit(payload, decode, timeout)

    def _raise(self, slots: frozenset[int], old: Node, why: str) -> Fence:
        return self._new(slots, lambda: f"its slot moves, and {old.address} {why}")

    def _raise_behind(self, node: Node, slot: int, why: str) -> Fence:
        """Behind what ``node``, which has refused something of this slot, owes of it."""
        fence = self._raise(frozenset((slot,)), node, why)
        pending = self._in_flight(node, fence.slots)
        if pending:
            is_owner = self._cluster.owners[slot] is node
            fence.await_(pending, None if is_owner else self._debtor(node, PATIENCE))
        return fence

    def _new(self, slots: frozenset[int], why: Callable[[], str]) -> Fence:
        fence = Fence(
            self._whose,
            self._cluster.metrics,
            why,
            self._lane.check,
            slots=slots,
            send=self._send,
            lift=self._lifted,
        )
        self.by_slot.update(dict.fromkeys(slots, fence))
        self._standing.add(fence)
        return fence

    # -- what they wait for --------------------------------------------------------------

    def passed(self, reply: Reply) -> None:
        """None of them need wait for ``reply`` any more."""
        for fence in list(self._standing):
            fence.passed(reply)

    def _in_flight(self, node: Node, slots: frozenset[int]) -> list[Reply]:
        """What ``node`` owes of these, oldest first. O(in flight there)."""
        lane = self._lane.opened(node)
        owed: Sequence[Reply] = () if lane is None else lane.owed()
        return [
            reply
            for reply in owed
            if not (reply.done() or is_asking(reply) or slots.isdisjoint(slots_in(reply.payload)))
        ]

    def _debtor(self, node: Node, patience: float) -> Debtor:
        settle = partial(self._lane.resending.settle, str(node.address))
        return Debtor(patience, partial(self._heard, node), settle)

    def _heard(self, node: Node) -> float:
        """When something came last (``time.monotonic``) from where ``node`` owes answers."""
        lane = self._lane.opened(node)
        connection = None if lane is None else lane.connection
        return 0.0 if connection is None else connection.last_heard

    # -- what they held ------------------------------------------------------------------

    def _send(self, reply: Reply) -> None:
        """To the owner of its slot, whatever stands before that."""
        owners = {self._cluster.owners[slot] for slot in slots_in(reply.payload)}
        if not owners:
            self._lane.reroute(reply)
        elif isinstance(reply, Batch) and len(owners) > 1:
            self._lane.resending.apart(reply, self._send)
            self.passed(reply)  # what is refused of it waits behind the fence itself
        else:
            self._lane.hand_over(reply, partial(self._lane.lane_of, owners.pop()))

    def _lifted(self, fence: Fence, parked: Iterable[Reply]) -> None:
        self._standing.discard(fence)
        for slot in fence.slots:
            if self.by_slot.get(slot) is fence:
                del self.by_slot[slot]
        for reply in parked:
            self._lane.reroute(reply)
        for other in list(self._standing):
            other.freed(fence)

    def close(self, error: Callable[[], RedisUtilsError]) -> None:
        """All that wait fail."""
        for fence in self._standing:
            fence.close(error)
        self._standing.clear()
        self.by_slot.clear()
