"""A cluster: who owns which slot, and a pool for each node that something goes to."""

from __future__ import annotations

import asyncio
import logging
import os
import weakref
from asyncio import Future
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from redis.typing import EncodableT

from redisutils.address import Address
from redisutils.connection.home import Home
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectFailed, PoolClosed, WrongLoop, code_of
from redisutils.metrics.counters import Gauges, PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.metrics.merging import merged
from redisutils.metrics.observer import Observer
from redisutils.metrics.snapshot import MetricsSnapshot
from redisutils.pool.model import Hook, PoolStatus, Retained, Timeouts, Usage
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.announced import dial_announced
from redisutils.topology.cluster.asking import AskingLane
from redisutils.topology.cluster.checkouts import ClusterCheckouts
from redisutils.topology.cluster.everywhere import Everywhere
from redisutils.topology.cluster.keys import the_slot, written_in
from redisutils.topology.cluster.lane import ClusterLane
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.redirects import FOLLOWED, redirection
from redisutils.topology.cluster.roster import Roster
from redisutils.topology.plan import ClusterPlan, ReadFrom
from redisutils.topology.reading.writes import Writes
from redisutils.topology.server import DEFAULT_LANE, LaneLike, Redirected
from redisutils.topology.standalone import Standalone

if TYPE_CHECKING:
    from redisutils.topology.cluster.examining import ClusterExaminer
    from redisutils.topology.cluster.reading import Copies
    from redisutils.topology.health import HealthReport

__all__ = ["Cluster"]

logger = logging.getLogger("redisutils.cluster")

LEAVE_WITHIN: Final = 5.0
"""Seconds that a node which has left may take to answer what it owes."""


class Cluster(Roster):
    """Made inside a running event loop, and bound to it.

    Args:
        options: how to connect to each node, but for its place.
        settings: the figures of each node's pool.
        plan: where it is found.
    """

    def __init__(self, options: ConnectOptions, settings: PoolSettings, plan: ClusterPlan) -> None:
        self.options = options
        self._loop = asyncio.get_running_loop()
        self._home = Home.of(self._loop)
        self._pid = os.getpid()
        name = f"the cluster of {', '.join(map(str, plan.seeds[:3]))}"
        if len(plan.seeds) > 3:
            name += ", …"
        metrics = PoolMetrics(self._loop, name)
        super().__init__(name, metrics, settings, plan, tls=options.tls is not None)
        self._closed = False
        self._lanes: dict[str, ClusterLane] = {}
        self._private: weakref.WeakSet[ClusterLane] = weakref.WeakSet()
        self._leaving: dict[asyncio.Task[None], Standalone] = {}
        self._timeouts = settings.timeouts
        self._hooks: tuple[list[Hook[Connection]], ...] = ([], [], [])
        self._observer: Observer | None = None
        self._by_others = Writes(plan.reading.own_writes)
        self.copies: Copies | None = None
        """Keeps what is known of those that are read from, if replicas are."""
        self.everywhere = Everywhere(self)
        self._examiner: ClusterExaminer | None = None

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self.primaries)} primaries"
        return f"<Cluster {self.name}: {state}, lanes {sorted(self._lanes)}>"

    clustered = True

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process in which it was made."""
        return os.getpid() != self._pid

    # -- may it be used ------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise if this is another event loop or process than ours, or if we are closed.

        Raises:
            WrongLoop, PoolClosed
        """
        if self.forked:
            raise WrongLoop(
                f"the pool of {self.name} was opened in process {self._pid} and this is its child "
                f"{os.getpid()}: open a pool of its own after the fork"
            )
        if self._closed:
            raise self._is_closed()
        if not self._home.is_here():
            raise self._wrong_loop()

    def check_closable(self) -> None:
        """Raise if closing must be left to another event loop.

        Raises:
            WrongLoop
        """
        ours = self.forked or self._loop.is_closed()
        if not ours and asyncio.get_running_loop() is not self._loop:
            raise self._wrong_loop()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"the pool of {self.name} is closed")

    def _wrong_loop(self) -> WrongLoop:
        return WrongLoop(
            f"the pool of {self.name} was opened in another event loop: open one in each loop "
            "(asyncio.run makes a new loop each time)"
        )

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
        lane = self._lanes.get(name)
        if lane is None:
            lane = self._lanes[name] = self._make_lane(name, source)
        return lane

    def lane_for(self, name: str, read_from: ReadFrom | None) -> ClusterLane:
        """See ``Server.lane_for``."""
        return self.lane(name, read_from)

    def private_lane(self, name: str) -> ClusterLane:
        """A lane for one client alone, which closes it."""
        self.check_usable()
        lane = self._make_lane(name, self._plan.reading.source, private=True)
        self._private.add(lane)
        return lane

    def _make_lane(self, name: str, source: ReadFrom, *, private: bool = False) -> ClusterLane:
        planned = self._plan.reading
        # Where all read from the primary nobody pays for what others might do.
        if source == planned.source == "primary":
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
        return [*self._lanes.values(), *self._private]

    # -- nodes ---------------------------------------------------------------------------

    def _open(self, address: Address) -> Standalone:
        self.check_usable()  # or it would belong to the caller's loop, or outlive us
        options = replace(self.options, host=address.host, port=address.port, one_of_many=True)

        async def dialled() -> Connection:
            try:
                known = self.announced(address)
                return await dial_announced(options, server.metrics, self.settings.silence, known)
            except ConnectFailed as error:
                error.elsewhere = not (error.fatal or error.own) and self._has_heirs(address)
                raise

        server = Standalone(options, self.settings, dialled, self.metrics)
        server.pool.timeouts = self._timeouts
        server.pool.post_create, server.pool.pre_recycle, server.pool.post_recycle = self._hooks
        server.observe(self._observer)
        server.breaker.on_failed = partial(self._connect_failed, address)
        if self._plan.reading.own_writes > 0:
            server.checkouts.note = self._note_written
        return server

    def _has_heirs(self, address: Address) -> bool:
        """Whether others may take over from the node there: then it costs nobody a retry that it
        cannot be reached."""
        return any(
            node.primary is not None and node.primary.address == address
            for node in self.nodes.values()
        )

    def _note_written(self, payload: bytes, answer: Future[Any]) -> None:
        """Issued by who has a connection for himself."""
        if slots := written_in(payload):
            self._by_others.note_of_others(slots, answer)

    def _connect_failed(self, address: Address) -> None:
        node = self.nodes.get(address)
        if node is None:
            return
        if node in self.primaries:
            self.suspect(node)
        if self.copies is not None:
            self.copies.unreachable(node)

    def _on_members(self) -> None:
        if self.copies is not None:
            self.copies.on_map()

    def _leave(self, node: Node) -> None:
        """``node`` is not in the cluster any more."""
        self._suspects.pop(node, None)
        server = node.retire()
        for lane in self._all_lanes():
            lane.forget(node)
        if server is not None:
            task = self._loop.create_task(self._left(server), context=Context())
            self._leaving[task] = server
            task.add_done_callback(partial(self._has_left, node))

    async def _left(self, server: Standalone) -> None:
        """Let it answer what it owes, then close our pool for it."""
        try:
            await server.aclose(LEAVE_WITHIN)
        except asyncio.CancelledError:
            server.abandon()
            raise

    def _has_left(self, node: Node, task: asyncio.Task[None]) -> None:
        # What was counted of it stays counted.
        self.metrics.adopt(self._leaving.pop(task).metrics)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.metrics.background_errors += 1
            with HARMLESS:
                logger.error("closing the pool of %s failed", node, exc_info=error)

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
        return Redirected(ClusterCheckouts(self, node=node), lane_over)

    @property
    def post_create(self) -> list[Hook[Connection]]:
        return self._hooks[0]

    @property
    def pre_recycle(self) -> list[Hook[Connection]]:
        return self._hooks[1]

    @property
    def post_recycle(self) -> list[Hook[Connection]]:
        return self._hooks[2]

    @property
    def timeouts(self) -> Timeouts:
        """Seconds for each phase of a checkout. May be replaced."""
        return self._timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None:
        self._timeouts = timeouts
        for server in self._opened():
            server.pool.timeouts = timeouts

    def resize(self, max_size: int) -> None:
        """Change how many connections there may be to each node."""
        self.settings = replace(self.settings, max_size=max_size)
        for server in self._opened():
            server.resize(max_size)

    def retain(self, predicate: Callable[[Connection, Usage], bool]) -> Retained[Connection]:
        """Keep the idle connections for which ``predicate`` says so, and close the others."""
        results = [server.retain(predicate) for server in self._opened()]
        return Retained(
            sum(result.retained for result in results),
            [connection for result in results for connection in result.removed],
        )

    def _opened(self) -> list[Standalone]:
        return [node.opened for node in self.nodes.values() if node.opened is not None]

    # -- what is going on --------------------------------------------------------------------

    def observe(self, observer: Observer | None) -> None:
        """Let ``observer`` watch what callers issue from now on; None ends it."""
        if observer is not None:
            self.check_usable()
        self._observer = observer
        for server in self._opened():
            server.observe(observer)

    def set_policy(self, policy: RetryPolicy) -> None:
        """Repeat commands by ``policy`` from now on."""
        self.settings = replace(self.settings, retry=policy)
        for server in self._opened():
            server.set_policy(policy)

    def snapshot(self) -> MetricsSnapshot:
        """What has been counted of all nodes, of those that have left, too, and what is going
        on."""
        # Of one that has left and come back, the latter stands for both.
        servers = [(server.metrics, server.gauges()) for server in self._leaving.values()]
        for node in self.nodes.values():
            if (server := node.opened) is not None:
                gauges = server.gauges()
                if node.member is not None:
                    gauges = gauges._replace(role="replica" if node.primary else "primary")
                servers.append((server.metrics, gauges))
        waiting = [lane.held() for lane in self._all_lanes() if lane.holds]
        return merged((self.metrics, Gauges(self.name, lanes=tuple(waiting))), servers)

    def status(self) -> PoolStatus:
        """The pools of all nodes, as one."""
        statuses = [server.status() for server in self._opened()]
        return PoolStatus(
            max_size=self.settings.max_size * max(1, len(self.primaries)),
            size=sum(status.size for status in statuses),
            available=sum(status.available for status in statuses),
            waiting=sum(status.waiting for status in statuses),
            breaker=max(
                (status.breaker for status in statuses),
                key=("closed", "half-open", "open").index,
                default="closed",
            ),
        )

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

    async def aclose(self, drain: float = 0.0) -> None:
        """Close everything. See ``Standalone.aclose``.

        Raises:
            WrongLoop: its own loop is another one, which still lives.
        """
        self.check_closable()
        if self.forked:
            return
        self._closed = True
        if self._loop.is_closed():
            for server in self._opened():
                await server.aclose()
            return
        self.refresher.stop()
        if self.copies is not None:
            self.copies.stop()
        for task in self._leaving:
            task.cancel()
        until = monotonic() + drain
        servers = self._opened()
        await asyncio.gather(*(server.aclose(max(0.0, until - monotonic())) for server in servers))
        self._tell()
        for lane in self._all_lanes():
            lane.close()
        self._lanes.clear()
        self.end_waiting(self._is_closed)
        await self.refresher.stopped()
        if self._examiner is not None:
            await self._examiner.ended()
        if self.copies is not None:
            await self.copies.watching.stopped()
        if self._leaving:
            await asyncio.wait(self._leaving)
        self.metrics.close()

    def abandon(self) -> None:
        """Close everything now, for an owner that was dropped without a word."""
        if self.forked:
            return
        self._closed = True
        self.refresher.stop()
        if self.copies is not None:
            self.copies.stop()
        for task in self._leaving:
            task.cancel()
        for lane in self._all_lanes():
            lane.close()
        self._lanes.clear()
        for server in self._opened():
            server.abandon()
        self.end_waiting(self._is_closed)
        self._tell()
        self.metrics.close()


def _itself(lane: LaneLike) -> LaneLike:
    return lane
