"""Reading from the replicas of a primary that sentinels watch over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from redisutils import RedisPool, create_redis_pool
from redisutils.testing import EmbeddedSentinels, EmbeddedServer, find_servers
from redisutils.topology.sentinel import copies as copying
from redisutils.topology.sentinel.server import SentinelServer

from .clusters import told
from .ours import until
from .reads import calls, get_many, write_off_lanes

MAIN, *_ = find_servers()

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.fixture(scope="module")
def group() -> Iterator[EmbeddedSentinels]:
    """A primary and two replicas; tests leave as many."""
    with EmbeddedSentinels(3, 2, MAIN) as group:
        yield group


@asynccontextmanager
async def reading(
    group: EmbeddedSentinels, source: str | None, **settings: Any
) -> AsyncIterator[RedisPool]:
    """A pool that knows its replicas."""
    told(group.primary, "SET", "k", "v")
    await group.wait_in_sync()
    given = settings if source is None else {"read_from": source, **settings}
    async with create_redis_pool(
        mode="sentinel",
        nodes=group.addresses,
        sentinel_master=group.master_name,
        sentinel_password=group.sentinel_password,
        password=group.password,
        **given,
    ) as pool:
        await pool.client.get("k")
        if source is not None:
            await until(lambda: ready(pool), "that all replicas are known", 20.0)
        for node in (group.primary, *group.replicas):
            told(node, "CONFIG", "RESETSTAT")
        yield pool


def ready(pool: RedisPool, *away: EmbeddedServer) -> bool:
    """Whether both replicas may be read from but these."""
    server = pool.server
    assert isinstance(server, SentinelServer)
    copies = server.copies
    replicas = [] if copies is None else copies.replicas_of(copies.primary)
    left_out = {node.port for node in away}
    return len(replicas) == 2 and all(
        replica.figures.proven is (replica.server.options.port not in left_out)
        for replica in replicas
    )


def counted(group: EmbeddedSentinels, command: str = "get") -> list[int]:
    """How many of this command the primary and its replicas have executed."""
    return [calls(node, command) for node in (group.primary, *group.replicas)]


async def test_reads_are_spread_over_the_replicas_and_told_of_each(
    group: EmbeddedSentinels,
) -> None:
    async with reading(group, "replica") as pool:
        before = pool.metrics()
        await get_many(pool)
        assert await pool.client.mget("k", "none") == [b"v", None]
        pipe: Any = pool.client.pipeline(transaction=False)
        assert await pipe.get("k").get("none").execute() == [b"v", None]
        assert await pool.client.set("k", "v")
        assert await pool.client.dbsize() == 1
        of_primary, *of_replicas = counted(group)
        assert of_primary == 0
        assert sum(of_replicas) == 42
        assert min(of_replicas) >= 10
        assert counted(group, "mget")[0] == 0
        assert counted(group, "dbsize") == [1, 0, 0]  # it names no key
        metrics = pool.metrics().since(before)
        assert metrics.reads.from_replicas == 42
        assert sorted(str(node.role) for node in metrics.nodes) == ["primary", "replica", "replica"]
        assert metrics.commands >= 45
        pipe = pool.client.pipeline(transaction=True)
        assert await pipe.get("k").get("k").execute() == [b"v", b"v"]
        assert counted(group)[0] == 2


async def test_a_lane_of_its_own_reads_from_replicas(group: EmbeddedSentinels) -> None:
    async with reading(group, None) as pool:
        reports = pool.lane("reports", read_from="replica")
        for _ in range(10):
            assert await reports.get("k") == b"v"
            assert await pool.client.get("k") == b"v"
        of_primary, *of_replicas = counted(group)
        assert (of_primary, sum(of_replicas)) == (10, 10)


async def test_what_is_about_one_server_is_asked_of_the_primary(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica") as pool:
        fields: dict[Any, Any] = {f"f{number}": "v" for number in range(3000)}
        await pool.client.hset("h", mapping=fields)
        await pool.client.sadd("s", *fields)
        await pool.client.zadd("z", dict.fromkeys(fields, 1))
        await group.wait_in_sync()
        names = {name.encode() for name in fields}
        assert {name async for name, _ in pool.client.hscan_iter("h", count=100)} == names
        assert {name async for name in pool.client.sscan_iter("s", count=100)} == names
        assert {name async for name, _ in pool.client.zscan_iter("z", count=100)} == names
        assert await pool.client.touch("h", "s") == 2
        assert await pool.client.object("idletime", "h") == 0
        assert await pool.client.object("encoding", "h") == b"hashtable"
        for command in "hscan", "sscan", "zscan", "touch", "object|idletime":
            of_primary, *of_replicas = counted(group, command)
            assert of_primary > 0, command
            assert of_replicas == [0, 0], command
        assert counted(group, "object|encoding")[0] == 0
        await pool.client.delete("h", "s", "z")


async def test_own_writes_are_read_at_the_primary(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica", read_own_writes_seconds=5) as pool:
        results = await asyncio.gather(
            *(
                each
                for number in range(50)
                for each in (pool.client.set("w", number), pool.client.get("w"))
            )
        )
        assert results[1::2] == [str(number).encode() for number in range(50)]
        assert await pool.client.get("k") == b"v"
        of_primary, *of_replicas = counted(group)
        assert (of_primary, sum(of_replicas)) == (50, 1)


async def test_own_writes_are_those_of_others_of_this_pool_too(group: EmbeddedSentinels) -> None:
    settings = {"read_own_writes_seconds": 60}
    async with reading(group, None, read_from="replica", **settings) as pool:
        async with pool.get() as own:  # before anybody has read
            await own.set("{1}w", "mine")
        writer = pool.lane("orders", read_from="primary")
        await writer.set("{2}w", "mine")
        client = pool.client
        await until(lambda: ready(pool), "that all replicas are known", 20.0)
        await write_off_lanes(client)
        async with pool.get() as own:
            await own.execute("MULTI")
            await own.execute("SET", "{5}w", "mine")
            assert await own.execute("EXEC") == [b"OK"]
        for node in (group.primary, *group.replicas):
            told(node, "CONFIG", "RESETSTAT")
        for number in 1, 2, 3, 5:
            assert await client.get(f"{{{number}}}w") == b"mine"
        assert await client.llen("{4}w") == 1
        assert counted(group) == [4, 0, 0]
        assert counted(group, "llen") == [1, 0, 0]
        told(group.primary, "FLUSHALL")


async def test_own_writes_are_those_of_a_single_connection_too(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica", read_own_writes_seconds=60) as pool:
        one: Any = pool.client.client()
        await one.get("{2}w")  # to read notes nothing
        await one.set("{1}w", "mine")
        await one.pipeline().set("{3}w", "mine").execute()
        for node in (group.primary, *group.replicas):
            told(node, "CONFIG", "RESETSTAT")
        for key, value in (("{1}w", b"mine"), ("{3}w", b"mine"), ("{2}w", None)):
            assert await pool.client.get(key) == value
        await one.aclose()
        assert await pool.client.get("{1}w") == b"mine"
        of_primary, *of_replicas = counted(group)
        assert (of_primary, sum(of_replicas)) == (3, 1)
        told(group.primary, "FLUSHALL")


async def test_own_writes_in_a_slot_are_no_others(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica", read_own_writes_seconds=60) as pool:
        async with pool.get() as own:
            await own.set("w", "mine")
            await own.get("k")
        assert await pool.client.get("k") == b"v"
        assert counted(group)[0] == 1
        assert await pool.client.get("w") == b"mine"
        assert counted(group)[0] == 2


async def test_one_who_cancels_all_tasks_ends_no_looks(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica", read_max_lag_seconds=1) as pool:
        await get_many(pool)
        server = pool.server
        assert isinstance(server, SentinelServer)
        copies = server.copies
        assert copies is not None
        ours = asyncio.current_task()
        for task in asyncio.all_tasks() - {ours}:
            task.cancel()
        await asyncio.sleep(0)
        for replica in copies.replicas_of(copies.primary):
            replica.figures.fresh_at = -1.0  # as time will have it
        copies.changed()
        await get_many(pool)


async def test_what_is_counted_of_a_replica_that_leaves_stays_and_closing_waits_for_none(
    group: EmbeddedSentinels,
) -> None:
    silent = group.replicas[0]
    async with reading(group, "replica") as pool:
        await get_many(pool)
        server = pool.server
        assert isinstance(server, SentinelServer)
        copies = server.copies
        assert copies is not None
        server.watch.replicas = tuple(
            each for each in server.watch.replicas if each.address.port != silent.port
        )
        await silent.pause()
        owed = [asyncio.ensure_future(pool.client.get("k")) for _ in range(2)]
        await asyncio.sleep(0)
        before = pool.metrics().commands
        copies.changed()
        copies.replicas_of(copies.primary)
        assert len(copies.opened) == 1
        assert pool.metrics().commands >= before
        closing = asyncio.ensure_future(pool.close())
        done, _ = await asyncio.wait([closing], timeout=copying.LEAVE_WITHIN * 0.6)
        assert done
        assert pool.metrics().commands >= before
        await asyncio.gather(*owed, return_exceptions=True)
    await silent.resume()


async def test_reads_are_hedged(group: EmbeddedSentinels) -> None:
    async with reading(group, "replica", read_hedge=0.5) as pool:
        for _ in range(400):  # until it is known how long they take
            await pool.client.get("k")
        silent = group.replicas[0]
        await silent.pause()
        for _ in range(4):
            await get_many(pool, 4)
        await silent.resume()
        assert pool.metrics().reads.hedges_won >= 1


async def test_a_silent_replica_costs_no_read_its_answer(group: EmbeddedSentinels) -> None:
    silent = group.replicas[0]
    async with reading(group, "replica") as pool:
        await silent.pause()
        for _ in range(5):
            await get_many(pool, 20)
        await until(lambda: ready(pool, silent))
        assert pool.metrics().reads.moved_on > 0
        await silent.resume()
        await until(lambda: ready(pool))


async def test_a_replica_that_loads_its_data_or_has_no_script_sends_nobody_an_error(
    group: EmbeddedSentinels,
) -> None:
    digest = told(group.primary, "SCRIPT", "LOAD", "return redis.call('GET', KEYS[1]) .. '!'")
    async with reading(group, "prefer-replica") as pool:
        assert await pool.client.evalsha_ro(digest, 1, "k") == b"v!"
        for replica in group.replicas:
            told(replica, "CONFIG", "SET", "replica-serve-stale-data", "no")
            told(replica, "CONFIG", "SET", "masterauth", "wrong")
            told(replica, "CLIENT", "KILL", "TYPE", "master")
        try:
            await get_many(pool)  # MASTERDOWN
        finally:
            for replica in group.replicas:
                told(replica, "CONFIG", "SET", "masterauth", group.password)
        await group.wait_in_sync()
        for replica in group.replicas:
            told(replica, "CONFIG", "SET", "replica-serve-stale-data", "yes")


@one_loop
async def test_reads_go_on_through_a_failover(group: EmbeddedSentinels) -> None:
    async with reading(group, "prefer-replica") as pool:
        stop = asyncio.Event()

        async def read() -> None:
            while not stop.is_set():
                assert await pool.client.get("k") == b"v"

        readers = [asyncio.ensure_future(read()) for _ in range(5)]
        await group.failover()
        assert await pool.client.set("k", "v")
        stop.set()
        await asyncio.gather(*readers)
        await group.wait_in_sync()
