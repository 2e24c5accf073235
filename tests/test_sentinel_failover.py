"""What becomes of commands when the primary is replaced: by choice, and by its death."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import redis

from redisutils.errors import (
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    RedisUtilsError,
)
from redisutils.testing import EmbeddedSentinels, find_servers

from .ours import clients_named, our_tasks, until
from .servers import client_of
from .watched import Load, address_of, elected, plan_for, pool_for, proxied, watched

# A failover takes seconds: one kind of server goes through all of them.
MAIN = next(iter(find_servers()))

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.fixture(scope="module")
def started() -> Iterator[EmbeddedSentinels]:
    with EmbeddedSentinels(binary=MAIN, config={"enable-debug-command": "local"}) as group:
        yield group


@pytest.fixture
async def group(started: EmbeddedSentinels) -> EmbeddedSentinels:
    """Three sentinels over a primary and two replicas, all of them in order, and empty."""
    for server in [started.primary, *started.replicas]:
        await server.resume()
        if not server.running:
            await server.start()
    await started.wait_for_primary()
    await started.wait_in_sync(20.0)
    with client_of(started.primary.url) as admin:
        admin.flushall()
    return started


async def test_a_failover_by_choice_costs_nothing_but_time(group: EmbeddedSentinels) -> None:
    async with pool_for(group) as pool:
        server, lane = pool.server, watched(pool).lane()
        async with Load(pool.client) as load:
            await group.failover()
            await load.more(100)
        assert not load.unknown
        assert not load.refused
        with client_of(group.primary.url) as admin:
            assert load.lost(admin) == {}
        assert pool.server is server
        assert watched(pool).lane() is lane
        assert pool.metrics().endpoint == group.master_name
        assert lane.connection is not None
        assert str(group.primary.port) in lane.connection.peer


async def test_a_connection_to_a_place_is_one_to_the_primary(group: EmbeddedSentinels) -> None:
    async with pool_for(group) as pool:
        async with pool.get(key="any") as conn:
            assert await conn.set("k", 1)
        primary, replica = group.primary, group.replicas[0]
        async with pool.get(node=(primary.host, primary.port)) as conn:
            assert await conn.get("k") == b"1"
        with pytest.raises(ConfigError, match=f"not what this pool.*:{primary.port} now"):
            _ = await pool.get(node=(replica.host, replica.port))


async def test_the_death_of_the_primary_costs_what_the_servers_lost(
    group: EmbeddedSentinels, record_property: Callable[[str, object], None]
) -> None:
    async with pool_for(group, command_timeout=15.0, circuit_breaker_seconds=0) as pool:
        async with Load(pool.client) as load:
            electing = asyncio.create_task(asyncio.to_thread(elected, group.replicas))
            await group.primary.kill()
            killed = len(load.successes)
            after = await electing
            await load.more(100)
        first = next(when for when in load.successes[killed:] if when > after - 1)
        record_property("first success after the election, s", round(first - after, 3))
        assert first - after < 3.0
        assert not load.refused
        assert len(load.unknown) <= 4  # what each task had in flight
        await group.wait_for_primary()
        with client_of(group.primary.url) as admin:
            for key, missing in load.lost(admin).items():
                # What the old one acknowledged last, and nothing of what came after.
                before = [number for number in load.acknowledged[key] if number < missing[-1]]
                assert missing[:-1] == before[len(before) - len(missing) + 1 :]


@one_loop
async def test_a_checkout_waits_for_the_new_primary(group: EmbeddedSentinels) -> None:
    old = group.primary
    async with pool_for(group, circuit_breaker_seconds=0) as pool:
        await pool.client.set("taken", 0)

        async def taken(timeout: float | None) -> str:
            async with pool.get(timeout) as conn:
                await conn.incr("taken")
                return conn._lease.item.peer

        await old.kill()
        with pytest.raises(ConnectFailed, match=f"connect to .*{old.port}"):
            await taken(0)  # to try once
        with pytest.raises(RedisUtilsError, match=r"before that: cannot connect|tried \d+ times"):
            await taken(0.3)
        where = await asyncio.gather(*(taken(timeout) for timeout in (None, 20.0) * 5))
        new = await group.wait_for_primary()
        assert {str(new.port) in one for one in where} == {True}
        assert int(await pool.client.get("taken") or 0) == 10
        assert not pool.metrics().errors.get("PoolClosed")


@one_loop
async def test_a_primary_that_hangs_gets_nothing_any_more(group: EmbeddedSentinels) -> None:
    old = group.primary
    async with pool_for(group, command_timeout=15.0, circuit_breaker_seconds=0) as pool:
        assert await pool.client.set("before", 1)
        await old.pause()
        lost = asyncio.ensure_future(pool.client.incr("in flight"))
        read = asyncio.ensure_future(pool.client.get("before"))
        new = await group.wait_for_primary()
        with pytest.raises(ConnectionLost, match=f"moved to .*{new.port}") as caught:
            await lost
        assert caught.value.outcome is Outcome.UNKNOWN
        assert await read == b"1"  # it may be repeated
        assert await pool.client.incr("after") == 1
        with client_of(new.url) as admin:
            assert admin.get("in flight") is None
        await old.resume()  # for a moment it says that it is the primary
        assert [await pool.client.incr("after") for _ in range(50)] == list(range(2, 52))


@one_loop
async def test_an_answer_that_is_late_is_not_believed(group: EmbeddedSentinels) -> None:
    old = address_of(group.primary)
    async with proxied(group, servers=True) as (proxies, plan):
        pool = pool_for(group, plan, command_timeout=15.0, health_check_interval=0)
        async with pool:
            assert await pool.client.set("before", 1)
            proxies[old].to_client.latency = 30.0
            late = asyncio.ensure_future(pool.client.incr("late"))
            read = asyncio.ensure_future(pool.client.get("before"))
            new = await group.failover()
            with pytest.raises(ConnectionLost) as caught:
                await late
            assert caught.value.outcome is Outcome.UNKNOWN
            assert await read == b"1"
            assert await pool.client.get("late") == b"1"  # it was executed once
            assert str(proxies[address_of(new)].port) in repr(watched(pool).watch)


@one_loop
async def test_all_that_is_connected_moves(group: EmbeddedSentinels) -> None:
    async with pool_for(group, command_timeout=15.0) as pool:
        client: Any = pool.client
        async with client.pubsub() as subscription:
            await subscription.subscribe("news")
            assert (await subscription.get_message(timeout=5))["type"] == "subscribe"
            blocked = asyncio.ensure_future(client.blpop("list", timeout=0))
            idle = await pool.get()
            idle.release()
            async with pool.get() as own:
                assert await own.set("k", 1)
                new = await group.failover()
                await until(lambda: own._lease.item.closed, "the end of the old connection")
                with pytest.raises(ConnectionLost) as caught:
                    await own.get("k")
                assert caught.value.outcome is Outcome.NOT_SENT
            with pytest.raises(redis.ConnectionError):
                await blocked
            async with pool.get() as own:
                assert (await own.execute("ROLE"))[0] == b"master"
            with client_of(new.url) as admin:
                reading = asyncio.ensure_future(next_message(subscription))
                await until(lambda: admin.publish("news", "hello"), "the subscription")
            assert await reading == b"hello"


async def next_message(subscription: Any) -> Any:
    while (told := await anext(subscription.listen()))["type"] != "message":
        pass
    return told["data"]


@one_loop
async def test_a_node_that_comes_back_is_taken_for_what_it_is(group: EmbeddedSentinels) -> None:
    async with (
        proxied(group) as (proxies, plan),
        pool_for(group, plan, command_timeout=15.0) as pool,
    ):
        assert await pool.client.set("k", 1)
        for proxy in proxies.values():  # from now on nobody tells us
            proxy.refuse()
            proxy.reset()
        await group.failover()
        await group.wait_in_sync(20.0)  # the old one is a replica now, and has hung up
        writing = asyncio.ensure_future(pool.client.incr("k"))
        lane = watched(pool).lane()
        await until(lambda: "is a replica" in str(lane._parked.trouble), "its role", 10.0)
        assert not writing.done()
        for proxy in proxies.values():
            proxy.restore()
        assert await writing == 2


@one_loop
async def test_a_primary_demoted_by_hand_is_left_at_once(group: EmbeddedSentinels) -> None:
    async with pool_for(group, command_timeout=15.0) as pool:
        assert await pool.client.set("k", 1)
        with client_of(group.primary.url) as admin:
            other = group.replicas[0]
            admin.replicaof(other.host, other.port)
            writing = asyncio.ensure_future(pool.client.incr("k"))
            connection = watched(pool).lane().connection
            assert connection is not None
            await until(lambda: connection.closed, "the end of that connection")
            assert not writing.done()
            admin.replicaof("NO", "ONE")
        assert await writing == 2


def nobody_named(admin: Any, name: str) -> bool:
    return not clients_named(admin, name)


@one_loop
async def test_nothing_is_left_after_a_failover_and_the_end(group: EmbeddedSentinels) -> None:
    tasks = our_tasks()
    async with pool_for(group, plan_for(group, group.addresses[:1]), client_name="left") as pool:
        async with Load(pool.client) as load:
            await group.failover()
            await load.more(10)
        informants = watched(pool).watch._company
        await until(lambda: len(informants) == 3, "sentinels learnt from sentinels")
    assert our_tasks() == tasks
    gc.collect()
    for place in [group.primary, *group.replicas, *group.sentinels]:
        with client_of(place.url) as admin:
            await until(partial(nobody_named, admin, "left"), f"ends at port {place.port}")
