"""A connection that is held writes nothing, and what it kept has never been sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, ConnectionLost, Outcome
from redisutils.testing import EmbeddedServer

from .ours import pool_at, standalone, until


async def test_what_is_issued_while_held_leaves_in_its_order(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server) as pool, pool.get() as own:
        connection = own._lease.item
        before = connection.submit(pack(("RPUSH", "k", "0")), False, FOREVER)
        connection.flush()
        connection.hold()
        connection.hold()  # once is enough
        after = [
            connection.submit(pack(("RPUSH", "k", str(number))), False, FOREVER)
            for number in range(1, 40)
        ]
        assert await before == 1  # answers are still read
        assert connection.awaited == 0
        await asyncio.sleep(0)
        assert admin.llen("k") == 1
        connection.let_go()
        assert await asyncio.gather(*after) == list(range(2, 41))
        assert await own.execute("PING")
        assert pool.metrics().in_flight == 0
    assert admin.lrange("k", 0, -1) == [str(number) for number in range(40)]


async def test_what_was_kept_when_it_ends_was_never_sent(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server) as pool, pool.get() as own:
        connection = own._lease.item
        admin.execute_command("CLIENT", "PAUSE", 100, "WRITE")
        written = connection.submit(pack(("INCR", "written")), False, FOREVER)
        connection.flush()
        connection.hold()
        kept = connection.submit(pack(("INCR", "kept")), False, FOREVER)
        await asyncio.sleep(0)  # it would leave at the end of this turn
        waiting = connection.submit(pack(("INCR", "waiting")), False, FOREVER)
        assert connection.awaited == 1
        connection.abort(ConnectionLost("gone"))
        errors = await asyncio.gather(written, kept, waiting, return_exceptions=True)
        outcomes = [error.outcome for error in errors if isinstance(error, ConnectionLost)]
        assert outcomes == [Outcome.UNKNOWN, Outcome.NOT_SENT, Outcome.NOT_SENT]
        connection.let_go()  # too late, and no harm
    admin.execute_command("CLIENT", "UNPAUSE")
    assert admin.exists("kept", "waiting") == 0


async def test_what_runs_out_of_time_while_held_was_never_sent_and_never_is(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server) as pool, pool.get() as own:
        connection = own._lease.item
        connection.hold()
        late = connection.submit(pack(("INCR", "late")), False, 0.05)
        batch = connection.submit_many(pack(("INCR", "late")) * 2, 2, False, 0.05)
        later = connection.submit(pack(("INCR", "later")), False, FOREVER)
        await asyncio.sleep(0)  # it would leave at the end of this turn
        for gone in late, batch:
            with pytest.raises(CommandTimeout) as caught:
                await gone
            assert caught.value.outcome is Outcome.NOT_SENT
        assert connection.in_flight == 1
        # Nor what runs out of time in a turn of the loop that ends the hold.
        last = connection.submit(pack(("INCR", "late")), False, 0.0)
        connection.let_go()
        with pytest.raises(CommandTimeout) as caught:
            await last
        assert caught.value.outcome is Outcome.NOT_SENT
        assert await later == 1
        assert await own.execute("PING")
        assert connection.in_flight == 0
        assert pool.metrics().in_flight == 0
    assert admin.exists("late") == 0


async def test_what_is_said_to_one_that_is_held_is_kept(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server) as pool, pool.client.pubsub() as pubsub:
        await pubsub.subscribe("a")
        connection = next(iter(standalone(pool)._manager.open))
        connection.hold()
        await pubsub.subscribe("b")
        assert admin.pubsub_numsub("b") == [("b", 0)]
        connection.let_go()
        await until(lambda: admin.pubsub_numsub("b") == [("b", 1)], "the subscription")


async def test_one_that_is_held_is_not_handed_out(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        async with pool.get() as own:
            held = own._lease.item
        held.hold()
        checkout = asyncio.ensure_future(pool.get().__aenter__())
        await until(lambda: held.in_flight, "asking whether it is fit")
        assert not checkout.done()
        held.let_go()
        (await checkout).release()


async def test_silence_of_one_that_is_held_is_no_sign(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with pool_at(clean_server, command_timeout=0.4) as pool:
        assert await pool.client.ping()
        lane = standalone(pool).lane()
        connection = lane.connection
        assert isinstance(connection, Connection)
        admin.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
        writing = asyncio.ensure_future(pool.client.incr("k"))
        await until(lambda: connection.in_flight, "a command")
        connection.hold()
        waiting = asyncio.ensure_future(pool.client.incr("k"))
        with pytest.raises(CommandTimeout, match="no answer") as caught:
            await writing
        assert caught.value.outcome is Outcome.UNKNOWN
        with pytest.raises(CommandTimeout, match="may be no primary any more") as caught:
            await waiting  # with its lane, which sends nothing
        assert caught.value.outcome is Outcome.NOT_SENT
        assert lane.connection is connection
        assert pool.status().size == 1
        admin.execute_command("CLIENT", "UNPAUSE")
        connection.let_go()
        assert await pool.client.ping()
        assert await pool.client.get("k") == b"1"
