"""A cluster whose replicas are read from: what its lanes know together."""

from __future__ import annotations

from asyncio import Future, TimerHandle
from collections.abc import Sequence
from typing import Any, Final, Protocol
from weakref import WeakSet

from redisutils.errors import ConnectionLost, Outcome
from redisutils.pool.lane import Lane
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known, Taker
from redisutils.topology.plan import Reading
from redisutils.topology.reading.hedging import Budget
from redisutils.topology.reading.watching import Watching
from redisutils.topology.reading.writes import Writes

__all__ = ["Copies"]

SETTLED_AFTER: Final = 2.0
"""Seconds after a failover in which the old primary has turned to the new one, if it lives."""


class ReadingFrom(Protocol):
    """A lane that reads from replicas. Must be weakly referable."""

    closed: bool

    def lane_of(self, node: Node) -> Taker: ...

    def on_changed(self) -> None:
        """Who may be read from has changed."""

    def on_map(self) -> None:
        """Who follows whom has changed, and who owns what is about to."""

    def leave(self, node: Node) -> None:
        """Reads that wait to be sent to ``node`` are to be asked of another."""


class Copies:
    """See the module's docstring.

    Args:
        cluster: whose nodes.
        reading: what the plan says.
        by_others: what is written on no lane of ``lanes``.
    """

    def __init__(self, cluster: Known, reading: Reading, by_others: Writes) -> None:
        self._cluster = cluster
        self.reading = reading
        self.counts = cluster.metrics.reads
        self.budget = Budget(reading.hedge)
        self.lanes: WeakSet[ReadingFrom] = WeakSet()
        self.by_others = by_others
        self.writes = [by_others]
        """With those of each lane, where own writes are to be read."""
        self._roles: dict[Node, Node | None] = {}
        self._again: TimerHandle | None = None
        self.watching: Watching[Node] = Watching(
            reading, self.replicas_of, self._ask, self._zone_of, self.changed
        )

    def replicas_of(self, primary: Node) -> Sequence[Node]:
        """Those that have what this one has."""
        return primary.replicas

    def written(self, slot: int) -> bool:
        """Whether a lane has written to this slot so lately that it is to be read from its primary.
        O(lanes)."""
        return any(writes.recent(slot) for writes in self.writes)

    def changed(self) -> None:
        """Somebody may be read from who might not before, or not any more."""
        for lane in list(self.lanes):
            lane.on_changed()

    def on_map(self) -> None:
        """There is a new map. Those that are not in it are not looked at any more. If somebody has
        another role in it, not all may have found theirs yet: soon there is to be another."""
        self.watching.keep(self._is_member)
        for lane in list(self.lanes):
            lane.on_map()
        roles = {node: node.primary for node in self._cluster.nodes.values()}
        if self._roles and roles != self._roles and self._again is None:
            self._again = self._cluster.loop.call_later(SETTLED_AFTER, self._look_again)
        self._roles = roles

    def _look_again(self) -> None:
        self._again = None
        self._cluster.refresher.want()

    def stop(self) -> None:
        """Look no more."""
        self.watching.stop()
        if self._again is not None:
            self._again.cancel()

    def _is_member(self, node: Node) -> bool:
        return self._cluster.nodes.get(node.address) is node

    def away(self, node: Node, why: str) -> None:
        """``node`` was lost, is silent or refuses to be read from."""
        self.watching.away(node, why)

    def unreachable(self, node: Node) -> None:
        """``node`` cannot be connected to: what waits for that is read from another."""
        self.watching.away(node, "it cannot be connected to")
        for lane in list(self.lanes):
            lane.leave(node)

    def _ask(self, node: Node, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue a command of ours, on a connection on which reads go."""
        if not self._is_member(node):  # our pool for it is closed, and must not be opened anew
            raise ConnectionLost(f"{node.address} has left the cluster", outcome=Outcome.NOT_SENT)
        asking: Lane | None = None
        for each in self.lanes:
            if not each.closed:
                lane = each.lane_of(node)
                if isinstance(lane, Lane):
                    asking = lane
                    if lane.connection is not None:
                        break
        asking = asking or node.server.lane()
        return asking.unwatched(payload, decode, timeout)

    def _zone_of(self, node: Node) -> str | None:
        """As the map has it, or as the node has told when we connected to it
        (https://valkey.io/commands/hello/)."""
        if node.member is not None and node.member.zone:
            return node.member.zone
        for each in self.lanes:
            lane = None if each.closed else each.lane_of(node)
            if isinstance(lane, Lane) and lane.connection is not None:
                return str(lane.connection.server.get("availability_zone") or "") or None
        return None
