"""A command has one budget over waiting, connecting, sending, retrying and reading. Past it, it is
not sent any more.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import CommandTimeout, Outcome, Redis, RedisPool, create_redis_pool, outcome_of
from redisutils.connection import protocol
from redisutils.connection.embedded import free_port
from redisutils.pool import manager
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import piped, pool_at, until
from .peers import Wire

# 50 ms of the loop's time are allowed; the rest is for a machine that does other things too.
SLACK = 0.5
QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20, "max_retries": 1000}


async def run_out(awaitable: Awaitable[Any], budget: float) -> BaseException:
    """Its error, which came when the budget was over, and not much later."""
    started = monotonic()
    error: object = (await asyncio.gather(awaitable, return_exceptions=True))[0]
    took = monotonic() - started
    assert isinstance(error, redis.TimeoutError), f"{error!r} after {took:.3f} s"
    assert budget * 0.9 <= took < budget + SLACK, f"took {took:.3f} s of {budget} s: {error}"
    return error


async def _get(client: Redis) -> None:
    await client.get("k")


async def _incr(client: Redis) -> None:
    await client.incr("k")


async def _transaction(client: Redis) -> None:
    await piped(client, True, ("INCR", "k")).execute()


async def _watch(client: Redis) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch("k")


async def _blocking(client: Redis) -> None:
    await client.blpop(["list"], timeout=0.01)


USES = [_get, _incr, _transaction, _watch, _blocking]
Use = Callable[[Redis], Awaitable[None]]


@asynccontextmanager
async def _silent_from_the_start(pool: RedisPool, proxy: FaultProxy) -> AsyncIterator[None]:
    proxy.blackhole()
    yield


@asynccontextmanager
async def _silent_when_connected(pool: RedisPool, proxy: FaultProxy) -> AsyncIterator[None]:
    await pool.client.ping()
    async with pool.get():
        pass
    proxy.blackhole()
    yield


@asynccontextmanager
async def _refused(pool: RedisPool, proxy: FaultProxy) -> AsyncIterator[None]:
    proxy.refuse()
    yield


@asynccontextmanager
async def _hangs_up(pool: RedisPool, proxy: FaultProxy) -> AsyncIterator[None]:
    """Every command's connection is closed, over and over again."""
    proxy.swallow_replies(None, then="close")
    yield


@asynccontextmanager
async def _no_room(pool: RedisPool, proxy: FaultProxy) -> AsyncIterator[None]:
    """All connections are somebody else's."""
    async with pool.get(), pool.get():
        yield


MISFORTUNES = [_silent_from_the_start, _silent_when_connected, _refused, _hangs_up, _no_room]


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("misfortune", MISFORTUNES)
async def test_one_budget_over_all(
    proxy: FaultProxy, server: EmbeddedServer, misfortune: Any, use: Use
) -> None:
    settings = QUICK | {"pool_max_size": 2, "command_timeout": 30, "connection_timeout": 30}
    async with pool_at(server, proxy, **settings) as pool, misfortune(pool, proxy):
        client = pool.client.with_timeout(0.06)
        started = monotonic()
        (error,) = await asyncio.gather(use(client), return_exceptions=True)
        took = monotonic() - started
        assert isinstance(error, redis.ConnectionError | redis.TimeoutError), repr(error)
        assert outcome_of(error) is not None
        assert took < 0.06 + SLACK, f"{took:.3f} s: {error}"


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("misfortune", MISFORTUNES)
async def test_a_checkout_has_one_too(
    proxy: FaultProxy, server: EmbeddedServer, misfortune: Any
) -> None:
    settings = QUICK | {"pool_max_size": 2, "command_timeout": 30, "connection_timeout": 30}
    async with pool_at(server, proxy, **settings) as pool, misfortune(pool, proxy):
        # Idle connections have to show that they live.
        await asyncio.sleep(manager.FRESH_FOR + 0.05 if pool.status().available else 0)
        started = monotonic()
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as caught:
            _ = await pool.get(timeout=0.06)
        took = monotonic() - started
        assert outcome_of(caught.value) is Outcome.NOT_SENT
        assert took < 0.06 + SLACK, f"{took:.3f} s: {caught.value}"


async def test_a_view_may_have_more_than_the_pool(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with pool_at(server, proxy, **QUICK, command_timeout=0.05) as pool:
        proxy.refuse()
        waiting = asyncio.ensure_future(pool.client.with_timeout(5).ping())
        await run_out(pool.client.ping(), 0.05)
        await run_out(pool.client.ping(), 0.05)
        proxy.restore()
        assert await waiting is True


async def test_each_caller_has_its_own(proxy: FaultProxy, server: EmbeddedServer) -> None:
    async with pool_at(server, proxy, command_timeout=30) as pool:
        await pool.client.ping()
        connection = standalone(pool).lane().connection
        proxy.stall()
        budgets = [0.3, 0.05, 0.2, 0.1]
        await asyncio.gather(
            *(run_out(pool.client.with_timeout(budget).get("k"), budget) for budget in budgets)
        )
        waiting = asyncio.ensure_future(pool.client.get("k"))
        proxy.restore()
        assert await waiting is None  # the late answers before it were read and dropped
        assert standalone(pool).lane().connection is connection
        assert pool.metrics().timeouts == 4


async def test_each_keeps_its_own_when_the_connection_is_lost(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        await pool.client.ping()
        proxy.stall()
        brief = asyncio.create_task(run_out(pool.client.with_timeout(0.3).get("a"), 0.3))
        patient = asyncio.create_task(pool.client.with_timeout(3).get("b"))
        await until(lambda: standalone(pool).lane().depth == 2)
        proxy.blackhole()
        proxy.reset()
        assert outcome_of(await brief) is Outcome.UNKNOWN
        assert not patient.done()
        patient.cancel()


async def test_the_next_to_run_out_is_not_the_last_that_was_issued() -> None:
    async with Wire() as wire:
        brief, longer, patient = (wire.ask(timeout=timeout) for timeout in (0.02, 0.05, 60))
        async with asyncio.timeout(5):
            errors = await asyncio.gather(brief, longer, return_exceptions=True)
        assert [type(error) for error in errors] == [CommandTimeout] * 2
        await wire.say(b"+late\r\n+late\r\n+PONG\r\n")
        assert await patient == b"PONG"


@pytest.mark.asyncio(loop_factories=["uvloop"])  # where the alarm comes before the turn's write
async def test_what_ran_out_before_its_turn_was_over_is_not_written() -> None:
    async with Wire() as wire:
        first = wire.ask("FIRST", timeout=0.0)  # is written at once, and sets the alarm
        spent = wire.ask("SPENT", timeout=0.0)
        live = wire.ask("LIVE")
        errors = await asyncio.gather(first, spent, return_exceptions=True)
        assert [outcome_of(e) for e in errors if isinstance(e, CommandTimeout)] == [
            Outcome.UNKNOWN,
            Outcome.NOT_SENT,
        ]
        assert await wire.heard(2) == [[b"FIRST"], [b"LIVE"]]
        await wire.say(b"+one\r\n+two\r\n")
        assert await live == b"two"
        assert wire.metrics.timeouts == 2


async def test_a_frozen_server(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server, command_timeout=0.2, pool_max_size=4) as pool:
        await pool.client.ping()
        await clean_server.pause()
        started = monotonic()
        errors = await asyncio.gather(
            pool.client.incr("k"),
            pool.client.get("k"),
            piped(pool.client, True, ("INCR", "k")).execute(),
            return_exceptions=True,
        )
        assert 0.18 < monotonic() - started < 0.2 + SLACK
        # The first runs out of time, which ends the patience with the connection.
        assert isinstance(errors[0], CommandTimeout)
        assert {outcome_of(e) for e in errors if isinstance(e, Exception)} == {Outcome.UNKNOWN}
        await clean_server.resume()
        assert await pool.client.with_timeout(5).get("x") is None


async def test_an_answer_that_drips(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Something comes all the time, so the peer is not silent; the budget ends all the same."""
    admin.set("big", b"x" * 4_000_000)
    async with pool_at(server, proxy, command_timeout=30) as pool:
        await pool.client.ping()
        connection = standalone(pool).lane().connection
        proxy.to_client.fragment = 50
        error = await run_out(pool.client.with_timeout(0.2).get("big"), 0.2)
        assert outcome_of(error) is Outcome.UNKNOWN
        await run_out(pool.client.with_timeout(0.1).get("small"), 0.1)
        proxy.restore()
        assert await pool.client.get("small") is None  # after the rest of the big one
        assert standalone(pool).lane().connection is connection


async def test_full_socket_buffers(
    clean_server: EmbeddedServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server does not read. What is written fails as UNKNOWN; what had to wait for room fails
    as NOT_SENT, and never lands."""
    monkeypatch.setattr(protocol, "MAX_BYTES_IN_FLIGHT", 4_000_000)
    async with pool_at(clean_server, command_timeout=30, pool_max_size=1) as pool:
        await pool.client.ping()
        await clean_server.pause()
        big: list[asyncio.Future[int]] = []
        for i in range(20):
            append = pool.client.with_timeout(0.3).append(f"big:{i}", b"x" * 1_000_000)
            big.append(asyncio.ensure_future(append))
            await asyncio.sleep(0)  # the bound is looked at once a turn
        await asyncio.sleep(0)
        small = [
            asyncio.ensure_future(pool.client.with_timeout(0.1).incr(f"small:{i}"))
            for i in range(20)
        ]
        # Their clocks have begun; with a slow machine, a while ago.
        errors = await asyncio.gather(*(run_out(task, 0.0) for task in small))
        assert {outcome_of(error) for error in errors} == {Outcome.NOT_SENT}
        late = await asyncio.gather(*(run_out(task, 0.0) for task in big))
        outcomes = [outcome_of(error) for error in late]
        assert set(outcomes) == {Outcome.UNKNOWN, Outcome.NOT_SENT}
        await clean_server.resume()
        await pool.client.ping()
        landed = {key for key in admin.scan_iter() if key.startswith(("big", "small"))}
        assert landed <= {
            f"big:{i}" for i, outcome in enumerate(outcomes) if outcome is Outcome.UNKNOWN
        }


async def test_what_ran_out_while_it_waited_never_lands(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy, **QUICK, command_timeout=5) as pool:
        proxy.refuse()
        brief = pool.client.with_timeout(0.05)
        errors = await asyncio.gather(
            run_out(brief.incr("k"), 0.05),
            run_out(brief.set("k", "1"), 0.05),
            run_out(piped(brief, True, ("INCR", "k")).execute(), 0.05),
            run_out(piped(brief, False, ("INCR", "k")).execute(), 0.05),
        )
        assert {outcome_of(error) for error in errors} == {Outcome.NOT_SENT}
        assert pool.metrics().timeouts == len(errors)
        proxy.restore()
        assert await pool.client.ping() is True
        assert admin.get("k") is None


async def test_what_ran_out_within_a_turn_of_the_loop_is_told_as_it_is(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A task keeps the loop busy for longer than the budget of what it has just issued: whichever
    comes first in the next turn, the write or the alarm, the outcome is true."""
    async with pool_at(clean_server, command_timeout=5) as pool:
        await pool.client.ping()
        brief = pool.client.with_timeout(0.02)
        tasks = [asyncio.ensure_future(brief.rpush("list", str(i))) for i in range(10)]

        async def hog() -> None:
            time.sleep(0.05)  # noqa: ASYNC251  # the point of it

        hogging = asyncio.create_task(hog())
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await hogging
        assert await pool.client.ping() is True
        landed = admin.lrange("list", 0, -1)
        for number, result in enumerate(results):
            if isinstance(result, BaseException):
                assert isinstance(result, CommandTimeout)
                assert result.outcome is Outcome.UNKNOWN or str(number) not in landed
            else:
                assert str(number) in landed


async def test_retries_end_with_the_budget() -> None:
    """The backoff would be longer than what is left."""
    settings: dict[str, Any] = {"retry_delay_ms": 60_000, "retry_max_delay_ms": 60_000}
    async with create_redis_pool(host="127.0.0.1", port=free_port(), **settings) as pool:
        error = await run_out(pool.client.with_timeout(0.1).get("k"), 0.1)
        assert outcome_of(error) is Outcome.NOT_SENT


async def test_the_loop_is_left_clean(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """No task and no connection stays behind for a command that ran out."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.05) as pool:
        proxy.refuse()
        await run_out(pool.client.get("k"), 0.05)
        proxy.restore()
        assert await pool.client.with_timeout(5).get("k") is None
    await until(lambda: proxy.active == 0)
    await until(lambda: not _others(proxy), "the end of all tasks")


def _others(proxy: FaultProxy) -> set[asyncio.Task[Any]]:
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}
