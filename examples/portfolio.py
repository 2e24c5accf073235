"""Positions that change with each fill; a split, a statement to reconcile with, and their value."""

import asyncio
import os
import time
from decimal import Decimal

from redisutils import create_redis_pool
from redisutils.trading import (
    Adjustment,
    ExecType,
    ExecutionReport,
    Holding,
    MarketData,
    Orders,
    Portfolio,
    Quote,
    Side,
    Trade,
)

URL = os.environ.get("REDIS_URL", "embedded://")

TRADES = [
    ("AAPL", Side.BUY, 10, "185.50", "USD"),
    ("AAPL", Side.SELL, 4, "190.25", "USD"),
    ("SAP", Side.SELL_SHORT, 5, "140.10", "EUR"),
]


async def main() -> None:
    now = time.time_ns()
    async with (
        create_redis_pool(url=URL) as pool,
        Orders(pool, account="demo") as orders,
        Portfolio(pool, account="demo") as portfolio,
        MarketData(pool) as market,
    ):
        for number, (instrument, side, quantity, price, currency) in enumerate(TRADES):
            await orders.place(
                cl_ord_id=f"O{number}",
                instrument=instrument,
                side=side,
                order_qty=quantity,
                currency=currency,
            )
            await orders.apply(
                ExecutionReport(
                    exec_id=f"T{number}",
                    exec_type=ExecType.TRADE,
                    cl_ord_id=f"O{number}",
                    trade_date="20240102",
                    ts_event=now,
                    ts_recv=now,
                    last_qty=Decimal(quantity),
                    last_px=Decimal(price),
                    fee=Decimal("0.35"),
                )
            )

        split = Adjustment(
            id="AAPL-2024-split",
            kind="split",
            instrument="AAPL",
            numerator=2,
            ts_event=now,
            ts_recv=now,
        )
        await portfolio.adjust(split)
        await portfolio.adjust(split)  # heard of twice, it happens once

        for name, one in (await portfolio.positions()).items():
            print(f"{name}: {one.qty} at {one.avg_px}, earned {one.realised} {one.currency}")

        statement = [Holding(instrument="AAPL", qty=Decimal(12), avg_px=Decimal("92.75"))]
        for difference in await portfolio.reconcile(statement):
            print("the broker differs:", difference)

        # By the last trade; where nothing was traded of late, by the middle of bid and offer.
        old = time.time_ns() - 2_000_000_000
        last = Trade(
            instrument="AAPL",
            price=Decimal("95.00"),
            quantity=Decimal(100),
            ts_event=old,
            ts_recv=old,
            seq=1,
        )
        await market.put_trades([last])
        await market.put_quote(Quote.of("SAP", "139.90", "139.95"))

        worth = await portfolio.value(market, max_age=1.0)
        dollars = worth.totals["USD"]
        print(f"worth {dollars.value} USD, profit {dollars.profit}, fees {dollars.fees}")
        print(f"no price: {worth.missing}; too old: {worth.stale}")
        for name, found in (await market.prices(["AAPL", "SAP"])).items():
            print(f"{name}: {found.price} by {found.by}")

        # A plain hash for others to read may stand beside it.
        await pool.client.hset("portfolio:user123", "BTCUSD", "10.5")
        print("plain:", await pool.client.hgetall("portfolio:user123"))


asyncio.run(main())
