"""Commands with keys of several slots: split where that is possible, refused before sending where
it is not. Commands without keys ask whom they concern."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import WatchError

from redisutils import CrossSlot, Outcome
from redisutils.testing import EmbeddedCluster

from .clusters import cluster_pool, keys_of, told


def spread(cluster: EmbeddedCluster, number: int = 4) -> list[str]:
    """Keys on each of the primaries."""
    keys = []
    for primary in cluster.primaries:
        own = keys_of(cluster, primary, "spread")
        keys += [next(own) for _ in range(number)]
    return keys


async def test_what_can_be_split_is_put_together_again(cluster: EmbeddedCluster) -> None:
    keys = spread(cluster)
    async with cluster_pool(cluster) as pool:
        client: Any = pool.client
        assert await client.mset({key: f"of {key}" for key in keys}) is True
        assert await client.mget(*keys, "nothing", keys[0]) == [
            *(f"of {key}".encode() for key in keys),
            None,
            f"of {keys[0]}".encode(),
        ]
        assert await client.exists(*keys, keys[0], "nothing") == len(keys) + 1
        assert await client.touch(*keys, "nothing") == len(keys)
        assert await client.dbsize() == len(keys)
        assert sorted(await client.keys("spread:*")) == sorted(key.encode() for key in keys)
        assert await client.unlink(*keys[:3], "nothing") == 3
        assert await client.delete(*keys) == len(keys) - 3
        assert await client.flushall() is True
    for primary in cluster.primaries:
        assert told(primary, "DBSIZE") == 0


async def test_scan_finds_the_keys_of_all_nodes(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        keys = {f"scan:{number}" for number in range(500)}
        await pool.client.mset(dict.fromkeys(keys, "v"))
        found = [key async for key in pool.client.scan_iter("scan:*", count=50)]
        assert sorted(found) == sorted(key.encode() for key in keys)


async def test_a_script_is_known_to_all_nodes(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        client: Any = pool.client
        digest = await client.script_load("return redis.call('INCR', KEYS[1])")
        for key in spread(cluster, 1):
            assert await client.evalsha(digest, 1, key) == 1
        assert await client.script_exists(digest) == [True]


CROSSED: dict[str, Any] = {
    "a script": lambda client, a, b: client.eval("return 1", 2, a, b),
    "RENAME": lambda client, a, b: client.rename(a, b),
    "SUNION": lambda client, a, b: client.sunion([a, b]),
    "MSETNX": lambda client, a, b: client.msetnx({a: 1, b: 2}),
    "LMOVE": lambda client, a, b: client.lmove(a, b),
    "BLPOP": lambda client, a, b: client.blpop([a, b], timeout=1),
}


@pytest.mark.parametrize("what", CROSSED)
async def test_keys_of_several_slots_are_refused_before_sending(
    cluster: EmbeddedCluster, what: str
) -> None:
    one, other = spread(cluster, 1)[:2]
    async with cluster_pool(cluster) as pool:
        with pytest.raises(CrossSlot) as caught:
            await CROSSED[what](pool.client, one, other)
    assert caught.value.outcome is Outcome.NOT_SENT
    assert one in str(caught.value)
    assert other in str(caught.value)
    for primary in cluster.primaries:
        stats = told(primary, "INFO", "errorstats")
        assert "errorstat_CROSSSLOT" not in stats


async def test_a_transaction_over_several_slots_is_refused_before_sending(
    cluster: EmbeddedCluster,
) -> None:
    one, other = spread(cluster, 1)[:2]
    async with cluster_pool(cluster) as pool:
        pipe: Any = pool.client.pipeline(transaction=True)
        pipe.set(one, 1)
        pipe.set(other, 1)
        with pytest.raises(CrossSlot) as caught:
            await pipe.execute()
        assert caught.value.outcome is Outcome.NOT_SENT
        assert one in str(caught.value)
        assert other in str(caught.value)
        assert await pool.client.exists(one, other) == 0


async def test_a_pipeline_over_several_slots_is_no_transaction(cluster: EmbeddedCluster) -> None:
    keys = spread(cluster)
    async with cluster_pool(cluster) as pool:
        pipe: Any = pool.client.pipeline(transaction=False)
        for key in keys:
            pipe.set(key, key)
            pipe.lpush(key, 1)  # WRONGTYPE
        pipe.mget(keys)
        pipe.dbsize()
        answers = await pipe.execute(raise_on_error=False)
        assert answers[0 : 2 * len(keys) : 2] == [True] * len(keys)
        assert all("WRONGTYPE" in str(one) for one in answers[1 : 2 * len(keys) : 2])
        assert answers[-2:] == [[key.encode() for key in keys], len(keys)]


async def test_watch_sees_what_others_write(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for key in spread(cluster, 1):
            await pool.client.set(key, 1)
            async with pool.client.pipeline() as pipe:
                work: Any = pipe
                await work.watch(key)
                assert await work.get(key) == b"1"
                work.multi()
                work.incr(key)
                await pool.client.set(key, 7)
                with pytest.raises(WatchError):
                    await work.execute()
                await work.watch(key)
                work.multi()
                work.incr(key)
                assert await work.execute() == [8]


async def test_who_waits_on_each_node_is_served(cluster: EmbeddedCluster) -> None:
    keys = spread(cluster, 1)
    async with cluster_pool(cluster) as pool:
        waiting = [asyncio.ensure_future(pool.client.blpop([key], timeout=5)) for key in keys]
        for key in reversed(keys):
            await pool.client.rpush(key, key)
        served = await asyncio.gather(*waiting)
        assert served == [(key.encode(), key.encode()) for key in keys]
