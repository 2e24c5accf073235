"""A peer that is connected and says nothing is found by the oldest unanswered command, looked at by
way of another connection, and replaced; one that is only slow is left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import Any

import pytest
import redis
import redis.asyncio

from redisutils import CommandTimeout, ConnectionLost, Outcome, RedisPool, outcome_of
from redisutils.pool import manager
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import pool_at, until

QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}

# Seconds of silence pass by in these: on one loop they prove as much as on two.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


def half_open(proxy: FaultProxy) -> None:
    """What is connected falls silent for good; new connections work."""
    proxy.blackhole()
    proxy.restore()


async def client_id(pool: RedisPool) -> int:
    return int(await pool.client.client_id())


@asynccontextmanager
async def asleep(server: EmbeddedServer, seconds: float) -> AsyncIterator[None]:
    """The server answers nobody for some time, which has just begun."""
    other: Any
    async with redis.asyncio.Redis.from_url(server.url) as other:
        await other.ping()
        sleeping = asyncio.ensure_future(other.execute_command("DEBUG", "SLEEP", seconds))
        # One turn to send it, and what is sent after it is read after it.
        await asyncio.sleep(0.02)
        assert not sleeping.done()
        yield
        await sleeping


async def test_a_half_open_connection_is_replaced_within_the_budget(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    admin.set("k", "v")
    async with pool_at(server, proxy, **QUICK, command_timeout=0.8) as pool:
        await pool.client.ping()
        half_open(proxy)
        started = monotonic()
        answers = await asyncio.gather(
            pool.client.get("k"),
            pool.client.incr("counter"),
            pool.client.set("k2", "v2"),
            *(pool.client.get("k") for _ in range(20)),
            return_exceptions=True,
        )
        took = monotonic() - started
        assert took < 0.6, "noticed after a quarter of the budget, then sent again"
        lost = answers.pop(1)
        assert isinstance(lost, ConnectionLost)
        assert lost.outcome is Outcome.UNKNOWN
        assert "silent" in str(lost)
        assert answers == [b"v", True, *[b"v"] * 20]
        assert admin.get("counter") is None
        assert proxy.accepted == 2
        await until(lambda: proxy.active == 1, "the end of the silent connection")


async def test_without_a_spare_connection_patience_ends_it(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A pool of one: nothing to compare with. The first callers' budgets end, no others do."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.2, pool_max_size=1) as pool:
        await pool.client.ping()
        half_open(proxy)
        with pytest.raises(CommandTimeout) as caught:
            await pool.client.get("k")
        assert caught.value.outcome is Outcome.UNKNOWN
        # It may be sent to the silent one once more, and then on the new one.
        assert await pool.client.with_timeout(5).get("k") is None
        assert proxy.accepted == 2
        await until(lambda: proxy.active == 1, "the end of the silent connection")
        assert pool.status().size == 1


async def test_everything_silent_for_a_while(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """New connections, the one that is to tell included, are silent too for as long."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.5) as pool:
        await pool.client.ping()
        proxy.blackhole()
        with pytest.raises(CommandTimeout):
            await pool.client.get("k")
        await proxy.wait_accepted(2)
        proxy.restore()
        started = monotonic()
        assert await pool.client.with_timeout(10).get("k") is None
        assert monotonic() - started < 3


async def test_silent_idle_connections_are_not_handed_out(
    proxy: FaultProxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "FRESH_FOR", 0.0)
    async with pool_at(server, proxy, **QUICK, command_timeout=0.1) as pool:
        async with pool.get(), pool.get():
            pass
        half_open(proxy)
        async with pool.get() as conn:
            assert await conn.ping() is True
        assert proxy.accepted == 3
        await until(lambda: proxy.active == 1)


async def test_a_slow_server_is_not_taken_for_dead(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with pool_at(server, proxy, **QUICK, command_timeout=0.8) as pool:
        before = await client_id(pool)
        async with asleep(server, 0.35):
            answers = await asyncio.gather(pool.client.incr("k"), pool.client.get("other"))
        assert list(answers) == [1, None]
        assert await client_id(pool) == before
        assert pool.metrics().retries == {}


async def test_a_connection_that_was_heard_just_before_proves_nothing(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    """The pool hands out what was heard within the last half second without asking; that the
    server answered there before it became slow does not show that it answers now."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.8) as pool:
        before = await client_id(pool)
        async with pool.get() as conn:
            await conn.ping()
        async with asleep(server, 0.4):
            assert await pool.client.incr("k") == 1
        assert await client_id(pool) == before


async def test_a_long_script_is_not_taken_for_death(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """While it runs the server answers others, with BUSY, after a while."""
    limit = str(admin.config_get("lua-time-limit")["lua-time-limit"])
    admin.config_set("lua-time-limit", "20")
    script = "for i = 1, ARGV[1] do end return redis.call('INCR', KEYS[1])"
    started = monotonic()
    admin.eval(script, 1, "warm", 5_000_000)
    turns = int(5_000_000 * 0.4 / (monotonic() - started))
    try:
        async with pool_at(server, proxy, **QUICK, command_timeout=1.0) as pool:
            before = await client_id(pool)
            answers = await asyncio.gather(
                pool.client.eval(script, 1, "k", str(turns)), pool.client.get("other")
            )
            assert list(answers) == [1, None]
            assert await client_id(pool) == before
    finally:
        with suppress(redis.ResponseError):
            admin.script_kill()
        admin.config_set("lua-time-limit", limit)


async def test_a_pause_of_writes_is_not_taken_for_death(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """``CLIENT PAUSE … WRITE``, as for a failover: other commands are answered."""
    async with pool_at(clean_server, **QUICK, command_timeout=2) as pool:
        before = await client_id(pool)
        admin.client_pause(1200, all=False)
        try:
            assert await pool.client.incr("n") == 1
        finally:
            admin.client_unpause()
        assert await client_id(pool) == before
        assert pool.metrics().errors == {}


@pytest.mark.parametrize("spare", [False, True])
async def test_a_long_budget_is_waited_for(
    proxy: FaultProxy, server: EmbeddedServer, spare: bool
) -> None:
    """A caller who gives a command more time than the pool does gets it."""
    size = 2 if spare else 1
    async with pool_at(server, proxy, **QUICK, command_timeout=0.1, pool_max_size=size) as pool:
        before = await client_id(pool)
        async with asleep(server, 0.3):
            assert await pool.client.with_timeout(10).incr("k") == 1
        assert await client_id(pool) == before


async def test_a_frozen_server_is_found_again(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Frozen, its kernel still accepts connections; thawed, everything goes on by itself."""
    async with pool_at(clean_server, **QUICK, command_timeout=0.3) as pool:
        await pool.client.ping()
        await clean_server.pause()
        results = await asyncio.gather(
            *(pool.client.incr("k") for _ in range(10)), return_exceptions=True
        )
        assert {outcome_of(result) for result in results if isinstance(result, Exception)} == {
            Outcome.UNKNOWN
        }
        await clean_server.resume()
        assert await pool.client.with_timeout(5).get("other") is None
        landed = int(admin.get("k") or 0)
        assert landed in {0, 10}


async def test_probing_leaves_nothing_behind(proxy: FaultProxy, server: EmbeddedServer) -> None:
    async with pool_at(server, proxy, **QUICK, command_timeout=0.4, pool_max_size=2) as pool:
        before = await client_id(pool)
        for _ in range(2):
            async with asleep(server, 0.2):
                assert await pool.client.incr("k") > 0
        await until(lambda: pool.status().available == 1)
        assert pool.status().size == 2
        assert await client_id(pool) == before
        proxy.blackhole()
        with pytest.raises(CommandTimeout):
            await pool.client.get("k")
    await until(lambda: proxy.active == 0)
    current = asyncio.current_task()
    await until(lambda: asyncio.all_tasks() == {current}, "the end of all tasks")
