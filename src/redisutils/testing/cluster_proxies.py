"""A faulty network between clients and the nodes of a cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from types import MappingProxyType, TracebackType
from typing import Self

from redisutils.address import Address

from ._checks import check_count
from .server import EmbeddedServer
from .server_proxy import ServerProxy

__all__ = ["ClusterProxies"]


class ClusterProxies:
    """A proxy before each node: what ``EmbeddedCluster.proxied()`` gives.

    ::

        async with cluster.proxied() as network:
            pool = create_redis_pool(
                mode="cluster",
                nodes=network.addresses,
                address_map=network.address_map,
                password=cluster.password,
            )
            network.proxies[cluster.node_for("k")].blackhole()

    The nodes announce their own addresses, as behind a NAT: a client reaches a node by its proxy
    if it translates them. The nodes reach each other without. A fault of a proxy therefore is one
    between that node and clients, while the cluster is well.

    :param nodes: running ones; those that join later have no proxy.
    :param seed: of what is random, as for a FaultProxy; each proxy has one of its own from it.
    """

    def __init__(self, nodes: Sequence[EmbeddedServer], *, seed: int | None = None) -> None:
        check_count("seed", seed, 0)
        self._made = {
            node: ServerProxy(node, seed=None if seed is None else seed + number)
            for number, node in enumerate(nodes)
        }
        self._stack = AsyncExitStack()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {list(self._made.values())}>"

    @property
    def proxies(self) -> Mapping[EmbeddedServer, ServerProxy]:
        """Each node's proxy."""
        return MappingProxyType(self._made)

    @property
    def addresses(self) -> list[Address]:
        """Where the proxies listen: seeds for a client. RuntimeError before they are entered."""
        return [Address(proxy.host, proxy.port) for proxy in self._made.values()]

    @property
    def address_map(self) -> dict[tuple[str, int], tuple[str, int]]:
        """Each announced address, and where its proxy listens, as pairs of host and port.
        RuntimeError before they are entered."""
        return {
            Address(proxy.target_host, proxy.target_port): Address(proxy.host, proxy.port)
            for proxy in self._made.values()
        }

    def restore(self) -> None:
        """Take all faults off, of all proxies."""
        for proxy in self._made.values():
            proxy.restore()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            for proxy in self._made.values():
                await stack.enter_async_context(proxy)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)
