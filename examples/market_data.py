"""Quotes, their live feed, an order book, trades, bars and prices (needs the extra "trading").

Without REDIS_URL a private server is started for the run (needs the extra "embedded").
"""

import asyncio
import os
from decimal import Decimal
from time import time_ns

from redisutils import create_redis_pool
from redisutils.trading import BookDelta, BookSnapshot, MarketData, Quote, Trade, TradeBust

URL = os.environ.get("REDIS_URL", "embedded://")


async def quotes(market: MarketData) -> None:
    """The newest wins, in whatever order they arrive, and a read says how old it is."""
    now = time_ns()
    newer = Quote.of("BTCUSD", "50000.10", "50000.30", ts_event=now, seq=2)
    older = Quote.of("BTCUSD", "49999.90", "50000.10", ts_event=now - 1_000_000, seq=1)
    print("newer than what was there:", await market.put_quotes([newer, older]))
    seen = await market.quote("BTCUSD", max_age=2.0)
    print("read:", seen.state, seen.value and f"{seen.value.bid} / {seen.value.ask}")
    print("nobody quotes this:", (await market.quote("ETHUSD")).state)


async def hot_feed(market: MarketData) -> None:
    """A writer that sends only the newest of what waits, and a subscriber."""
    live = market.subscribe("BTCUSD", policy="conflate")
    now = time_ns()
    async with market.writer() as writer:
        for number in range(10_000):
            await writer.put(
                Quote.of("BTCUSD", 50_000 + number, 50_001 + number, ts_event=now, seq=number)
            )
        await writer.flush()
        stats = writer.stats()
    print(f"put: {stats.put}, overtaken before they were sent: {stats.conflated > 0}")
    async for quote in live:
        if quote.seq == 9_999:
            print("live:", quote.bid, "/", quote.ask, "after", live.gaps, "gaps")
            break


async def book(market: MarketData) -> None:
    """A book that has missed a change is shown to nobody until the next snapshot."""
    now = time_ns()
    writer = market.book_writer("BTCUSD", tick="0.10")
    snapshot = BookSnapshot(
        bids=[("50000.10", "1.5"), ("50000.00", "2")],
        asks=[("50000.30", "0.7")],
        seq=100,
        ts_event=now,
        ts_recv=now,
    )
    await writer.snapshot(snapshot)
    await writer.apply(BookDelta(bids=[("50000.20", "3")], seq=101, ts_event=now, ts_recv=now))
    view = await market.book("BTCUSD", levels=1)
    print("best:", view.best_bid, view.best_ask)
    await writer.apply(BookDelta(bids=[("50000.20", "0")], seq=103, ts_event=now, ts_recv=now))
    view = await market.book("BTCUSD")
    print("after a gap:", view.state, view.why, view.bids)


async def trades(market: MarketData) -> None:
    """Each is in once, however often it is written; bars follow, and lose what is taken back."""
    minute = time_ns() // 60_000_000_000 * 60_000_000_000
    tape: list[Trade | TradeBust] = [
        Trade(
            instrument="BTCUSD",
            price=Decimal(price),
            quantity=Decimal("0.1"),
            ts_event=minute,
            ts_recv=minute,
            seq=seq,
        )
        for seq, price in enumerate(("50000.10", "50000.30", "99999.00"), 1)
    ]
    tape.append(
        TradeBust(
            instrument="BTCUSD",
            ts_event=minute,
            ts_recv=minute,
            seq=4,
            trade_seq=3,
            trade_ts=minute,
        )
    )
    print("written:", (await market.put_trades(tape)).written)
    print("once more:", (await market.put_trades(tape)).duplicates, "duplicates")
    (bar,) = await market.bars("BTCUSD", "1m")
    print(f"bar: {bar.open} {bar.high} {bar.low} {bar.close}, {bar.volume} for {bar.notional}")
    for price in (
        *(await market.prices(["BTCUSD"])).values(),
        *(await market.prices(["BTCUSD"], by="mid")).values(),
    ):
        print(f"price by {price.by}: {price.price}")


async def main() -> None:
    async with create_redis_pool(url=URL) as pool, MarketData(pool, prefix="example:") as market:
        await quotes(market)
        await hot_feed(market)
        await book(market)
        await trades(market)


asyncio.run(main())
