"""Whoever has waited longest is next, and nobody who happens to run next can jump the queue."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisutils.errors import PoolTimeout
from redisutils.pool import scouting
from redisutils.testing import EmbeddedServer

from .ours import clients_named
from .things import Things, assert_whole, pool_at, pool_of, status, turns


async def test_the_longest_waiter_is_first() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    served: list[int] = []

    async def use(number: int) -> None:
        mine = await pool.get()
        served.append(number)
        await asyncio.sleep(0)
        mine.release()

    tasks = [asyncio.create_task(use(number)) for number in range(50)]
    await turns()
    lease.release()
    await asyncio.gather(*tasks)
    assert served == list(range(50))
    await assert_whole(pool, things)


@pytest.mark.parametrize("discard", [False, True])
async def test_what_is_given_back_does_not_go_to_the_one_who_gave_it_back(discard: bool) -> None:
    """He runs on and asks again before the woken waiter has run."""
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    waiter = asyncio.create_task(pool.get())
    await turns()
    lease.release(discard=discard)
    with pytest.raises(PoolTimeout):
        await pool.get(wait=0)
    again = asyncio.create_task(pool.get())
    await turns()
    assert waiter.done()
    assert not again.done()
    (await waiter).release()
    (await again).release()
    await assert_whole(pool, things)


async def test_tasks_that_ask_again_at_once_take_turns() -> None:
    """A pool that leaves it to chance lets one of them have it all."""
    pool = pool_of(Things(), 1)
    served: list[int] = []

    async def greedy(number: int) -> None:
        for _ in range(20):
            lease = await pool.get()
            served.append(number)
            lease.release()

    tasks = [asyncio.create_task(greedy(number)) for number in range(5)]
    lease = await pool.get()
    await turns()
    lease.release()
    await asyncio.gather(*tasks)
    # Nobody is served a second time while another of them waits for the first.
    assert served == [0, 1, 2, 3, 4] * 20


async def test_a_newcomer_goes_behind_those_who_wait_also_when_the_pool_grows() -> None:
    pool = pool_of(Things(), 1)
    lease = await pool.get()
    waiters = [asyncio.create_task(pool.get()) for _ in range(2)]
    await turns()
    pool.resize(2)
    with pytest.raises(PoolTimeout):
        await pool.get(wait=0)
    newcomer = asyncio.create_task(pool.get())
    lease.release()
    await turns()
    assert [waiter.done() for waiter in waiters] == [True, True]
    assert not newcomer.done()
    for each in (*waiters, newcomer):
        (await each).release()


async def test_those_who_give_up_do_not_hold_up_those_behind_them() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    row = [asyncio.create_task(pool.get(wait=0.02 if n % 2 else 60)) for n in range(10)]
    await asyncio.wait(row[1::2])
    assert status(pool) == (1, 0, 5)
    order: list[asyncio.Task[Any]] = []
    for task in row[::2]:
        task.add_done_callback(order.append)
    lease.release()
    for task in row[::2]:
        (await task).release()
    assert order == row[::2]
    for task in row[1::2]:
        assert isinstance(task.exception(), PoolTimeout)
    await assert_whole(pool, things)


async def test_a_thousand_who_wait_in_vain_are_told_in_time() -> None:
    pool = pool_of(Things(), 1)
    lease = await pool.get()
    loop = asyncio.get_running_loop()
    started = loop.time()
    results = await asyncio.gather(
        *(pool.get(wait=0.1) for _ in range(1000)), return_exceptions=True
    )
    took = loop.time() - started
    assert all(isinstance(result, PoolTimeout) for result in results)
    assert 0.09 <= took < 3.0  # a loop in debug mode takes a second to start so many
    assert status(pool) == (1, 0, 0)
    assert pool.metrics.waits == 1000
    assert not pool._permits.waiting  # what nobody waits for is not kept
    lease.release()


# -- over a real server --


async def test_a_thousand_callers_on_ten_connections(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All are served, first come first served, and the server never sees an eleventh socket."""
    # On a busy machine a thousand tasks take as long to start as a network takes to be mended.
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 60.0)
    before = admin.info("stats")["total_connections_received"]
    async with pool_at(clean_server, client_name="crowd", health_check_interval=0) as pool:
        served: list[int] = []
        seen: list[int] = []

        async def call(number: int) -> None:
            async with pool.get() as connection:
                served.append(number)
                await connection.execute("INCR", "calls")
                if number % 100 == 50:
                    seen.append(len(clients_named(admin, "crowd")))

        await asyncio.gather(*(call(number) for number in range(1000)))
        # The first ten connect, and may be done with that in any order, and late.
        assert sorted(number for number in served if number < 10) == list(range(10))
        assert [number for number in served if number >= 10] == list(range(10, 1000))
        assert len(seen) == 10
        assert max(seen) <= 10
        assert pool.status().size == pool.status().available == 10
        assert pool.metrics().waits == 990
    assert int(admin.get("calls")) == 1000
    assert admin.info("stats")["total_connections_received"] - before == 10


async def test_commands_that_block_share_the_pool_fairly_with_everybody(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    """A pool of two: one for the lane, one for everything that needs a connection of its own."""
    async with pool_at(clean_server, pool_max_size=2) as pool:
        await pool.client.ping()
        order: list[str] = []

        async def pop(name: str) -> None:
            await pool.client.blpop(["list"], timeout=5)
            order.append(name)

        async def borrow(name: str) -> None:
            async with pool.get() as connection:
                await connection.execute("PING")
                order.append(name)

        tasks = []
        for name, use in (("a", pop), ("b", borrow), ("c", pop), ("d", borrow)):
            tasks.append(asyncio.create_task(use(name)))
            await turns()
        for _ in range(2):
            await pool.client.rpush("list", "item")
        await asyncio.gather(*tasks)
        assert order == ["a", "b", "c", "d"]


async def test_waiters_for_a_connection_time_out_in_time_while_it_is_used(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=1, pool_timeout=0.1) as pool:
        async with pool.get() as connection:
            loop = asyncio.get_running_loop()
            started = loop.time()
            waiting = asyncio.gather(*(_attempt(pool) for _ in range(100)), return_exceptions=True)
            while not waiting.done():
                await connection.execute("PING")
            assert loop.time() - started < 0.5
            assert {type(result) for result in await waiting} == {PoolTimeout}
        async with pool.get() as connection:
            assert await connection.execute("PING")


async def _attempt(pool: Any) -> None:
    await pool.get()
