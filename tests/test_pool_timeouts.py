"""Each phase of a checkout has a time of its own, and says so when it is over."""

from __future__ import annotations

import asyncio
import time
from time import monotonic, sleep

import pytest
import redis

from redisutils import create_redis_pool
from redisutils.errors import Outcome, PoolTimeout
from redisutils.pool.pool import Timeouts
from redisutils.testing import EmbeddedServer, FaultProxy

from .things import Gate, Thing, Things, assert_whole, pool_at, pool_of, status, turns

SHORT = 0.02
"""A time that is to run out, s."""


def hold_up(seconds: float) -> None:
    """Block the loop, as a program does that computes something in it."""
    sleep(seconds)


async def test_wait() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    started = asyncio.get_running_loop().time()
    with pytest.raises(PoolTimeout) as caught:
        await pool.get(wait=SHORT)
    assert asyncio.get_running_loop().time() - started >= SHORT * 0.9
    assert caught.value.phase == "wait"
    assert caught.value.outcome is Outcome.NOT_SENT
    assert isinstance(caught.value, redis.TimeoutError)
    assert isinstance(caught.value, redis.exceptions.MaxConnectionsError)
    assert status(pool) == (1, 0, 0)
    lease.release()
    await assert_whole(pool, things)


async def test_wait_of_nought_tries_once_without_a_turn_of_the_loop() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get(wait=0)
    attempt = pool.get(wait=0)
    with pytest.raises(PoolTimeout) as caught:
        attempt.send(None)  # a coroutine that awaited anything would yield here
    assert caught.value.phase == "wait"
    assert pool.metrics.waits == 0
    lease.release()
    await assert_whole(pool, things)


async def test_the_time_to_wait_is_over_for_one_and_not_for_another() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    patient = asyncio.create_task(pool.get(wait=60))
    hasty = asyncio.create_task(pool.get(wait=SHORT))
    with pytest.raises(PoolTimeout):
        await hasty
    assert status(pool) == (1, 0, 1)
    lease.release()
    (await patient).release()
    await assert_whole(pool, things)


async def test_a_place_that_comes_free_as_the_time_runs_out_is_not_lost() -> None:
    """In one turn of the loop: the waiter has been told that its time is over, and then a thing
    comes back."""
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    loop = asyncio.get_running_loop()
    first = asyncio.create_task(pool.get(wait=SHORT))
    second = asyncio.create_task(pool.get())
    await turns()
    loop.call_at(loop.time() + SHORT, lambda: loop.call_soon(lease.release))
    with pytest.raises(PoolTimeout):
        await first
    (await second).release()
    await assert_whole(pool, things)


async def test_time_that_runs_out_as_a_place_comes_free_takes_nothing_away() -> None:
    """In one turn of the loop: a thing comes back, and then the waiter's alarm, due as well."""
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    loop = asyncio.get_running_loop()
    complaints: list[object] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    waiter = asyncio.create_task(pool.get(wait=SHORT))
    await turns()
    loop.call_later(SHORT * 0.3, time.sleep, SHORT * 2)  # until both are due
    loop.call_later(SHORT * 0.7, lease.release)
    (await waiter).release()
    await assert_whole(pool, things)
    assert not complaints


async def test_create_and_its_hook() -> None:
    for phase in ("create", "post_create"):
        things = Things()
        pool = pool_of(things, 1, hooks=True)
        things.parts[phase] = Gate()
        with pytest.raises(PoolTimeout, match=r"making a connection took longer") as caught:
            await pool.get(create=SHORT)
        assert caught.value.phase == "create"
        assert status(pool) == (0, 0, 0)
        assert things.alive == 0
        await assert_whole(pool, things)


@pytest.mark.parametrize("phase", ["create", "post_create"])
@pytest.mark.parametrize("bound", [60.0, float("inf")])
async def test_a_timeout_of_the_managers_own_is_not_taken_for_the_pools(
    phase: str, bound: float
) -> None:
    things = Things()
    pool = pool_of(things, 1, hooks=True)

    def time_out(thing: Thing | None) -> None:
        raise TimeoutError("ETIMEDOUT")

    things.parts[phase] = time_out
    with pytest.raises(TimeoutError, match="ETIMEDOUT") as caught:
        await pool.get(create=bound)
    assert not isinstance(caught.value, PoolTimeout)
    await assert_whole(pool, things)


@pytest.mark.parametrize("phase", ["pre_recycle", "recycle", "post_recycle"])
async def test_a_recycle_that_takes_too_long_only_discards(phase: str) -> None:
    things = Things()
    pool = pool_of(things, 2, hooks=True, timeouts=Timeouts(recycle=SHORT))
    leases = [await pool.get() for _ in range(2)]
    for lease in leases:
        lease.release()
    things.parts[phase] = Gate()
    lease = await pool.get()
    assert lease.item.number == 2
    assert [thing.closings for thing in things.made] == [1, 1, 0]
    assert status(pool) == (1, 0, 0)
    lease.release()
    await assert_whole(pool, things)


@pytest.mark.parametrize("hooks", [False, True])
async def test_a_recycle_that_takes_too_long_without_hooks_only_discards(hooks: bool) -> None:
    things = Things()
    pool = pool_of(things, 1, hooks=hooks)
    (await pool.get()).release()
    things.parts["recycle"] = Gate()
    assert (await pool.get(recycle=SHORT)).item.number == 1


async def test_no_time_at_all_for_anything() -> None:
    things = Things()
    pool = pool_of(things, 16, timeouts=Timeouts(wait=0, create=0, recycle=0))
    things.parts["create"] = Gate()
    with pytest.raises(PoolTimeout) as caught:
        await pool.get()
    assert caught.value.phase == "create"
    await assert_whole(pool, things)


async def test_arguments_of_get_go_before_the_pools_timeouts() -> None:
    things = Things()
    pool = pool_of(things, 1, timeouts=Timeouts(wait=60, create=60, recycle=60))
    things.parts["create"] = Gate()
    with pytest.raises(PoolTimeout):
        await pool.get(create=SHORT)
    pool.timeouts = Timeouts(create=SHORT)  # may be replaced
    with pytest.raises(PoolTimeout):
        await pool.get()


async def test_a_total_bounds_all_phases_together() -> None:
    things = Things()
    pool = pool_of(things, 1)
    things.parts["create"] = lambda _: asyncio.sleep(SHORT)
    lease = await pool.get(wait=0, create=60, total=60)
    with pytest.raises(PoolTimeout) as caught:
        await pool.get(wait=60, total=SHORT)
    assert caught.value.phase == "wait"
    things.parts["create"] = Gate()
    asyncio.get_running_loop().call_later(SHORT, lambda: lease.release(discard=True))
    with pytest.raises(PoolTimeout) as caught:
        await pool.get(wait=60, create=60, total=3 * SHORT)
    assert caught.value.phase == "create"
    await assert_whole(pool, things)


async def test_a_timeout_does_not_swallow_a_cancellation() -> None:
    things = Things()
    pool = pool_of(things, 1)
    gate = things.parts["create"] = Gate()
    task = asyncio.create_task(pool.get(create=60))
    await turns()
    assert gate.entered
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await assert_whole(pool, things)


# -- over a real server --


async def test_pool_get_names_the_phase_and_who_holds_the_connections(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=2, pool_timeout=SHORT) as pool:
        await pool.lane("orders").ping()
        async with pool.get():
            with pytest.raises(
                PoolTimeout, match=r"all 2 are in use.*1 of them by lanes: 'orders'"
            ):
                await pool.get()
            with pytest.raises(PoolTimeout) as caught:
                await pool.get(timeout=0)
            assert caught.value.phase == "wait"
        (await pool.get(timeout=0)).release()


async def test_a_server_that_accepts_and_says_nothing(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    proxy.blackhole()
    timeouts = Timeouts(create=SHORT)
    async with pool_at(clean_server, proxy, timeouts=timeouts, health_check_interval=0) as pool:
        started = monotonic()
        with pytest.raises(PoolTimeout) as caught:
            await pool.get()
        assert monotonic() - started < 1.0
        assert caught.value.phase == "create"
        assert f":{proxy.port}" in str(caught.value)
        assert pool.status().size == pool.status().waiting == 0
        await proxy.wait_active(0)
        proxy.restore()
        pool.timeouts = Timeouts(create=10)
        async with pool.get() as connection:
            assert await connection.ping()


async def test_replaced_timeouts_bound_what_clients_check_out_by_themselves(
    clean_server: EmbeddedServer,
) -> None:
    async with create_redis_pool(url=clean_server.url, pool_max_size=1) as pool:
        async with pool.get():
            pool.timeouts = Timeouts(wait=SHORT)
            with pytest.raises(PoolTimeout) as caught:
                await pool.client.blpop("queue", 5)
        assert caught.value.phase == "wait"


async def test_a_stale_connection_that_no_longer_answers_is_replaced_within_the_recycle_time(
    clean_server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not one caller ever sees it: peers hand such connections out."""
    monkeypatch.setattr("redisutils.pool.manager.FRESH_FOR", 0.0)
    timeouts = Timeouts(recycle=SHORT)
    async with pool_at(clean_server, proxy, timeouts=timeouts, health_check_interval=0) as pool:
        connections = [await pool.get() for _ in range(3)]
        for connection in connections:
            connection.release()
        proxy.blackhole()
        proxy.restore()  # those three stay silent, a new one works
        async with pool.get() as connection:
            assert await connection.execute("PING") is True
        assert pool.status().size == 1
        assert pool.metrics().connections_discarded == 3


async def test_a_permit_that_comes_at_the_last_moment_counts() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    waiting = asyncio.create_task(pool.get(wait=SHORT))
    await turns()
    lease.release()
    hold_up(2 * SHORT)  # the time is over before the loop turns again
    (await waiting).release()
    await assert_whole(pool, things)
