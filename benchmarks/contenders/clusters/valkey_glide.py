"""valkey-glide's cluster client."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from glide import (
    ClusterBatch,
    GlideClusterClient,
    GlideClusterClientConfiguration,
    Logger,
    LogLevel,
    NodeAddress,
)

from benchmarks.contenders.base import Batch
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.contenders.valkey_glide import credentials, fill


class GlideCluster(ClusterClient):
    """One client for all tasks. Its timeout and its limit of calls in flight are wider than their
    defaults for the reasons that ``benchmarks/contenders/valkey_glide.py`` gives."""

    async def open(self) -> None:
        Logger.set_logger_config(LogLevel.ERROR)
        self.client = await GlideClusterClient.create(
            GlideClusterClientConfiguration(
                [NodeAddress(node.host, node.port) for node in self.server.nodes],
                credentials=credentials(self.server),
                request_timeout=10_000,
                inflight_requests_limit=2_000,
            )
        )
        self.get = self.client.get
        self.set = self.client.set
        self.mget = self._mget

    async def close(self) -> None:
        await self.client.close()

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        commands = ClusterBatch(is_atomic=False)
        fill(commands, batch)
        return await self.client.exec(commands, raise_on_error=True) or ()

    async def _mget(self, keys: Sequence[str]) -> Any:
        return await self.client.mget(cast("list[str | bytes]", keys))
