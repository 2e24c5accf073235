"""From the moment when a primary may be deposed it gets nothing more, whatever it says itself.

The sentinels are the tests' own here: what they know, and when, is the test's choice. Both servers
say all the time that they are primaries, as on both sides of a partition.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest

from redisutils import RedisPool
from redisutils.errors import CircuitOpen, ConnectionLost, Outcome
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel import pace, whereabouts
from redisutils.topology.sentinel import suspicion as suspecting
from redisutils.topology.sentinel import watch as watching

from .conftest import StartServer
from .liar import Liar
from .ours import Place, our_tasks, pool_at, until
from .servers import client_of
from .watched import Load, address_of, reaching, watched

# What is shown here is ours, and the loop has no part in it.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])

PROMOTING = "+failover-state-send-slaveof-noone"


@dataclass
class World:
    """An old and a new primary, and three sentinels, which name the old one."""

    old: EmbeddedServer
    new: EmbeddedServer
    sentinels: list[Liar]

    def pool(self, at: Place | None = None, **settings: Any) -> RedisPool:
        """Of the old primary, by way of ``at`` if given."""
        via = {} if at is None else {address_of(self.old): address_of(at)}
        pool = pool_at(self.old, **settings)
        pool._plan = SentinelPlan(
            tuple(reaching(*each.place) for each in self.sentinels), "mymaster", via
        )
        return pool

    def move(self, *which: int) -> None:
        """These sentinels know from now on that the new one is the primary, and say so."""
        news = f"mymaster {self.old.host} {self.old.port} {self.new.host} {self.new.port}"
        for number in which:
            liar = self.sentinels[number]
            liar.says, liar.epoch = address_of(self.new), 2
            liar.tell("+switch-master", news)


@pytest.fixture
async def world(clean_server: EmbeddedServer, start_server: StartServer) -> AsyncIterator[World]:
    new = await start_server(password=clean_server.password)
    async with AsyncExitStack() as stack:
        sentinels = [
            await stack.enter_async_context(Liar("mymaster", address_of(clean_server), 1))
            for _ in range(3)
        ]
        yield World(clean_server, new, sentinels)


async def all_heard(pool: RedisPool) -> None:
    """All sentinels have been asked, and are listened to."""
    watch = watched(pool).watch
    await until(lambda: len(watch.survey().answers) == 3, "answers")


async def test_nothing_reaches_a_deposed_primary_after_the_first_news(world: World) -> None:
    async with world.pool() as pool:
        async with Load(pool.client) as load:
            await all_heard(pool)
            connection = watched(pool).lane().connection
            assert connection is not None
            world.move(0)
            await until(lambda: connection.held, "suspicion")
            await until(lambda: not connection.awaited, "the last answers")
            with client_of(world.old.url) as admin, client_of(world.new.url) as other:
                there = {key: admin.lrange(key, 0, -1) for key in load.acknowledged}
                assert not other.dbsize()  # one alone moves nothing
                world.move(1)
                await load.more(50)
                assert connection.closed
                assert {key: admin.lrange(key, 0, -1) for key in load.acknowledged} == there
        assert not load.unknown
        assert not load.refused
        assert pool.metrics().failovers == 1
        with client_of(world.new.url) as other:
            for key, numbers in load.acknowledged.items():
                both = [*there[key], *other.lrange(key, 0, -1)]
                assert list(map(int, both)) == numbers  # each once, and in its order


async def test_a_failover_that_is_called_off_costs_a_moment(world: World) -> None:
    async with world.pool() as pool, Load(pool.client) as load:
        await all_heard(pool)
        connection = watched(pool).lane().connection
        assert connection is not None
        words = f"slave s 127.0.0.1 1 @ mymaster {world.old.host} {world.old.port}"
        world.sentinels[0].failing_over = True
        world.sentinels[0].tell(PROMOTING, words)
        await until(lambda: connection.held, "suspicion")
        report = await pool.health(0.2)
        codes = {reason.code for reason in report.reasons}
        assert "failover" in codes
        assert "unreachable" not in codes  # nobody was let through to ask
        assert report.status == "degraded"
        world.sentinels[0].failing_over = False
        world.sentinels[0].tell("-failover-abort-no-good-slave", words)
        await load.more(50, patience=1.0)
        assert watched(pool).lane().connection is connection
        assert not load.unknown
        assert not load.refused


@one_loop
async def test_a_crowd_that_waits_for_the_end_of_a_failover_asks_little(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspecting, "PROMOTION", 60.0)
    monkeypatch.setattr(watching, "PROMOTION", 60.0)
    async with world.pool() as pool:
        assert await pool.client.set("k", 1)
        await all_heard(pool)
        teller = world.sentinels[0]
        words = f"slave s 127.0.0.1 1 @ mymaster {world.old.host} {world.old.port}"
        for each in world.sentinels:
            each.failing_over = True
        teller.tell(PROMOTING, words)
        await until(lambda: watched(pool).watch.suspicion, "suspicion")
        waiting = [asyncio.ensure_future(pool.get().__aenter__()) for _ in range(5)]
        before = teller.asked
        await until(lambda: teller.asked > before + 1, "rounds that had no reason of their own")
        asked, listed, since = teller.asked, teller.listed, monotonic()
        await until(lambda: teller.asked >= asked + 10, "rounds")
        assert teller.asked - asked <= (monotonic() - since) / (0.75 * pace.URGENT) + 2
        assert teller.listed == listed
        assert not any(task.done() for task in waiting)
        world.move(1, 2)
        for task in waiting:
            (await task).release()
        # The new primary is another one: all is asked again.
        assert world.sentinels[1].listed > 0
        await until(lambda: teller.listed > listed, "that all is asked")


@one_loop
async def test_what_is_checked_out_is_held_and_ended(world: World) -> None:
    async with world.pool() as pool, pool.get() as own:
        await all_heard(pool)
        assert await own.set("k", 1)
        connection = own._lease.item
        world.move(0)
        await until(lambda: connection.held, "suspicion")
        writing = asyncio.ensure_future(own.set("k", 2))
        another = asyncio.ensure_future(pool.get().__aenter__())
        await asyncio.sleep(0.02)
        assert not writing.done()
        assert not another.done()  # nobody is connected to it, either
        world.move(1, 2)
        with pytest.raises(ConnectionLost, match="is not the primary any more") as caught:
            await writing
        assert caught.value.outcome is Outcome.NOT_SENT
        with client_of(world.old.url) as admin:
            assert admin.get("k") == "1"
        async with await another as fresh:
            assert str(world.new.port) in fresh._lease.item.peer


@one_loop
async def test_whoever_connects_to_one_that_hangs_begins_anew(world: World) -> None:
    async with FaultProxy(world.old.host, world.old.port) as proxy:
        proxy.blackhole()
        async with world.pool(proxy, connection_timeout=30.0) as pool:
            getting = asyncio.ensure_future(pool.get().__aenter__())
            await until(lambda: proxy.active, "an attempt")
            await all_heard(pool)
            began = monotonic()
            world.move(0, 1, 2)
            async with await getting as own:
                assert await own.set("k", 1)
            assert monotonic() - began < 2.0


@one_loop
async def test_an_open_circuit_closes_when_the_primary_moves(world: World) -> None:
    async with FaultProxy(world.old.host, world.old.port) as proxy:
        settings = {"circuit_breaker_seconds": 0.2, "command_timeout": 5.0}
        async with world.pool(proxy, **settings) as pool:
            assert await pool.client.ping()
            await all_heard(pool)
            proxy.refuse()
            proxy.reset()
            refused: list[CircuitOpen] = []
            while not refused:
                try:
                    await pool.client.ping()
                except CircuitOpen as error:
                    refused.append(error)
            assert "mymaster is known dead" in str(refused[0])
            began = monotonic()
            world.move(0, 1, 2)
            await until(lambda: pool.status().breaker == "closed", "the end of it")
            assert await pool.client.set("k", 1)
            assert monotonic() - began < 2.0


@one_loop
async def test_a_stale_sentinel_brings_nobody_back(world: World) -> None:
    async with world.pool() as pool:
        assert await pool.client.ping()
        await all_heard(pool)
        world.move(0, 1)
        watch = watched(pool).watch
        await until(lambda: watch.present and watch.present.epoch == 2, "the move")
        assert await pool.client.set("k", 1)
        for liar in world.sentinels[:2]:
            await liar.__aexit__(None, None, None)
        connection = watched(pool).lane().connection
        assert connection is not None
        with client_of(world.new.url) as admin:
            admin.client_kill_filter(_type="normal", skipme=True)
            asked = world.sentinels[2].asked
            assert await pool.client.get("k") == b"1"
            assert world.sentinels[2].asked > asked
        report = await pool.health()
        assert {reason.code for reason in report.reasons} >= {"sentinels"}


@one_loop
async def test_sentinels_that_were_set_up_anew_are_believed_after_a_while(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whereabouts, "BEHIND", 0.3)
    monkeypatch.setattr(pace, "WRONG", 0.1)
    async with world.pool() as pool:
        assert await pool.client.ping()
        await all_heard(pool)
        watch = watched(pool).watch
        for liar in world.sentinels:
            liar.says, liar.epoch = address_of(world.new), 0
        began = monotonic()
        watch.doubt()
        await until(lambda: watch.present and watch.present.epoch == 0, "the move")
        assert monotonic() - began >= 0.3
        assert await pool.client.set("k", 1)
        with client_of(world.new.url) as admin:
            assert admin.get("k") == "1"


@one_loop
async def test_one_who_cancels_all_tasks_ends_no_watch(world: World) -> None:
    async with world.pool() as pool:
        assert await pool.client.set("k", 1)
        await all_heard(pool)
        watch, connection = watched(pool).watch, watched(pool).lane().connection
        assert connection is not None
        world.move(0)
        await until(lambda: connection.held, "suspicion")
        assert watch._task is not None
        watch._task.cancel()
        await until(lambda: not connection.held, "the end of it")
        assert await pool.client.get("k") == b"1"
        world.move(1)
        async with pool.get(), pool.get():  # one of them has to connect
            pass
        await until(lambda: watch.present and watch.present.epoch == 2, "the move")


@one_loop
async def test_a_pool_that_is_dropped_leaves_nothing(world: World) -> None:
    tasks = our_tasks()
    pool = await world.pool()
    assert await pool.client.ping()
    server = watched(pool)
    connection = server.lane().connection
    assert connection is not None
    server.abandon()
    await until(lambda: our_tasks() == tasks, "the end of its tasks")
    assert connection.closed
    await pool.close()
