"""The pool as a whole: resize, retain, take, spares, close and drain."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisutils.connection.protocol import Connection
from redisutils.errors import ConfigError, LeaseReleased, PoolClosed, PoolTimeout
from redisutils.pool.pool import Lease, Pool, Usage
from redisutils.testing import EmbeddedServer
from tests.ours import standalone

from .ours import clients_named, until
from .things import (
    Gate,
    Refused,
    Thing,
    Things,
    assert_whole,
    pool_at,
    pool_of,
    status,
    turns,
)

# -- resize --


async def test_smaller_with_all_checked_out() -> None:
    things = Things()
    pool = pool_of(things, 2)
    first, second = await pool.get(), await pool.get()
    pool.resize(1)
    assert (pool.status().max_size, pool.status().size) == (1, 2)
    second.release()
    assert (pool.status().size, second.item.closings) == (1, 1)
    first.release()
    assert (pool.status().size, first.item.closings) == (1, 0)
    await assert_whole(pool, things)


async def test_smaller_drops_idle_ones_now_and_the_longest_idle_first() -> None:
    things = Things()
    pool = pool_of(things, 3)
    for lease in [await pool.get() for _ in range(3)]:
        lease.release()
    pool.resize(1)
    assert [thing.closings for thing in things.made] == [1, 1, 0]
    assert status(pool) == (1, 1, 0)
    await assert_whole(pool, things)


async def test_larger_serves_those_who_wait_at_once_and_in_order() -> None:
    things = Things()
    pool = pool_of(things, 1)
    first = await pool.get()
    waiters = [asyncio.create_task(pool.get()) for _ in range(3)]
    await turns()
    pool.resize(3)
    await turns()
    assert [waiter.done() for waiter in waiters] == [True, True, False]
    first.release()
    for waiter in waiters:
        (await waiter).release()
    await assert_whole(pool, things)


async def test_from_nothing() -> None:
    things = Things()
    pool = pool_of(things, 0)
    waiter = asyncio.create_task(pool.get())
    await turns()
    assert status(pool) == (0, 0, 1)
    pool.resize(1)
    assert status(pool) == (0, 0, 1)
    await turns()
    assert status(pool) == (1, 0, 0)
    (await waiter).release()
    assert status(pool) == (1, 1, 0)
    await assert_whole(pool, things)


async def test_to_nothing_and_up_again_while_one_is_checked_out() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    for size in (2, 0, 5):
        pool.resize(size)
    assert (pool.status().max_size, pool.status().size) == (5, 1)
    lease.release()
    assert things.alive == 1
    await assert_whole(pool, things)


async def test_to_nothing_and_to_one_while_two_are_checked_out_keeps_one_of_them() -> None:
    things = Things()
    pool = pool_of(things, 2)
    first, second = await pool.get(), await pool.get()
    pool.resize(0)
    assert (pool.status().max_size, pool.status().size) == (0, 2)
    pool.resize(1)
    first.release()
    second.release()
    assert (first.item.closings, second.item.closings) == (1, 0)
    await assert_whole(pool, things)


async def test_smaller_while_one_is_being_made_and_another_comes_back() -> None:
    """The one that is being made counts: else there would be two where one is allowed."""
    things = Things()
    pool = pool_of(things, 2)
    held = await pool.get()
    gate = things.parts["create"] = Gate()
    making = asyncio.create_task(pool.get())
    await turns()
    pool.resize(1)
    held.release()
    gate.open()
    lease = await making
    assert held.item.closings == 1
    assert status(pool) == (1, 0, 0)
    lease.release()
    await assert_whole(pool, things)


async def test_smaller_while_one_is_being_made_and_another_is_idle() -> None:
    things = Things()
    pool = pool_of(things, 3)
    held = await pool.get()
    gate = things.parts["create"] = Gate()
    making = asyncio.create_task(pool.get())
    await turns()
    held.release()
    pool.resize(1)
    assert held.item.closings == 1
    gate.open()
    (await making).release()
    await assert_whole(pool, things)


# -- spares --


async def test_a_spare_is_made_only_where_nobody_else_needs_the_room() -> None:
    things = Things()
    pool = pool_of(things, 2)
    assert await pool.add_idle()
    assert status(pool) == (1, 1, 0)
    gate = things.parts["create"] = Gate()
    idle = await pool.get()
    making = asyncio.create_task(pool.get())
    await turns()
    idle.release()
    assert not await pool.add_idle()  # one idle and one in the making: that is two
    gate.open()
    (await making).release()
    assert not await pool.add_idle()
    await assert_whole(pool, things)


async def test_a_spare_that_is_no_longer_wanted_when_it_is_there() -> None:
    things = Things()
    pool = pool_of(things, 2)
    (await pool.get()).release()
    gate = things.parts["create"] = Gate()
    spare = asyncio.create_task(pool.add_idle())
    await turns()
    pool.resize(1)
    gate.open()
    assert await spare
    await assert_whole(pool, things)


async def test_a_spare_goes_to_whoever_has_come_to_wait_meanwhile() -> None:
    things = Things()
    pool = pool_of(things, 1)
    gate = things.parts["create"] = Gate()
    spare = asyncio.create_task(pool.add_idle())
    await turns()
    waiter = asyncio.create_task(pool.get())
    await turns()
    gate.open()
    await spare
    lease = await waiter
    assert len(things.made) == 1
    lease.release()
    await assert_whole(pool, things)


@pytest.mark.parametrize("phase", ["create", "post_create"])
@pytest.mark.parametrize("how", ["fail", "cancel", "close"])
async def test_a_spare_that_comes_to_nothing_gives_everything_back(phase: str, how: str) -> None:
    things = Things()
    pool = pool_of(things, 1, hooks=True)
    gate = things.parts[phase] = Gate()
    spare = asyncio.create_task(pool.add_idle())
    await turns()
    assert pool.in_use == 1
    if how == "cancel":
        spare.cancel()
        with pytest.raises(asyncio.CancelledError):
            await spare
    elif how == "fail":
        gate.fail(Refused())
        with pytest.raises(Refused):
            await spare
    else:
        pool.close()
        gate.open()
        with pytest.raises(PoolClosed):
            await spare
        assert things.alive == pool.status().size == pool.in_use == 0
        await pool.drained()
        return
    await assert_whole(pool, things)


# -- retain --


async def test_retain_looks_at_idle_ones_only_and_hands_over_what_it_removed() -> None:
    things = Things()
    pool = pool_of(things, 4)
    leases = [await pool.get() for _ in range(4)]
    for lease in leases[:3]:
        lease.release()
    seen: list[tuple[int, Usage]] = []

    def odd(thing: Thing, usage: Usage) -> bool:
        seen.append((thing.number, usage))
        return bool(thing.number % 2)

    result = pool.retain(odd)
    assert seen == [(n, leases[n].usage) for n in range(3)]
    assert result.retained == 1
    assert [thing.number for thing in result.removed] == [0, 2]
    assert [thing.closings for thing in result.removed] == [0, 0]  # they are the caller's
    assert status(pool) == (2, 1, 0)
    things.detached.update(result.removed)
    leases[3].release()
    await assert_whole(pool, things)


def _raise(thing: Thing, usage: Usage) -> bool:
    raise Refused


async def test_a_predicate_that_raises_removes_nothing() -> None:
    things = Things()
    pool = pool_of(things, 2)
    for lease in [await pool.get() for _ in range(2)]:
        lease.release()
    with pytest.raises(Refused):
        pool.retain(_raise)
    await assert_whole(pool, things)


# -- take --


async def test_take_detaches_for_good() -> None:
    things = Things()
    pool = pool_of(things, 2)
    leases = [await pool.get() for _ in range(2)]
    waiter = asyncio.create_task(pool.get())
    await turns()
    taken = leases[0].take()
    things.detached.add(taken)
    leases[0].release()
    assert status(pool) == (1, 0, 1)
    assert taken.closings == 0
    replacement = await waiter
    assert replacement.item.number == 2
    leases[1].release()
    replacement.release()
    await assert_whole(pool, things)
    assert taken.closings == 0


# -- close and drain --


async def test_a_place_that_is_vacated_again_is_counted_once() -> None:
    things = Things()
    pool = pool_of(things, 2)
    lease, given_back = await pool.get(), await pool.get()
    given_back.release()
    pool.vacate(given_back)
    assert (status(pool), pool.in_use) == ((2, 1, 0), 1)
    for _ in range(2):
        pool.vacate(lease)
        assert (status(pool), pool.in_use) == ((1, 1, 0), 1)
    assert [thing.closings for thing in things.made] == [1, 0]
    await pool.refill(lease, create=1, recycle=1)
    assert (status(pool), pool.in_use) == ((1, 0, 0), 1)
    lease.release()
    await assert_whole(pool, things)


async def test_filling_a_place_again_takes_no_longer_than_making_may() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    pool.vacate(lease)
    things.parts["create"] = Gate()
    async with asyncio.timeout(5):
        with pytest.raises(PoolTimeout) as caught:
            await pool.refill(lease, create=0.01, recycle=60)
    assert caught.value.phase == "create"
    lease.release()
    await assert_whole(pool, things)


async def test_a_place_that_is_given_back_while_it_is_filled_keeps_nothing() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    pool.vacate(lease)
    gate = Gate()
    things.parts["create"] = gate
    filling = asyncio.create_task(pool.refill(lease, create=1, recycle=1))
    await turns()
    lease.release()
    gate.open()
    with pytest.raises(PoolClosed):
        await filling
    assert [thing.closings for thing in things.made] == [1, 1]
    assert (status(pool), pool.in_use) == ((0, 0, 0), 0)
    await assert_whole(pool, things)


async def test_close_and_then_resize_does_nothing() -> None:
    things = Things()
    pool = pool_of(things, 1)
    (await pool.get()).release()
    pool.close()
    pool.close()
    pool.resize(16)
    assert (pool.status().size, pool.status().max_size) == (0, 0)
    assert [thing.closings for thing in things.made] == [1]


async def test_a_permit_that_is_on_its_way_when_the_pool_closes_makes_nothing() -> None:
    things = Things()
    pool = pool_of(things, 1)
    lease = await pool.get()
    waiter = asyncio.create_task(pool.get())
    await turns()
    lease.release(discard=True)
    pool.close()  # the waiter has the permit, and has not run yet
    with pytest.raises(PoolClosed):
        await waiter
    assert len(things.made) == 1
    assert pool.in_use == 0


async def test_drained_waits_for_all_that_is_lent() -> None:
    pool = pool_of(Things(), 3)
    await asyncio.wait_for(pool.drained(), 1)
    leases: list[Lease[Thing]] = [await pool.get() for _ in range(3)]
    pool.close()
    drains = [asyncio.create_task(pool.drained()) for _ in range(2)]
    given_up = asyncio.create_task(pool.drained())
    await turns()
    given_up.cancel()  # must not spoil it for the others
    leases[0].release()
    leases[1].release(discard=True)
    await turns()
    assert not any(drain.done() for drain in drains)
    leases[2].take()
    await asyncio.wait_for(asyncio.gather(*drains), 1)
    assert given_up.cancelled()


# -- over a real server --


async def test_sockets_follow_resize(clean_server: EmbeddedServer, admin: Any) -> None:
    async with pool_at(clean_server, client_name="resized", pool_max_size=4) as pool:
        connections = [await pool.get() for _ in range(4)]
        connections[0].release()
        connections[1].release()
        pool.resize(1)
        await until(lambda: len(clients_named(admin, "resized")) == 2)
        assert await connections[2].execute("PING")  # checked out: goes on working
        connections[2].release()
        await until(lambda: len(clients_named(admin, "resized")) == 1)
        connections[3].release()
        async with pool.get() as connection:
            assert connection.recycle_count == 1
        assert len(clients_named(admin, "resized")) == 1


@pytest.mark.parametrize("wrong", [0, -1, 10_001, 1.5, "3", True, None])
async def test_resize_says_what_is_wrong(clean_server: EmbeddedServer, wrong: Any) -> None:
    async with pool_at(clean_server) as pool:
        with pytest.raises(ConfigError, match=r"resize\(.*1 to 10,000"):
            pool.resize(wrong)
        assert pool.status().max_size == 10


async def test_retain_closes_what_it_removes(clean_server: EmbeddedServer, admin: Any) -> None:
    async with pool_at(clean_server, client_name="retained") as pool:
        connections = [await pool.get() for _ in range(3)]
        await pool.client.ping()
        keep = connections[0]._lease.item
        for connection in connections:
            connection.release()
        result = pool.retain(lambda connection, usage: connection is keep and usage.age() < 60)
        assert (result.retained, result.removed) == (1, 2)
        await until(lambda: len(clients_named(admin, "retained")) == 2)  # it and the lane
        assert pool.metrics().connections_discarded == 2
        assert await pool.client.ping()


async def test_a_taken_connection_is_its_holders(clean_server: EmbeddedServer, admin: Any) -> None:
    pool = await pool_at(clean_server, client_name="taken", pool_max_size=1)
    async with pool.get() as connection:
        taken = connection.take()
    async with pool.get() as other:  # its place is free
        assert await taken.execute("CLIENT", "ID") != await other.execute("CLIENT", "ID")
    taken.release()  # there is nothing to give back
    await pool.close()
    assert await taken.execute("SELECT", 1) is True
    assert await taken.set("k", "v")
    await taken.aclose()
    with pytest.raises(LeaseReleased):
        await taken.get("k")
    await until(lambda: not clients_named(admin, "taken"))


async def test_take_after_release_is_refused(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        connection = await pool.get()
        connection.release()
        with pytest.raises(LeaseReleased):
            connection.take()


async def test_draining_close_lets_checkouts_and_commands_finish(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    pool = await pool_at(clean_server, client_name="drained", pool_max_size=3)
    connection = await pool.get()
    await pool.client.ping()
    slow = asyncio.create_task(pool.client.eval("return redis.call('INCR', 'n')", 0))
    await asyncio.sleep(0)
    closing = asyncio.create_task(pool.close(drain=5))
    await turns()
    with pytest.raises(PoolClosed):
        await pool.get()
    assert await connection.execute("INCR", "n") in (1, 2)
    assert not closing.done()
    connection.release()
    await closing
    assert await slow in (1, 2)
    await until(lambda: not clients_named(admin, "drained"))


async def test_draining_close_does_not_wait_for_ever(
    clean_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await pool_at(clean_server)
    connection = await pool.get()
    await pool.close(drain=0.02)
    assert "1 connections still in use" in caplog.text
    assert await connection.execute("PING")
    connection.release()


def _inner(pool: Any) -> Pool[Connection]:
    inner: Pool[Connection] = standalone(pool).pool
    return inner


async def test_closing_leaves_no_task_no_socket_and_no_permit(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    before = asyncio.all_tasks()
    pool = await pool_at(clean_server, client_name="closed", pool_max_size=2, pool_min_idle=1)
    await pool.client.ping()
    connection = await pool.get()
    waiter = asyncio.ensure_future(pool.get())
    await turns()
    await pool.close()
    await pool.close()
    with pytest.raises(PoolClosed):
        await waiter
    connection.release()
    await until(lambda: not clients_named(admin, "closed"))
    assert asyncio.all_tasks() == before
    assert _inner(pool).in_use == _inner(pool).status().size == 0
