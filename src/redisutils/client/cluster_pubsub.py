"""Pub/sub in a cluster: redis-py's PubSub, on a connection that stands for one to each node."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.client import PubSub

from redisutils.address import Address
from redisutils.client.adapter import AdapterPool

__all__ = ["ClusterPubSub"]


class ClusterPubSub(PubSub):
    """Channels, patterns and shard channels in one object: ``get_message()``, ``listen()`` and
    ``run()`` give the messages of all of them, and keyspace notifications of all primaries. See
    :mod:`redisutils.client.subscriptions`.

    Args:
        connection_pool: the client's.
        home: the node for all that is no shard channel; None for any, and another when it is lost.
        **kwargs: redis-py's.
    """

    def __init__(
        self, connection_pool: AdapterPool, home: Address | None = None, **kwargs: Any
    ) -> None:
        pool: Any = connection_pool  # redis-py's face, another class
        super().__init__(pool, **kwargs)
        self.connection: Any
        self._home = home

    async def connect(self) -> None:
        """Ensure that there is a connection."""
        if self.connection is None and self._home is not None:
            pool: Any = self.connection_pool
            self.connection = await pool.get_connection(home=self._home)
            self.connection.register_connect_callback(self.on_connect)
        connect: Callable[[], Awaitable[None]] = super().connect
        await connect()

    async def get_sharded_message(
        self,
        ignore_subscribe_messages: bool = False,
        timeout: float | None = 0.0,
        target_node: Any = None,
    ) -> Any:
        """redis-py's name for the messages of shard channels: here ``get_message()``, which gives
        them all in the order in which they come. ``target_node`` changes nothing."""
        return await self.get_message(ignore_subscribe_messages, timeout)
