"""Connections of one's own in a cluster whose nodes have replicas: what WAIT tells of, and what is
done when a primary dies."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from redisutils import CrossSlot, NotSharable, RedisPool
from redisutils.testing import EmbeddedCluster

from .clusters import cluster_pool, empty, keys_of


@pytest.fixture(scope="module")
def own_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, server_kind, require_full_coverage=False) as cluster:
        yield cluster


@pytest.fixture
async def guarded(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Three primaries with a replica each, empty and in sync. Tests leave it whole."""
    empty(own_cluster)
    await own_cluster.wait_until_ok()
    await own_cluster.wait_in_sync()
    return own_cluster


def own(pool: RedisPool, *args: Any, **places: Any) -> Any:
    """``pool.get()``, whose methods redis-py types for its blocking client, too."""
    return pool.get(*args, **places)


def one_of_each(cluster: EmbeddedCluster) -> list[str]:
    """A key of each primary."""
    return [next(keys_of(cluster, node)) for node in cluster.primaries]


# -- WAIT ------------------------------------------------------------------------------------


@asynccontextmanager
async def behind(cluster: EmbeddedCluster, key: str) -> AsyncIterator[None]:
    """The only replica of the key's owner hears nothing meanwhile."""
    (replica,) = cluster.replicas_of(cluster.node_for(key))
    await replica.pause()
    try:
        yield
    finally:
        await replica.resume()


async def test_wait_does_not_tell_of_less_than_was_written(guarded: EmbeddedCluster) -> None:
    mine, foreign, _ = one_of_each(guarded)
    async with cluster_pool(guarded) as pool, behind(guarded, mine):
        async with own(pool, key=mine) as conn:
            await conn.set(mine, 1)
            assert await conn.wait(1, 50) == 0
            await conn.set(foreign, 1)
            for _ in range(2):
                with pytest.raises(CrossSlot, match=r"WAIT is answered for .*pool\.get\(key=") as e:
                    await conn.execute("WAIT", 1, 50)
                assert f":{guarded.node_for(mine).port}" in str(e.value)
            with pytest.raises(CrossSlot, match="WAIT"):
                await conn.pipeline(transaction=False).set(foreign, 2).wait(1, 50).execute()
            # Nor over another connection to the same node, which has written nothing.
            await conn.get(foreign)
            held = await own(pool, key=mine)
            await conn.get(mine)
            with pytest.raises(CrossSlot, match="WAIT"):
                await conn.execute("WAIT", 1, 50)
            # With a write of its own that is later it tells of all before it at this node.
            await held.aclose()
        async with own(pool) as conn:
            await conn.pipeline(transaction=False).wait(1, 0).set(foreign, 1).execute()
            await conn.get(mine)
            with pytest.raises(CrossSlot, match="WAIT"):
                await conn.wait(1, 50)
            await conn.set(foreign, 1)
            assert await conn.wait(1, 2000) == 1
            await conn.set(mine, 1)
            assert await conn.wait(1, 50) == 0
            assert await conn.wait(0, 50) == 0
            await conn.get(foreign)
            with pytest.raises(CrossSlot, match="WAITAOF"):
                await conn.waitaof(0, 0, 50)


async def test_wait_holds_nobody(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool, own(pool) as conn:
        for key in one_of_each(guarded) * 2:
            await conn.set(key, 1)
            assert await conn.wait(1, 2000) == 1
            piped = conn.pipeline(transaction=False).incr(key).wait(1, 2000)
            assert (await piped.execute())[1] == 1
            assert not conn._lease.item.tainted
        with pytest.raises(NotSharable, match=r"pool\.get\(key="):
            await pool.client.wait(1, 10)
