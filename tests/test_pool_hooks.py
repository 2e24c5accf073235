"""Hooks: when they are called, with what, and what their refusal means."""

from __future__ import annotations

import asyncio
import logging

import pytest

from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectFailed, Outcome, PoolClosed
from redisutils.pool.pool import Usage
from redisutils.testing import EmbeddedServer

from .ours import clients_named
from .things import (
    Gate,
    Refused,
    Thing,
    Things,
    assert_whole,
    pool_at,
    pool_of,
    refuse,
    status,
    turns,
)


async def test_the_order_of_things() -> None:
    things = Things()
    pool = pool_of(things, 1, hooks=True)
    (await pool.get()).release()
    (await pool.get()).release()
    assert things.log == ["create", "post_create", "pre_recycle", "recycle", "post_recycle"]


async def test_hooks_of_one_kind_run_in_order_and_stop_at_the_first_that_refuses() -> None:
    things = Things()
    pool = pool_of(things, 1)
    called = []

    def first(thing: Thing, usage: Usage) -> None:
        called.append("first")

    async def second(thing: Thing, usage: Usage) -> None:
        await asyncio.sleep(0)
        called.append("second")
        raise Refused

    pool.post_create += [first, second, first]
    with pytest.raises(Refused):
        await pool.get()
    assert called == ["first", "second"]


async def test_a_hook_sees_the_usage_that_the_lease_will_have() -> None:
    pool = pool_of(Things(), 1)
    seen: list[tuple[str, int, Usage]] = []
    pool.post_create.append(lambda thing, usage: seen.append(("created", 0, usage)))
    pool.pre_recycle.append(lambda thing, usage: seen.append(("pre", usage.recycle_count, usage)))
    pool.post_recycle.append(lambda thing, usage: seen.append(("post", usage.recycle_count, usage)))
    lease = await pool.get()
    lease.release()
    for _ in range(2):
        (await pool.get()).release()
    assert [what[:2] for what in seen] == [
        ("created", 0),
        ("pre", 0),
        ("post", 0),
        ("pre", 1),
        ("post", 1),
    ]
    assert all(usage is lease.usage for _, _, usage in seen)


@pytest.mark.parametrize("as_coroutine", [False, True])
async def test_what_post_create_raises_goes_to_the_caller_and_gives_everything_back(
    as_coroutine: bool,
) -> None:
    things = Things()
    pool = pool_of(things, 3)

    def only_even(thing: Thing, usage: Usage) -> None:
        if thing.number % 2:
            raise Refused(f"{thing} is odd")

    async def later(thing: Thing, usage: Usage) -> None:
        await asyncio.sleep(0)
        only_even(thing, usage)

    pool.post_create.append(later if as_coroutine else only_even)
    held = []
    for number in range(0, 6, 2):
        held.append(await pool.get())
        assert held[-1].item.number == number
        if number < 4:
            with pytest.raises(Refused, match=rf"Thing\({number + 1}\) is odd"):
                await pool.get()
        assert status(pool) == (len(held), 0, 0)
    assert [thing.closings for thing in things.made] == [0, 1, 0, 1, 0]
    for lease in held:
        lease.release()
    pool.post_create.clear()
    await assert_whole(pool, things)


@pytest.mark.parametrize("phase", ["pre_recycle", "post_recycle"])
async def test_a_refusal_when_recycling_is_not_the_callers_affair_but_is_told(
    phase: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each thing is lent twice, as the hook will have it."""
    things = Things()
    pool = pool_of(things, 1)

    def twice(thing: Thing, usage: Usage) -> None:
        if usage.recycle_count > 0:
            raise Refused("once is enough")

    getattr(pool, phase).append(twice)
    for expected in (0, 0, 1, 1, 2, 2):
        with caplog.at_level(logging.DEBUG, "redisutils.pool"):
            lease = await pool.get()
        assert lease.item.number == expected
        lease.release()
        assert status(pool) == (1, 1, 0)
    assert pool.metrics.errors == {"Refused": 2}
    assert len(caplog.records) == 2
    assert "once is enough" in caplog.text
    assert {record.levelname for record in caplog.records} == {"DEBUG"}


@pytest.mark.parametrize("phase", ["create", "post_create", "pre_recycle", "post_recycle"])
async def test_a_pool_that_is_closed_while_a_hook_runs(phase: str) -> None:
    things = Things()
    pool = pool_of(things, 1, hooks=True)
    if "recycle" in phase:
        (await pool.get()).release()
    gate = things.parts[phase] = Gate()
    task = asyncio.create_task(pool.get())
    await turns()
    pool.close()
    gate.open()
    with pytest.raises(PoolClosed):
        await task
    assert things.alive == 0
    assert [thing.closings for thing in things.made] == [1]
    assert status(pool) == (0, 0, 0)
    assert pool.in_use == 0


async def test_a_refusing_hook_does_not_stop_spares_from_being_made_later() -> None:
    things = Things()
    pool = pool_of(things, 2, hooks=True)
    things.parts["post_create"] = refuse
    with pytest.raises(Refused):
        await pool.add_idle()
    assert status(pool) == (0, 0, 0)
    await assert_whole(pool, things)


# -- over a real server --


async def test_a_hook_prepares_every_connection_lanes_included(
    clean_server: EmbeddedServer, admin: object
) -> None:
    numbers = iter(range(10))

    async def name(connection: Connection, usage: Usage) -> None:
        payload = b"*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$7\r\nhooked%d\r\n" % next(numbers)
        assert await connection.submit(payload, True, 1.0) == "OK"

    async with pool_at(clean_server, pool_max_size=3) as pool:
        pool.post_create.append(name)
        await pool.client.ping()
        async with pool.get() as one, pool.get() as other:
            assert await one.execute("CLIENT", "GETNAME") == b"hooked1"
            assert await other.execute("CLIENT", "GETNAME") == b"hooked2"
            assert clients_named(admin, "hooked0")
            other.release()
            async with pool.get() as again:  # not made anew: not called
                assert await again.execute("CLIENT", "GETNAME") == b"hooked2"


async def test_commands_are_told_what_the_hook_of_their_connection_raised(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool:
        refusal = Refused("not this one")

        async def hook(connection: Connection, usage: Usage) -> None:
            raise refusal

        pool.post_create.append(hook)
        gets = (pool.client.get(key) for key in "abc")
        errors = await asyncio.gather(*gets, return_exceptions=True)
        for error in errors:
            assert isinstance(error, ConnectFailed)
            assert "Refused: not this one" in str(error)
            assert error.__cause__ is refusal
            assert error.outcome is Outcome.NOT_SENT
        assert len(set(map(id, errors))) == 3  # an error of his own for each: tracebacks grow
        pool.post_create.clear()
        assert await pool.client.ping() is True


async def test_a_hook_that_refuses_leaves_no_socket_behind(
    clean_server: EmbeddedServer, admin: object
) -> None:
    async with pool_at(clean_server, client_name="refused", pool_max_size=2) as pool:

        async def hook(connection: Connection, usage: Usage) -> None:
            raise Refused("not this one")

        pool.post_create.append(hook)
        for _ in range(3):
            with pytest.raises(Refused):
                await pool.get()
        pool.post_create.clear()
        async with pool.get():
            assert len(clients_named(admin, "refused")) == 1
        assert pool.metrics().connections_discarded == 3
