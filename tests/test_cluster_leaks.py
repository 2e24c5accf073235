"""What is asked, opened and kept for a cluster: no more than is needed, and nothing in the end."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from redisutils import PoolClosed
from redisutils.testing import EmbeddedCluster, EmbeddedServer

from .clusters import cluster_pool, keys_of, slots_of, told
from .ours import clients_named, our_tasks, until
from .servers import client_of

NAME = "leaks"


@pytest.fixture(scope="module")
def session_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    """Another than the session's, since nodes join and leave."""
    with EmbeddedCluster(3, 0, server_kind) as cluster:
        yield cluster


def asked(cluster: EmbeddedCluster) -> int:
    """How often the nodes were asked for the map since their figures were reset."""
    stats = "".join(str(told(node, "INFO", "commandstats")) for node in cluster.nodes)
    found = re.findall(r"cluster\|(?:shards|slots)': {'calls': (\d+)", stats)
    return sum(map(int, found))


def connections(node: EmbeddedServer) -> int:
    """How many of ours a node has."""
    with client_of(node.url) as client:
        return len(clients_named(client, NAME))


async def test_the_map_is_asked_for_once_however_many_want_it(cluster: EmbeddedCluster) -> None:
    first, second, _ = cluster.primaries
    slots = slots_of(cluster, first)[:1000]
    async with cluster_pool(cluster) as pool:
        await asyncio.gather(*(pool.client.get(f"k:{number}") for number in range(500)))
        assert 1 <= asked(cluster) <= 3  # another node is asked when the first is slow
        before = asked(cluster)
        await cluster.move_slots(slots, second)
        await asyncio.gather(*(pool.client.get(f"k:{number}") for number in range(500)))
        await until(lambda: asked(cluster) > before, "the refresh")
        await asyncio.gather(*(pool.client.get(f"k:{number}") for number in range(500)))
        assert asked(cluster) <= before + 3
    await cluster.move_slots(slots, first)


async def test_connections_are_opened_when_they_are_needed(cluster: EmbeddedCluster) -> None:
    first, second, third = cluster.primaries
    seed = [(first.host, first.port)]
    async with cluster_pool(cluster, nodes=seed, client_name=NAME) as pool:
        own = keys_of(cluster, first)
        await asyncio.gather(*(pool.client.set(next(own), "v") for _ in range(50)))
        assert [connections(node) for node in cluster.primaries] == [1, 0, 0]
        await pool.client.set(next(keys_of(cluster, second)), "v")
        assert [connections(node) for node in (second, third)] == [1, 0]
    assert [connections(node) for node in cluster.primaries] == [0, 0, 0]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_connections_to_a_node_that_has_left_are_closed(cluster: EmbeddedCluster) -> None:
    """It lives on where it was, as a cluster of itself that owns nothing, and says CLUSTERDOWN."""
    first = cluster.primaries[0]
    key = next(keys_of(cluster, first))
    slot = cluster.slot_of(key)
    async with cluster_pool(cluster, client_name=NAME) as pool:
        joined = await cluster.add_primary()
        await cluster.move_slot(slot, joined)
        assert await pool.client.incr(key) == 1
        assert connections(joined) == 1
        await cluster.move_slot(slot, first)
        for node in cluster.nodes:
            if node is not joined:
                told(node, "CLUSTER", "FORGET", cluster.id_of(joined))
        told(joined, "CLUSTER", "RESET", "HARD")
        answers = await asyncio.gather(*(pool.client.incr(key) for _ in range(50)))
        assert answers == [*range(2, 52)]
        await until(lambda: not connections(joined), "their end", 10)
        await cluster.remove(joined)


Use = Callable[[Any, EmbeddedCluster], Coroutine[Any, Any, None]]


async def one_each(pool: Any, cluster: EmbeddedCluster) -> None:
    for primary in cluster.primaries:
        await pool.client.set(next(keys_of(cluster, primary)), "v")


async def nothing(pool: Any, cluster: EmbeddedCluster) -> None:
    """Closed before it was used."""


async def only_issued(pool: Any, cluster: EmbeddedCluster) -> None:
    """Closed before the map has come."""
    for number in range(100):
        asyncio.ensure_future(pool.client.get(f"k:{number}")).add_done_callback(
            lambda future: future.cancelled() or future.exception()
        )


async def blocked(pool: Any, cluster: EmbeddedCluster) -> None:
    waiting = asyncio.ensure_future(pool.client.blpop(["queue"], timeout=30))
    await until(lambda: told(cluster.node_for("queue"), "INFO", "clients")["blocked_clients"])
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def owned(pool: Any, cluster: EmbeddedCluster) -> None:
    lane = pool.lane("orders")
    await lane.set("k", "v")
    async with pool.client.pipeline() as pipe:
        await pipe.watch("k")
        pipe.multi()
        pipe.get("k")
        assert await pipe.execute() == [b"v"]


async def half_way(pool: Any, cluster: EmbeddedCluster) -> None:
    source, target = cluster.primaries[:2]
    key = next(keys_of(cluster, source, "count"))
    async with cluster.migrating(cluster.slot_of(key), target):
        await asyncio.gather(*(pool.client.incr(key) for _ in range(50)))
    await cluster.move_slot(cluster.slot_of(key), source)


@pytest.mark.parametrize("use", [one_each, nothing, only_issued, blocked, owned, half_way])
async def test_nothing_is_left_behind(cluster: EmbeddedCluster, use: Use) -> None:
    async with cluster_pool(cluster) as first:  # what is opened but once, by whomever
        await one_each(first, cluster)
    tasks, files = our_tasks(), len(os.listdir("/proc/self/fd"))
    async with cluster_pool(cluster, client_name=NAME) as pool:
        await use(pool, cluster)
    await until(lambda: our_tasks() == tasks, "the end of all tasks")
    await until(lambda: not any(map(connections, cluster.nodes)), "the end of all connections")
    await until(lambda: len(os.listdir("/proc/self/fd")) <= files, "the end of all sockets")
    with pytest.raises(PoolClosed):
        await pool.client.get("k")
