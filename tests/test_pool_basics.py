"""The generic pool: checking out and giving back, its figures, its order."""

from __future__ import annotations

import asyncio
import logging
from math import inf
from typing import Any

import pytest

from redisutils.errors import PoolClosed, PoolTimeout
from redisutils.pool.pool import Expired, Timeouts

from .things import Gate, Refused, Thing, Things, assert_whole, pool_of, refuse, status, turns


async def test_status_follows_its_formulae_from_empty_to_full_and_back() -> None:
    pool = pool_of(Things(), 16)
    assert status(pool) == (0, 0, 0)
    leases = [await pool.get() for _ in range(3)]
    assert status(pool) == (3, 0, 0)
    for available, lease in enumerate(leases, start=1):
        lease.release()
        assert status(pool) == (3, available, 0)
    assert pool.status().max_size == 16


@pytest.mark.parametrize(
    ("phase", "during"),
    [
        ("create", (0, 0, 1)),
        ("post_create", (1, 0, 0)),
        ("pre_recycle", (1, 0, 0)),
        ("recycle", (1, 0, 0)),
        ("post_recycle", (1, 0, 0)),
    ],
)
async def test_status_in_each_phase(phase: str, during: tuple[int, int, int]) -> None:
    """A thing exists from its creation on; whoever has none yet is one who waits."""
    things = Things()
    pool = pool_of(things, 2, hooks=True)
    if "recycle" in phase:
        (await pool.get()).release()
    gate = things.parts[phase] = Gate()
    task = asyncio.create_task(pool.get())
    await turns()
    assert status(pool) == during
    assert pool.in_use == 1
    gate.open()
    lease = await task
    assert status(pool) == (1, 0, 0)
    lease.release()
    await assert_whole(pool, things)


async def test_status_of_those_who_wait() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    tasks = [asyncio.create_task(pool.get()) for _ in range(3)]
    await turns()
    assert status(pool) == (1, 0, 3)
    lease.release()
    assert status(pool) == (1, 0, 2)  # handed over in the very same step
    for task, waiting in zip(tasks, (2, 1, 0), strict=True):
        lease = await task
        assert status(pool) == (1, 0, waiting)
        lease.release()
    await assert_whole(pool, things)


async def test_one_thing_is_used_again_rather_than_another_made() -> None:
    things = Things()
    pool = pool_of(things, 16)
    for count in range(5):
        lease = await pool.get()
        assert (lease.item.number, lease.usage.recycle_count) == (0, count)
        lease.release()


@pytest.mark.parametrize(("mode", "order"), [("fifo", [0, 1, 2]), ("lifo", [2, 1, 0])])
async def test_queue_mode(mode: str, order: list[int]) -> None:
    pool = pool_of(Things(), 3, queue_mode=mode)
    leases = [await pool.get() for _ in range(3)]
    for lease in leases:
        lease.release()
    assert [(await pool.get()).item.number for _ in range(3)] == order


@pytest.mark.parametrize(("mode", "order"), [("fifo", [0, 1, 2]), ("lifo", [2, 1, 0])])
async def test_queue_mode_of_those_that_need_no_recycling(mode: Any, order: list[int]) -> None:
    things = Things()
    pool = pool_of(things, 3, queue_mode=mode)
    for lease in [await pool.get() for _ in range(3)]:
        lease.item.fresh = True
        lease.release()
    leases = [pool.get_at_once() for _ in range(4)]
    assert [lease and lease.item.number for lease in leases] == [*order, None]
    for each in leases:
        if each is not None:
            each.release()
    await assert_whole(pool, things)


async def test_three_things_serve_a_hundred_and_are_all_back_afterwards() -> None:
    things = Things()
    pool = pool_of(things, 3)
    lent: set[Thing] = set()
    served = []

    async def use() -> None:
        lease = await pool.get()
        assert lease.item not in lent
        lent.add(lease.item)
        assert len(lent) <= 3
        await asyncio.sleep(0)
        served.append(lease.item)
        lent.remove(lease.item)
        lease.release()

    await asyncio.gather(*(use() for _ in range(100)))
    assert len(served) == 100
    assert len(things.made) == 3
    await assert_whole(pool, things)


async def test_releasing_twice_gives_back_once() -> None:
    things = Things()
    pool = pool_of(things, 2)
    lease = await pool.get()
    lease.release()
    lease.release()
    lease.release(discard=True)
    assert lease.released
    assert status(pool) == (1, 1, 0)
    assert not things.made[0].closings
    await assert_whole(pool, things)


async def test_what_is_unfit_for_reuse_or_discarded_is_closed_when_it_comes_back() -> None:
    things = Things()
    pool = pool_of(things, 2)
    lease = await pool.get()
    lease.item.fit = False
    lease.release()
    (await pool.get()).release(discard=True)
    assert [thing.closings for thing in things.made] == [1, 1]
    assert status(pool) == (0, 0, 0)
    assert pool.metrics.connections_discarded == 2
    await assert_whole(pool, things)


async def test_a_closing_that_fails_is_counted_and_costs_nobody_a_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Sticky(Things):
        def discard(self, item: Thing) -> None:
            super().discard(item)
            raise OSError("it sticks")

    things = Sticky()
    pool = pool_of(things, 1)
    lease = await pool.get()
    waiter = asyncio.create_task(pool.get())
    await turns()
    lease.release(discard=True)
    (await waiter).release()
    assert pool.metrics.background_errors == 1
    assert "it sticks" in caplog.text
    await assert_whole(pool, things)


async def test_an_error_in_creation_goes_to_the_caller_and_gives_everything_back() -> None:
    things = Things()
    things.parts["create"] = refuse
    pool = pool_of(things, 2)
    for _ in range(5):
        with pytest.raises(Refused):
            await pool.get()
    assert status(pool) == (0, 0, 0)
    await assert_whole(pool, things)


async def test_an_error_in_creation_makes_way_for_the_next_waiter() -> None:
    things = Things()
    pool = pool_of(things, 1)
    gate = things.parts["create"] = Gate()
    first = asyncio.create_task(pool.get())
    second = asyncio.create_task(pool.get())
    await turns()
    del things.parts["create"]
    gate.fail(Refused())
    with pytest.raises(Refused):
        await first
    (await second).release()
    await assert_whole(pool, things)


async def test_idle_ones_that_cannot_be_recycled_are_skipped_and_a_new_one_is_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    things = Things()
    pool = pool_of(things, 4)
    leases = [await pool.get() for _ in range(3)]
    for lease in leases:
        lease.release()
    things.parts["recycle"] = refuse
    with caplog.at_level(logging.DEBUG, "redisutils.pool"):
        lease = await pool.get()
    assert lease.item.number == 3
    assert [thing.closings for thing in things.made] == [1, 1, 1, 0]
    assert status(pool) == (1, 0, 0)
    assert pool.metrics.connections_discarded == 3
    assert pool.metrics.errors == {"Refused": 3}
    assert caplog.text.count("is not fit for reuse") == 3
    lease.release()
    await assert_whole(pool, things)


async def test_one_that_has_had_its_time_is_discarded_and_is_no_error() -> None:
    things = Things()
    pool = pool_of(things, 1)

    def expire(thing: Thing | None) -> None:
        raise Expired(f"{thing} has had its time")

    (await pool.get()).release()
    things.parts["recycle"] = expire
    assert (await pool.get()).item.number == 1
    assert pool.metrics.connections_discarded == 1
    assert not pool.metrics.errors


async def test_what_is_remembered_of_a_thing() -> None:
    pool = pool_of(Things(), 1)
    lease = await pool.get()
    usage = lease.usage
    assert (usage.recycled, usage.recycle_count, usage.returned) == (None, 0, None)
    assert usage.last_used() == pytest.approx(usage.age(), abs=0.001)
    lease.release()
    assert usage.returned is not None
    assert usage.returned >= usage.created
    assert (usage.recycled, usage.recycle_count) == (None, 0)
    lease = await pool.get()
    assert lease.usage is usage
    assert usage.recycle_count == 1
    assert usage.recycled is not None
    assert usage.recycled >= usage.returned
    assert usage.age() - usage.last_used() == pytest.approx(
        usage.recycled - usage.created, abs=0.001
    )


async def test_a_closed_pool_refuses_whoever_waits_and_whoever_comes() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    waiters = [asyncio.create_task(pool.get()) for _ in range(3)]
    told: list[asyncio.Task[Any]] = []
    for waiter in waiters:
        waiter.add_done_callback(told.append)
    await turns()
    pool.close()
    for waiter in waiters:
        with pytest.raises(PoolClosed, match="things is closed"):
            await waiter
    await turns()
    assert told == waiters  # first come, first served
    for wait in (0, 1, float("inf")):
        with pytest.raises(PoolClosed):
            await pool.get(wait=wait)
    assert not await pool.add_idle()
    assert not lease.item.closings  # what is checked out goes on working
    assert status(pool) == (1, 0, 0)
    lease.release()
    assert things.made[0].closings == 1
    assert status(pool) == (0, 0, 0)
    assert pool.in_use == 0


async def test_repr_and_the_message_of_a_wait_in_vain_say_how_things_stand() -> None:
    pool = pool_of(Things(), 1, timeouts=Timeouts(wait=0))
    lease = await pool.get()
    assert repr(pool) == "<Pool things open: size 1 of 1, 0 available, 0 waiting>"
    with pytest.raises(PoolTimeout, match=r"things: .* at once: all 1 are in use.*POOL_MAX_SIZE"):
        await pool.get()
    lease.release()
    pool.close()
    assert repr(pool).startswith("<Pool things closed: size 0")


# -- a place without its thing --


async def test_a_vacated_place_is_filled_again_or_given_back() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    pool.vacate(lease)
    pool.vacate(lease)  # is vacant already
    assert things.made[0].closings == 1
    assert (pool.in_use, *status(pool)) == (1, 0, 0, 0)
    await pool.refill(lease, create=inf, recycle=inf)
    assert lease.item is things.made[1]
    assert (pool.in_use, *status(pool)) == (1, 1, 0, 0)
    lease.release()
    pool.vacate(lease)  # is nobody's place any more
    await assert_whole(pool, things)


@pytest.mark.parametrize("how", ["release", "take"])
async def test_a_vacated_place_that_is_given_back_while_it_is_filled(how: str) -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    pool.vacate(lease)
    gate = things.parts["create"] = Gate()
    filling = asyncio.create_task(pool.refill(lease, create=inf, recycle=inf))
    await turns()
    getattr(lease, how)()
    getattr(lease, how)()  # only once
    gate.open()
    with pytest.raises(PoolClosed):
        await filling
    assert things.made[1].closings == 1
    await assert_whole(pool, things)


@pytest.mark.parametrize("queue_mode", ["fifo", "lifo"])
async def test_what_is_fit_as_it_is_is_handed_out_at_once(queue_mode: Any) -> None:
    things = Things()
    pool = pool_of(things, 2, queue_mode=queue_mode)
    assert pool.get_at_once() is None  # there is none yet
    leases = [await pool.get(), await pool.get()]
    for lease in leases:
        lease.release()
    assert pool.get_at_once() is None  # each is to be recycled first
    for thing in things.made:
        thing.fresh = True
    first, second = pool.get_at_once(), pool.get_at_once()
    assert first is not None
    assert second is not None
    expected = things.made if queue_mode == "fifo" else things.made[::-1]
    assert [first.item, second.item] == expected
    assert pool.get_at_once() is None
    first.release()
    second.release()
    await assert_whole(pool, things)
