"""Connections of one's own to the node that owns a slot, whichever that is by then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.address import Address
from redisutils.connection.protocol import Connection
from redisutils.errors import (
    CommandTimeout,
    ConfigError,
    ConnectFailed,
    Outcome,
    PoolClosed,
    PoolTimeout,
    RedisUtilsError,
)
from redisutils.pool.pool import Lease
from redisutils.topology.checkouts import Trying
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known

__all__ = ["ClusterCheckouts"]

_SILENT: Final = 0.5
"""Seconds in which there should be a connection."""

_LEAST: Final = 0.001
"""Seconds that are left of those of a caller who has waited for all else."""


class ClusterCheckouts:
    """The ways to a connection of one's own: see ``topology.checkouts.Checkouts``.

    Args:
        slot: whose owner; None for any primary.
        node: this one instead, whatever it owns; with a slot, until the map knows better.
        address: the node that the map has there.
    """

    __slots__ = ("_address", "_cluster", "_node", "_slot")

    def __init__(
        self,
        cluster: Known,
        slot: int | None = None,
        node: Node | None = None,
        address: Address | None = None,
    ) -> None:
        self._address = address
        self._cluster = cluster
        self._slot = slot
        self._node = node

    def _owner(self) -> Node:
        if self._node is not None:
            if self._slot is None and self._left(self._node):
                raise ConnectFailed(f"{self._node.address} has left {self._cluster.name}")
            return self._node
        cluster = self._cluster
        if self._address is not None:
            return self._node_there(self._address)
        return cluster.any_primary() if self._slot is None else cluster.owners[self._slot]

    def _node_there(self, address: Address) -> Node:
        node = self._cluster.nodes.get(address)
        if node is not None and node.member is not None:
            return node
        if not self._cluster.primaries:
            return self._cluster.nowhere
        others = ", ".join(str(one.address) for one in self._cluster.nodes.values())
        raise ConfigError(
            f"node={str(address)!r} is not in {self._cluster.name}, which has {others}"
        )

    @property
    def _fixed(self) -> bool:
        """Whether it is a node that was chosen, whom nobody can replace."""
        return self._address is not None or (self._node is not None and self._slot is None)

    def _left(self, node: Node) -> bool:
        """Whether another one is meant by now. Without a slot: another one is well."""
        cluster = self._cluster
        if self._fixed:
            return cluster.nodes.get(node.address) is not node
        if self._slot is not None:
            return cluster.owners[self._slot] is not node
        return node not in cluster.primaries or (
            node.suspect and any(not one.suspect for one in cluster.primaries)
        )

    def _known(self) -> Node | None:
        self._cluster.check_usable()
        owner = self._owner()
        return None if owner is self._cluster.nowhere else owner

    def at_once(self) -> Lease[Connection] | None:
        """A connection if one is idle and fit; else None."""
        node = self._known()
        return None if node is None else node.server.checkouts.at_once()

    async def get(self, wait: float | None = None) -> Lease[Connection]:
        """As ``Checkouts.get``: a failover is waited out, unless a node was chosen. Raises also
        PoolTimeout and ConnectFailed when it cannot be found out in time who owns the slot."""
        cluster = self._cluster
        create = cluster.timeouts.create
        trying = Trying(cluster.settings.retry, create if wait is None else wait, cluster.metrics)
        within = wait
        while True:
            bound = create if wait == 0 else trying.left  # 0: whatever it takes to connect
            node = self._known() or await self._found(bound, self._no_time)
            if wait:
                within = max(_LEAST, trying.left)
            checkouts = node.server.checkouts
            try:
                lease = await self._at(node, checkouts.attempt(within))
            except ConnectFailed as error:
                left = self._left(node)
                waits = left or (error.elsewhere and not self._fixed)
                try:
                    await trying.rest(error, waits, at_once=left)
                except ConnectFailed as final:
                    checkouts.failed(final, wait)
                    raise
            except RedisUtilsError as error:
                told = trying.told(error) if isinstance(error, PoolTimeout) else error
                checkouts.failed(told, wait)
                raise told from error.__cause__
            else:
                if lease is not None:
                    return lease
            self._look_again()
            if wait is None:  # from here on it is one bound for all
                within = max(_LEAST, trying.left)

    async def patiently(self, budget: float) -> Lease[Connection]:
        """As ``Checkouts.patiently``."""
        until = monotonic() + budget
        while True:
            left = max(0.0, until - monotonic())
            node = self._known() or await self._found(left, lambda: self._out_of_time(budget))
            left = max(0.0, until - monotonic())
            try:
                lease = await self._at(node, node.server.checkouts.patiently(left))
            except ConnectFailed as error:
                if error.fatal or not left or not self._left(node):
                    raise
            else:
                if lease is not None:
                    return lease
            self._look_again()

    def _look_again(self) -> None:
        """The map knows better by now than the redirection that brought us here."""
        if self._slot is not None:
            self._node = None

    async def _at(
        self, node: Node, checkout: Coroutine[Any, Any, Lease[Connection]]
    ) -> Lease[Connection] | None:
        """What ``checkout``, from the pool of ``node``, gives; None as soon as another is meant."""
        bound = asyncio.timeout(None)
        follower = _Follower(lambda: self._left(node), bound)
        self._cluster.followers.add(follower)
        looking = self._cluster.loop.call_later(_SILENT, self._look, node)
        try:
            async with bound:
                return await checkout
        except TimeoutError:
            if not bound.expired():
                raise  # a hook's own
            return None
        except PoolClosed:
            self._cluster.check_usable()
            if not self._left(node):
                raise
            return None
        finally:
            looking.cancel()
            self._cluster.followers.discard(follower)

    def _look(self, node: Node) -> None:
        """Have it looked whether another one has taken over from a node that lets us wait; not from
        one whose connections others have."""
        server = node.opened
        if server is not None and not server.pool.shortage():
            self._cluster.suspect(node)

    async def _found(self, seconds: float, late: Callable[[], RedisUtilsError]) -> Node:
        """Who is meant, as soon as that is known. Raises what ``late`` gives when it takes longer,
        and what ``next_map`` raises."""
        metrics = self._cluster.metrics
        try:
            async with asyncio.timeout(None if seconds == inf else seconds):
                while (node := self._known()) is None:
                    await self._cluster.next_map()
                return node
        except TimeoutError:
            error = late()
            if isinstance(error, CommandTimeout):
                metrics.ran_out(error)
            metrics.failed(error)
            raise error from None
        except RedisUtilsError as error:
            metrics.failed(error)
            raise

    def _no_time(self) -> PoolTimeout:
        return PoolTimeout(self._cluster.why_unknown(), "create")

    def _out_of_time(self, budget: float) -> CommandTimeout:
        return CommandTimeout(
            f"no connection could be had within {budget:.3g} s: {self._cluster.why_unknown()}",
            outcome=Outcome.NOT_SENT,
        )


class _Follower:
    """Ends the waiting for a node that is not meant any more.

    Args:
        left: asked at each new map.
        bound: of the waiting.
    """

    __slots__ = ("__weakref__", "_bound", "_left")

    def __init__(self, left: Callable[[], bool], bound: asyncio.Timeout) -> None:
        self._left = left
        self._bound: asyncio.Timeout | None = bound

    def on_map(self) -> None:
        if self._bound is not None and self._left():
            self._bound.reschedule(0.0)
            self._bound = None
