"""A server that restarts, or that closes connections, is reconnected to without its users noticing
more than a delay.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import redis

from redisutils import ConnectFailed, ConnectionLost, Outcome, outcome_of, retry
from redisutils.errors import ConnectTimeout
from redisutils.pool import connecting
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .conftest import StartServer
from .ours import clients_named, piped, pool_at, until

QUICK: dict[str, Any] = {"retry_delay_ms": 10, "retry_max_delay_ms": 50, "max_retries": 1000}


async def test_a_restart_under_load(start_server: StartServer) -> None:
    """Reads and idempotent writes know nothing of it. Of the others, none that was acknowledged is
    lost and none is done twice."""
    server = await start_server(appendonly=True)
    fates: dict[str, Outcome | None] = {}
    async with pool_at(server, **QUICK) as pool:
        client = pool.client
        done = asyncio.Event()

        async def set_and_get(task: int) -> int:
            number = 0
            while not done.is_set():
                number += 1
                await client.set(f"k{task}", number)
                assert await client.get(f"k{task}") == str(number).encode()
            return number

        async def push(task: int) -> None:
            number = 0
            while not done.is_set():
                name = f"{task}.{number}"
                number += 1
                try:
                    await client.rpush("list", name)
                    fates[name] = None
                except ConnectionLost as error:
                    fates[name] = outcome_of(error)

        async with asyncio.TaskGroup() as group:
            quiet = [group.create_task(set_and_get(task)) for task in range(10)]
            for task in range(3):
                group.create_task(push(task))
            for restart in (server.kill, server.restart):
                seen = len(fates)
                await until(lambda: len(fates) > seen + 20)  # noqa: B023  # of this turn
                await restart()
                if not server.running:
                    await server.start()
            seen = len(fates)
            await until(lambda: len(fates) > seen + 20)
            done.set()
        counts = [task.result() for task in quiet]
        assert min(counts) > 5
        assert await client.mget([f"k{task}" for task in range(10)]) == [
            str(count).encode() for count in counts
        ]
        landed = await pool.make_client(decode_responses=True).lrange("list", 0, -1)
        assert pool.metrics().retries["connect"] > 0
    assert len(set(landed)) == len(landed)
    assert {name for name, fate in fates.items() if fate is None} <= set(landed)
    unknown = {name for name, fate in fates.items() if fate is Outcome.UNKNOWN}
    assert set(landed) <= unknown | {name for name, fate in fates.items() if fate is None}


@pytest.mark.parametrize("luck", [0.0, 0.5, 0.999])
def test_the_defaults_bridge_an_outage_of_a_second_and_a_half(
    monkeypatch: pytest.MonkeyPatch, luck: float
) -> None:
    """However the dice fall: that long passes until the sixth attempt that counts."""
    monkeypatch.setattr(random, "random", lambda: luck)
    policy = retry.RetryPolicy("safe", 5, retry.Backoff(0.1, 5.0))
    reconnecting = retry.Reconnecting()
    now = 0.0
    while reconnecting.failed(policy, now) is False or reconnecting.failures < 6:
        now += reconnecting.pause
    assert 1.5 < now < 3.2


async def test_a_long_outage_does_not_make_the_way_back_long(
    proxy: FaultProxy, clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody waits all the time, so that the attempts are one long row."""
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.01)
    settings: dict[str, Any] = {"retry_delay_ms": 1, "retry_max_delay_ms": 3_600_000}
    async with pool_at(clean_server, proxy, **settings, max_retries=2) as pool:
        assert await pool.client.get("k") is None
        back = asyncio.Event()

        def attempts() -> int:
            return pool.metrics().errors.get("ConnectFailed", 0)

        async def call(after: int) -> None:
            """From then on; so that somebody waits at each moment."""
            await until(lambda: attempts() >= after)
            while not back.is_set():
                try:
                    await pool.client.get("k")
                except ConnectFailed:
                    continue

        proxy.refuse()
        proxy.reset()
        async with asyncio.TaskGroup() as group:
            for after in range(3):
                group.create_task(call(after))
            # By doubling, the pause would be hours by now.
            await until(lambda: attempts() > 30)
            proxy.restore()
            assert await pool.client.get("k") is None
            back.set()


async def test_what_takes_a_connection_of_its_own_is_back_as_soon(
    proxy: FaultProxy, clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "LONGEST_PAUSE", 0.01)
    settings: dict[str, Any] = {"retry_delay_ms": 1, "retry_max_delay_ms": 3_600_000}
    async with pool_at(clean_server, proxy, **settings, max_retries=1000) as pool:
        proxy.refuse()
        popping = asyncio.ensure_future(pool.client.blpop(["list"], timeout=0))
        await until(lambda: pool.metrics().retries.get("connect", 0) > 30)
        proxy.restore()
        await pool.client.rpush("list", "item")
        assert await popping == (b"list", b"item")


async def test_closed_while_idle(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    """The next command is on a new connection. Not even one that must not be repeated fails."""
    async with pool_at(clean_server, **QUICK, client_name="idle") as pool:
        lane = standalone(pool).lane()
        for number in range(1, 4):
            assert await pool.client.incr("k") == number
            async with pool.get() as conn:
                assert await conn.incr("own") == number
            assert len(clients_named(admin, "idle")) == 2
            admin.client_kill_filter(_type="normal", skipme=True)
            await until(lambda: lane.connection is None)
            await until(lambda: all(item.closed for item, _ in standalone(pool).pool.idle()))
        metrics = pool.metrics()
        assert metrics.retries == {}
        assert metrics.errors == {}
    assert (admin.get("k"), admin.get("own")) == ("3", "3")


async def test_closed_while_idle_a_moment_before(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """The loop has not heard of it yet: the command goes to a connection that is closed."""
    async with pool_at(clean_server, **QUICK) as pool:
        await pool.client.ping()
        async with pool.get():
            pass
        admin.client_kill_filter(_type="normal", skipme=True)  # blocks our loop meanwhile
        assert await pool.client.set("k", "v") is True
        admin.client_kill_filter(_type="normal", skipme=True)
        assert await pool.client.get("k") == b"v"
        admin.client_kill_filter(_type="normal", skipme=True)
        with pytest.raises(ConnectionLost) as caught:
            await pool.client.incr("counter")
        assert caught.value.outcome is Outcome.UNKNOWN
        assert admin.get("counter") is None


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_closed_by_the_servers_own_timeout(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, **QUICK, client_name="idle", health_check_interval=0) as pool:
        assert await pool.client.incr("k") == 1
        async with pool.get() as conn:
            assert await conn.incr("own") == 1
        admin.config_set("timeout", "1")
        try:
            await until(lambda: not clients_named(admin, "idle"), "the server's timeout")
        finally:
            admin.config_set("timeout", "0")
        await until(lambda: standalone(pool).lane().connection is None)
        assert await pool.client.incr("k") == 2
        async with pool.get() as conn:
            assert await conn.incr("own") == 2
        assert pool.metrics().retries == {}


async def test_a_server_that_comes_late(start_server: StartServer) -> None:
    server = await start_server()
    await server.kill()
    async with pool_at(server, **QUICK) as pool:
        waiting = asyncio.gather(
            pool.client.incr("k"),
            pool.client.blpop(["list"], timeout=5),
            piped(pool.client, True, ("INCR", "k")).execute(),
        )
        await until(lambda: pool.metrics().retries.get("connect", 0) > 3)
        await server.start()
        await until(lambda: standalone(pool).lane().connection is not None)
        await pool.client.rpush("list", "x")
        first, popped, (second,) = await waiting
        assert {first, second} == {1, 2}
        assert popped == (b"list", b"x")


@pytest.mark.parametrize("again", [False, True], ids=["first", "again"])
async def test_no_attempt_outlasts_a_budget(
    proxy: FaultProxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    """Nobody who waited when it began would be there for its end."""
    monkeypatch.setattr(connecting, "SHORTEST_ATTEMPT", 0.02)
    settings: dict[str, Any] = {"command_timeout": 0.1, "connection_timeout": 60, "max_retries": 0}
    async with pool_at(server, proxy, **settings) as pool:
        if again:
            await pool.client.with_timeout(5).ping()
        proxy.blackhole()
        proxy.reset()
        await until(lambda: standalone(pool).lane().connection is None)
        with pytest.raises(ConnectTimeout, match=r"took longer than 0\.1 s") as caught:
            await pool.client.with_timeout(5).get("k")
        assert caught.value.outcome is Outcome.NOT_SENT


async def test_many_connections_at_once_die(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy, **QUICK, pool_max_size=8) as pool:
        lanes = [pool.lane(name) for name in ("orders", "prices", "bulk")]
        for _ in range(5):
            proxy.reset()
            answers = await asyncio.gather(
                *(lane.set(f"k{i}", i) for i, lane in enumerate(lanes)), pool.client.ping()
            )
            assert answers == [True] * 4
        for _ in range(20):
            reading = asyncio.gather(*(lane.mget("k0", "k1", "k2") for lane in lanes))
            await asyncio.sleep(0)
            proxy.reset()
            assert await reading == [[b"0", b"1", b"2"]] * 3
        await until(lambda: proxy.active == pool.status().size)
        assert pool.status().size <= 4
