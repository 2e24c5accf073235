"""A lane over a cluster: each command goes out on the lane of the node that owns its slot.

The road of a command
---------------------
The key is read from the packed command, its slot computed, the owner looked up, and the command
handed to the node's own lane: less than two microseconds. Commands whose keys stand elsewhere, or
in several slots, or that have none, take :meth:`ClusterLane._submit_otherwise`.

Order
-----
What goes to one slot goes over one lane of one node, so it keeps its order. When a slot moves, a
:class:`~redisutils.topology.cluster.fence.Fence` stands before it until the old owner owes nothing
of it any more. What the old owner refuses with MOVED or ASK is handed on in the callback that
reads the refusal (:mod:`redisutils.topology.cluster.redirects`), so in the order of issue.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, TypeAlias

from redisutils.connection.packing import OwnPayload, PlacedPayload, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import ConnectionLost, PoolClosed, RedisUtilsError, with_outcome
from redisutils.metrics.snapshot import LaneMetrics
from redisutils.pool.lane import Lane
from redisutils.pool.parking import Parking
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.fence import PATIENCE, Fence, Holding
from redisutils.topology.cluster.gathered import Gathered, part
from redisutils.topology.cluster.heads import SEEN, SHORT, simple_slot
from redisutils.topology.cluster.keys import (
    commands_in,
    slots_in,
    the_slot_of_all,
)
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.redirects import MULTI, Redirects, is_asking
from redisutils.topology.cluster.resending import Resending
from redisutils.topology.cluster.roles import Known, Taker
from redisutils.topology.cluster.splitting import route

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
        self._fences: dict[int, Fence] = {}
        self._standing: set[Fence] = set()  # of those, each once
        self._lanes: dict[Node, Target] = _NodeLanes(self._open)
        self._redirects: dict[Node, Redirects] = {}
        self.resending = Resending(self, cluster)
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
        if self._fences and slot in self._fences:
            return self._fences[slot].submit(payload, decode, timeout)
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
        return self._spread(payload, size, decode, timeout)

    def _spread(
        self,
        payload: bytes,
        size: int,
        decode: bool,
        timeout: float,
        target_of: Callable[[int], Target] | None = None,
    ) -> Future[Any]:
        if target_of is None and self._fences:
            target_of = self._target
        lanes, owners = self._lanes, self._owners
        own = type(payload) is OwnPayload
        checked = False
        commands = commands_in(payload, size)
        groups: dict[Target, list[int]] = {}
        sent: list[tuple[Sequence[int], Future[Any], bool]] = []
        for place, command in enumerate(commands):
            slot = SEEN.get(command) if len(command) < SHORT else None
            if slot is None:
                slot = simple_slot(command)
            if slot is None:
                if not checked:
                    checked = True
                    _check_slots(commands[place:])
                # What it does may concern all slots: it stays behind what was issued before it.
                self._send_groups(groups, commands, decode, timeout, sent, own)
                one = OwnPayload(command) if own else command
                future = part(self.loop, sent, self._submit_otherwise, one, decode, timeout)
                sent.append(((place,), future, False))
            else:
                target = lanes[owners[slot]] if target_of is None else target_of(slot)
                if target in groups:
                    groups[target].append(place)
                else:
                    groups[target] = [place]
        if not sent and len(groups) == 1:
            (target,) = groups
            return target.submit_many(payload, size, decode, timeout)
        self._send_groups(groups, commands, decode, timeout, sent, own)

        def put_back(answers: list[Any]) -> list[Any]:
            values: list[Any] = [None] * size
            for (places, _, many), answer in zip(sent, answers, strict=True):
                each = answer if many and isinstance(answer, list) else [answer] * len(places)
                for place, value in zip(places, each, strict=True):
                    values[place] = value
            return values

        return Gathered.of(self.loop, [future for _, future, _ in sent], put_back)

    def _send_groups(
        self,
        groups: dict[Target, list[int]],
        commands: Sequence[bytes],
        decode: bool,
        timeout: float,
        sent: list[tuple[Sequence[int], Future[Any], bool]],
        own: bool,
    ) -> None:
        for target, places in groups.items():
            run = b"".join([commands[place] for place in places])
            together = OwnPayload(run) if own else run
            future = part(
                self.loop, sent, target.submit_many, together, len(places), decode, timeout
            )
            sent.append((places, future, True))
        groups.clear()

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
        return self._fences.get(slot) or self._lanes[self._owners[slot]]

    def lane_of(self, node: Node) -> Target:
        """The lane of one node, opened when first asked for."""
        return self._lanes[node]

    def redirects_of(self, node: Node) -> Redirects:
        """What follows the redirections of one node."""
        redirects = self._redirects.get(node)
        if redirects is None:
            redirects = self._redirects[node] = self._follow_from(node)
        return redirects

    def _follow_from(self, node: Node) -> Redirects:
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
            self._scatter(reply, self.reroute)
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
            self.passed(reply)

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
            return any(slot in slots for slot in slots_in(reply.payload))

        withdrawn = lane.withdraw(lambda reply: not is_asking(reply) and left(reply))
        pending = self._in_flight(old, left)
        if pending:
            self._raise_fence(old, frozenset(slots), pending)
        self._bring_back(withdrawn)

    def _is_known(self, reply: Reply) -> bool:
        """Whether there is somebody for all its slots, or anybody if it has none."""
        nowhere = self._cluster.nowhere
        slots = slots_in(reply.payload)
        if not slots:
            return self._cluster.any_primary() is not nowhere
        return all(self._owners[slot] is not nowhere for slot in slots)

    def _raise_fence(self, old: Node, slots: frozenset[int], pending: list[Reply]) -> None:
        patience = 0.0 if old.suspect else PATIENCE
        fenced = {self._fences[slot] for slot in slots if slot in self._fences}
        free = frozenset(slot for slot in slots if slot not in self._fences)
        if free:
            fence = self._fence(free, old, "has not answered what it was sent before")
            fenced.add(fence)
        for fence in fenced:
            fence.await_(pending, patience, partial(self._heard, old))
            fence.look()

    def _fence(self, slots: frozenset[int], old: Node, why: str) -> Fence:
        fence = Fence(
            self._whose,
            self._cluster.metrics,
            lambda: f"its slot moves, and {old.address} {why}",
            self.check,
            slots=slots,
            send=self._send,
            lift=self._lifted,
            settle=partial(self.resending.settle, str(old.address)),
        )
        self._fences.update(dict.fromkeys(slots, fence))
        self._standing.add(fence)
        return fence

    def refuse(
        self, node: Node, slot: int, reply: Reply, refusal: Any, seconds: float = 0.0
    ) -> None:
        """``node`` has refused ``reply``, which is for the owner of ``slot``, after ``seconds``.
        What is issued for that slot meanwhile stays behind it."""
        fence = self._fences.get(slot)
        if fence is None:
            fence = self._fence(frozenset((slot,)), node, "has refused it")
            pending = self._in_flight(node, lambda reply: slot in slots_in(reply.payload))
            if pending:
                fence.await_(pending, PATIENCE, partial(self._heard, node))
        fence.refuse(reply, refusal, seconds)

    def _heard(self, node: Node) -> float:
        """When something came last (``time.monotonic``) from where ``node`` owes answers."""
        lane = self._lanes.get(node)
        connection = lane.connection if isinstance(lane, Lane) else None
        return 0.0 if connection is None else connection.last_heard

    def _in_flight(self, node: Node, wanted: Callable[[Reply], bool]) -> list[Reply]:
        """What ``node`` owes, oldest first. O(in flight there)."""
        lane = self._lanes.get(node)
        if not isinstance(lane, Lane):
            return []
        owed = lane.owed()
        return [r for r in owed if not (r.done() or is_asking(r)) and wanted(r)]

    def _send(self, reply: Reply) -> None:
        """To the owner of its slot, whatever stands before that."""
        owners = {self._owners[slot] for slot in slots_in(reply.payload)}
        if isinstance(reply, Batch) and len(owners) > 1:
            self._scatter(reply, self._send)
            self.passed(reply)  # what is refused of it waits behind the fence itself
        else:
            self.hand_over(reply, partial(self.lane_of, owners.pop()))

    def _scatter(self, batch: Batch, issue: Callable[[Reply], None]) -> None:
        """Issue the commands of ``batch`` one by one."""
        values: list[Any] = [None] * batch.size
        self.resending.scatter(batch, values, range(batch.size), lambda _, one: issue(one))

    def passed(self, reply: Reply) -> None:
        """No fence need wait for ``reply`` any more."""
        for fence in list(self._standing):
            fence.passed(reply)

    def _lifted(self, fence: Fence, parked: list[Reply]) -> None:
        self._standing.discard(fence)
        for slot in fence.slots:
            if self._fences.get(slot) is fence:
                del self._fences[slot]
        for reply in parked:
            self.reroute(reply)

    def waiting(self) -> Parking:
        """What waits for an owner to be known."""
        return self.holding.parked

    def on_known(self) -> None:
        """There are nodes now: what waited for one goes out."""
        self._bring_back(self.holding.parked.withdraw(self._is_known))

    def forget(self, node: Node) -> None:
        """``node`` has left the cluster, and owes nothing any more."""
        lane = self._lanes.pop(node, None)
        self._redirects.pop(node, None)
        if isinstance(lane, Lane):
            self._bring_back(lane.withdraw(lambda _: True))

    @property
    def holds(self) -> int:
        """Commands that wait until it is known where they go, or whether they may."""
        return len(self.holding.parked) + sum(len(fence.parked) for fence in self._standing)

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
        for fence in self._standing:
            fence.close(self._is_closed)
        self._standing.clear()
        self._fences.clear()
        if self._private:
            for lane in self._node_lanes():
                lane.close()
        self._lanes = _NodeLanes(self._refuse)

    def _refuse(self, _: object) -> Lane:
        raise self._is_closed()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"{self._whose} is closed")


def _check_slots(commands: Iterable[bytes]) -> None:
    """Raise if one of them cannot be issued, before any is: see ``splitting.route``."""
    for command in commands:
        if simple_slot(command) is None:
            route(*unpack(command))


class _NodeLanes(dict[Node, Target]):
    """Lanes by node, opened when first asked for."""

    def __init__(self, open_lane: Callable[[Node], Lane]) -> None:
        self._open = open_lane

    def __missing__(self, node: Node) -> Target:
        lane = self[node] = self._open(node)
        return lane
