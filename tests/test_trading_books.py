"""Order books in the database: one script for each change, and nothing stale is shown as good."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from random import Random
from time import time_ns
from typing import Any

import pytest
import redis

from redisutils import RedisPool
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.errors import BookReplaced, Crossed, InvalidValue
from redisutils.trading.market.book import BookDelta, BookSnapshot, Level
from redisutils.trading.market.books import BookLevel, BookView, BookWriter
from redisutils.trading.market.data import MarketData
from redisutils.trading.scripts import Scripts, load
from redisutils.trading.times import SECOND

from .ours import pool_at

NOW = time_ns() - SECOND


def snapshot(bids: Any = (), asks: Any = (), seq: int = 10, **more: Any) -> BookSnapshot:
    return BookSnapshot(bids=bids, asks=asks, seq=seq, **{"ts_event": NOW, "ts_recv": NOW, **more})


def delta(bids: Any = (), asks: Any = (), **more: Any) -> BookDelta:
    return BookDelta(bids=bids, asks=asks, **{"ts_event": NOW + 1, "ts_recv": NOW + 1, **more})


START = snapshot([("99.5", "2"), ("99.0", "1")], [("100.5", "3"), ("101.0", "4")])


@pytest.fixture
async def writer(market: MarketData) -> BookWriter:
    writer = market.book_writer("ES", "0.5")
    assert await writer.snapshot(START) == "applied"
    return writer


def shown(view: BookView) -> tuple[list[Level], list[Level]]:
    bids, asks = ([(str(p), str(q)) for p, q in side] for side in (view.bids, view.asks))
    return bids, asks


async def agrees(market: MarketData, writer: BookWriter) -> None:
    """What is read is the book that its writer has."""
    view = await market.book("ES", levels=1000)
    assert shown(view) == (writer.book.bids(), writer.book.asks())
    assert view.seq == writer.book.seq
    assert view.state == "fresh"


async def test_a_book_is_read_in_the_venues_digits(market: MarketData, writer: BookWriter) -> None:
    view = await market.book("ES")
    assert shown(view) == ([("99.5", "2"), ("99.0", "1")], [("100.5", "3"), ("101.0", "4")])
    assert (view.state, view.why, view.seq, view.epoch) == ("fresh", "", 10, 1)
    assert (view.ts_event, view.ts_recv) == (NOW, NOW)
    assert view.age is not None
    assert view.age >= 1.0
    top = await market.book("ES", levels=1)
    assert (top.best_bid, top.best_ask) == (
        BookLevel(Decimal("99.5"), Decimal(2)),
        BookLevel(Decimal("100.5"), Decimal(3)),
    )
    assert (len(top.bids), len(top.asks), top.locked) == (1, 1, False)
    await writer.apply(delta([("100.5", "1")], seq=11))
    assert (await market.book("ES")).locked


async def test_anybody_can_read_it(writer: BookWriter, admin: redis.Redis) -> None:
    assert admin.hgetall("ob:{ES}:b") == {"99.5": "2", "99.0": "1"}
    assert admin.zrange("ob:{ES}:ai", 0, -1, withscores=True) == [("100.5", 201), ("101.0", 202)]
    assert admin.hget("ob:{ES}:m", "k") == "0.5"
    for part in ("m", "b", "a", "bi", "ai"):
        assert 3_000_000 < admin.pttl(f"ob:{{ES}}:{part}") <= 3_600_000


async def test_changes(market: MarketData, writer: BookWriter) -> None:
    assert await writer.apply(delta([("99.5", "0")], [("100.5", "9")], seq=11)) == "applied"
    await agrees(market, writer)
    # The same price in other digits is the same price.
    assert await writer.apply(delta([("99", "5")], [("101.00", "0")], seq=12)) == "applied"
    await agrees(market, writer)
    assert shown(await market.book("ES")) == ([("99", "5")], [("100.5", "9")])
    assert await writer.apply(delta([("1", "1")], seq=12)) == "old"
    assert await writer.apply(delta(seq=13), delta([("98", "1")], seq=14)) == "applied"
    assert await writer.apply() == "old"
    await agrees(market, writer)


async def test_each_call_is_one_script(
    market: MarketData, writer: BookWriter, admin: redis.Redis
) -> None:
    await writer.apply(delta(seq=11))
    await market.book("ES")
    admin.config_resetstat()
    await writer.apply(*(delta([("98", seq)], seq=seq) for seq in range(12, 30)))
    await market.book("ES")
    calls = admin.info("commandstats")
    assert calls["cmdstat_evalsha"]["calls"] == 2
    assert "cmdstat_eval" not in calls
    await agrees(market, writer)


@pytest.mark.parametrize("why", ["gap", "checksum", "feed lost"])
async def test_what_is_stale_is_not_shown(market: MarketData, why: str) -> None:
    writer = market.book_writer("ES", "0.5", checksum=lambda book: 7)
    await writer.snapshot(START)
    if why == "gap":
        assert await writer.apply(delta(seq=12)) == "stale"
    elif why == "checksum":
        assert await writer.apply(delta(seq=11, checksum=8)) == "stale"
    else:
        await writer.stale(why)
    for _ in range(2):
        view = await market.book("ES")
        assert (view.state, view.why, view.bids, view.asks) == ("stale", why, (), ())
        assert (view.best_bid, view.best_ask, view.locked) == (None, None, False)
        assert await writer.apply(delta(seq=11)) == "stale"
    assert await writer.snapshot(snapshot([("1.0", "1")], seq=50)) == "applied"
    view = await market.book("ES")
    assert (shown(view), view.epoch) == (([("1.0", "1")], []), 2)
    await agrees(market, writer)


async def test_a_book_that_crosses_is_refused(market: MarketData, writer: BookWriter) -> None:
    with pytest.raises(Crossed):
        await writer.snapshot(snapshot([("9", "1")], [("8", "1")]))
    await agrees(market, writer)
    with pytest.raises(Crossed):
        await writer.apply(
            delta([("99", "7")], seq=11), delta([("100.5", "1"), ("101", "1")], seq=12)
        )
    view = await market.book("ES")
    assert (view.state, view.why, view.bids) == ("stale", "crossed", ())


async def test_bad_input_writes_nothing(
    market: MarketData, writer: BookWriter, admin: redis.Redis
) -> None:
    before = [admin.dump(f"ob:{{ES}}:{part}") for part in ("m", "b", "a", "bi", "ai")]
    for bad in (
        delta([(99.5, "1")], seq=11),
        delta([("99.7", "1")], seq=11),
        delta([], [("101", "-1")], seq=11),
        delta(seq=11, ts_event=NOW + 3600 * SECOND),
        delta(seq=11, ts_recv=5),
    ):
        with pytest.raises(InvalidValue):
            await writer.apply(bad)
    with pytest.raises(InvalidValue, match="why="):
        await writer.stale("")
    assert before == [admin.dump(f"ob:{{ES}}:{part}") for part in ("m", "b", "a", "bi", "ai")]
    assert await writer.apply(delta([("97", "1")], seq=11), delta([], seq=12)) == "applied"
    with pytest.raises(InvalidValue):
        await writer.apply(delta([("96", "1")], seq=13), delta([("9.7", "1")], seq=14))
    await agrees(market, writer)
    assert writer.book.seq == 13
    for levels in (0, 1001, "1", True):
        with pytest.raises(InvalidValue, match="levels="):
            await market.book("ES", levels)  # type: ignore[arg-type]  # refused


async def test_age_makes_it_stale(pool: RedisPool) -> None:
    now = NOW
    market = MarketData(pool, clock=lambda: now)
    assert (await market.book("ES")).state == "absent"
    await market.book_writer("ES", "0.5").snapshot(START)
    now += 2 * SECOND
    view = await market.book("ES", max_age=1)
    assert (view.state, view.why, view.age) == ("stale", "age", 2.0)
    assert view.best_bid is not None  # it says how old it is
    assert (await market.book("ES", max_age=2)).state == "fresh"


async def test_many_books_at_once(market: MarketData, writer: BookWriter) -> None:
    other = market.book_writer("NQ", "0.25")
    await other.snapshot(snapshot([("5.25", "1")], [("6.00", "1")]))
    views = await market.books(["ES", "NQ", "YM", "ES"])
    assert {name: view.state for name, view in views.items()} == {
        "ES": "fresh",
        "NQ": "fresh",
        "YM": "absent",
    }
    assert shown(views["NQ"]) == ([("5.25", "1")], [("6.00", "1")])


async def test_who_puts_a_snapshot_has_the_book(
    market: MarketData, writer: BookWriter, admin: redis.Redis
) -> None:
    other = market.book_writer("ES", "0.5")
    await other.snapshot(snapshot([("5", "1")], seq=10))
    for _ in range(2):
        with pytest.raises(BookReplaced, match="another writer has put a snapshot of ES"):
            await writer.apply(delta([("98", "1")], seq=11))
    with pytest.raises(BookReplaced):
        await writer.stale("feed lost")
    await agrees(market, other)
    admin.flushall()
    with pytest.raises(BookReplaced):
        await writer.apply(delta([("98", "1")], seq=11))
    assert (await market.book("ES")).state == "absent"
    await other.apply(delta(seq=11))
    await writer.snapshot(START)
    await agrees(market, writer)
    with pytest.raises(BookReplaced):
        await other.stale("feed lost")
    await agrees(market, writer)


async def test_a_sign_of_life_keeps_it_fresh(pool: RedisPool) -> None:
    now = NOW
    market = MarketData(pool, clock=lambda: now)
    writer = market.book_writer("ES", "0.5")
    await writer.snapshot(START)
    now += 60 * SECOND
    alive = delta(prev=10, seq=10, ts_event=now, ts_recv=now)
    assert await writer.apply(alive) == "applied"
    view = await market.book("ES", max_age=1)
    assert (view.state, view.age, view.ts_recv) == ("fresh", 0.0, now)
    await agrees(market, writer)


async def test_who_begins_may_say_that_the_book_is_stale(
    market: MarketData, writer: BookWriter
) -> None:
    """A program that was started again, and has not got its snapshot yet."""
    other = market.book_writer("ES", "0.5", checksum=lambda book: 7)
    assert await other.apply(delta(seq=11)) == "stale"  # it has no book to apply it to
    await agrees(market, writer)
    await other.stale("started")
    view = await market.book("ES")
    assert (view.state, view.why, view.bids, view.age) == ("stale", "started", (), None)
    with pytest.raises(BookReplaced):
        await writer.apply(delta(seq=11))
    third = market.book_writer("ES", "0.5", checksum=lambda book: 7)
    assert await third.snapshot(snapshot([("1.0", "1")], checksum=8)) == "stale"
    view = await market.book("ES")
    assert (view.state, view.why, view.bids) == ("stale", "checksum", ())
    assert await third.snapshot(START) == "applied"
    await agrees(market, third)


async def test_who_could_not_take_the_book_takes_it_with_the_next_call(
    clean_server: EmbeddedServer, proxy: FaultProxy, market: MarketData, writer: BookWriter
) -> None:
    async with pool_at(
        clean_server, proxy, command_timeout=0.1, retry_delay_ms=5, retry_max_delay_ms=10
    ) as far_pool:
        proxy.refuse()
        late = MarketData(far_pool).book_writer("ES", "0.5")
        with pytest.raises(redis.RedisError):
            await late.snapshot(snapshot([("5.0", "1")]))
        proxy.restore()
        assert await late.apply(delta([("6.0", "1")], seq=11)) == "applied"
        await agrees(market, late)
        with pytest.raises(BookReplaced):
            await writer.apply(delta(seq=11))


async def test_a_snapshot_that_was_cancelled_is_written_with_the_next_call(
    clean_server: EmbeddedServer, proxy: FaultProxy, market: MarketData
) -> None:
    async with pool_at(clean_server, proxy) as far_pool:
        writer = MarketData(far_pool).book_writer("ES", "0.5")
        await writer.snapshot(START)
        proxy.stall()
        putting = asyncio.create_task(writer.snapshot(snapshot([("5.0", "1")])))
        await asyncio.sleep(0.01)
        putting.cancel()
        await asyncio.wait([putting])
        assert putting.cancelled()
        proxy.restore()
        assert await writer.apply(delta([("6.0", "1")], seq=11)) == "applied"
        await agrees(market, writer)


async def test_a_server_that_has_not_heard_that_it_is_stale_is_told(
    market: MarketData, writer: BookWriter, admin: redis.Redis
) -> None:
    before: Any = admin.hgetall("ob:{ES}:m")
    assert await writer.apply(delta(seq=12)) == "stale"
    admin.hset("ob:{ES}:m", mapping=before)  # as where another server takes over, which was behind
    assert (await market.book("ES")).state == "fresh"
    assert await writer.apply(delta(seq=13)) == "stale"
    assert (await market.book("ES")).why == "gap"


async def test_a_book_is_never_read_half_swapped(market: MarketData, writer: BookWriter) -> None:
    async def swap() -> None:
        for seq in range(100, 140):
            price = 100 + seq % 7
            await writer.snapshot(
                snapshot([(str(price), str(seq))], [(str(price + 1), str(seq))], seq=seq)
            )

    swapping = asyncio.create_task(swap())
    while not swapping.done():
        views = await asyncio.gather(*(market.book("ES") for _ in range(5)))
        for view in views:
            assert view.state == "fresh"
            if view.seq >= 100:
                assert {level.quantity for level in (*view.bids, *view.asks)} == {view.seq}
                assert view.asks[0].price == view.bids[0].price + 1
    await swapping


@pytest.mark.parametrize("lost", ["all", "a delta"])
async def test_what_the_database_has_lost_is_made_good(
    market: MarketData, writer: BookWriter, admin: redis.Redis, lost: str
) -> None:
    await writer.apply(delta([("98", "1")], seq=11))
    if lost == "all":
        admin.flushall()
    else:  # as after a failover to a replica that was behind
        admin.hset("ob:{ES}:m", "n", "10")
    assert await writer.apply(delta([("97", "1")], seq=12)) == "applied"
    await agrees(market, writer)


async def test_a_lost_answer_applies_nothing_twice(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        market = MarketData(pool)
        writer = market.book_writer("ES", "0.5")
        await market.book("ES")
        for seq in range(10, 20):
            proxy.swallow_replies(1, lambda request: b"EVAL" in request, then="reset")
            if seq % 5 == 0:
                await writer.snapshot(snapshot([("99", seq)], seq=seq))
            else:
                assert await writer.apply(delta([(str(seq), "1")], seq=seq)) == "applied"
            await agrees(market, writer)
        assert (await market.book("ES")).epoch == 2


async def test_what_was_not_written_is_written_with_the_next_call(
    clean_server: EmbeddedServer, proxy: FaultProxy, pool: RedisPool
) -> None:
    near = MarketData(pool)
    async with pool_at(
        clean_server, proxy, command_timeout=0.1, retry_delay_ms=5, retry_max_delay_ms=10
    ) as far_pool:
        market = MarketData(far_pool)
        writer = market.book_writer("ES", "0.5")
        await writer.snapshot(START)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(redis.RedisError):
            await writer.apply(delta([("98", "1")], seq=11))
        proxy.restore()
        assert await writer.apply(delta([("97", "1")], seq=12)) == "applied"
        await agrees(market, writer)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(redis.RedisError):
            await writer.apply(delta(seq=99))
        assert (await near.book("ES")).state == "fresh"
        proxy.restore()
        assert await writer.apply(delta(seq=13)) == "stale"
        assert (await near.book("ES")).why == "gap"
        await writer.snapshot(START)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(redis.RedisError):
            await writer.apply(delta(seq=11))
        other = near.book_writer("ES", "0.5")
        await other.snapshot(START)
        proxy.restore()
        with pytest.raises(BookReplaced):  # what it makes good is its own, not another's
            await writer.apply(delta([("98", "1")], seq=12))
        await agrees(near, other)


async def test_the_script_trusts_nobody(
    pool: RedisPool, market: MarketData, writer: BookWriter, admin: redis.Redis
) -> None:
    keys = [f"ob:{{ES}}:{part}" for part in ("m", "b", "a", "bi", "ai")]

    async def run(follows: int, seq: int, *words: Any, why: str = "") -> Any:
        owner = admin.hget(keys[0], "o") or "somebody:1"
        head = (owner, follows, seq, NOW, NOW, 60_000, why)
        return await Scripts(pool, "test").run(load("book_delta"), keys, (*head, *words))

    assert await run(10, 11, "b", 196, "98", "1") == b"good"
    assert await run(10, 11, "b", 196, "98", "1") == b"good"  # once is enough
    assert await run(10, 12, "b", 196, "98", "2") == b"lost"
    view = await market.book("ES")
    assert (view.state, view.why, view.bids) == ("stale", "lost", ())
    assert await run(11, 12, "b", 196, "98", "2") == b"stale"
    await writer.snapshot(START)
    assert await run(10, 11, "b", 300, "150", "2") == b"stale"
    view = await market.book("ES")
    assert (view.state, view.why, view.bids) == ("stale", "crossed", ())
    admin.delete(*keys)
    assert await run(11, 12) == b"lost"
    assert admin.keys() == []


async def test_a_deep_book_in_one_snapshot(market: MarketData) -> None:
    writer = market.book_writer("ES", "0.5")
    bids = [(str(price), "1") for price in range(1, 5001)]
    asks = [(str(price), "2") for price in range(5001, 10001)]
    await writer.snapshot(snapshot(bids, asks))
    view = await market.book("ES", levels=1000)
    assert (len(view.bids), len(view.asks)) == (1000, 1000)
    assert view.best_bid == BookLevel(Decimal(5000), Decimal(1))
    assert view.best_ask == BookLevel(Decimal(5001), Decimal(2))


async def test_a_thousand_random_changes(market: MarketData, writer: BookWriter) -> None:
    random = Random(11)
    for seq in range(11, 200):
        changes: tuple[list[Level], list[Level]] = ([], [])
        for _ in range(5):
            ask = random.random() < 0.5
            price = random.randrange(201, 230) if ask else random.randrange(170, 200)
            form = random.choice(("{:.1f}", "{:.2f}"))
            changes[ask].append((form.format(price / 2), str(random.randrange(3))))
        assert await writer.apply(delta(*changes, seq=seq)) == "applied"
        if seq % 10 == 0:
            await agrees(market, writer)


async def test_callers_keep_their_order(market: MarketData, writer: BookWriter) -> None:
    told = await asyncio.gather(
        *(writer.apply(delta([("98", seq)], seq=seq)) for seq in range(11, 60))
    )
    assert set(told) == {"applied"}
    await agrees(market, writer)
