"""Cancelling a checkout, or failing it, at any await of any phase leaves nothing behind.

Every hook and phase, each with two awaits, by every way in which one can end before its time,
with and without somebody who waits behind. Afterwards size, users and permits are what they were.
"""

from __future__ import annotations

import asyncio
import gc
import os
import types
from collections.abc import Awaitable, Callable, Generator
from typing import Any

import pytest

from redisutils.connection.dial import dial
from redisutils.errors import PoolClosed
from redisutils.metrics import PoolMetrics
from redisutils.pool.pool import Pool
from redisutils.testing import EmbeddedServer
from tests.ours import standalone

from .ours import clients_named, until
from .things import PHASES, Refused, Thing, Things, assert_whole, pool_at, pool_of, status, turns


class TwoAwaits:
    """A part with two awaits, each of which lasts until the test lets it pass."""

    def __init__(self) -> None:
        self.reached: list[asyncio.Future[None]] = []

    async def __call__(self, thing: Thing | None) -> None:
        for _ in range(2):
            self.reached.append(asyncio.get_running_loop().create_future())
            await self.reached[-1]


async def _reach(part: TwoAwaits, position: int) -> asyncio.Future[None]:
    """Let the checkout come to the await at ``position``; what that one waits for."""
    await turns()
    for past in range(position):
        part.reached[past].set_result(None)
        await turns()
    assert len(part.reached) == position + 1
    return part.reached[position]


def _cancel(task: asyncio.Task[Any], awaited: asyncio.Future[None]) -> None:
    task.cancel()


def _cancel_when_done(task: asyncio.Task[Any], awaited: asyncio.Future[None]) -> None:
    """In one turn: what it waits for is done, and it is cancelled before it hears of it."""
    awaited.set_result(None)
    task.cancel()


def _cancel_when_failed(task: asyncio.Task[Any], awaited: asyncio.Future[None]) -> None:
    awaited.set_exception(Refused())
    task.cancel()


def _fail(task: asyncio.Task[Any], awaited: asyncio.Future[None]) -> None:
    awaited.set_exception(Refused())


WAYS = [_cancel, _cancel_when_done, _cancel_when_failed, _fail]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__.lstrip("_"))
@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("bound", [60.0, float("inf")], ids=["bounded", "unbounded"])
async def test_every_phase(
    phase: str,
    position: int,
    way: Callable[[asyncio.Task[Any], asyncio.Future[None]], None],
    bound: float,
) -> None:
    for others_wait in (False, True):
        things = Things()
        pool = pool_of(things, 1, hooks=True)
        if "recycle" in phase:
            (await pool.get()).release()
        part = things.parts[phase] = TwoAwaits()
        task = asyncio.create_task(pool.get(create=bound, recycle=bound))
        awaited = await _reach(part, position)
        waiters = [asyncio.create_task(pool.get()) for _ in range(2 * others_wait)]
        await turns()
        assert pool.in_use == 1
        del things.parts[phase]
        way(task, awaited)
        if way is _fail and "recycle" in phase:
            lease = await task  # which is no affair of the caller's: it gets another
            assert lease.item.number == 1
            lease.release()
        else:
            with pytest.raises(Refused if way is _fail else asyncio.CancelledError):
                await task
        for waiter in waiters:
            (await waiter).release()
        assert all(thing.closings <= 1 for thing in things.made)
        await assert_whole(pool, things)
        await asyncio.wait_for(pool.drained(), 1)


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("phase", PHASES)
async def test_the_things_that_were_there_stay(phase: str, position: int) -> None:
    """Only the one that was being made or checked is lost, not its neighbours."""
    things = Things()
    pool = pool_of(things, 4, hooks=True)
    held = await pool.get()
    spares = [await pool.get() for _ in range(2)] if "recycle" in phase else []
    for spare in spares:
        spare.release()
    part = things.parts[phase] = TwoAwaits()
    task = asyncio.create_task(pool.get())
    assert not (await _reach(part, position)).done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert status(pool) == ((2, 1, 0) if spares else (1, 0, 0))
    assert pool.in_use == 1
    assert held.item.closings == 0
    held.release()
    await assert_whole(pool, things)


async def test_waiting() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    tasks = [asyncio.create_task(pool.get()) for _ in range(4)]
    await turns()
    for cancelled in (tasks[0], tasks[2]):
        cancelled.cancel()
    await turns()
    assert status(pool) == (1, 0, 2)
    lease.release()
    for task in (tasks[1], tasks[3]):
        (await task).release()
    await assert_whole(pool, things)


@pytest.mark.parametrize("order", ["cancel first", "release first"])
@pytest.mark.parametrize("others_wait", [False, True])
async def test_cancelled_in_the_turn_in_which_the_place_came_free(
    order: str, others_wait: bool
) -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    task = asyncio.create_task(pool.get())
    other = asyncio.create_task(pool.get()) if others_wait else None
    await turns()
    if order == "cancel first":
        task.cancel()
        lease.release()
    else:
        lease.release()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if other is not None:
        (await other).release()
    await assert_whole(pool, things)


async def test_a_whole_row_is_cancelled_in_the_turn_in_which_places_come_free() -> None:
    things = Things()
    pool = pool_of(things, 3)
    leases = [await pool.get() for _ in range(3)]
    tasks = [asyncio.create_task(pool.get()) for _ in range(9)]
    await turns()
    for lease in leases:
        lease.release()
    for task in tasks[:6]:
        task.cancel()
    await turns(30)
    assert [task.cancelled() for task in tasks] == [True] * 6 + [False] * 3
    for task in tasks[6:]:
        (await task).release()
    await assert_whole(pool, things)


async def test_cancelled_and_closed_in_one_turn() -> None:
    pool = pool_of(Things(), 1)
    lease = await pool.get()
    tasks = [asyncio.create_task(pool.get()) for _ in range(2)]
    await turns()
    tasks[0].cancel()
    pool.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert isinstance(results[1], PoolClosed)
    lease.release()
    await pool.drained()
    assert pool.in_use == pool.status().size == 0


async def test_a_storm() -> None:
    """Tasks that give up after so many turns of the loop, again and again, on slow things."""
    things = Things()
    pool = pool_of(things, 2, hooks=True)

    async def slow(thing: Thing | None) -> None:
        for _ in range(1 + len(things.log) % 3):
            await asyncio.sleep(0)
        if len(things.log) % 7 == 0:
            raise Refused

    things.parts.update(dict.fromkeys(PHASES, slow))

    async def use(patience: int) -> None:
        for _ in range(15):
            task = asyncio.create_task(pool.get())
            await turns(patience)
            task.cancel()
            try:
                lease = await task
            except (Refused, asyncio.CancelledError):
                continue
            assert things.alive <= pool.status().size <= 2
            await asyncio.sleep(0)
            lease.release()

    await asyncio.gather(*(use(patience) for patience in range(24)))
    assert sum(thing.closings for thing in things.made) == len(things.made) - things.alive
    await assert_whole(pool, things)


# -- over a real server: each await of a real connect, handshake and check --


@types.coroutine
def _cancelled_at(awaitable: Awaitable[Any], at: int) -> Generator[Any, Any, Any]:
    """Await it, and have the running task cancelled at its ``at``-th suspension."""
    inner = awaitable.__await__()
    step = inner.__next__
    suspensions = 0
    while True:
        try:
            awaited = step()
        except StopIteration as done:
            return done.value
        suspensions += 1
        if suspensions == at:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
        try:
            yield awaited
        except BaseException as error:  # noqa: BLE001  # all of it is the inner one's
            thrown = error
            step = lambda: inner.throw(thrown)  # noqa: E731, B023  # called before the next turn
        else:
            step = inner.__next__


async def _cancel_at_each_await(pool: Any, prepare: Callable[[], Awaitable[object]]) -> int:
    inner: Pool[Any] = standalone(pool).pool
    for at in range(1, 100):
        await prepare()
        size = inner.status().size
        task = asyncio.ensure_future(_cancelled_at(pool.get(), at))
        try:
            connection = await task
        except asyncio.CancelledError:
            assert inner.in_use == 0
            assert inner.status().size in (0, size - 1)
            assert inner.status().waiting == 0
            continue
        connection.release()
        return at - 1
    raise AssertionError("a checkout has not so many awaits")


async def test_connecting_at_every_await(clean_server: EmbeddedServer, admin: Any) -> None:
    async with pool_at(clean_server, client_name="cut") as pool:
        options = pool.server.options
    for at in range(1, 100):
        task = asyncio.ensure_future(_cancelled_at(dial(options, PoolMetrics()), at))
        try:
            connection = await task
        except asyncio.CancelledError:
            await until(lambda: not clients_named(admin, "cut"))
        else:
            connection.close()
            assert at - 1 >= 2  # the socket, the handshake
            return
    raise AssertionError("connecting has not so many awaits")


async def test_a_checkout_that_connects_cancelled_ever_later(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server, client_name="cut", pool_max_size=1) as pool:
        inner: Pool[Any] = standalone(pool).pool
        for count in range(1000):
            task = asyncio.ensure_future(pool.get())
            await turns(min(count, 10))
            await asyncio.wait([task], timeout=max(0, count - 10) / 5000)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result().release()
                assert count > 2
                break
            assert inner.in_use == inner.status().size == inner.status().waiting == 0
        await until(lambda: len(clients_named(admin, "cut")) == 1)
        assert pool.status().size == pool.status().available == 1


async def test_a_cancelled_connect_closes_nobody_elses_descriptor(
    clean_server: EmbeddedServer,
) -> None:
    """A descriptor that was closed twice may have been given to somebody else in between."""
    async with pool_at(clean_server, pool_max_size=1) as pool:
        for count in range(12):
            task = asyncio.ensure_future(pool.get())
            await turns(count)
            task.cancel()
            await asyncio.wait([task])
            await turns(3)
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(8)]
            if not task.cancelled():
                task.result().release()
            del task
            gc.collect()
            await turns(3)
            for other in others:
                os.close(other)  # EBADF if it is closed already


async def test_recycling_at_every_await(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisutils.pool.manager.FRESH_FOR", 0.0)  # always UNWATCH and PING
    async with pool_at(clean_server, client_name="cut", pool_max_size=1) as pool:

        async def one_idle() -> None:
            (await pool.get()).release()

        assert await _cancel_at_each_await(pool, one_idle) >= 1
        await until(lambda: len(clients_named(admin, "cut")) == 1)
