"""redis-py, and what is written on it by hand: competently, as of today."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from benchmarks.contenders.redis_py import RedisPy
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
from benchmarks.contenders.trading.by_hand.feeds import Feeds
from benchmarks.contenders.trading.by_hand.orders import Book, Fill
from benchmarks.contenders.trading.by_hand.quotes import Quote, Quotes
from benchmarks.contenders.trading.by_hand.tape import Tape
from benchmarks.trading.ticks import Tick


class ByHand(RedisPy, TradingClient):
    """See the modules of ``by_hand``: each says what it leaves out that our services do."""

    async def open(self) -> None:
        await super().open()
        self.quotes = Quotes(self.client)
        self.feeds = Feeds(self.client)
        self.tape = Tape(self.client)
        self.book = Book(self.client)
        self.latest = self.quotes.latest
        self.latest_of = self.quotes.latest_of
        self.publish = self.quotes.write
        self.write_trades = self.tape.write
        self.apply = self.book.apply
        self.apply_all = self.book.apply_all

    async def close(self) -> None:
        await self.feeds.close()
        await super().close()

    def quote(self, tick: Tick) -> Quote:
        return Quote(
            tick.instrument, tick.bid, tick.size, tick.ask, tick.size, tick.ts, tick.ts, tick.seq
        )

    @asynccontextmanager
    async def writing(self, *, conflate: bool) -> AsyncIterator[Writing]:
        async with self.quotes.writer(conflate=conflate) as writer:
            yield Writing(writer.put, writer.flush, lambda: writer.sent)

    def bid(self, reply: Any) -> Decimal | None:
        return None if reply is None else reply.bid

    @asynccontextmanager
    async def feed(self, instrument: str, policy: Policy) -> AsyncIterator[Feed]:
        reader = await self.feeds.subscribe(instrument, policy)
        yield Feed(reader.quotes(), lambda: reader.left_out)

    async def bars(self, instrument: str) -> list[OneBar]:
        return await self.tape.bars(instrument)

    async def place(self, orders: Sequence[NewOrder]) -> None:
        await self.book.place(orders)

    def report(self, filled: Filled) -> Fill:
        order, trade = filled.order, filled.trade
        return Fill(filled.exec_id, order.id, order.instrument, trade.quantity, trade.price)

    async def executed(self, orders: Sequence[NewOrder]) -> Executed:
        return await self.book.executed(orders)

    def open_orders(self) -> AsyncIterator[Any]:
        return self.book.open_orders()
