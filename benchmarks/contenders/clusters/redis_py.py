"""redis-py's RedisCluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from redis.asyncio import RedisCluster
from redis.asyncio.cluster import ClusterNode

from benchmarks.contenders.base import Batch
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.contenders.redis_family import piped


class RedisPyCluster(ClusterClient):
    """As it comes: up to 100 connections to each node, and more calls than that wait."""

    async def open(self) -> None:
        self.client = await RedisCluster(
            startup_nodes=[ClusterNode(node.host, node.port) for node in self.server.nodes],
            username=self.server.username,
            password=self.server.password,
            # Of each node. With fewer than there are callers, calls fail.
            max_connections=max(100, self.tasks + 1),
            # It refuses all keys otherwise when one node is gone.
            require_full_coverage=False,
        )
        self.get = self.client.get
        self.set = self.client.set
        self.mget = self.client.mget_nonatomic

    async def close(self) -> None:
        await self.client.aclose()

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        return await piped(self.client, batch)
