"""coredis' RedisCluster."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import coredis
from coredis.connection import TCPLocation

from benchmarks.contenders.base import Batch
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.contenders.coredis_client import piped


class CoredisCluster(ClusterClient):
    """As it comes, but for the check that all slots are covered, which an outage would fail."""

    async def open(self) -> None:
        self.stack = AsyncExitStack()
        self.client = await self.stack.enter_async_context(
            coredis.RedisCluster(
                startup_nodes=[TCPLocation(node.host, node.port) for node in self.server.nodes],
                username=self.server.username,
                password=self.server.password,
                skip_full_coverage_check=True,
            )
        )
        self.get = self.client.get
        self.set = self.client.set
        self.mget = self.client.mget

    async def close(self) -> None:
        await self.stack.aclose()

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        return await piped(self.client, batch)
