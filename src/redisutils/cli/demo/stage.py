"""Private servers for ``--mode``: a cluster, or a primary with replicas that sentinels watch."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote

from redisutils import RedisConfig
from redisutils.secret import Secret
from redisutils.testing import EmbeddedCluster, EmbeddedSentinels, EmbeddedServer

__all__ = ["Mode", "Stage", "staged"]

Mode = Literal["standalone", "cluster", "sentinel"]

PRIMARIES: Final = 3


@dataclass
class Stage:
    """Servers of our own."""

    group: EmbeddedCluster | EmbeddedSentinels
    config: RedisConfig
    """How to reach them."""
    words: str
    """What they are."""
    node_timeout: float
    """Seconds of silence after which the others take one for dead."""

    def owner(self, key: str) -> EmbeddedServer:
        """The primary that holds this key, as it was when they last agreed."""
        if isinstance(self.group, EmbeddedCluster):
            return self.group.node_for(key)
        return self.group.primary

    def successors(self, primary: EmbeddedServer) -> list[EmbeddedServer]:
        """Those of which one takes over from it."""
        if isinstance(self.group, EmbeddedCluster):
            return self.group.replicas_of(primary)
        return list(self.group.replicas)

    def told(self, server: EmbeddedServer) -> str:
        """It, in words."""
        return f"{server.host}:{server.port}"


@asynccontextmanager
async def staged(mode: Literal["cluster", "sentinel"]) -> AsyncIterator[Stage]:
    """Start them, and end them.

    Raises:
        ConfigError: there is no server on this machine.
        ConnectFailed: they have not come up.
    """
    if mode == "cluster":
        # A shard that is down is then no reason for the others to refuse commands.
        cluster = EmbeddedCluster(PRIMARIES, 1, require_full_coverage=False)
        async with cluster:
            await cluster.wait_in_sync()
            nodes = ",".join(f"{node.host}:{node.port}" for node in cluster.primaries)
            password = cluster.primaries[0].password
            url = f"redis+cluster://:{quote(password, safe='')}@{nodes}"
            words = f"embedded cluster of {PRIMARIES} primaries with a replica each"
            yield Stage(cluster, RedisConfig(url=Secret(url)), words, node_timeout=1.0)
        return
    sentinels = EmbeddedSentinels()
    async with sentinels:
        await sentinels.wait_in_sync()
        nodes = ",".join(f"{host}:{port}" for host, port in sentinels.addresses)
        password = quote(sentinels.primary.password, safe="")
        url = f"redis+sentinel://:{password}@{nodes}/{sentinels.master_name}"
        config = RedisConfig(url=Secret(url), sentinel_password=sentinels.sentinel_password)
        words = f"embedded primary, {len(sentinels.replicas)} replicas, "
        words += f"{len(sentinels.sentinels)} sentinels"
        yield Stage(sentinels, config, words, node_timeout=1.0)
