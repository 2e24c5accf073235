"""Connections of one's own to the node that owns a slot, whichever that is by then."""

from __future__ import annotations

import asyncio
from time import monotonic

from redisutils.address import Address
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, ConfigError, Outcome, PoolTimeout, RedisUtilsError
from redisutils.pool.pool import Lease
from redisutils.topology.checkouts import Checkouts
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known

__all__ = ["ClusterCheckouts"]


class ClusterCheckouts:
    """The ways to a connection of one's own: see ``topology.checkouts.Checkouts``.

    Args:
        slot: whose owner; None for any primary.
        node: this one instead, whatever it owns.
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

    def _known(self) -> Checkouts | None:
        self._cluster.check_usable()
        owner = self._owner()
        return None if owner is self._cluster.nowhere else owner.server.checkouts

    def at_once(self) -> Lease[Connection] | None:
        """A connection if one is idle and fit; else None."""
        known = self._known()
        return None if known is None else known.at_once()

    async def get(self, wait: float | None = None) -> Lease[Connection]:
        """As ``Checkouts.get``. Raises also PoolTimeout and ConnectFailed when it cannot be found
        out in time who owns the slot."""
        known = self._known()
        if known is None:
            bound = wait or self._cluster.timeouts.create  # 0: whatever it takes to connect
            began = monotonic()
            try:
                async with asyncio.timeout(bound):
                    known = await self._found()
            except TimeoutError:
                error = PoolTimeout(self._cluster.why_unknown(), "create")
                self._cluster.metrics.failed(error)
                raise error from None
            if wait:
                wait = max(0.001, wait - (monotonic() - began))
        return await known.get(wait)

    async def patiently(self, budget: float) -> Lease[Connection]:
        """As ``Checkouts.patiently``."""
        known = self._known()
        if known is None:
            began = monotonic()
            try:
                async with asyncio.timeout(budget):
                    known = await self._found()
            except TimeoutError:
                error = CommandTimeout(
                    f"no connection could be had within {budget:.3g} s: "
                    f"{self._cluster.why_unknown()}",
                    outcome=Outcome.NOT_SENT,
                )
                self._cluster.metrics.ran_out(error)
                self._cluster.metrics.failed(error)
                raise error from None
            budget -= monotonic() - began
        return await known.patiently(budget)

    async def _found(self) -> Checkouts:
        while (known := self._known()) is None:
            try:
                await self._cluster.next_map()
            except RedisUtilsError as error:
                self._cluster.metrics.failed(error)
                raise
        return known
