"""Quotes, their live feed, and an order book (needs the extra "trading").

Without REDIS_URL a private server is started for the run (needs the extra "embedded").
"""

import asyncio
import os
from time import time_ns

from redisutils import create_redis_pool
from redisutils.trading.market import BookDelta, BookSnapshot, MarketData, Quote

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


async def main() -> None:
    async with create_redis_pool(url=URL) as pool, MarketData(pool, prefix="example:") as market:
        await quotes(market)
        await hot_feed(market)
        await book(market)


asyncio.run(main())
