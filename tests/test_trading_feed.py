"""Live quotes: they begin with the newest there is, and what was missed is told."""

from __future__ import annotations

import asyncio
import gc
import threading
from time import time_ns
from typing import Any

import pytest
import redis

from redisutils import PoolClosed, RedisPool
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.codec import Encoding
from redisutils.trading.errors import InvalidValue, ServiceClosed, UnreadableRecord
from redisutils.trading.market.applying import Channels
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.feed import Feed, Message, State
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Policy, Sink, Subscription, Update
from redisutils.trading.times import SECOND

from .ours import our_tasks, pool_at, until

NOW = time_ns() - SECOND


def quote(number: int, instrument: str = "ES") -> Quote:
    """The feed's quote of this number."""
    return Quote.of(instrument, number, number + 1, ts_event=NOW + number, ts_recv=NOW, seq=number)


async def read(subscription: Subscription, count: int) -> list[int | None]:
    """The numbers of the next quotes."""
    async with asyncio.timeout(5):
        return [(await anext(subscription)).seq for _ in range(count)]


async def next_update(subscription: Subscription) -> Update:
    async with asyncio.timeout(5):
        return await anext(subscription.updates())


# -- order and gaps, without a server ------------------------------------------------------------


def fed(policy: Policy = "block", capacity: int = 100) -> tuple[Feed, Sink]:
    feed, sink = Feed(), Sink(policy, capacity)
    feed.sinks = (sink,)
    return feed, sink


def said(number: int, count: int = 1, epoch: int = 1) -> Message:
    return Message(epoch, number, [quote(at) for at in range(number - count + 1, number + 1)])


def state(number: int, epoch: int = 1) -> State:
    return State(epoch, number, quote(number))


def taken(sink: Sink) -> list[tuple[int, int | str | None]]:
    """What waits: numbers, and what was missed before each (``""``: nothing)."""
    found: list[tuple[int, int | str | None]] = [
        (one.number, one.missed if one.gap else "") for one in sink._items
    ]
    sink._items.clear()
    return found


def test_it_begins_with_the_state_and_goes_on_after_it() -> None:
    feed, sink = fed()
    feed.begun()
    feed.heard(said(4))
    feed.heard(said(6, 2))
    assert taken(sink) == []
    feed.read(state(5))
    assert taken(sink) == [(5, ""), (6, "")]
    feed.heard(said(6))
    feed.heard(said(8, 3))
    assert taken(sink) == [(7, ""), (8, "")]


def test_it_may_begin_with_nothing() -> None:
    feed, sink = fed()
    feed.begun()
    feed.read(None)
    feed.heard(said(1))
    assert taken(sink) == [(1, "")]


def test_a_gap_is_told_with_its_size() -> None:
    feed, sink = fed()
    feed.begun()
    feed.read(state(5))
    feed.heard(said(9, 2))
    assert taken(sink) == [(5, ""), (8, 2), (9, "")]
    assert (sink.gaps, sink.missed) == (1, 2)


@pytest.mark.parametrize(
    ("held", "at", "expected"),
    [
        ([], state(5), []),  # nothing happened meanwhile
        ([said(6)], state(5), [(6, "")]),
        ([said(6)], state(6), [(6, "")]),
        ([], state(6), [(6, "")]),
        ([], state(9), [(9, 3)]),
        ([said(10)], state(9), [(9, 3), (10, "")]),
        ([said(8), said(9)], state(9), [(8, 2), (9, "")]),
        ([said(12)], state(9), [(9, 3), (12, 2)]),
        ([], state(2), [(2, None)]),  # another server, which is behind
        ([said(3)], state(2), [(2, None), (3, "")]),
        ([], state(3, epoch=2), [(3, None)]),
        ([said(1, epoch=2)], state(1, epoch=2), [(1, None)]),
        ([said(7), said(1, epoch=2)], state(1, epoch=2), [(1, None)]),
        ([said(1, epoch=2)], None, [(1, None)]),
    ],
)
def test_after_a_loss(held: list[Message], at: State | None, expected: list[Any]) -> None:
    feed, sink = fed()
    feed.begun()
    feed.read(state(5))
    assert taken(sink) == [(5, "")]
    feed.lost()
    feed.begun()
    for message in held:
        feed.heard(message)
    feed.read(at)
    assert taken(sink) == expected
    assert feed.live


def test_who_comes_while_the_state_is_read_begins_with_it_too() -> None:
    feed, sink = fed()
    feed.begun()
    feed.read(state(5))
    assert taken(sink) == [(5, "")]
    feed.begun()
    newcomer = Sink("block", 100)
    feed.sinks = (sink, newcomer)
    feed.read(state(5))
    assert (taken(sink), taken(newcomer)) == ([], [(5, "")])


def test_a_new_count_on_a_connection_that_was_there_is_no_gap() -> None:
    feed, sink = fed()
    feed.begun()
    feed.read(state(5))
    feed.heard(said(2, 2, epoch=2))
    assert taken(sink) == [(5, ""), (1, ""), (2, "")]
    feed.heard(said(3, epoch=3))
    assert taken(sink) == [(3, None)]
    feed.spoiled()
    feed.heard(said(4, epoch=3))
    assert taken(sink) == [(4, None)]


def test_what_is_held_is_bounded() -> None:
    feed, sink = fed()
    feed.begun()
    for number in range(1, 60):
        feed.heard(said(number * 500, 500))
    feed.read(state(60 * 500))
    assert len(taken(sink)) <= 10_001


def test_conflating_keeps_the_newest_and_what_was_missed() -> None:
    feed, sink = fed("conflate")
    feed.begun()
    feed.read(state(5))
    feed.heard(said(8))
    feed.heard(said(9))
    feed.heard(said(12))
    assert taken(sink) == [(12, 4)]
    assert (sink.conflated, sink.gaps, sink.missed) == (3, 2, 4)
    feed.heard(said(14, 2))
    assert taken(sink) == [(14, "")]
    assert sink.conflated == 4
    feed.heard(said(20, epoch=7))
    feed.heard(said(25, epoch=7))
    assert taken(sink) == [(25, None)]


def test_dropping_keeps_the_newest_some_and_counts() -> None:
    feed, sink = fed("drop", 3)
    feed.begun()
    feed.read(state(5))
    feed.heard(said(7))
    for number in (8, 9, 10):
        feed.heard(said(number))
    assert taken(sink) == [(8, 1), (9, ""), (10, "")]
    assert sink.dropped == 2


def test_policies_that_are_none() -> None:
    with pytest.raises(InvalidValue, match="policy='latest' must be one of conflate, block, drop"):
        Sink("latest", 1)  # type: ignore[arg-type]  # refused
    with pytest.raises(InvalidValue, match="capacity=0"):
        Sink("drop", 0)


# -- a server ------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", ["sharded", "plain"])
@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_the_newest_then_updates(
    pool: RedisPool, encoding: Encoding, channels: Channels
) -> None:
    async with MarketData(pool, encoding=encoding, channels=channels) as market:
        await market.put_quote(quote(1))
        found = []
        async for one in market.subscribe("ES", "block"):
            found.append(one)
            if len(found) == 1:
                await market.put_quotes([quote(2), quote(3)])
            elif len(found) == 3:
                break
        assert found == [quote(1), quote(2), quote(3)]


async def test_one_subscription_for_all_readers(market: MarketData, admin: redis.Redis) -> None:
    many = [market.subscribe("ES", "drop") for _ in range(20)]
    other = market.subscribe("NQ")
    await market.put_quote(quote(1))
    assert [await read(one, 1) for one in many] == [[1]] * 20
    assert admin.pubsub_shardnumsub("md:{ES}:q") == [("md:{ES}:q", 1)]
    late = market.subscribe("ES")
    assert await read(late, 1) == [1]  # known here already
    for one in (*many, late):
        await one.aclose()
    await until(lambda: admin.pubsub_shardnumsub("md:{ES}:q") == [("md:{ES}:q", 0)])
    await market.put_quote(quote(1, "NQ"))
    assert await read(other, 1) == [1]
    again = market.subscribe("ES")
    assert await read(again, 1) == [1]
    await again.aclose()
    at_once = market.subscribe("ES")
    assert await read(at_once, 1) == [1]
    await market.put_quote(quote(2))
    assert await read(at_once, 1) == [2]


async def test_who_drops_a_subscription_has_ended_it(market: MarketData) -> None:
    subscription = market.subscribe("ES")
    await market.put_quote(quote(1))
    assert await read(subscription, 1) == [1]
    del subscription
    gc.collect()
    hub = market._hub
    assert hub is not None
    await until(lambda: not hub._feeds and hub._pubsub is None)


async def test_ten_thousand_readers_of_a_thousand_instruments(market: MarketData) -> None:
    names = [f"I{number}" for number in range(1000)]
    await market.put_quotes([quote(1, name) for name in names])
    readers = [market.subscribe(name) for name in names for _ in range(10)]
    assert [await read(one, 1) for one in readers] == [[1]] * 10_000
    await market.put_quotes([quote(2, name) for name in names])
    assert [await read(one, 1) for one in readers] == [[2]] * 10_000
    assert [one.gaps for one in readers] == [0] * 10_000
    hub = market._hub
    assert hub is not None
    readers.clear()
    gc.collect()
    await until(lambda: not hub._feeds and hub._pubsub is None)


async def test_no_update_is_missed_between_the_first_value_and_the_next(
    market: MarketData,
) -> None:
    """Readers come and go while a writer writes: each hears all from where it begins."""

    async def come_and_go() -> None:
        for _ in range(40):
            async with market.subscribe("ES", "block") as subscription:
                found = await read(subscription, 4)
                first = found[0] or 0
                assert found == list(range(first, first + 4))
                assert subscription.gaps == 0

    coming = asyncio.gather(come_and_go(), come_and_go())
    number = 0
    while not coming.done():
        number += 1
        await market.put_quote(quote(number))
    await coming


async def test_two_event_loops(clean_server: EmbeddedServer, market: MarketData) -> None:
    """One service for each loop; what one writes, the other hears."""
    heard = market.subscribe("ES", "block")
    await market.put_quote(quote(0))
    assert await read(heard, 1) == [0]  # from now on it hears all, and not the newest alone
    ready = threading.Event()

    async def other() -> list[int | None]:
        async with pool_at(clean_server) as pool, MarketData(pool) as theirs:
            subscription = theirs.subscribe("NQ", "block")
            await theirs.put_quote(quote(1, "NQ"))
            found = await read(subscription, 1)
            ready.set()
            await theirs.put_quotes([quote(number) for number in (1, 2, 3)])
            return found + await read(subscription, 1)

    theirs = asyncio.create_task(asyncio.to_thread(asyncio.run, other()))
    await asyncio.to_thread(ready.wait)
    await market.put_quote(quote(2, "NQ"))
    assert await theirs == [1, 2]
    assert await read(heard, 3) == [1, 2, 3]


async def test_who_reads_and_writes_and_borrows_in_turns_is_not_held_up(
    pool: RedisPool, market: MarketData
) -> None:
    """A full reader that blocks holds up the feed, and neither writers nor the pool."""
    subscription = market.subscribe("ES", "block", capacity=1)
    await market.put_quote(quote(0))
    assert await read(subscription, 1) == [0]
    async with market.writer(conflate=False) as writer:
        for number in range(1, 200):
            await writer.put(quote(number))
        await writer.flush()
        for number in range(1, 200):
            assert await read(subscription, 1) == [number]
            await writer.put(quote(number, "NQ"))
            if number % 20 == 0:
                await writer.flush()
                async with pool.get() as connection:
                    await connection.execute("PING")
    assert subscription.gaps == 0


async def test_blocking_loses_nothing(market: MarketData) -> None:
    slow = market.subscribe("ES", "block", capacity=10)
    newest = market.subscribe("ES")
    some = market.subscribe("ES", "drop", capacity=10)
    await market.put_quote(quote(0))
    assert await read(slow, 1) == await read(newest, 1) == await read(some, 1) == [0]
    for number in range(1, 501):
        await market.put_quote(quote(number))
    await until(lambda: slow.pending == 10)
    found = await read(slow, 500)
    assert found == list(range(1, 501))
    assert (slow.gaps, slow.dropped, slow.conflated) == (0, 0, 0)
    assert await read(newest, 1) == [500]
    assert newest.conflated == 499
    assert await read(some, 10) == list(range(491, 501))
    assert some.dropped == 490


async def test_a_reader_that_keeps_up_loses_nothing(market: MarketData) -> None:
    subscription = market.subscribe("ES", "drop", capacity=4)
    reading = asyncio.create_task(read(subscription, 150))
    await asyncio.sleep(0)
    async with market.writer(conflate=False) as writer:
        await writer.put(quote(0))
        await until(lambda: subscription.pending == 0 and market._hub and market._hub._heard)
        for number in range(1, 150):
            await writer.put(quote(number))
            await asyncio.sleep(0)
            await writer.flush()
    assert await reading == list(range(150))
    assert subscription.dropped == 0


async def test_what_was_missed_while_the_connection_was_lost_is_told(
    clean_server: EmbeddedServer, proxy: FaultProxy, pool: RedisPool
) -> None:
    async with (
        MarketData(pool) as near,
        pool_at(clean_server, proxy, retry_delay_ms=5, retry_max_delay_ms=20) as far_pool,
        MarketData(far_pool) as far,
    ):
        subscription = far.subscribe("ES", "block")
        await near.put_quote(quote(1))
        assert await read(subscription, 1) == [1]
        hub = far._hub
        assert hub is not None
        for number in (5, 10):
            proxy.refuse()
            proxy.reset()
            await until(lambda: not hub.connected)
            newcomer = far.subscribe("ES")
            assert newcomer.pending == 0  # what is known may not be the newest
            for missed in range(number - 3, number + 1):
                await near.put_quote(quote(missed))
            proxy.restore()
            update = await next_update(subscription)
            assert (update.value, update.gap, update.missed) == (quote(number), True, 3)
            assert await read(newcomer, 1) == [number]
            await near.put_quote(quote(number + 1))
            assert await next_update(subscription) == Update(quote(number + 1), update.number + 1)
        assert (subscription.gaps, subscription.missed) == (2, 6)


async def test_a_subscription_made_while_the_server_is_away(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(
        clean_server, proxy, command_timeout=0.2, retry_delay_ms=5, retry_max_delay_ms=20
    ) as pool:
        proxy.refuse()
        async with MarketData(pool) as market:
            subscription = market.subscribe("ES")
            reading = asyncio.create_task(read(subscription, 1))
            await asyncio.sleep(0.3)
            other = market.subscribe("NQ")
            proxy.restore()
            await market.put_quotes([quote(1), quote(1, "NQ")])
            assert await reading == [1]
            assert await read(other, 1) == [1]


async def test_what_is_not_ours(
    market: MarketData, admin: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await market.put_quote(quote(1))
    subscription = market.subscribe("ES", "block")
    assert await read(subscription, 1) == [1]
    for spoilt in (b"", b"hello", b"1:2 []", b"1:2 {}", b"x:y [1]", b"\xff", b"1:2 " + b"[" * 9999):
        admin.spublish("md:{ES}:q", spoilt)
    await market.put_quote(quote(2))
    update = await next_update(subscription)
    assert (update.value, update.gap, update.missed) == (quote(2), True, None)
    assert caplog.text.count("a message on md:{ES}:q is none of ours") == 7
    admin.hset("md:{NQ}:q", mapping={"v": "7", "n": 1, "e": 1})
    with pytest.raises(UnreadableRecord, match=r"md:\{NQ\}:q"):
        await read(market.subscribe("NQ"), 1)
    nested = '{"mood":' + "[" * 9999 + "]" * 9999 + "}"
    good = f'{{"instrument":"ZN","ts_event":{NOW},"ts_recv":{NOW}}}'
    for value, number in ((nested, "1"), (good, ""), (good, "one")):
        admin.hset("md:{ZN}:q", mapping={"v": value, "e": 1})
        if number:
            admin.hset("md:{ZN}:q", "n", number)
        with pytest.raises(UnreadableRecord, match=r"md:\{ZN\}:q"):
            await read(market.subscribe("ZN"), 1)
        admin.delete("md:{ZN}:q")
    admin.set("md:{YM}:q", "7")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await read(market.subscribe("YM"), 1)


async def test_what_a_newer_version_publishes_is_read(
    market: MarketData, admin: redis.Redis
) -> None:
    subscription = market.subscribe("ES", "block")
    await market.put_quote(quote(1))
    assert await read(subscription, 1) == [1]
    epoch = int(admin.hget("md:{ES}:q", "e") or 0)
    text = f'{{"v":2,"instrument":"ES","bid":"5","ts_event":{NOW},"ts_recv":{NOW},"mood":"good"}}'
    admin.spublish("md:{ES}:q", f"{epoch}:2 [{text}]")
    newer = (await next_update(subscription)).value
    assert (newer.v, str(newer.bid), list(newer.extra or ())) == (2, "5", ["mood"])


async def test_the_end_is_told(pool: RedisPool) -> None:
    before = our_tasks()
    market = MarketData(pool)
    subscription = market.subscribe("ES")
    await market.put_quote(quote(1))
    assert await read(subscription, 1) == [1]
    reading = asyncio.create_task(read(subscription, 1))
    await asyncio.sleep(0)
    await market.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)
    with pytest.raises(StopAsyncIteration):
        await reading
    with pytest.raises(ServiceClosed):
        market.subscribe("ES")
    with pytest.raises(InvalidValue, match="nothing is published"):
        MarketData(pool, channels="none").subscribe("ES")
    assert our_tasks() == before


async def test_the_end_of_the_pool_is_told(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        market = MarketData(pool)
        subscription = market.subscribe("ES")
        await market.put_quote(quote(1))
        assert await read(subscription, 1) == [1]
    with pytest.raises((PoolClosed, redis.ConnectionError)):
        await read(subscription, 1)
    await market.aclose()


async def test_one_reader_at_a_time(market: MarketData) -> None:
    subscription = market.subscribe("ES")
    first = asyncio.create_task(read(subscription, 1))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="read by one task at a time"):
        await read(subscription, 1)
    await market.put_quote(quote(1))
    assert await first == [1]
    assert "ES conflate open: 0 pending" in repr(subscription)
