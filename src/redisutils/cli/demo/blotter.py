"""What a trader's screen knows: all of it read from the database, by its live feeds and reads."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from time import perf_counter
from typing import Final

from redis.exceptions import RedisError

from redisutils.cli.demo.trader import Desk
from redisutils.errors import RedisUtilsError
from redisutils.trading import (
    Event,
    ExecutionReport,
    Gap,
    Order,
    Portfolio,
    Position,
    Valuation,
)
from redisutils.trading.market import BookView, Quote

__all__ = ["Blotter"]

PATIENCE: Final = 5.0
"""Seconds without an awaited event before it counts as lost."""
READ_EVERY: Final = 0.2
"""Seconds between two readings of what does not come by itself."""
ORDERS: Final = 64
"""Orders that are remembered, the latest of as many traders."""


class Blotter:
    """Follows the account and the market, and compares what comes with what was sent.

    Args:
        desk: Whose doings it follows.
        portfolio: The account's positions.
    """

    def __init__(self, desk: Desk, portfolio: Portfolio) -> None:
        self.quotes: dict[str, Quote] = {}
        """As they were when the book was read: shown beside it, they are of one moment."""
        self.orders: dict[str, Order] = {}
        """The latest order of each trader, of the first ``ORDERS`` of them."""
        self.positions: dict[str, Position] = {}
        """As the events tell them."""
        self.book: BookView | None = None
        """Of the first instrument."""
        self.valuation: Valuation | None = None
        self.volume = Decimal(0)
        """Executed, as the events tell it."""
        self.received = self.lost = self.live = self.gaps = 0
        """Events of the account, and those that did not come; quotes, and how often some were
        missed."""
        self._desk = desk
        self._portfolio = portfolio
        self._live: dict[str, Quote] = {}
        self._news = asyncio.Event()
        self._read_at = perf_counter()

    @property
    def symbols(self) -> list[str]:
        """All instruments."""
        return list(self._desk.feed.lines)

    @property
    def age(self) -> float:
        """Seconds since the latest reading."""
        return perf_counter() - self._read_at

    async def keep_reading(self) -> None:
        """Read again and again, for ever."""
        while True:
            await self.read()
            await asyncio.sleep(READ_EVERY)

    async def read(self) -> None:
        """Read what does not come by itself: the book, and what the positions are worth. What
        cannot be read just now stays as it was."""
        try:
            self.book, valuation = await asyncio.gather(
                self._desk.market.book(self.symbols[0], levels=10),
                self._portfolio.value(self._desk.market),
            )
        except (RedisError, RedisUtilsError):
            return
        self.valuation, self._read_at = valuation, perf_counter()
        self.quotes = dict(self._live)

    async def follow_quotes(self, symbol: str) -> None:
        """Receive an instrument's quotes, for ever."""
        desk = self._desk
        put = desk.feed.lines[symbol].put
        async with desk.market.subscribe(symbol, policy="conflate") as live:
            async for update in live.updates():
                now, quote = perf_counter(), update.value
                self._live[symbol] = quote
                self.live += 1
                self.gaps += update.gap
                while put and (put[0].quote.seq or 0) < (quote.seq or 0):
                    put.popleft()
                if put and put[0].quote.seq == quote.seq:
                    sent = put.popleft()
                    desk.checks.equal(f"live quote of {symbol}", sent.quote, quote)
                    desk.timings.note("live quote", now - sent.at)

    async def follow_orders(self) -> None:
        """Receive all that happens to the account, for ever.

        Raises:
            redis.exceptions.RedisError: From the service, as it is.
        """
        async for event in self._desk.orders.subscribe(after=0):
            if isinstance(event, Gap):
                self.lost += max(1, event.found - event.expected)
            else:
                self._take(event)
            self._news.set()

    def _take(self, event: Event) -> None:
        desk, message, order = self._desk, event.message, event.order
        self.received += 1
        if event.position is not None:
            self.positions[event.position.instrument] = event.position
        if order is None:
            return
        self._show(order)
        if isinstance(message, ExecutionReport):
            self.volume += message.last_qty or 0
            sent = desk.under_way.pop(message.exec_id, None)
            if sent is not None:
                desk.timings.note("order event", perf_counter() - sent)
            desk.checks.equal(
                f"order {order.id} in event {event.seq}", message.cum_qty, order.cum_qty
            )

    def _show(self, order: Order) -> None:
        trader = order.id.partition("-")[0]
        if trader in self.orders or len(self.orders) < ORDERS:
            self.orders[trader] = order

    async def all_events(self) -> None:
        """Wait until everything that happened was received; what does not come counts as lost."""
        while self.received + self.lost < self._desk.told:
            self._news.clear()
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._news.wait()
            except TimeoutError:
                self.lost = self._desk.told - self.received
