"""Slots move under load: no caller sees it, nothing is doubled, and each key keeps its order."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from redisutils.testing import EmbeddedCluster
from redisutils.topology.cluster.cluster import Cluster

from .cluster_load import Load
from .clusters import cluster_pool, other_primary, slots_of, told
from .ours import until

CALLERS = 50
TURNS = 6


async def test_a_slot_that_is_half_way_is_nobodys_concern(cluster: EmbeddedCluster) -> None:
    """Callers of one slot: on keys that have moved, that have not, and that are not there yet."""
    source, target = cluster.node_for("{m}"), other_primary(cluster, "{m}")
    async with cluster_pool(cluster) as pool:
        client = pool.client
        moved = [f"{{m}}moved:{number}" for number in range(10)]
        stays = [f"{{m}}stays:{number}" for number in range(10)]
        await client.mset(dict.fromkeys([*moved, *stays], 0))
        made: list[str] = []

        async def call(number: int) -> None:
            own = f"{{m}}own:{number}"
            for turn in range(TURNS):
                fresh = f"{{m}}new:{number}:{turn}"
                old = (moved, stays)[number % 2][number % 10]
                ours = client.rpush(own, turn), client.incr(fresh), client.incr(fresh)
                length, first, second, *_ = await asyncio.gather(*ours, client.incr(old))
                assert (length, first, second) == (turn + 1, 1, 2)
                made.append(fresh)

        async with cluster.migrating(cluster.slot_of("{m}"), target) as migration:
            await migration.move_keys(*moved)
            await asyncio.gather(*(call(number) for number in range(CALLERS)))
            assert told(target, "CLUSTER", "COUNTKEYSINSLOT", cluster.slot_of("{m}")) > CALLERS
        for number in range(CALLERS):
            assert await client.lrange(f"{{m}}own:{number}", 0, -1) == [
                str(turn).encode() for turn in range(TURNS)
            ]
        counts = [int(count or 0) for count in await client.mget([*moved, *stays])]
        assert sum(counts) == CALLERS * TURNS
        assert await client.mget(made) == [b"2"] * len(made)
    await cluster.move_slot(cluster.slot_of("{m}"), source)


async def test_what_was_issued_at_once_stays_in_order_on_a_half_moved_slot(
    cluster: EmbeddedCluster,
) -> None:
    source, target = cluster.node_for("{m}"), other_primary(cluster, "{m}")
    async with cluster_pool(cluster) as pool:
        async with cluster.migrating(cluster.slot_of("{m}"), target):
            replies = await asyncio.gather(
                *(pool.client.rpush("{m}new", number) for number in range(500))
            )
            assert replies == list(range(1, 501))
        answers = await asyncio.gather(
            *(pool.client.rpush("{m}new", number) for number in range(500, 1000))
        )
        assert answers == list(range(501, 1001))
        there = await pool.client.lrange("{m}new", 0, -1)
        assert [int(one) for one in there] == list(range(1000))
    await cluster.move_slot(cluster.slot_of("{m}"), source)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_thousands_of_keys_move_back_and_forth_under_load(cluster: EmbeddedCluster) -> None:
    first, second, _ = cluster.primaries
    slots = slots_of(cluster, first)[:600]
    async with cluster_pool(cluster) as pool:
        pipe: Any = pool.client.pipeline(transaction=False)
        for number in range(3000):
            pipe.set(f"filler:{number}", number)
        await pipe.execute()
        async with Load(pool.client, CALLERS) as load:
            for _ in range(2):
                await cluster.move_slots(slots, second)
                await cluster.move_slots(slots, first)
            await load.goes_on(5)
        await load.audit()
    assert load.complaints == []
    assert load.errors == []


async def test_transactions_and_scripts_move_with_their_slot(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("{t}"), other_primary(cluster, "{t}")
    slot = cluster.slot_of("{t}")
    async with cluster_pool(cluster) as pool:
        client: Any = pool.client
        script = client.register_script(
            "redis.call('INCR', KEYS[2]); return redis.call('INCRBY', KEYS[1], ARGV[1])"
        )
        ended = asyncio.Event()
        counts = [0] * 10

        async def call(number: int) -> None:
            one, other = f"{{t}}a:{number}", f"{{t}}b:{number}"
            while not ended.is_set():
                pipe: Any = client.pipeline(transaction=True)
                pipe.incrby(one, 2)
                pipe.incr(other)
                assert await pipe.execute() == [counts[number] * 4 + 2, counts[number] * 2 + 1]
                assert await script(keys=[one, other], args=[2]) == counts[number] * 4 + 4
                counts[number] += 1

        calls = [asyncio.create_task(call(number)) for number in range(10)]
        for to in (target, source) * 3:
            await cluster.move_slot(slot, to)
            seen = list(counts)
            while any(now < before + 2 for now, before in zip(counts, seen, strict=True)):
                for one in calls:
                    if one.done():
                        one.result()
                await asyncio.sleep(0.002)
        ended.set()
        await asyncio.gather(*calls)


async def test_a_transaction_over_half_moved_keys_waits_until_they_are_together(
    cluster: EmbeddedCluster,
) -> None:
    """The servers say TRYAGAIN as long as only some of its keys have moved."""
    source, target = cluster.node_for("{t}"), other_primary(cluster, "{t}")
    async with cluster_pool(cluster) as pool:
        await pool.client.mset({"{t}moved": 1, "{t}stays": 2})
        async with cluster.migrating(cluster.slot_of("{t}"), target) as migration:
            await migration.move_keys("{t}moved")
            both = asyncio.ensure_future(pool.client.mget("{t}moved", "{t}stays"))
            await asyncio.sleep(0.05)
            assert not both.done()
            await migration.move_keys("{t}stays")
            assert await both == [b"1", b"2"]
    await cluster.move_slot(cluster.slot_of("{t}"), source)


async def test_a_transaction_that_makes_keys_half_way_waits_for_the_end(
    cluster: EmbeddedCluster,
) -> None:
    """Who imports a slot refuses several keys of which it lacks one, with TRYAGAIN at EXEC."""
    source, target = cluster.node_for("{t}"), other_primary(cluster, "{t}")
    async with cluster_pool(cluster) as pool:
        await pool.client.ping()
        async with cluster.migrating(cluster.slot_of("{t}"), target):
            pipe: Any = pool.client.pipeline(transaction=True)
            pipe.incr("{t}new")
            pipe.incr("{t}newer")
            both = asyncio.ensure_future(pipe.execute())
            await until(
                lambda: "errorstat_TRYAGAIN" in told(target, "INFO", "errorstats"), "the refusal"
            )
        assert await both == [1, 1]
    await cluster.move_slot(cluster.slot_of("{t}"), source)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_node_that_still_answers_is_heard_to_the_end(cluster: EmbeddedCluster) -> None:
    """What it executed before the move counts, however long its answers are on their way."""
    source, target = cluster.node_for("{l}"), other_primary(cluster, "{l}")
    async with cluster.proxied() as network, cluster_pool(cluster, network) as pool:
        await pool.client.set("{l}long", "x" * 4000)
        network.proxies[source].to_client.bandwidth = 200_000
        answers = [asyncio.ensure_future(pool.client.get("{l}long")) for _ in range(75)]
        counts = [asyncio.ensure_future(pool.client.incr("{l}")) for _ in range(20)]
        await until(lambda: told(source, "GET", "{l}") == "20", "their execution")
        await cluster.move_slot(cluster.slot_of("{l}"), target)
        cast(Cluster, pool.server).refresher.want()
        assert await asyncio.gather(*counts) == [*range(1, 21)]
        await asyncio.gather(*answers)
    await cluster.move_slot(cluster.slot_of("{l}"), source)


async def test_who_was_sent_to_a_node_out_of_reach_comes_back_with_the_slot(
    cluster: EmbeddedCluster,
) -> None:
    """One node says that a slot has moved; before its new owner is reached, it has not."""
    source, target = cluster.node_for("{r}"), other_primary(cluster, "{r}")
    slot = cluster.slot_of("{r}")
    async with cluster.proxied() as network, cluster_pool(cluster, network) as pool:
        client = pool.client.with_timeout(5)
        assert await client.get("{r}") is None
        network.proxies[target].reset()
        network.proxies[target].refuse()
        told(source, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))
        counts = [asyncio.ensure_future(client.incr("{r}")) for _ in range(20)]
        await until(lambda: "errorstat_MOVED" in told(source, "INFO", "errorstats"), "MOVED")
        await asyncio.sleep(0.05)  # it waits for a connection now
        told(source, "CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(source))
        assert await asyncio.gather(*counts) == [*range(1, 21)]


@pytest.mark.parametrize("push", ["while it moves", "afterwards"])
async def test_who_waits_for_a_key_follows_its_slot(cluster: EmbeddedCluster, push: str) -> None:
    source, target = cluster.node_for("{b}"), other_primary(cluster, "{b}")
    slot = cluster.slot_of("{b}")
    async with cluster_pool(cluster) as pool:
        waiting = asyncio.ensure_future(pool.client.blpop(["{b}queue"], timeout=8))
        await until(lambda: told(source, "INFO", "clients")["blocked_clients"], "the wait")
        async with cluster.migrating(slot, target):
            if push == "while it moves":
                await pool.client.rpush("{b}queue", "order")
        await pool.client.rpush("{b}queue", "order")
        assert await waiting == (b"{b}queue", b"order")
        assert await pool.client.llen("{b}queue") == (push == "while it moves")
    await cluster.move_slot(slot, source)
