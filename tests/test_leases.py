"""A connection of one's own: what can be done with it, and what the next holder finds."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    LeaseReleased,
    Outcome,
    PoolClosed,
)
from redisutils.testing import EmbeddedServer

from .ours import clients_named, until
from .things import pool_at, turns


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[Any]:
    """A pool of one connection: what one holder leaves behind, the next one finds."""
    async with pool_at(
        clean_server, client_name="leased", pool_max_size=1, health_check_interval=0
    ) as pool:
        yield pool


async def _id(connection: Any) -> int:
    return int(await connection.execute("CLIENT", "ID"))


def _forget(held: list[Any]) -> None:
    held.clear()
    gc.collect()


# -- what it can do --


async def test_any_command_by_name_and_redis_pys_methods(pool: Any) -> None:
    async with pool.get() as connection:
        assert await connection.execute("SET", "k", "v") is True
        assert await connection.execute("GET", "k") == b"v"
        assert await connection.execute_command("get", "k") == b"v"
        assert await connection.get("k") == b"v"
        assert await connection.hset("h", mapping={"a": 1, "b": 2}) == 2
        assert await connection.hgetall("h") == {b"a": b"1", b"b": b"2"}
        assert [key async for key in connection.scan_iter("h")] == [b"h"]
        assert await connection.with_timeout(2).get("k") == b"v"
        async with connection.pipeline() as pipe:
            assert await pipe.set("k", "w").get("k").execute() == [True, b"w"]
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await connection.execute("INCR", "h")
        with pytest.raises(redis.DataError):
            await connection.execute("SET", "k", object())
        assert await connection.ping()
    assert isinstance(connection, redis.asyncio.Redis)


async def test_all_of_its_commands_go_over_one_connection(pool: Any) -> None:
    async with pool.get() as connection:
        ids = {await _id(connection) for _ in range(3)}
        async with connection.pipeline() as pipe:
            ids.add((await pipe.client_id().execute())[0])
            await pipe.watch("k")
            ids.add(await pipe.client_id())
        ids.add(await connection.with_timeout(1).client_id())
        assert len(ids) == 1


async def test_state_of_its_own(pool: Any) -> None:
    """MULTI by hand, WATCH, SELECT: refused on a shared connection, and at home here."""
    async with pool.get() as connection:
        await connection.execute("MULTI")
        assert await connection.execute("INCR", "n") == b"QUEUED"
        assert await connection.execute("EXEC") == [1]
        await connection.execute("SELECT", 1)
        assert await connection.execute("GET", "n") is None


async def test_commands_of_several_tasks_share_it(pool: Any) -> None:
    async with pool.get() as connection:
        counts = await asyncio.gather(*(connection.incr("n") for _ in range(100)))
    assert counts == list(range(1, 101))


async def test_a_command_is_not_repeated_on_a_lost_connection(
    pool: Any, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        admin.client_kill_filter(_id=str(await _id(connection)))
        with pytest.raises(ConnectionLost) as caught:
            await connection.get("k")  # even one that could be: its state is gone
        assert caught.value.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
        with pytest.raises(ConnectionLost) as caught:
            await connection.get("k")
        assert caught.value.outcome is Outcome.NOT_SENT
    assert pool.status().size == 0
    async with pool.get() as connection:
        assert await connection.ping()


# -- blocking --


async def test_blocking_is_not_cut_by_the_budget(clean_server: EmbeddedServer) -> None:
    # A server looks for those who have waited long enough every 0.1 s only.
    async with pool_at(clean_server, command_timeout=0.3) as pool, pool.get() as connection:
        started = monotonic()
        assert await connection.blpop(["list"], timeout=0.5) is None
        assert monotonic() - started >= 0.45
        popping = asyncio.create_task(connection.execute("BLPOP", "list", 0))
        done, _ = await asyncio.wait([popping], timeout=0.5)
        assert not done
        await pool.client.rpush("list", "item")
        assert await popping == (b"list", b"item")
        assert await connection.ping()


async def test_what_does_not_block_has_its_budget(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, command_timeout=0.1) as pool, pool.get() as connection:
        admin.client_pause(300)
        started = monotonic()
        with pytest.raises(CommandTimeout) as caught:
            await connection.execute("INCR", "n")
        assert monotonic() - started < 0.29
        assert caught.value.outcome is Outcome.UNKNOWN
        admin.client_unpause()


async def test_an_abandoned_blocking_pop_takes_no_item(pool: Any, admin: redis.Redis) -> None:
    connection = await pool.get()
    popping = asyncio.create_task(connection.blpop(["list"], timeout=0))
    await until(lambda: [c for c in clients_named(admin, "leased") if c["cmd"] == "blpop"])
    popping.cancel()
    await asyncio.wait([popping])
    connection.release()
    await until(lambda: not clients_named(admin, "leased"))
    admin.rpush("list", "kept")
    assert admin.lrange("list", 0, -1) == ["kept"]


# -- giving it back --


async def test_released_twice_is_released_once(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=2) as pool:
        connection, other = await pool.get(), await pool.get()
        connection.release()
        connection.release()
        await connection.aclose()
        assert connection.released
        assert "released" in repr(connection)
        assert (pool.status().size, pool.status().available) == (2, 1)
        third = await pool.get(timeout=0)
        connection.release()  # nor may it give back what is somebody else's by now
        assert pool.status().available == 0
        assert await third.ping()
        third.release()
        other.release()


async def test_use_after_release_is_refused_and_does_not_touch_the_next_holder(
    pool: Any,
) -> None:
    connection = await pool.get()
    view = connection.with_timeout(1)
    pipe = connection.pipeline()
    await pipe.watch("k")
    prepared = connection.execute("SET", "k", "from the grave")
    connection.release()
    async with pool.get() as other:
        number = await _id(other)
        for attempt in (
            prepared,
            connection.get("k"),
            connection.execute("SELECT", 1),
            connection.execute("WATCH", "k"),
            connection.blpop(["list"], timeout=0),
            connection.pipeline().set("k", 1).execute(),
            view.get("k"),
            view.execute("SELECT", 1),
            pipe.get("k"),
            connection.pipeline().watch("k"),
        ):
            with pytest.raises(LeaseReleased) as caught:
                await attempt
            assert caught.value.outcome is Outcome.NOT_SENT
        pipe.multi()
        pipe.set("k", "from the grave")
        with pytest.raises((LeaseReleased, redis.WatchError)):
            await pipe.execute()
        assert await other.get("k") is None
    async with pool.get() as third:
        assert await _id(third) == number  # untainted, and so used again


async def test_the_end_of_a_view_is_not_the_end_of_the_lease(pool: Any) -> None:
    async with pool.get() as connection:
        assert await connection.with_timeout(1).ping()
        gc.collect()
        assert not connection.released
        view = connection.with_timeout(1)
        view.release()
        assert connection.released
        with pytest.raises(LeaseReleased):
            await connection.ping()
    assert pool.status().available == 1


@pytest.mark.filterwarnings("always::ResourceWarning")
async def test_one_that_is_never_released_warns_and_comes_back(pool: Any) -> None:
    held = [await pool.get()]
    await held[0].ping()
    with pytest.warns(ResourceWarning, match=r"<PooledConnection .*> was never released"):
        _forget(held)
    await turns()
    assert (pool.status().size, pool.status().available) == (1, 1)
    async with pool.get(timeout=0.1) as connection:
        assert connection.recycle_count == 1


@pytest.mark.filterwarnings("always::ResourceWarning")
async def test_one_that_is_taken_and_never_closed_warns_and_is_closed(
    pool: Any, admin: redis.Redis
) -> None:
    held = [(await pool.get()).take()]
    await held[0].ping()
    with pytest.warns(ResourceWarning, match="was never closed after take"):
        _forget(held)
    await until(lambda: not clients_named(admin, "leased"))


async def test_one_that_is_released_does_not_warn(pool: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        connection = await pool.get()
        connection.release()
        del connection
        async with pool.get():
            pass
        taken = (await pool.get()).take()
        await taken.aclose()
        del taken
        gc.collect()


async def test_a_connection_whose_block_raises_comes_back(pool: Any) -> None:
    async def fail() -> None:
        async with pool.get() as connection:
            await connection.execute("GET", "k")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert pool.status().available == 1


async def test_with_answers_owed_it_is_closed_and_not_handed_on(
    pool: Any, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        before = await _id(connection)
        reply = asyncio.create_task(connection.execute("INCR", "n"))
        await asyncio.sleep(0)  # it is written
    with pytest.raises(ConnectionLost):
        await reply
    async with pool.get() as connection:
        assert await _id(connection) != before
        assert await connection.execute("PING")


# -- what the next holder finds --


@pytest.mark.parametrize(
    "changed",
    [
        ("SELECT", 1),
        ("CLIENT", "TRACKING", "ON"),
        ("CLIENT", "NO-EVICT", "ON"),
        ("READONLY",),
        ("select", 1),
        ("CLIENT TRACKING", "ON"),
    ],
    ids=str,
)
async def test_a_connection_whose_state_was_changed_for_good_is_not_used_again(
    pool: Any, changed: tuple[Any, ...]
) -> None:
    async with pool.get() as connection:
        before = await _id(connection)
        try:
            await connection.execute(*changed)
        except redis.ResponseError:
            pass  # READONLY where there is no cluster: who knows
    assert pool.status().size == 0
    async with pool.get() as connection:
        assert await _id(connection) != before
        assert await connection.execute("GET", "k") is None


async def test_an_argument_that_cannot_be_sent_changes_nothing(pool: Any) -> None:
    async with pool.get() as connection:
        before = await _id(connection)
        with pytest.raises(redis.DataError):
            await connection.execute("SET", "k", object())
    async with pool.get() as connection:
        assert await _id(connection) == before


@pytest.mark.parametrize("left", ["WATCH", "MULTI", "WATCH and MULTI"])
async def test_a_watch_or_an_open_transaction_is_undone_before_the_next_holder_comes(
    pool: Any, left: str, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        if "WATCH" in left:
            await connection.execute("WATCH", "k")
        if "MULTI" in left:
            await connection.execute("MULTI")
            assert await connection.execute("APPEND", "k", "never") == b"QUEUED"
    async with pool.get() as connection:
        admin.set("k", "changed")  # breaks a transaction that still watches
        async with connection.pipeline() as pipe:
            assert await pipe.set("k", "mine").get("k").execute() == [True, b"mine"]


async def test_a_pipelines_watch_is_undone_while_the_lease_goes_on(
    pool: Any, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        async with connection.pipeline() as pipe:
            await pipe.watch("k")
        admin.set("k", "changed")
        async with connection.pipeline() as pipe:
            assert await pipe.set("k", "mine").execute() == [True]


async def test_a_watch_that_is_undone_costs_no_connection(pool: Any) -> None:
    async with pool.get() as connection:
        before = await _id(connection)
        await connection.execute("WATCH", "k")
    async with pool.get() as connection:
        assert await _id(connection) == before
        assert connection.recycle_count == 1


async def test_one_that_died_while_it_was_idle_is_not_handed_out(
    pool: Any, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        number = await _id(connection)
    admin.client_kill_filter(_id=str(number))
    async with pool.get() as connection:  # at once: nobody has had time to notice
        try:
            assert await connection.execute("PING")
        except ConnectionLost:
            # It had answered a moment before, and was not asked again: see FRESH_FOR.
            assert monotonic() - connection.created < 5
    async with pool.get() as connection:
        assert await connection.execute("PING")


async def test_one_that_died_while_it_was_idle_is_not_handed_out_once_that_is_known(
    pool: Any, admin: redis.Redis
) -> None:
    async with pool.get() as connection:
        number, inner = await _id(connection), connection._lease.item
    admin.client_kill_filter(_id=str(number))
    await until(lambda: inner.closed)
    async with pool.get() as connection:
        assert await connection.execute("PING")
        assert connection.recycle_count == 0


async def test_a_stale_one_is_asked_before_it_is_handed_out(
    pool: Any, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisutils.pool.manager.FRESH_FOR", 0.0)
    async with pool.get() as connection:
        number = await _id(connection)
    admin.client_kill_filter(_id=str(number))
    for _ in range(3):
        async with pool.get() as connection:
            assert await connection.execute("PING")


# -- what is known of it --


async def test_age_last_use_and_count(pool: Any) -> None:
    started = monotonic()
    async with pool.get() as connection:
        assert connection.recycle_count == 0
        assert connection.recycled is None
        assert started <= connection.created <= monotonic()
        created = connection.created
        assert connection.last_used() == pytest.approx(connection.age(), abs=0.001)
    async with pool.get() as connection:
        assert connection.created == created
        assert connection.recycle_count == 1
        assert connection.recycled is not None
        assert created <= connection.recycled <= monotonic()
        assert 0 <= connection.last_used() <= connection.age()
        assert connection.age() <= monotonic() - started
    async with pool.get() as connection:
        assert connection.recycle_count == 2
    assert pool.metrics().connections_recycled == 2
    assert pool.metrics().connections_created == 1


# -- the ways to ask --


async def test_it_can_be_awaited_or_entered_and_both_twice(pool: Any) -> None:
    connection = await pool.get()
    async with connection as same:
        assert same is connection
    assert connection.released
    checkout = pool.get()
    for _ in range(2):
        async with checkout as connection:
            assert await connection.ping()
    (await checkout).release()


async def test_create_errors_go_to_the_caller_and_leave_no_trace(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, password="wrong") as pool:
        for _ in range(3):
            with pytest.raises(redis.AuthenticationError):
                await pool.get()
        assert pool.status().size == pool.status().waiting == 0
    async with pool_at(clean_server, port=1) as pool:
        with pytest.raises(ConnectFailed, match=r"127\.0\.0\.1:1\b"):
            await pool.get()
        assert pool.status().waiting == 0


async def test_a_closed_pool(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    pool = await pool_at(clean_server, client_name="leased")
    connection = await pool.get()
    await pool.close()
    assert await connection.ping()  # what is checked out goes on working
    with pytest.raises(PoolClosed):
        await pool.get()
    connection.release()
    await until(lambda: not clients_named(admin, "leased"))
