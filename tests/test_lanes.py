"""A lane is a socket of its own, so that order flow never queues behind bulk reads."""

from __future__ import annotations

import asyncio
from time import perf_counter

import pytest
import redis

from redisutils import CommandTimeout, ConnectFailed, PoolTimeout, Redis
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import clients_named, pool_at, until
from .peers import turns


async def test_a_lane_has_its_own_socket(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server, client_name="laned") as pool:
        orders, bulk = pool.lane("orders"), pool.lane("bulk")
        assert isinstance(orders, Redis)
        assert pool.lane("orders") is orders
        assert pool.status().size == 0  # none before it is used
        clients = (pool.client, orders, bulk)
        ids = [await client.client_id() for client in clients]
        assert len(set(ids)) == 3
        assert ids == [await client.client_id() for client in clients]  # and keeps it
        listed = {int(client["id"]): client["addr"] for client in clients_named(admin, "laned")}
        assert set(listed) == set(ids)
        assert len(set(listed.values())) == 3
        assert (pool.status().size, pool.status().available) == (3, 0)
        assert pool.metrics().utilisation == pytest.approx(0.3)


async def test_orders_do_not_wait_behind_bulk_reads(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    """The bulk lane's replies crawl through a slow network; the orders' lane does not notice."""
    admin.set("big", b"x" * 4_000_000)
    async with (
        pool_at(clean_server) as fast,
        pool_at(clean_server, proxy) as pool,
    ):
        del fast
        orders, bulk = pool.lane("orders"), pool.lane("bulk")
        await asyncio.gather(orders.ping(), bulk.ping())
        reads = [asyncio.create_task(bulk.get("big")) for _ in range(10)]
        behind = asyncio.create_task(bulk.get("none"))
        await asyncio.sleep(0)
        slowest = 0.0
        placed = 0
        while not behind.done():
            started = perf_counter()
            await orders.incr("order")
            slowest = max(slowest, perf_counter() - started)
            placed += 1
        await asyncio.gather(*reads)
        assert placed > 5, "the bulk reads were all answered before a few orders could be placed"
        assert await orders.get("order") == b"%d" % placed


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_reply_of_50_MB_holds_up_its_own_lane_alone(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Orders go through while it comes, each in a small part of the time that it takes. Behind it,
    on its own lane, there would be one, after all of it."""
    admin.set("big", b"x" * 50_000_000)
    async with pool_at(clean_server) as pool:
        orders, bulk = pool.lane("orders"), pool.lane("bulk")
        await asyncio.gather(orders.ping(), bulk.ping())
        most = 0
        for _ in range(5):  # on a machine that does other things, too
            reading = asyncio.ensure_future(bulk.get("big"))
            behind = asyncio.ensure_future(bulk.incr("behind"))
            await asyncio.sleep(0)
            placed = 0
            while not behind.done():
                await orders.incr("order")
                placed += 1
            assert reading.done(), "a later command of its lane came before it"
            assert len(reading.result()) == 50_000_000
            most = max(most, placed)
        assert most >= 3


async def test_a_lane_that_waits_for_a_slow_command_holds_up_no_other(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.lane("orders").ping()
        # From here on, what goes over a new connection is never answered.
        proxy.swallow_replies(None, lambda request: b"slow" in request)
        stuck = asyncio.create_task(pool.lane("bulk").get("slow"))
        await proxy.wait_until(lambda proxy: proxy.swallowed >= 1)
        for number in range(20):
            assert await pool.lane("orders").incr("n") == number + 1
        assert not stuck.done()
        stuck.cancel()
        await asyncio.wait([stuck])


async def test_a_lane_that_is_opening_takes_no_second_connection(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        async with pool.get() as conn:
            await conn.ping()
            proxy.stall()
            first = asyncio.create_task(pool.client.execute_command("PING"))
            await proxy.wait_until(lambda proxy: proxy.accepted == 2)
        assert standalone(
            pool
        ).pool.idle()  # one stands ready now, while the lane's is being opened
        second = asyncio.create_task(pool.client.execute_command("PING"))
        await turns(3)
        proxy.restore()
        assert [await first, await second] == [True, True]
        assert standalone(pool).pool.in_use == 1


async def test_a_lane_fills_its_own_place_again(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        async with pool.get() as conn:
            await conn.ping()
        connection = standalone(pool).lane().connection
        assert connection is not None
        connection.close()
        assert await pool.client.ping()
        assert standalone(pool).pool.in_use == 1


async def test_each_lane_mends_itself_alone(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server) as pool:
        orders, bulk = pool.lane("orders"), pool.lane("bulk")
        first, second = await orders.client_id(), await bulk.client_id()
        admin.client_kill_filter(_id=str(second))
        await until(lambda: pool.status().size == 1, "the end of the killed connection")
        assert await orders.client_id() == first
        assert await bulk.client_id() not in (first, second)


async def test_a_pool_of_one_is_the_default_lanes(clean_server: EmbeddedServer) -> None:
    async with pool_at(
        clean_server, pool_max_size=1, pool_timeout=0.02, max_retries=1, retry_delay_ms=1
    ) as pool:
        await pool.client.ping()
        with pytest.raises(PoolTimeout) as failure:
            _ = await pool.get()
        message = str(failure.value)
        assert "all 1 are in use (1 of them by lanes: 'default')" in message
        assert "REDIS_POOL_MAX_SIZE" in message
        assert failure.value.phase == "wait"
        assert await pool.client.ping()


async def test_a_lane_without_a_connection_left_says_so(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1, command_timeout=0.3) as pool:
        await pool.client.ping()
        with pytest.raises((redis.TimeoutError, ConnectFailed)) as failure:
            await pool.lane("orders").ping()
        assert "all 1 are in use (1 of them by lanes: 'default')" in str(failure.value)


async def test_a_freed_connection_goes_to_the_lane_that_waits(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool:
        async with pool.get() as conn:
            await conn.execute("PING")
            waiting = asyncio.ensure_future(pool.lane("orders").incr("n"))
            await until(lambda: pool.status().waiting == 1)
        assert await waiting == 1
        assert pool.status().size == 1


async def test_a_lane_that_nobody_waits_for_leaves_the_queue_of_the_pool(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool:
        await pool.client.ping()  # whose lane has the only place
        with pytest.raises(CommandTimeout, match="all 1 are in use"):
            await pool.lane("orders").with_timeout(0.05).ping()
        await until(lambda: pool.status().waiting == 0, "nobody waiting")
        pool.resize(2)
        assert await pool.lane("orders").ping()
