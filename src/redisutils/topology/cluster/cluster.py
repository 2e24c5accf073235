"""A cluster: lanes over all of it, and connections to each of its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from redis.typing import EncodableT

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.errors import code_of
from redisutils.metrics.counters import Gauges
from redisutils.metrics.merging import merged
from redisutils.metrics.snapshot import MetricsSnapshot
from redisutils.pool.settings import PoolSettings
from redisutils.topology.cluster.asking import AskingLane
from redisutils.topology.cluster.checkouts import ClusterCheckouts
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.keys import the_slot
from redisutils.topology.cluster.lane import ClusterLane
from redisutils.topology.cluster.pools import Pools
from redisutils.topology.cluster.redirects import FOLLOWED, redirection
from redisutils.topology.lanes import Lanes
from redisutils.topology.plan import ClusterPlan, ReadFrom
from redisutils.topology.server import DEFAULT_LANE, LaneLike, Redirected

if TYPE_CHECKING:
    from redisutils.topology.cluster.examining import ClusterExaminer
    from redisutils.topology.health import HealthReport

__all__ = ["Cluster"]


class Cluster(Pools):
    """What a pool needs of it: see :class:`redisutils.topology.server.Server`. Made inside a
    running event loop, and bound to it.

    Args:
        options: how to connect to each node, but for its place.
        settings: the figures of each node's pool.
        plan: where it is found.
    """

    def __init__(self, options: ConnectOptions, settings: PoolSettings, plan: ClusterPlan) -> None:
        name = f"the cluster of {', '.join(map(str, plan.seeds[:3]))}"
        if len(plan.seeds) > 3:
            name += ", …"
        super().__init__(name, options, settings, plan)
        self._closed = False
        self._lanes: Lanes[ClusterLane] = Lanes()
        self.everywhere = Everywhere(self)
        self._examiner: ClusterExaminer | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.primaries)} primaries"
        return f"<Cluster {self.name}: {state}, lanes {sorted(self._lanes.shared)}>"

    clustered = True

    @property
    def closed(self) -> bool:
        return self._closed

    # -- lanes ---------------------------------------------------------------------------

    def lane(self, name: str = DEFAULT_LANE, read_from: ReadFrom | None = None) -> ClusterLane:
        """The shared lane of this name, made when first asked for.

        Args:
            read_from: where its reads go; None for where the plan says.
        """
        self.check_usable()
        source = read_from or self._plan.reading.source
        if source != self._plan.reading.source:
            name = f"{name}, reading from {source}"
        return self._lanes.named(name, partial(self._make_lane, name, source))

    def lane_for(self, name: str, read_from: ReadFrom | None) -> ClusterLane:
        """See ``Server.lane_for``."""
        return self.lane(name, read_from)

    def private_lane(self, name: str) -> ClusterLane:
        """A lane for one client alone, which closes it."""
        self.check_usable()
        source = self._plan.reading.source
        return self._lanes.private(self._make_lane(name, source, private=True))

    def _make_lane(self, name: str, source: ReadFrom, *, private: bool = False) -> ClusterLane:
        planned = self._plan.reading
        # Where all read from the primary nobody pays for what others might do; but what is written
        # has to be known where other lanes look out for it.
        if source == planned.source == "primary" and not planned.own_writes:
            return ClusterLane(name, self, self.everywhere, private=private)
        # Imported by those who read from replicas.
        from redisutils.topology.cluster.reading import Copies
        from redisutils.topology.cluster.reading_lane import ReadingLane

        if self.copies is None:
            self.copies = Copies(self, planned, self._by_others)
            self.options = replace(self.options, readonly=True)
        how = replace(planned, source=source)
        lane = ReadingLane(name, self, self.everywhere, self.copies, how, private=private)
        self.copies.lanes.add(lane)
        return lane

    def _all_lanes(self) -> list[ClusterLane]:
        return list(self._lanes)

    # -- connections of one's own ----------------------------------------------------------

    def checkouts_for(self, args: Sequence[EncodableT]) -> ClusterCheckouts:
        """Where a connection is had on which this command can be executed.

        Raises:
            CrossSlot: its keys live in several slots.
        """
        return ClusterCheckouts(self, the_slot(args) if args else None)

    def checkouts_at(self, address: Address) -> ClusterCheckouts:
        """Where a connection to this node is had, be it a primary or a replica. Raises ConfigError
        when a connection is asked for and the map does not have it.

        Args:
            address: as it is reached from here, or as the nodes announce it.
        """
        return ClusterCheckouts(self, address=self._plan.addresses.get(address, address))

    def redirected(self, error: Exception) -> Redirected | None:
        """Where a command is to be sent that was refused with MOVED or ASK; else None."""
        code = code_of(error)
        named = redirection(error, self.options.address) if code in FOLLOWED else None
        if named is None:
            return None
        slot, announced = named
        node = self.node_at(announced)
        if code == "MOVED":
            self.moved(slot, node)
        lane_over = AskingLane if code == "ASK" else _itself
        owned = slot if code == "MOVED" else None
        return Redirected(ClusterCheckouts(self, owned, node), lane_over)

    # -- what is going on --------------------------------------------------------------------

    def snapshot(self) -> MetricsSnapshot:
        """What has been counted of all nodes, of those that have left, too, and what is going
        on."""
        waiting = [lane.held() for lane in self._lanes if lane.holds]
        return merged((self.metrics, Gauges(self.name, lanes=tuple(waiting))), self._counted())

    async def health(self, timeout: float) -> HealthReport:
        """How the nodes are. See :mod:`redisutils.topology.cluster.examining`.

        Args:
            timeout: seconds for all of it.

        Raises:
            WrongLoop
        """
        if self._examiner is None:
            # What it needs takes some milliseconds to import: only for those who ask.
            from redisutils.topology.cluster.examining import ClusterExaminer

            self._examiner = ClusterExaminer(self, self._plan.addresses)
        return await self._examiner.look(timeout)

    # -- the end -----------------------------------------------------------------------------

    def _shut(self) -> None:
        self._closed = True

    async def _outlive_loop(self) -> None:
        for server in self._opened():
            await server.aclose()

    async def _wind_up(self, drain: float) -> None:
        self._stop_asking()
        await self._close_pools(drain)
        self._tell()
        self._lanes.close()
        self.end_waiting(self._is_closed)
        await self._stopped_asking()
        if self._examiner is not None:
            await self._examiner.ended()
        self.metrics.close()

    def _drop_all(self) -> None:
        self._stop_asking()
        self._lanes.close()
        for server in self._opened():
            server.abandon()
        self.end_waiting(self._is_closed)
        self._tell()
        self.metrics.close()


def _itself(lane: LaneLike) -> LaneLike:
    return lane
