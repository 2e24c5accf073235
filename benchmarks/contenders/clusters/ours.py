"""redisutils, in a cluster and against one server of the same kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.cluster.routing import by_itself, gets
from benchmarks.contenders.base import Batch
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.contenders.redis_family import piped
from redisutils import create_redis_pool


class _Redisutils(ClusterClient):
    """A pool with everything at its default but the places and the password."""

    def places(self) -> dict[str, Any]:
        """The settings that say where the servers are."""
        raise NotImplementedError

    async def open(self) -> None:
        settings = self.places()
        if self.server.username is not None:
            settings["username"] = self.server.username
        if self.server.password is not None:
            settings["password"] = self.server.password
        self.pool = await create_redis_pool(**settings)
        self.client = client = self.pool.client
        self.get = client.get
        self.set = client.set
        self.mget = client.mget

    async def close(self) -> None:
        await self.pool.close()

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        return await piped(self.client, batch)


class RedisutilsCluster(_Redisutils):
    """``REDIS_MODE=cluster``."""

    def places(self) -> dict[str, Any]:
        nodes = [f"{node.host}:{node.port}" for node in self.server.nodes]
        return {"mode": "cluster", "nodes": nodes}

    async def routing(self) -> float:
        return (await by_itself(self.pool, {"GET": gets()}))["GET"]


class RedisutilsStandalone(_Redisutils):
    """The same program with one server."""

    def places(self) -> dict[str, Any]:
        return {"host": self.server.host, "port": self.server.port}
