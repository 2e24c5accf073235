"""Blocking commands take a connection of their own, are not cut by the timeout, hold up nobody, and
when abandoned take nothing with them.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import ConnectionLost, Outcome, PoolTimeout, Redis, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .conftest import StartServer
from .ours import client_at, clients_named, piped, pool_at, until

CALLS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "capitals": (("BLPOP", "list", 0), (b"list", b"x")),
    "lower case": (("blpop", "list", 0), (b"list", b"x")),
    "bytes": ((b"BRPOP", "list", 0), [b"list", b"x"]),
    "one string with a space": (("BLPOP list 0",), [b"list", b"x"]),
    "a move": (("BLMOVE", "list", "other", "LEFT", "RIGHT", 0), b"x"),
    "several": (("BLMPOP", 0, 1, "list", "LEFT"), [b"list", [b"x"]]),
}


def blocked(admin: redis.Redis) -> int:
    return int(admin.info("clients")["blocked_clients"])


@pytest.mark.parametrize("spelling", CALLS)
async def test_they_hold_up_nobody(
    clean_server: EmbeddedServer, admin: redis.Redis, spelling: str
) -> None:
    arguments, expected = CALLS[spelling]
    async with pool_at(clean_server, command_timeout=2) as pool:
        waiting = [asyncio.ensure_future(pool.client.execute_command(*arguments)) for _ in range(2)]
        await until(lambda: blocked(admin) == 2)
        started = monotonic()
        assert await asyncio.gather(*(pool.client.incr("k") for _ in range(100)))
        assert monotonic() - started < 1
        assert not any(task.done() for task in waiting)
        await pool.client.rpush("list", "x")
        await pool.client.rpush("list", "x")
        assert await asyncio.gather(*waiting) == [expected, expected]


@pytest.mark.parametrize("command", ["XREAD", "xreadgroup"])
async def test_streams(clean_server: EmbeddedServer, admin: redis.Redis, command: str) -> None:
    admin.xgroup_create("stream", "group", mkstream=True)
    group = () if command == "XREAD" else ("GROUP", "group", "me")
    last = "$" if command == "XREAD" else ">"
    async with pool_at(clean_server) as pool:
        call = (command, *group, "block", 0, "STREAMS", "stream", last)
        waiting = asyncio.ensure_future(pool.client.execute_command(*call))
        await until(lambda: blocked(admin) == 1)
        assert await pool.client.ping() is True
        await pool.client.xadd("stream", {"field": "value"})
        answer = await waiting
        assert b"value" in repr(answer).encode()
        # Without BLOCK it is as any other, on the shared connection.
        in_use = standalone(pool).pool.in_use
        reading = pool.client.execute_command("XREAD", "STREAMS", "stream", "0")
        task = asyncio.create_task(reading)
        await asyncio.sleep(0)
        assert standalone(pool).pool.in_use == in_use
        await task


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_timeout_does_not_cut_them(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """What they ask for comes on top of the budget; for ever is for ever."""
    # A server looks for those who have waited long enough every 0.1 s only.
    async with client_at(clean_server, socket_timeout=0.3) as client:
        started = monotonic()
        assert await client.blpop(["list"], timeout=0.5) is None
        assert monotonic() - started > 0.45
        started = monotonic()
        assert await client.xread({"stream": "$"}, block=450) in ({}, [], None)
        assert monotonic() - started > 0.4
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=0))
        await asyncio.sleep(0.5)  # longer than the budget
        assert not waiting.done()
        admin.rpush("list", "x")
        assert await waiting == (b"list", b"x")


async def test_an_answer_that_does_not_come_in_time_is_missed(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with client_at(server, proxy, socket_timeout=0.1) as client:
        assert await client.blpop(["list"], timeout=0.01) is None
        proxy.blackhole()
        started = monotonic()
        with pytest.raises(redis.TimeoutError) as caught:
            await client.blpop(["list"], timeout=0.1)
        assert monotonic() - started < 0.2 + 0.5
        assert outcome_of(caught.value) is Outcome.UNKNOWN


@pytest.mark.parametrize("drain", [0, 0.05])
async def test_closing_the_pool_ends_what_might_wait_for_ever(
    clean_server: EmbeddedServer, admin: redis.Redis, drain: float
) -> None:
    pool = await pool_at(clean_server, client_name="waiter")
    pubsub: Any = pool.client.pubsub()
    await pubsub.subscribe("news")

    async def listen() -> None:
        async for _ in pubsub.listen():
            pass

    pop = asyncio.ensure_future(pool.client.blpop(["list"], timeout=0))
    listening = asyncio.ensure_future(listen())
    await until(lambda: blocked(admin) == 1)
    await pool.close(drain=drain)
    with pytest.raises(ConnectionLost, match="was closed") as caught:
        await pop
    assert outcome_of(caught.value) is Outcome.UNKNOWN
    with pytest.raises(redis.ConnectionError):  # it would come back, and may not
        await listening
    await pubsub.aclose()
    await until(lambda: not clients_named(admin, "waiter"))


@pytest.mark.parametrize("how", ["cancel", "timeout"])
async def test_abandoning_one_closes_its_connection_and_loses_nothing(
    clean_server: EmbeddedServer, admin: redis.Redis, how: str
) -> None:
    async with pool_at(clean_server, client_name="blocker") as pool:
        await pool.client.ping()
        for number in range(3):
            pop = asyncio.ensure_future(pool.client.blpop(["list"], timeout=0))
            await until(lambda: blocked(admin) == 1)
            assert len(clients_named(admin, "blocker")) == 2
            if how == "cancel":
                pop.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await pop
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pop, 0.01)
            assert pool.status().size == 1
            await until(lambda: blocked(admin) == 0)
            assert len(clients_named(admin, "blocker")) == 1
            # Nobody is there to take it.
            admin.rpush("list", number)
            assert admin.lpop("list") == str(number)
        assert pool.metrics().errors == {}


async def test_abandoned_before_it_has_a_connection(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy, pool_max_size=1) as pool:
        async with pool.get():
            waiting = asyncio.ensure_future(pool.client.blpop(["list"], timeout=0))
            await until(lambda: pool.status().waiting == 1)
            waiting.cancel()
            await asyncio.wait([waiting])
        assert pool.status().waiting == 0
        proxy.stall()
        async with pool.get() as conn:
            connecting = asyncio.ensure_future(pool.client.blpop(["list"], timeout=0))
            await asyncio.sleep(0)
            taken: Any = conn.take()
        await proxy.wait_accepted(2)
        connecting.cancel()
        await asyncio.wait([connecting])
        proxy.restore()
        await taken.aclose()
        assert pool.status().size == 0
        assert await pool.client.rpush("list", "x") == 1
        assert admin.llen("list") == 1


async def test_the_connection_is_used_again_afterwards(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy) as pool:
        for _ in range(5):
            await pool.client.rpush("list", "x")
            assert await pool.client.blpop(["list"], timeout=0) == (b"list", b"x")
            assert await pool.client.blpop(["list"], timeout=0.01) is None
        assert proxy.accepted == 2


async def test_the_server_restarts_while_they_wait(start_server: StartServer) -> None:
    """An element may have been taken on their behalf: they are told, at once, and not repeated."""
    server = await start_server(appendonly=True)
    async with pool_at(server, retry_delay_ms=10, max_retries=1000) as pool:
        with redis.Redis.from_url(server.url) as own:
            waiting = [
                asyncio.ensure_future(pool.client.blpop(["list"], timeout=0)) for _ in range(3)
            ]
            await until(lambda: blocked(own) == 3)
        await server.kill()
        async with asyncio.timeout(2):
            errors = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(error, ConnectionLost) for error in errors)
        assert {outcome_of(e) for e in errors if isinstance(e, ConnectionLost)} == {Outcome.UNKNOWN}
        await server.start()
        assert await pool.client.rpush("list", "x") == 1
        assert await pool.client.blpop(["list"], timeout=0) == (b"list", b"x")


async def test_more_than_there_are_connections_wait_their_turn(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, pool_max_size=3) as pool:
        await pool.client.ping()
        pops = [asyncio.ensure_future(pool.client.blpop(["list"], timeout=0)) for _ in range(10)]
        await until(lambda: blocked(admin) == 2)
        with pytest.raises(PoolTimeout) as caught:
            await pool.client.with_timeout(0.05).blpop(["list"], timeout=0)
        assert caught.value.outcome is Outcome.NOT_SENT
        for number in range(10):
            await pool.client.rpush("list", number)
        answers = await asyncio.gather(*pops)
        assert set(answers) == {(b"list", b"%d" % number) for number in range(10)}


async def test_on_a_single_connection_it_is_that_one(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server, single_connection_client=True, client_name="one") as client:
        assert isinstance(client, Redis)
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=0))
        await until(lambda: blocked(admin) == 1)
        assert len(clients_named(admin, "one")) == 1
        admin.rpush("list", "x")
        assert await waiting == (b"list", b"x")


async def test_in_a_pipeline(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    """In a transaction they do not block; in a plain one they have a connection of their own."""
    async with pool_at(clean_server) as pool:
        assert await piped(pool.client, True, ("BLPOP", "list", 0)).execute() == [None]
        plain = piped(pool.client, False, ("BLPOP", "list", 0), ("GET", "k"))
        waiting = asyncio.create_task(plain.execute())
        await until(lambda: blocked(admin) == 1)
        assert await pool.client.set("k", "v") is True
        await pool.client.rpush("list", "x")
        assert await waiting == [(b"list", b"x"), b"v"]
