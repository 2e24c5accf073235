"""Programs that end by cancelling all tasks of their loop cancel ours in the background, too. Where
the loop goes on all the same, so do they; and nothing hangs."""

from __future__ import annotations

import asyncio
import re
from typing import Any

from redisutils import RedisPool
from redisutils.connection.packing import pack
from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.topology.cluster.cluster import Cluster

from .clusters import cluster_pool, told
from .ours import our_tasks, pool_at, until


def others() -> set[asyncio.Task[Any]]:
    return our_tasks() - {task for task in [asyncio.current_task()] if task is not None}


async def cancel_all() -> int:
    """Cancel every task but this one, and wait until they have ended. Returns how many."""
    tasks = others()
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
    return len(tasks)


async def closed_at_once(pool: RedisPool) -> None:
    async with asyncio.timeout(10):
        await cancel_all()
        await pool.close()
    assert not others()


def pings(server: EmbeddedServer) -> int:
    found = re.search(r"cmdstat_ping': {'calls': (\d+)", str(told(server, "INFO", "commandstats")))
    return int(found[1]) if found else 0


async def test_idle_connections_are_looked_after_again(server: EmbeddedServer) -> None:
    async with pool_at(server, health_check_interval=0.1) as pool:
        assert await pool.client.set("k", "v") is True
        assert await cancel_all() >= 1
        assert await pool.client.get("k") == b"v"
        before = pings(server)
        await until(lambda: pings(server) > before, "another look")
        await closed_at_once(pool)


async def test_the_map_is_asked_for_again(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        assert await pool.client.set("k", "v") is True
        assert isinstance(pool.server, Cluster)
        refresher = pool.server.refresher
        rounds = refresher.rounds
        assert await cancel_all() >= 1
        await until(lambda: refresher.rounds > rounds, "another map")
        assert await pool.client.get("k") == b"v"
        await closed_at_once(pool)


async def test_what_waits_for_the_map_gets_it_all_the_same(cluster: EmbeddedCluster) -> None:
    async with cluster.proxied() as network, cluster_pool(cluster, network) as pool:
        for proxy in network.proxies.values():
            proxy.stall()
        assert isinstance(pool.server, Cluster)
        lane = pool.server.lane()
        answer = lane.submit(pack(("GET", "k")), False, 20.0)
        await until(lambda: lane.holds == 1)
        assert await cancel_all() >= 1
        network.restore()
        assert await answer is None
        await closed_at_once(pool)
