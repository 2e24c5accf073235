"""Whatever was wrong, and however long: a second after its end everything works again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import ConfigError, PoolTimeout, RedisPool, create_redis_pool
from redisutils.connection.protocol import Connection
from redisutils.pool import manager, scouting
from redisutils.retry import LONGEST_PAUSE, Backoff, Reconnecting, RetryPolicy
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import our_tasks, pool_at, until
from .peers import Wire

# Seconds pass by in these: on one loop they prove as much as on two.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

LASTING = 1.5
"""Seconds for which each fault lasts: longer than any attempt to look whether it is over."""

WITHIN = 1.0 + 1.0
"""Seconds: the promise, and room for a machine that does other things too. Without what holds it,
each of these takes five to twenty."""

QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}

Switch = Callable[[EmbeddedServer, FaultProxy], Awaitable[None]]


async def _nothing(server: EmbeddedServer, proxy: FaultProxy) -> None:
    pass


async def _blackhole(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.blackhole()


async def _stall(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.stall()


async def _refuse(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()


async def _freeze(server: EmbeddedServer, proxy: FaultProxy) -> None:
    await server.pause()


async def _thaw(server: EmbeddedServer, proxy: FaultProxy) -> None:
    await server.resume()


async def _kill(server: EmbeddedServer, proxy: FaultProxy) -> None:
    await server.kill()


async def _start(server: EmbeddedServer, proxy: FaultProxy) -> None:
    await server.start()


async def _drip(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.to_client.latency = 30.0


async def _swallow(server: EmbeddedServer, proxy: FaultProxy) -> None:
    proxy.swallow_replies()


FAULTS: dict[str, tuple[Switch, Switch]] = {
    "blackhole": (_blackhole, _nothing),
    "stall": (_stall, _nothing),
    "refused": (_refuse, _nothing),
    "frozen server": (_freeze, _thaw),
    "killed server": (_kill, _start),
    "answers half a minute late": (_drip, _nothing),
    "answers lost": (_swallow, _nothing),
}


@asynccontextmanager
async def _used(pool: RedisPool) -> AsyncIterator[None]:
    """The pool is in use all the time, and nobody minds errors."""

    async def command() -> None:
        await pool.client.with_timeout(0.5).get("k")

    async def checkout() -> None:
        async with asyncio.timeout(0.5), pool.get() as connection:
            await connection.ping()

    async def over_and_over(use: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await use()
            except (redis.RedisError, TimeoutError):
                pass
            await asyncio.sleep(0.05)

    users = [asyncio.create_task(over_and_over(use)) for use in [command, checkout] * 4]
    try:
        yield
    finally:
        for user in users:
            user.cancel()
        await asyncio.wait(users)


async def _recovery(kind: str, name: str) -> dict[str, float]:
    """Seconds from the end of a fault until each use of the pool works again."""
    begin, end = FAULTS[name]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer(kind))
        proxy = await stack.enter_async_context(FaultProxy(server.host, server.port))
        # A backoff so long that waiting for its end would be seen.
        backoff = {"retry_delay_ms": 20_000, "retry_max_delay_ms": 20_000}
        pool = await stack.enter_async_context(pool_at(server, proxy, pool_max_size=20, **backoff))
        await asyncio.gather(*(pool.lane(lane).ping() for lane in ("default", "orders")))
        for lease in [await pool.get() for _ in range(5)]:
            lease.release()
        async with _used(pool):
            await begin(server, proxy)
            await asyncio.sleep(LASTING)
            await end(server, proxy)
            proxy.restore()
            ended = monotonic()

            async def checkout() -> None:
                async with pool.get() as connection:
                    await connection.ping()

            patient = pool.client.with_timeout(20)
            uses: dict[str, Awaitable[Any]] = {
                "read": patient.get("k"),
                "idempotent write": patient.set("k", "v"),
                "lane": pool.lane("orders").with_timeout(20).get("k"),
                "checkout": checkout(),
                "blocking": patient.blpop(["none"], timeout=0.001),
            }

            async def took(use: Awaitable[Any]) -> float:
                await use
                return monotonic() - ended

            return dict(zip(uses, await asyncio.gather(*map(took, uses.values())), strict=True))


async def test_within_a_second(server_kind: str) -> None:
    """All faults at once, each with a server and a pool of its own: it is their clocks that take
    the time."""
    recoveries = await asyncio.gather(*(_recovery(server_kind, name) for name in FAULTS))
    late = {
        f"{name}, {use}": round(seconds, 2)
        for name, recovery in zip(FAULTS, recoveries, strict=True)
        for use, seconds in recovery.items()
        if seconds > WITHIN
    }
    assert not late


# -- scouts ------------------------------------------------------------------


async def test_one_that_gets_through_frees_everyone_who_hangs(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Ten connections are being made when the network falls silent, and hang for good. A scout
    gets through, and nobody waits for the end of what hangs."""
    async with pool_at(server, proxy, connection_timeout=60) as pool:
        proxy.blackhole()
        opening = [asyncio.ensure_future(pool.get()) for _ in range(10)]
        await proxy.wait_accepted(10)
        proxy.restore()
        async with asyncio.timeout(10):
            leases = await asyncio.gather(*opening)
        for lease in leases:
            assert await lease.ping() is True
        # Ten that hung, the scout's one, and one for each of the nine others.
        # A machine that is slow itself has more scouts.
        assert 20 <= proxy.accepted < 40
        await proxy.wait_active(10)
        assert pool.status().size == 10
        for lease in leases:
            lease.release()
    await proxy.wait_active(0)


async def test_a_slow_server_is_waited_for(
    proxy: FaultProxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake longer than a scout's patience succeeds all the same, and there is never more
    than one scout."""
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.05)
    monkeypatch.setattr(scouting, "SCOUT_FOR", 0.1)
    proxy.to_client.latency = 0.4
    async with pool_at(server, proxy, pool_max_size=4) as pool:
        started = monotonic()
        leases = await asyncio.gather(*(pool.get() for _ in range(3)))
        took = monotonic() - started
        scouts = proxy.accepted - 3
        proxy.restore()
        assert [await lease.ping() for lease in leases] == [True] * 3
        for lease in leases:
            lease.release()
        assert 1 <= scouts <= took / 0.1 + 1
        await proxy.wait_active(3)
        assert standalone(pool).pool.in_use == 0


@pytest.mark.parametrize("size", [1, 4])
async def test_a_server_slower_than_every_scout_is_reached(
    proxy: FaultProxy, server: EmbeddedServer, size: int
) -> None:
    """With little more time than it takes, and in a pool that has no room to spare."""
    async with pool_at(server, proxy, command_timeout=1.0, pool_max_size=size) as pool:
        proxy.to_client.latency = 0.8
        assert await pool.client.with_timeout(1.9).get("k") is None
        assert proxy.accepted <= 3


async def test_a_full_pool_recovers_as_soon(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """Its lane lost the connection and is connecting; the other places are taken."""
    async with pool_at(server, proxy, pool_max_size=3) as pool:
        await pool.client.ping()
        async with pool.get(), pool.get():
            proxy.blackhole()
            proxy.reset()
            waiting = asyncio.ensure_future(pool.client.with_timeout(30).get("k"))
            await asyncio.sleep(2 * LASTING)
            proxy.restore()
            ended = monotonic()
            assert await waiting is None
            assert monotonic() - ended < WITHIN


async def test_nothing_of_an_attempt_is_left_when_a_pool_is_closed(
    proxy: FaultProxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.0)
    proxy.blackhole()
    before = asyncio.all_tasks()
    async with pool_at(server, proxy) as pool:
        waiting = asyncio.ensure_future(pool.client.get("k"))
        await proxy.wait_accepted(2)
    assert our_tasks() <= {*before, waiting}
    with pytest.raises(redis.ConnectionError):
        await waiting


async def test_scouts_end_with_those_who_wait(
    proxy: FaultProxy, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.0)
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    async with pool_at(server, proxy) as pool:
        proxy.blackhole()
        idle = asyncio.all_tasks()
        opening = [asyncio.ensure_future(pool.get()) for _ in range(3)]
        await proxy.wait_accepted(4)
        for task in opening:
            task.cancel()
        await asyncio.wait(opening)
        assert pool.status().size == pool.status().waiting == 0
        await proxy.wait_active(0)
        await until(lambda: asyncio.all_tasks() <= idle, "the end of the scout")
        proxy.restore()
        assert await pool.client.ping() is True
    await proxy.wait_active(0)
    await until(lambda: asyncio.all_tasks() <= before, "the end of all tasks")
    assert not complaints


async def test_what_a_scout_found_is_closed_if_he_who_waited_leaves_in_that_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.0)
    async with Wire() as wire:
        attempts = 0

        async def dial() -> Connection:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                await asyncio.Event().wait()
            asyncio.get_running_loop().call_soon(waiting.cancel)
            return wire.connection

        scouted = scouting.Scouted(dial)
        waiting = asyncio.create_task(scouted.dial())
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert attempts == 2
        assert wire.connection.closed


async def test_one_who_began_shortly_before_the_scout_is_not_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """He has not waited for long when the scout sets out, and has when it comes back."""
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.05)
    async with Wire() as one, Wire() as other:
        found = [one.connection, other.connection]
        attempts = 0

        async def dial() -> Connection:
            nonlocal attempts
            attempts += 1
            if attempts <= 2:
                await asyncio.Event().wait()
            if attempts == 3:
                await asyncio.sleep(0.1)
            return found.pop(0)

        scouted = scouting.Scouted(dial)
        first = asyncio.create_task(scouted.dial())
        await asyncio.sleep(0.02)
        second = asyncio.create_task(scouted.dial())
        async with asyncio.timeout(5):
            assert await first is one.connection
            assert await second is other.connection
        assert attempts == 4


# -- idle connections ----------------------------------------------------------


async def test_idle_connections_that_are_silent_are_not_waited_for_one_by_one(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with pool_at(server, proxy, health_check_interval=0) as pool:
        for lease in [await pool.get() for _ in range(8)]:
            lease.release()
        proxy.blackhole()
        proxy.restore()
        await asyncio.sleep(manager.FRESH_FOR + 0.05)  # until they have to show that they live
        started = monotonic()
        async with pool.get() as connection:
            assert await connection.ping() is True
        assert monotonic() - started < 3.0, "not even two of the eight may be waited for"
        await proxy.wait_active(1)  # the others were found out meanwhile
        assert proxy.accepted == 9


async def test_a_server_that_stands_still_for_a_moment_costs_one_idle_connection(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """The others are asked when it answers again, and stay."""
    async with pool_at(
        clean_server, command_timeout=1.0, pool_max_size=20, health_check_interval=0
    ) as pool:
        for lease in [await pool.get() for _ in range(20)]:
            lease.release()
        await asyncio.sleep(manager.FRESH_FOR + 0.05)
        await clean_server.pause()
        waiting = asyncio.ensure_future(pool.get())
        await asyncio.sleep(0.5)  # twice as long as it is waited for
        await clean_server.resume()
        async with await waiting as connection:
            assert await connection.ping() is True
        assert pool.status().size == 20
        assert len([lease for lease, _ in standalone(pool).pool.idle() if not lease.closed]) == 20


async def test_a_checkout_out_of_time_spoils_no_idle_connection(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    async with pool_at(server, proxy, health_check_interval=0) as pool:
        for lease in [await pool.get() for _ in range(8)]:
            lease.release()
        await asyncio.sleep(manager.FRESH_FOR + 0.05)
        proxy.to_client.latency = 0.2
        for timeout in (0.05, 0.001):
            with pytest.raises(PoolTimeout) as caught:
                _ = await pool.get(timeout=timeout)
            assert caught.value.phase == "recycle"
        assert pool.status().size >= 6
        proxy.restore()
        async with pool.get() as connection:
            assert await connection.ping() is True
        assert proxy.accepted == 8


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan"), "1"])
async def test_a_timeout_that_cannot_be_is_refused(
    clean_server: EmbeddedServer, timeout: Any
) -> None:
    async with pool_at(clean_server) as pool:
        async with pool.get():
            pass
        with pytest.raises(ConfigError, match="timeout"):
            _ = await pool.get(timeout=timeout)
        assert pool.status().size == 1


# -- attempts ----------------------------------------------------------------


def policy(mode: Any = "safe", delay: float = 100.0) -> RetryPolicy:
    return RetryPolicy(mode, 5, Backoff(base=delay, cap=delay))


async def test_attempts_between_those_of_the_backoff_count_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(random, "random", lambda: 0.5)
    reconnecting = Reconnecting()
    now = 1000.0
    counted = []
    for _ in range(100):
        counted.append(reconnecting.failed(policy(delay=8.0), now))
        assert reconnecting.pause <= LONGEST_PAUSE
        now += reconnecting.pause
    # Every six seconds, which are ten pauses and a part of one.
    assert counted == ([True] + [False] * 10) * 9 + [True]
    assert (reconnecting.attempts, reconnecting.failures) == (100, 10)
    assert reconnecting.times() == "100 times"


async def test_with_a_short_backoff_every_attempt_counts() -> None:
    reconnecting = Reconnecting()
    for attempt in range(1, 10):
        assert reconnecting.failed(policy(delay=0.01), now=1000.0)  # a clock that stands still, too
        assert reconnecting.failures == reconnecting.attempts == attempt
        assert 0 <= reconnecting.pause <= 0.01


async def test_an_attempt_counts_when_no_other_would_fare_better() -> None:
    reconnecting = Reconnecting()
    assert reconnecting.failed(policy(), now=0.0)
    assert reconnecting.failed(policy(), now=1e-9, final=True)
    assert reconnecting.failed(policy("never"), now=2e-9)
    assert reconnecting.failures == 3


async def test_callers_keep_their_retries_while_it_is_looked_more_often() -> None:
    """One retry, after half a minute on average: it is not spent within a second."""
    settings: dict[str, Any] = {
        "retry_delay_ms": 60_000,
        "retry_max_delay_ms": 60_000,
        "max_retries": 1,
    }
    async with (
        EmbeddedServer() as server,
        create_redis_pool(url=server.url, **settings) as pool,
    ):
        await server.kill()
        waiting = asyncio.ensure_future(pool.client.get("k"))
        blocking = asyncio.ensure_future(pool.client.blpop(["none"], timeout=0.001))
        await until(lambda: pool.metrics().errors.get("ConnectFailed", 0) >= 2)
        await server.start()
        async with asyncio.timeout(WITHIN):
            assert await waiting is None
            assert await blocking is None
