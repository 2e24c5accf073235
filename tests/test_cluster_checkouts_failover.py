"""Connections of one's own in a cluster whose nodes have replicas: what WAIT tells of, and what is
done when a primary dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import ConnectFailed, CrossSlot, NotSharable, RedisPool
from redisutils.testing import EmbeddedCluster

from .clusters import cluster_pool, emptied, keys_of, told


@pytest.fixture(scope="module")
def own_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, server_kind, require_full_coverage=False) as cluster:
        yield cluster


@pytest.fixture
async def guarded(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Three primaries with a replica each, empty and in sync. Tests leave it whole."""
    return await emptied(own_cluster)


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


# -- a primary that dies ---------------------------------------------------------------------


@asynccontextmanager
async def dying(cluster: EmbeddedCluster, key: str, *, frozen: bool = False) -> AsyncIterator[None]:
    """The key's owner is dead, or does not answer, from the beginning."""
    dead = cluster.node_for(key)
    await (dead.pause() if frozen else dead.kill())
    try:
        yield
    finally:
        await cluster.wait_until_ok()
        await (dead.resume() if frozen else dead.start())
        await cluster.wait_until_ok()
        await cluster.wait_in_sync()


async def test_what_takes_a_connection_waits_for_the_heir(guarded: EmbeddedCluster) -> None:
    mine, foreign, _ = one_of_each(guarded)
    async with cluster_pool(guarded, command_timeout=20, circuit_breaker_seconds=0) as pool:
        old = f"{guarded.node_for(mine).host}:{guarded.node_for(mine).port}"
        client: Any = pool.client
        await client.set(mine, 0)
        roams = await own(pool, key=foreign)

        async def written(key: str, timeout: float | None) -> str:
            async with own(pool, timeout, key=key) as conn:
                await conn.incr(mine)
                return str(conn.node)

        async def increased() -> None:
            await client.transaction(lambda pipe: pipe.multi() or pipe.incr(mine), mine)

        async with dying(guarded, mine):
            began = monotonic()
            with pytest.raises(ConnectFailed, match=f"connect to {old}"):
                await own(pool, 0, key=mine)  # to try once
            with pytest.raises(ConnectFailed, match=f"connect to {old}"):
                await own(pool, 5, node=old)  # nobody can take its place
            async with own(pool) as conn:  # nor need anybody: any other will do
                assert conn.node != old
            assert monotonic() - began < 2
            popping = asyncio.ensure_future(client.blpop([f"list:{{{mine}}}"], 60))
            async with client.pubsub() as listener:
                ended = await asyncio.gather(
                    listener.ssubscribe(mine),
                    roams.incr(mine),
                    increased(),
                    *(written(mine, timeout) for timeout in (None, 20.0)),
                )
            assert old not in ended
            assert int(await client.get(mine)) == 4
            await client.rpush(f"list:{{{mine}}}", "v")
            assert (await popping)[1] == b"v"
        await roams.aclose()


async def test_an_owner_that_hangs_is_left_for_its_heir(guarded: EmbeddedCluster) -> None:
    mine = one_of_each(guarded)[0]
    async with cluster_pool(guarded, circuit_breaker_seconds=0) as pool:
        await pool.client.set(mine, 0)
        held = await own(pool, key=mine)
        async with dying(guarded, mine, frozen=True), own(pool, 20, key=mine) as conn:
            assert await conn.incr(mine) == 1
            assert conn.node != held.node
        held.release()


async def test_a_budget_ends_before_the_failover_does(guarded: EmbeddedCluster) -> None:
    mine = one_of_each(guarded)[0]
    async with cluster_pool(guarded, circuit_breaker_seconds=0) as pool:
        await pool.client.set(mine, 0)
        async with dying(guarded, mine):
            with pytest.raises(ConnectFailed, match=r"; tried \d+ times in 0\."):
                await own(pool, 0.3, key=mine)


# -- replicas ------------------------------------------------------------------------------------


async def test_a_replica_that_was_asked_for_answers_after_readonly(
    guarded: EmbeddedCluster,
) -> None:
    mine = one_of_each(guarded)[0]
    (replica,) = guarded.replicas_of(guarded.node_for(mine))
    async with cluster_pool(guarded) as pool:
        await pool.client.set(mine, "v")
        await guarded.wait_in_sync()
        async with own(pool, node=(replica.host, replica.port)) as conn:
            with pytest.raises(redis.ResponseError, match=r"^MOVED \d+ .*READONLY"):
                await conn.get(mine)
            await conn.execute("READONLY")
            assert await conn.get(mine) == b"v"


# -- pipelines -------------------------------------------------------------------------------


async def test_a_watching_pipeline_stays_in_its_slot(guarded: EmbeddedCluster) -> None:
    mine, foreign, _ = one_of_each(guarded)
    async with cluster_pool(guarded) as pool, pool.client.pipeline() as pipe:
        commands: Any = pipe
        await commands.watch(mine)
        for attempt in (commands.get, commands.watch):
            with pytest.raises(CrossSlot, match=f"'{foreign}' lives in slot"):
                await attempt(foreign)
        commands.multi()
        commands.set(mine, 1)
        commands.set(foreign, 1)
        with pytest.raises(CrossSlot):
            await commands.execute()
        assert told(guarded.node_for(mine), "EXISTS", mine) == 0
        await commands.watch(foreign)
        assert await commands.get(foreign) is None


async def test_a_watch_follows_its_slot(guarded: EmbeddedCluster) -> None:
    mine, foreign, _ = one_of_each(guarded)
    home, away = guarded.node_for(mine), guarded.node_for(foreign)
    async with cluster_pool(guarded) as pool:
        client: Any = pool.client
        await client.set(mine, 1)
        for target in (away, home):
            await guarded.move_slot(guarded.slot_of(mine), target)
            await client.transaction(lambda pipe: pipe.multi() or pipe.incr(mine), mine)
        assert await client.get(mine) == b"3"


async def test_what_no_node_could_do_stops_the_whole_pipeline(guarded: EmbeddedCluster) -> None:
    mine, foreign, _ = one_of_each(guarded)
    async with cluster_pool(guarded) as pool:
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.set(mine, 1)
        pipe.msetnx({mine: 2, foreign: 2})
        with pytest.raises(CrossSlot, match="MSETNX"):
            await pipe.execute(raise_on_error=False)
        assert await pool.client.get(mine) is None
