"""redisutils: the trading services, everything at its default."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from benchmarks.contenders.ours import Redisutils
from benchmarks.contenders.trading.base import (
    Executed,
    Feed,
    Filled,
    NewOrder,
    OneBar,
    Policy,
    TradingClient,
    Writing,
)
from benchmarks.trading.ticks import Tick
from redisutils.trading import ExecType, ExecutionReport, Orders, Portfolio, Side
from redisutils.trading.market import MarketData, Quote, Ticks

_ACCOUNT = "BENCH"
_DAY = "20130902"
_LOT = 5_000
"""Orders that are placed at once."""


class Services(Redisutils, TradingClient):
    """``MarketData``, ``Ticks``, ``Orders`` and ``Portfolio`` on one pool."""

    async def open(self) -> None:
        await super().open()
        self.market = MarketData(self.pool)
        self.ticks = Ticks(self.pool)
        self.orders = Orders(self.pool, account=_ACCOUNT)
        self.portfolio = Portfolio(self.pool, account=_ACCOUNT)
        self.latest = self.market.quote
        self.latest_of = self.market.quotes
        self.publish = self.market.put_quotes
        self.write_trades = self.ticks.write
        self.apply = self.orders.apply
        self.apply_all = self.orders.apply_all

    async def close(self) -> None:
        await self.market.aclose()
        await self.ticks.aclose()
        await self.orders.close()
        await super().close()

    def quote(self, tick: Tick) -> Quote:
        return Quote(
            instrument=tick.instrument,
            bid=tick.bid,
            bid_size=tick.size,
            ask=tick.ask,
            ask_size=tick.size,
            ts_event=tick.ts,
            ts_recv=tick.ts,
            seq=tick.seq,
        )

    @asynccontextmanager
    async def writing(self, *, conflate: bool) -> AsyncIterator[Writing]:
        async with self.market.writer(conflate=conflate) as writer:
            yield Writing(writer.put, writer.flush, lambda: writer.stats().written)

    def bid(self, reply: Any) -> Decimal | None:
        return None if reply.value is None else reply.value.bid

    @asynccontextmanager
    async def feed(self, instrument: str, policy: Policy) -> AsyncIterator[Feed]:
        async with self.market.subscribe(instrument, policy) as quotes:
            yield Feed(quotes, lambda: quotes.conflated + quotes.dropped)

    async def bars(self, instrument: str) -> list[OneBar]:
        return [
            OneBar(
                bar.start,
                bar.open,
                bar.high,
                bar.low,
                bar.close,
                bar.volume,
                bar.notional,
                bar.count,
            )
            for bar in await self.ticks.bars(instrument, "1m")
        ]

    async def place(self, orders: Sequence[NewOrder]) -> None:
        for at in range(0, len(orders), _LOT):
            lot = orders[at : at + _LOT]
            placed = await asyncio.gather(
                *(
                    self.orders.place(
                        cl_ord_id=order.id,
                        instrument=order.instrument,
                        side=Side.BUY if order.buys else Side.SELL,
                        order_qty=10**9,
                        price="1640.25",
                    )
                    for order in lot
                )
            )
            news = [
                ExecutionReport(
                    exec_id=f"N{order.id}",
                    exec_type=ExecType.NEW,
                    cl_ord_id=order.id,
                    trade_date=_DAY,
                    ts_event=order.ts_placed,
                    ts_recv=order.ts_placed,
                )
                for order in placed
            ]
            _succeeded(await self.orders.apply_all(news))

    def report(self, filled: Filled) -> ExecutionReport:
        return ExecutionReport(
            exec_id=filled.exec_id,
            exec_type=ExecType.TRADE,
            cl_ord_id=filled.order.id,
            trade_date=_DAY,
            last_qty=filled.trade.quantity,
            last_px=filled.trade.price,
            ts_event=filled.trade.ts_event,
            ts_recv=filled.trade.ts_recv,
        )

    async def executed(self, orders: Sequence[NewOrder]) -> Executed:
        found = await asyncio.gather(*(self.orders.get(order.id) for order in orders))
        known = [order for order in found if order is not None]
        return Executed(
            sum((order.cum_qty for order in known), Decimal(0)),
            sum((order.notional for order in known), Decimal(0)),
            {name: held.qty for name, held in (await self.portfolio.positions()).items()},
        )

    def open_orders(self) -> AsyncIterator[Any]:
        return self.orders.open_orders()


def _succeeded(outcomes: Sequence[Any]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
