"""Scripts, functions, locks and commands for all nodes, as redis-py's users call them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError

from redisutils import CrossSlot, Outcome, outcome_of
from redisutils.testing import EmbeddedCluster, EmbeddedServer

from .clusters import cluster_pool, keys_of, told

INCR = "return redis.call('INCR', KEYS[1])"


def a_key_of_each(cluster: EmbeddedCluster) -> list[str]:
    return [next(keys_of(cluster, node)) for node in cluster.primaries]


def has(node: EmbeddedServer, script: Any) -> bool:
    return bool(told(node, "SCRIPT", "EXISTS", script.sha)[0])


async def test_a_script_is_loaded_everywhere_when_it_is_first_used(
    cluster: EmbeddedCluster,
) -> None:
    async with cluster_pool(cluster) as pool:
        script = pool.client.register_script(INCR)
        first, *others = a_key_of_each(cluster)
        assert await script(keys=[first]) == 1
        assert all(has(node, script) for node in cluster.primaries)
        assert [await script(keys=[key]) for key in others] == [1, 1]


async def test_a_node_that_has_lost_a_script_is_given_it_again(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        script = pool.client.register_script(INCR)
        keys = a_key_of_each(cluster)
        await script(keys=[keys[0]])
        for key in keys:
            node = cluster.node_for(key)
            told(node, "SCRIPT", "FLUSH")
            calls = await asyncio.gather(*(script(keys=[key]) for _ in range(10)))
            assert len(set(calls)) == 10  # none was run twice
            assert has(node, script)
        with pytest.raises(NoScriptError) as failure:
            await pool.client.evalsha("0" * 40, 1, keys[0])
        assert outcome_of(failure.value) is Outcome.REJECTED


@pytest.mark.parametrize("transaction", [False, True])
async def test_scripts_in_pipelines(cluster: EmbeddedCluster, transaction: bool) -> None:
    async with cluster_pool(cluster) as pool:
        script = pool.client.register_script(INCR)
        for key in a_key_of_each(cluster):
            pipe = pool.client.pipeline(transaction=transaction)
            await script(keys=[key], client=pipe)
            pipe.get(key)
            told(cluster.node_for(key), "SCRIPT", "FLUSH")
            assert await pipe.execute() == [1, b"1"]


async def test_a_script_on_a_connection_of_ones_own(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        script = pool.client.register_script(INCR)
        for key in a_key_of_each(cluster):
            async with pool.get(key=key) as conn:
                assert await script(keys=[key], client=conn) == 1
                told(cluster.node_for(key), "SCRIPT", "FLUSH")
                assert await script(keys=[key], client=conn) == 2


async def test_keys_of_several_slots_are_refused_before_anything_is_sent(
    cluster: EmbeddedCluster,
) -> None:
    async with cluster_pool(cluster) as pool:
        first, second, _ = a_key_of_each(cluster)
        with pytest.raises(CrossSlot, match=f"'{first}'.*'{second}'"):
            await pool.client.eval(INCR, 2, first, second)
        with pytest.raises(CrossSlot):
            await pool.client.register_script(INCR)(keys=[first, second])
        assert told(cluster.primaries[0], "EXISTS", first) == 0


async def test_functions(cluster: EmbeddedCluster) -> None:
    code = "#!lua name=mine\nredis.register_function('up', function(keys) {} end)".replace(
        "{}", "return redis.call('INCR', keys[1])"
    )
    async with cluster_pool(cluster) as pool:
        client: Any = pool.client
        assert await client.function_load(code, replace=True) == b"mine"
        for node in cluster.primaries:
            assert told(node, "FUNCTION", "LIST")
        assert [await client.fcall("up", 1, key) for key in a_key_of_each(cluster)] == [1, 1, 1]
        assert await client.function_delete("mine")
        with pytest.raises(redis.ResponseError, match="Function not found"):
            await client.fcall("up", 1, "k")


async def test_locks(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        client = pool.client
        for key in a_key_of_each(cluster):
            inside = most = 0

            async def work(key: str = key) -> None:
                nonlocal inside, most
                async with client.lock(f"lock:{{{key}}}", timeout=10, sleep=0.001):
                    inside += 1
                    most = max(most, inside)
                    await client.incr(key)
                    inside -= 1

            await asyncio.gather(*(work() for _ in range(5)))
            assert (most, await client.get(key)) == (1, b"5")
            lock = client.lock(f"lock:{{{key}}}", timeout=10)
            assert await lock.acquire()
            assert await lock.extend(5)
            assert await lock.owned()
            await client.set(f"lock:{{{key}}}", "stolen")
            with pytest.raises(LockNotOwnedError):
                await lock.release()
            with pytest.raises(LockError, match="unlocked"):
                await lock.release()


async def test_commands_of_all_nodes(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        client = pool.client
        keys = [f"k{number}" for number in range(100)]
        assert await client.mset(dict.fromkeys(keys, 1))
        assert await client.dbsize() == 100
        assert sorted(await client.keys("k*")) == sorted(key.encode() for key in keys)
        assert await client.randomkey() in await client.keys()
        assert {key async for key in client.scan_iter("k1*", count=7)} == {
            key.encode() for key in keys if key.startswith("k1")
        }
        assert (await client.info("server"))["tcp_port"] in {node.port for node in cluster.nodes}
        sha = await client.script_load("return 1")
        assert await client.script_exists(sha, "0" * 40) == [True, False]
        told(cluster.primaries[1], "SCRIPT", "FLUSH")
        assert await client.script_exists(sha) == [False]
        assert await client.flushall()
        assert [told(node, "DBSIZE") for node in cluster.primaries] == [0, 0, 0]


async def test_a_client_made_by_a_library_works_too(cluster: EmbeddedCluster) -> None:
    """Libraries make clients of a pool that they are given, and of redis-py's parts."""
    async with cluster_pool(cluster) as pool:
        client = pool.client
        again = type(client)(connection_pool=client.connection_pool)
        assert await again.set("k", "v")
        pool_: Any = client.connection_pool
        pubsub: Any = redis.asyncio.client.PubSub(pool_)
        await pubsub.subscribe("c")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        await client.publish("c", "m")
        assert (await pubsub.get_message(timeout=5))["data"] == b"m"
        await pubsub.aclose()
        async with client.monitor() as monitor:
            assert "OK" not in repr(monitor)
        await again.aclose()
        assert await client.get("k") == b"v"
