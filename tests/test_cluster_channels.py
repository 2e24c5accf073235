"""Plain channels of a cluster: what is published on one arrives in the order of publishing."""

from __future__ import annotations

import asyncio

from redisutils.testing import EmbeddedCluster

from .clusters import cluster_pool
from .servers import client_of


async def test_a_channel_keeps_its_order(cluster: EmbeddedCluster) -> None:
    """Each node passes on what it is given in that order; by several nodes it could change."""
    count = 300
    names = ["prices:ES", "prices:NQ"]
    with client_of(cluster.primaries[0].url) as elsewhere, elsewhere.pubsub() as listening:
        listening.subscribe(*names)
        for _ in names:
            listening.get_message(timeout=5)
        async with cluster_pool(cluster) as pool:
            calls = [pool.client.publish(name, n) for n in range(count) for name in names]
            await asyncio.gather(*calls)

        def heard() -> dict[str, list[int]]:
            found: dict[str, list[int]] = {name: [] for name in names}
            for _ in range(count * len(names)):
                message = listening.get_message(timeout=5)
                assert message is not None
                found[message["channel"]].append(int(message["data"]))
            return found

        found = await asyncio.to_thread(heard)
    assert found == {name: list(range(count)) for name in names}
