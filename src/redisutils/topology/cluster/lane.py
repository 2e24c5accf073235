"""A lane over a cluster: each command goes out on the lane of the node that owns its slot.

The road of a command
---------------------
The key is read from the packed command, its slot computed, the owner looked up, and the command
handed to the node's own lane: less than two microseconds. Commands whose keys stand elsewhere, or
in several slots, or that have none, take :meth:`ClusterLane._submit_otherwise`.

Order
-----
What goes to one slot goes over one lane of one node, so it keeps its order. When a slot moves, a
fence stands before it until the old owner owes nothing of it any more
(:mod:`redisutils.topology.cluster.fences`). What the old owner refuses with MOVED or ASK is handed
on in the callback that reads the refusal (:mod:`redisutils.topology.cluster.redirects`), so in the
order of issue.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from redisutils.connection.packing import PlacedPayload, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import ConnectionLost, PoolClosed, RedisUtilsError, with_outcome
from redisutils.metrics.snapshot import LaneMetrics
from redisutils.pool.lane import Lane
from redisutils.pool.parking import Parking
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.fence import Holding
from redisutils.topology.cluster.fences import Fences
from redisutils.topology.cluster.gathered import Gathered, part
from redisutils.topology.cluster.heads import SEEN, SHORT, simple_slot
from redisutils.topology.cluster.keys import (
    slots_in,
    the_slot_of_all,
)
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.redirects import MULTI, Redirects, is_anybodys, is_asking
from redisutils.topology.cluster.resending import Resending
from redisutils.topology.cluster.roles import Known, Taker
from redisutils.topology.cluster.splitting import route
from redisutils.topology.cluster.spreading import Spreading

__all__ = ["ClusterLane"]

Target: TypeAlias = Lane | Holding
"""What takes commands: a node's lane, or what holds them until it is known which."""


class ClusterLane:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        name: stands in messages, and is the name of the nodes' lanes.
        cluster: whose nodes.
        everywhere: takes commands without keys.
        private: whether it is one client's alone, with lanes of its own.
    """

    def __init__(
        self, name: str, cluster: Known, everywhere: Everywhere, *, private: bool = False
    ) -> None:
        self.name = name
        self.closed = False
        self._cluster = cluster
        self._everywhere = everywhere
        self._private = private
        self._owners = cluster.owners  # for ever the same list
        self._lanes = _NodeLanes(self._open)
        self._spreading = Spreading(cluster.loop, self._lanes, self._owners, self._submit_otherwise)
        self.resending = Resending(self, cluster)
        self.fences = Fences(self, cluster, self._whose)
        self._fenced = self.fences.by_slot
        self.holding = Holding(
            self._whose,
            cluster.metrics,
            cluster.why_unknown,
            self.check,
            cluster.refresher.want,
        )
        # To nobody's node commands are not sent, but held.
        self._lanes[cluster.nowhere] = self.holding

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{len(self._lanes) - 1} nodes"
        return f"<ClusterLane {self.name} to {self._cluster.name}, {state}>"

    @property
    def _whose(self) -> str:
        return f"{self._cluster.name} (lane {self.name!r})"

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it belongs to."""
        return self._cluster.loop

    # -- the road of a command -------------------------------------------------------

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command. See ``Connection.submit``.

        Raises:
            CrossSlot: its keys live in several slots, and it cannot be split.
            WrongLoop, PoolClosed
        """
        # The hot path.
        slot = SEEN.get(payload) if len(payload) < SHORT else None
        if slot is None:
            slot = simple_slot(payload)
            if slot is None:
                return self._submit_otherwise(payload, decode, timeout)
        if self._fenced and slot in self._fenced:
            return self._fenced[slot].submit(payload, decode, timeout)
        return self._lanes[self._owners[slot]].submit(payload, decode, timeout)

    unwatched = submit

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue several commands. A transaction stays together; others are split by node, run at
        the same time and are put back in order. An error stands among the answers as an exception.

        Raises:
            CrossSlot: the keys of a transaction live in several slots.
            WrongLoop, PoolClosed
        """
        if payload.startswith(MULTI):
            slot = the_slot_of_all(unpack(payload), "a transaction")
            return self.target(slot).submit_many(payload, size, decode, timeout)
        target_of = self._target if self._fenced else None
        return self._spreading.issue(payload, size, decode, timeout, target_of)

    def _submit_otherwise(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """A command whose keys stand elsewhere, or in several slots, or that has none."""
        self.check()
        (words,) = unpack(payload)
        found = route(words)
        if found is None:
            return self._everywhere.submit(self, words, payload, decode, timeout)
        if isinstance(found, int):
            return self._issue(words, found, payload, decode, timeout)
        futures: list[Future[Any]] = []
        for one in found.parts:
            args = words, one.slot, one.payload, decode, timeout
            futures.append(part(self.loop, futures, self._issue, *args))
        return Gathered.of(self.loop, futures, found.merge)

    def _issue(
        self, words: Sequence[bytes], slot: int, payload: bytes, decode: bool, timeout: float
    ) -> Future[Any]:
        """Issue the part of a command that concerns one slot.

        Args:
            words: of the whole command.
        """
        return self._target(slot).submit(payload, decode, timeout)

    # -- where to ----------------------------------------------------------------------

    def target(self, slot: int | None) -> Target:
        """What takes commands for a slot now; None for those that have no key."""
        if slot is None:
            return self._lanes[self._cluster.any_primary()]
        return self._target(slot)

    def _target(self, slot: int) -> Target:
        return self._fenced.get(slot) or self._lanes[self._owners[slot]]

    def lane_of(self, node: Node) -> Target:
        """The lane of one node, opened when first asked for."""
        return self._lanes[node]

    def opened(self, node: Node) -> Lane | None:
        """The lane of one node, if there is one."""
        lane = self._lanes.get(node)
        return lane if isinstance(lane, Lane) else None

    def redirects_of(self, node: Node) -> Redirects:
        """What follows the redirections of one node."""
        return Redirects(self, node, self._cluster)

    def check(self) -> None:
        """Raise if this is another event loop or process than ours, or all is closed.

        Raises:
            WrongLoop, PoolClosed
        """
        if self.closed:
            raise self._is_closed()
        self._cluster.check_usable()

    def _open(self, node: Node) -> Lane:
        server = node.server
        lane = server.private_lane(self.name) if self._private else server.lane(self.name)
        lane.router = self.redirects_of(node)
        return lane

    # -- what was issued, and has to go elsewhere ------------------------------------------

    def reroute(self, reply: Reply) -> None:
        """Issue again what was issued before, wherever its slot is now."""
        if is_asking(reply):  # what it was made for has to be asked for anew
            reply.fail(
                ConnectionLost("the node that was asked has gone", outcome=reply.fate),
                self._cluster.metrics,
            )
            return
        slots = slots_in(reply.payload)
        if not slots:
            self._reroute_keyless(reply)
            return
        if isinstance(reply, Batch) and len({self._target(slot) for slot in slots}) > 1:
            self.resending.apart(reply, self.reroute)
            return
        self.hand_over(reply, partial(self.target, slots[0]))

    def _reroute_keyless(self, reply: Reply) -> None:
        if type(reply.payload) is PlacedPayload:
            why = f"{self._whose}: the node that this command was for has left the cluster"
            reply.fail(ConnectionLost(why, outcome=reply.fate), self._cluster.metrics)
        elif isinstance(reply, Batch):
            self.hand_over(reply, partial(self.target, None))
        else:
            self._everywhere.reissue(self, reply)

    def _bring_back(self, withdrawn: Iterable[Reply]) -> None:
        """Issue again what a node was to be sent. A fence may have sent it there, and waits for
        its answer: it may stand behind that fence itself now."""
        for reply in withdrawn:
            self.reroute(reply)
            self.fences.passed(reply)

    def hand_over(self, reply: Reply, target: Callable[[], Taker]) -> None:
        """Let what ``target()`` gives issue what was issued before."""
        try:
            target().take_over(reply)
        except RedisUtilsError as error:  # the pool is being closed
            reply.fail(with_outcome(error, reply.fate), self._cluster.metrics)

    def slots_left(self, old: Node, slots: Collection[int]) -> None:
        """``slots`` have another owner now than ``old``. O(waiting and in flight there)."""
        lane = self._lanes.get(old)
        if lane is None:
            return
        if isinstance(lane, Holding):
            self.on_known()
            return

        def left(reply: Reply) -> bool:
            return not is_asking(reply) and any(slot in slots for slot in slots_in(reply.payload))

        withdrawn = lane.withdraw(left)
        self.fences.slots_left(old, frozenset(slots))
        self._bring_back(withdrawn)

    def suspected(self, node: Node) -> None:
        """``node`` was lost, or is silent: what waits to be sent there, and any node may answer, is
        asked of another, if there is one that is well. O(waiting there)."""
        lane = self.opened(node)
        if lane is not None and not self._cluster.any_primary().suspect:
            for reply in lane.withdraw(is_anybodys):
                self._reroute_keyless(reply)

    def _is_known(self, reply: Reply) -> bool:
        """Whether there is somebody for all its slots, or anybody if it has none."""
        nowhere = self._cluster.nowhere
        slots = slots_in(reply.payload)
        if not slots:
            return self._cluster.any_primary() is not nowhere
        return all(self._owners[slot] is not nowhere for slot in slots)

    def waiting(self) -> Parking:
        """What waits for an owner to be known."""
        return self.holding.parked

    def on_known(self) -> None:
        """There are nodes now: what waited for one goes out."""
        self._bring_back(self.holding.parked.withdraw(self._is_known))

    def forget(self, node: Node) -> None:
        """``node`` has left the cluster, and owes nothing any more."""
        lane = self._lanes.pop(node, None)
        if isinstance(lane, Lane):
            self._bring_back(lane.withdraw(lambda _: True))

    @property
    def holds(self) -> int:
        """Commands that wait until it is known where they go, or whether they may."""
        return len(self.holding.parked) + self.fences.holds

    def held(self) -> LaneMetrics:
        """Those. What waits for a node is told by the lane to it."""
        return LaneMetrics(
            self.name, connected=False, in_flight=0, waiting=self.holds, blocked=False
        )

    # -- for whom it is one client's alone ----------------------------------------------

    def taint(self) -> None:
        """See ``Lane.taint``: of each node's connection the state is about to change."""
        for lane in self._node_lanes():
            lane.taint()

    def abandon(self) -> None:
        """See ``Lane.abandon``."""
        for lane in self._node_lanes():
            lane.abandon()

    def connect_at_once(self) -> bool:
        """See ``Lane.connect_at_once``: there is nothing to connect to before a command comes."""
        return True

    def _node_lanes(self) -> list[Lane]:
        return [lane for lane in self._lanes.values() if isinstance(lane, Lane)]

    # -- the end ---------------------------------------------------------------------

    def close(self) -> None:
        """What waits fails; private lanes are closed, others belong to the nodes."""
        if self.closed:
            return
        self.closed = True
        self.holding.close(self._is_closed)
        self.fences.close(self._is_closed)
        if self._private:
            for lane in self._node_lanes():
                lane.close()
        self._lanes.clear()
        self._lanes.open = self._refuse

    def _refuse(self, _: object) -> Lane:
        raise self._is_closed()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"{self._whose} is closed")


class _NodeLanes(dict[Node, Target]):
    """Lanes by node, opened when first asked for."""

    def __init__(self, open_lane: Callable[[Node], Lane]) -> None:
        self.open = open_lane

    def __missing__(self, node: Node) -> Target:
        lane = self[node] = self.open(node)
        return lane
