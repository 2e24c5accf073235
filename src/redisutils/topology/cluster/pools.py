"""The pools of a cluster's nodes: opened when something goes there, set alike, and closed when the
node leaves."""

from __future__ import annotations

import asyncio
import logging
from abc import abstractmethod
from asyncio import Future
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectFailed
from redisutils.metrics.counters import Gauges, PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.metrics.observer import Observer
from redisutils.pool.model import Hook, PoolStatus, Retained, Timeouts, Usage
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.announced import dial_announced
from redisutils.topology.cluster.keys import written_in
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roster import Rerouting, Roster
from redisutils.topology.plan import ClusterPlan
from redisutils.topology.reading.writes import Writes
from redisutils.topology.standalone import Standalone

if TYPE_CHECKING:
    from redisutils.topology.cluster.reading import Copies

__all__ = ["Pools"]

logger = logging.getLogger("redisutils.cluster")

LEAVE_WITHIN: Final = 5.0
"""Seconds that a node which has left may take to answer what it owes."""


class Leaving(Rerouting, Protocol):
    """A lane over the cluster, as far as it hears of nodes that leave."""

    def forget(self, node: Node) -> None:
        """``node`` has left the cluster, and owes nothing any more."""


class Pools(Roster):
    """See the module's docstring. Made inside a running event loop, and bound to it.

    Args:
        name: the cluster's, for messages.
        options: how to connect to each node, but for its place.
        settings: the figures of each node's pool.
        plan: where the cluster is found.
    """

    def __init__(
        self, name: str, options: ConnectOptions, settings: PoolSettings, plan: ClusterPlan
    ) -> None:
        metrics = PoolMetrics(asyncio.get_running_loop(), name)
        super().__init__(name, metrics, settings, plan, tls=options.tls is not None)
        self.options = options
        self._timeouts = settings.timeouts
        self._hooks: tuple[list[Hook[Connection]], ...] = ([], [], [])
        self._observer: Observer | None = None
        self._leaving: dict[asyncio.Task[None], Standalone] = {}
        self._by_others = Writes(plan.reading.own_writes)
        self.copies: Copies | None = None
        """Keeps what is known of those that are read from, if replicas are."""

    @abstractmethod
    def _all_lanes(self) -> Sequence[Leaving]:
        """The lanes over this cluster."""

    # -- nodes that come and go ----------------------------------------------------------

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

    # -- set alike -----------------------------------------------------------------------

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

    # -- counted together ----------------------------------------------------------------

    def _opened(self) -> list[Standalone]:
        return [node.opened for node in self.nodes.values() if node.opened is not None]

    def _counted(self) -> list[tuple[PoolMetrics, Gauges]]:
        """What has been counted of each node, and what is going on there."""
        # Of one that has left and come back, the latter stands for both.
        servers = [(server.metrics, server.gauges()) for server in self._leaving.values()]
        for node in self.nodes.values():
            if (server := node.opened) is not None:
                gauges = server.gauges()
                if node.member is not None:
                    gauges = gauges._replace(role="replica" if node.primary else "primary")
                servers.append((server.metrics, gauges))
        return servers

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

    # -- the end -------------------------------------------------------------------------

    def _stop_asking(self) -> None:
        """Look for nothing any more."""
        self.refresher.stop()
        if self.copies is not None:
            self.copies.stop()
        for task in self._leaving:
            task.cancel()

    async def _close_pools(self, drain: float) -> None:
        until = monotonic() + drain
        servers = self._opened()
        await asyncio.gather(*(server.aclose(max(0.0, until - monotonic())) for server in servers))

    async def _stopped_asking(self) -> None:
        """Wait for the end of what was under way."""
        await self.refresher.stopped()
        if self.copies is not None:
            await self.copies.watching.stopped()
        if self._leaving:
            await asyncio.wait(self._leaving)
