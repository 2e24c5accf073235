"""What a caller issues for one key is executed in that order, on every road through a cluster."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from redisutils.testing import EmbeddedCluster
from redisutils.topology.cluster.cluster import Cluster

from .clusters import cluster_pool, other_primary
from .ours import until


async def test_a_pipeline_issued_before_the_map_is_known(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:

        async def piped(number: int) -> Any:
            pipe: Any = pool.client.pipeline(transaction=False)
            for key in (f"a:{number}", f"b:{number}", f"a:{number}"):
                pipe.rpush(key, 1, 2)
                pipe.incr(f"count:{number}")
            return await pipe.execute()

        answers = await asyncio.gather(*(piped(number) for number in range(20)))
        assert answers == [[2, 1, 2, 2, 4, 3]] * 20


async def test_single_commands_issued_before_the_map_is_known(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        calls = [pool.client.rpush(f"list:{at % 10}", at // 10) for at in range(200)]
        assert await asyncio.gather(*calls) == [1 + at // 10 for at in range(200)]


async def test_pipelines_over_a_slot_that_moves(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("{o}"), other_primary(cluster, "{o}")
    slot = cluster.slot_of("{o}")
    async with cluster_pool(cluster) as pool:
        ended = asyncio.Event()

        async def work(number: int) -> int:
            count = 0
            while not ended.is_set():
                pipe: Any = pool.client.pipeline(transaction=False)
                for _ in range(10):
                    pipe.incr(f"{{o}}{number}")
                    pipe.incr(f"elsewhere:{number}")
                answers = await pipe.execute()
                assert answers[::2] == answers[1::2] == [*range(count + 1, count + 11)]
                count += 10
            return count

        working = [asyncio.create_task(work(number)) for number in range(4)]
        for to in (target, source) * 2:
            async with cluster.migrating(slot, to) as migration:
                await migration.move_keys(*(f"{{o}}{number}" for number in range(0, 10, 2)))
                await pool.client.incr("{o}mark")
        ended.set()
        assert min(await asyncio.gather(*working)) > 0


async def test_what_waited_for_the_map_in_great_numbers(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        calls = [pool.client.incr("count") for _ in range(2000)]
        assert await asyncio.gather(*calls) == [*range(1, 2001)]


async def test_what_is_on_its_way_to_the_old_owner_comes_first(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("{w}"), other_primary(cluster, "{w}")
    slot = cluster.slot_of("{w}")
    async with cluster.proxied() as network, cluster_pool(cluster, network) as pool:
        server = cast(Cluster, pool.server)
        assert await pool.client.get("{w}") is None
        network.proxies[source].to_server.latency = 0.4
        first = [asyncio.ensure_future(pool.client.rpush("{w}", at)) for at in range(10)]
        await cluster.move_slot(slot, target)
        server.refresher.want()
        port = network.proxies[target].port
        await until(lambda: server.owners[slot].address.port == port, "the new map")
        second = [asyncio.ensure_future(pool.client.rpush("{w}", at)) for at in range(10, 20)]
        assert await asyncio.gather(*first, *second) == [*range(1, 21)]
    await cluster.move_slot(slot, source)
