"""Who is in a cluster, and who owns which slot."""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from redisutils.address import Address
from redisutils.connection.words import of_each
from redisutils.errors import CommandTimeout, ConnectFailed, Outcome, RedisUtilsError
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.parking import Parking
from redisutils.pool.settings import PoolSettings
from redisutils.retry import Reconnecting, RetryPolicy
from redisutils.topology.bound import Bound
from redisutils.topology.cluster.announced import Announced
from redisutils.topology.cluster.keys import SLOTS
from redisutils.topology.cluster.map import ClusterMap, Member, taken_over
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.refreshing import Refresher
from redisutils.topology.cluster.roles import Follower
from redisutils.topology.plan import ClusterPlan
from redisutils.topology.standalone import Standalone

__all__ = ["Rerouting", "Roster"]


class Rerouting(Protocol):
    """A lane over the cluster, as far as it hears of changes."""

    def slots_left(self, old: Node, slots: Collection[int]) -> None:
        """``slots`` have another owner now than ``old``."""

    def suspected(self, node: Node) -> None:
        """``node`` was lost, or is silent."""

    def on_known(self) -> None:
        """There are nodes now: what waited for one goes out."""

    def waiting(self) -> Parking:
        """What waits for an owner to be known."""


class Roster(Bound):
    """Keeps the map, and tells lanes what has changed. Belongs to the event loop that runs when it
    is made.

    Args:
        name: the cluster's, for messages.
        metrics: where failures are counted that are no node's.
        settings: whose policy says how the map is asked for again.
        plan: where the cluster is found.
        tls: whether the nodes are spoken to in TLS.
    """

    def __init__(
        self,
        name: str,
        metrics: PoolMetrics,
        settings: PoolSettings,
        plan: ClusterPlan,
        *,
        tls: bool,
    ) -> None:
        super().__init__(f"the pool of {name}")
        self.name = name
        self.metrics = metrics
        self.settings = settings
        self._plan = plan
        self.nodes: dict[Address, Node] = {}
        """All that the map has, by where they are reached from here; seeds before there is one."""
        self.nowhere = Node(Address("nowhere", 0), self._open_nowhere)
        """The owner of slots whose owner is not known."""
        self.owners: list[Node] = [self.nowhere] * SLOTS
        """The owner of each slot. The same list for ever."""
        self._preferred: Node | None = None  # whom to ask first for the map
        self.version = 0
        """Grows whenever a slot changes its owner."""
        self.primaries: list[Node] = []
        """Those that own slots, by their lowest slot."""
        self._map = ClusterMap(())
        self._suspects: dict[Node, int] = {}
        self._mapped: set[asyncio.Future[None]] = set()
        self.followers: weakref.WeakSet[Follower] = weakref.WeakSet()
        """Who is told of each new map, and of each slot that has moved."""
        self.refresher = Refresher(self, tls=tls, addresses=plan.addresses)

    @abstractmethod
    def _open(self, address: Address) -> Standalone:
        """A pool for the node there."""

    @abstractmethod
    def _on_members(self) -> None:
        """The nodes of a new map are known; slots are about to change their owners."""

    @abstractmethod
    def _leave(self, node: Node) -> None:
        """``node`` is not in the cluster any more."""

    @abstractmethod
    def _all_lanes(self) -> Sequence[Rerouting]:
        """The lanes over this cluster."""

    # -- who is there --------------------------------------------------------------------

    def node_at(self, announced: Address) -> Node:
        """The node that others call so."""
        address = self._plan.addresses.get(announced, announced)
        node = self.nodes.get(address)
        if node is None:
            node = self.nodes[address] = Node(address, self._open)
        return node

    def members(self) -> list[Node]:
        """Those that the map has, primaries and replicas."""
        return [node for node in self.nodes.values() if node.member is not None]

    def member_at(self, address: Address) -> Node | None:
        """Who is at an address, as it is reached from here or as the nodes announce it."""
        node = self.nodes.get(self._plan.addresses.get(address, address))
        return None if node is None or node.member is None else node

    def announced(self, address: Address) -> Announced:
        """How we come to look for a node there."""
        node = self.nodes.get(address)
        if node is None or node.member is None:
            return Announced(seed=address in self._seeds())
        here = {here: announced for announced, here in self._plan.addresses.items()}
        return Announced(self._map.told_by, node.member.ip, here.get(address))

    def any_primary(self) -> Node:
        """One of them, at random: one that is not suspect if there is such a one."""
        if not self.primaries:
            return self.nowhere
        well = [node for node in self.primaries if not node.suspect]
        return random.choice(well or self.primaries)

    def suspect(self, node: Node) -> None:
        """``node`` was lost, or does not answer: look whether others have taken over."""
        if node.opened is not None:
            node.suspect = True
            # Of one that is lost again: what came until now does not speak for it.
            self._suspects[node] = node.opened.metrics.bytes_in
            for lane in self._all_lanes():
                lane.suspected(node)
        self.refresher.want()

    def suspects(self) -> bool:
        """Whether a node that owns slots is suspect. One that has been heard is not any more."""
        for node, heard in list(self._suspects.items()):
            server = node.opened
            if server is None or server.metrics.bytes_in != heard:
                node.suspect = False
                del self._suspects[node]
        return any(node in self._suspects for node in self.primaries)

    def _open_nowhere(self, _: Address) -> Standalone:
        raise ConnectFailed(self.why_unknown())

    def why_unknown(self) -> str:
        """Why it is not known who owns a slot."""
        error = self.refresher.error
        if error is not None:
            return error.message
        if not self.primaries:
            troubles = {str(node.address): node.trouble for node in self.nodes.values()}
            if told := of_each({place: why for place, why in troubles.items() if why}):
                return f"no node of {self.name} tells who owns which slots: {told}"
            return f"who owns which slots of {self.name} has not been told yet"
        return f"nobody owns this slot of {self.name} at present"

    # -- the map -------------------------------------------------------------------------

    def moved(self, slot: int, node: Node) -> None:
        """A node says that ``node`` owns ``slot`` now."""
        self._preferred = node  # nobody knows better
        if self.owners[slot] is not node:
            self._change({slot: node})
            self._tell()
        self.refresher.want()

    def candidates(self) -> list[Node]:
        """The nodes that may be asked for the map, the best first."""
        known = [node for node in self.nodes.values() if node is not self.nowhere]
        random.shuffle(known)
        known.sort(key=lambda node: (node.suspect, not node.connected))
        preferred, self._preferred = self._preferred, None
        if preferred in known:
            known.remove(preferred)
            known.insert(0, preferred)
        missing = [Node(seed, self._open) for seed in self._seeds() if seed not in self.nodes]
        for node in missing:
            self.nodes[node.address] = node
        return [*known, *missing]

    def _seeds(self) -> list[Address]:
        """Where the settings say that nodes are, as they are reached from here."""
        return [self._plan.addresses.get(seed, seed) for seed in self._plan.seeds]

    def adopt(self, new: ClusterMap) -> None:
        """This is who owns what now."""
        if self.closed:
            return
        owners = [self.nowhere] * SLOTS
        present: dict[Address, Node] = {}
        self.metrics.failovers += taken_over(self._map, new)
        self._map = new
        for shard in new.shards:
            primary = self._present(present, shard.primary, None)
            for replica in shard.replicas:
                self._present(present, replica, primary)
            for first, last in shard.ranges:
                owners[first : last + 1] = [primary] * (last + 1 - first)
        gone = [node for address, node in self.nodes.items() if address not in present]
        self.nodes = present
        changes = {slot: node for slot, node in enumerate(owners) if node is not self.owners[slot]}
        self._on_members()
        self._change(changes)
        for node in gone:
            self._leave(node)
        for lane in self._all_lanes():
            lane.on_known()
        for future in self._mapped:
            if not future.done():
                future.set_result(None)
        self._tell()

    def _present(self, present: dict[Address, Node], member: Member, primary: Node | None) -> Node:
        node = present.get(member.address) or self.nodes.get(member.address)
        if node is None:
            node = Node(member.address, self._open)
        present[member.address] = node
        node.member = member
        node.primary = primary
        node.replicas = []
        if primary is not None and member.healthy:
            primary.replicas.append(node)
        return node

    def _change(self, changes: dict[int, Node]) -> None:
        """Slots have other owners now."""
        if not changes:
            return
        self.version += 1
        left: dict[Node, set[int]] = {}
        for slot, node in changes.items():
            left.setdefault(self.owners[slot], set()).add(slot)
            self.owners[slot] = node
        self.primaries = list(dict.fromkeys(self.owners))
        if self.nowhere in self.primaries:
            self.primaries.remove(self.nowhere)
        for lane in self._all_lanes():
            for node, slots in left.items():
                lane.slots_left(node, slots)

    def _tell(self) -> None:
        for follower in list(self.followers):
            follower.on_map()

    # -- waiting for it ------------------------------------------------------------------

    async def mapped(self, timeout: float) -> None:
        """Wait until it is known who owns what.

        Raises:
            CommandTimeout: it takes longer.
            ConnectFailed: nobody says so.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self.primaries:
                    await self.next_map()
        except TimeoutError:
            error = CommandTimeout(
                f"waited {timeout:.3g} s: {self.why_unknown()}", outcome=Outcome.NOT_SENT
            )
            self.metrics.ran_out(error)
            self.metrics.failed(error)
            raise error from None
        except RedisUtilsError as failure:
            self.metrics.failed(failure)
            raise

    async def next_map(self) -> None:
        """Wait for the next map.

        Raises:
            ConnectFailed: nobody gives one.
            PoolClosed
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._mapped.add(future)
        self.refresher.want()
        try:
            await future
        finally:
            self._mapped.discard(future)

    def waiting(self) -> bool:
        """Whether something waits to know who owns what."""
        return bool(self._mapped) or any(lane.waiting() for lane in self._all_lanes())

    def in_vain(self, error: ConnectFailed, reconnecting: Reconnecting, counts: bool) -> None:
        """Nobody says who owns what."""
        self.metrics.errors[type(error).__name__] += 1
        self.metrics.events.note(
            "map_failed", logging.WARNING, "%s", error.message, error=error.message
        )
        policy = self.settings.retry
        allowed = 0 if error.fatal or policy.mode == "never" else policy.max_retries

        def told() -> ConnectFailed:
            own = type(error)(f"{error.message}; tried {reconnecting.times()}", fatal=error.fatal)
            own.__cause__ = error
            return own

        if counts:
            for lane in self._all_lanes():
                lane.waiting().count_attempt(allowed, told)
            if reconnecting.failures > allowed:
                self.end_waiting(told)

    def end_waiting(self, error: Callable[[], RedisUtilsError]) -> None:
        """Who waits for a map is told an ``error`` of his own."""
        for future in self._mapped:
            if not future.done():
                future.set_exception(error())

    def policy(self) -> RetryPolicy:
        """How attempts are repeated."""
        return self.settings.retry
