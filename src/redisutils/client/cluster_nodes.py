"""Nodes of a cluster as redis-py's users see them."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn, TypeAlias

import redis.asyncio.cluster
from redis.cluster import PRIMARY, REPLICA, get_node_name
from redis.event import EventDispatcher

from redisutils.address import Address, address_of
from redisutils.errors import ConfigError
from redisutils.topology.cluster.node import Node

__all__ = ["ClusterNode", "TargetNode", "address_in"]

TargetNode: TypeAlias = "redis.asyncio.cluster.ClusterNode | Address | str"
"""A node as it may be named: redis-py's object, an address, ``"host:port"``."""

Execute: TypeAlias = Callable[..., Awaitable[Any]]


class ClusterNode(redis.asyncio.cluster.ClusterNode):
    """One node at one moment: ``name`` (``"host:port"``), ``host``, ``port``, and ``server_type``,
    ``"primary"`` or ``"replica"``. Nodes of the same name are equal.

    It is redis-py's class, but has no connections of its own: they are the client's.

    Args:
        node: which.
        execute: issues a command there.
    """

    __slots__ = ("_execute",)

    def __init__(self, node: Node, execute: Execute) -> None:
        # Not redis-py's constructor, which looks up "localhost" and waits for it.
        self.host, self.port = node.address
        self.name = get_node_name(self.host, self.port)
        self.server_type = PRIMARY if node.primary is None else REPLICA
        self.max_connections = 0
        self.connection_class = redis.asyncio.Connection
        self.connection_kwargs = {"host": self.host, "port": self.port}
        self.response_callbacks = {}
        self._connections = []
        self._free = deque()
        self._background_tasks = set()
        self._event_dispatcher = EventDispatcher()
        self._execute = execute

    async def execute_command(self, *args: Any, **kwargs: Any) -> Any:
        """Issue a command at this node, as ``client.execute_command(…, target_nodes=node)``."""
        return await self._execute(*args, target_nodes=self, **kwargs)

    def acquire_connection(self) -> NoReturn:
        """Refused."""
        raise ConfigError(
            "acquire_connection(): connections to a node are the pool's: "
            f"async with pool.get(node={self.name!r}) as conn"
        )

    async def disconnect(self) -> None:
        """There is nothing to close: connections are the client's."""


def address_in(target: object, argument: str = "node") -> Address:
    """Where a target is.

    Args:
        target: a :data:`TargetNode`, or ``(host, port)``.
        argument: by which it was given, for the error; default ``"node"``.

    Raises:
        ConfigError: it is none.
    """
    host, port = getattr(target, "host", None), getattr(target, "port", None)
    if host and port:
        return Address(str(host), int(port))
    try:
        return address_of(target, None)
    except ValueError as error:
        raise ConfigError(
            f"{argument}={target!r}: {error}; or a ClusterNode, as client.get_nodes() has them"
        ) from None
