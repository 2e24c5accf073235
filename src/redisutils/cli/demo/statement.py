"""The end of the day: what was sent against what is stored, and whether the sums balance."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from redisutils.cli.demo.blotter import Blotter
from redisutils.cli.demo.trader import Desk
from redisutils.cli.demo.venue import Account
from redisutils.trading import Portfolio, Position
from redisutils.trading.market import Ticks

__all__ = ["INTERVAL", "Line", "draw_up"]

INTERVAL: Final = "1h"
"""Of the bars that the tape is added up to."""
ZERO: Final = Decimal(0)


@dataclass(frozen=True, slots=True)
class Line:
    """A sum, made twice."""

    name: str
    sent: Decimal | int
    """As those have it who sent: the tape and the venue."""
    stored: Decimal | int
    """As the database has it."""
    note: str = ""

    @property
    def right(self) -> bool:
        """Whether they are equal, to the last digit."""
        return self.sent == self.stored


async def draw_up(desk: Desk, portfolio: Portfolio, ticks: Ticks, blotter: Blotter) -> list[Line]:
    """Read everything once more, and compare. Each difference is a mismatch, too.

    Raises:
        redis.exceptions.RedisError: From the services, as it is.
    """
    lines = [
        *await _tape(desk, ticks),
        *await _account(desk, portfolio, blotter),
        Line("events", desk.told, blotter.received, "in order"),
    ]
    await _market(desk)
    for line in lines:
        desk.checks.equal(f"{line.name} at the end", line.sent, line.stored)
    return lines


async def _tape(desk: Desk, ticks: Ticks) -> list[Line]:
    feeds = desk.feed.lines
    bars = [bar for of in (await ticks.bars_of(feeds, INTERVAL)).values() for bar in of]
    return [
        Line(
            "tape, trades",
            sum(line.trades for line in feeds.values()),
            sum(bar.count for bar in bars),
            f"{len(bars):,} bars of {INTERVAL}",
        ),
        Line(
            "tape, volume",
            sum((line.volume for line in feeds.values()), ZERO),
            sum((bar.volume for bar in bars), ZERO),
        ),
        Line(
            "tape, turnover",
            sum((line.notional for line in feeds.values()), ZERO),
            sum((bar.notional for bar in bars), ZERO),
            "price × size",
        ),
    ]


async def _account(desk: Desk, portfolio: Portfolio, blotter: Blotter) -> list[Line]:
    accounts = desk.venue.accounts
    positions = await portfolio.positions()
    for symbol in accounts.keys() | positions.keys():
        position = positions.get(symbol, Position(instrument=symbol))
        account = accounts.get(symbol, Account())
        desk.checks.equal(f"position in {symbol}", account.qty, position.qty)
        desk.checks.equal(f"cash of {symbol}", account.got - account.paid, position.cash)
        desk.checks.equal(f"{symbol} by its events", position, blotter.positions.get(symbol))
    still_open = [order async for order in desk.orders.open_orders()]
    held = positions.values()
    return [
        Line(
            "executed volume",
            sum((account.volume for account in accounts.values()), ZERO),
            blotter.volume,
            f"{sum(account.fills for account in accounts.values()):,} fills",
        ),
        Line(
            "cash",
            sum((account.got - account.paid for account in accounts.values()), ZERO),
            sum((position.cash for position in held), ZERO),
        ),
        Line(
            "fees",
            sum((account.fees for account in accounts.values()), ZERO),
            sum((fee for position in held for fee in position.fees.values()), ZERO),
        ),
        Line(
            "cash + cost",
            sum((account.got - account.paid for account in accounts.values()), ZERO)
            + sum((position.cost for position in held), ZERO),
            sum((position.realised for position in held), ZERO),
            "= realised",
        ),
        Line("open orders", 0, len(still_open)),
    ]


async def _market(desk: Desk) -> None:
    """The last quotes and books."""
    feeds = {symbol: line for symbol, line in desk.feed.lines.items() if line.quoted is not None}
    quotes = await desk.market.quotes(list(feeds))
    books = await desk.market.books(list(feeds), levels=10)
    for symbol, line in feeds.items():
        desk.checks.equal(f"quote of {symbol} at the end", line.quoted, quotes[symbol].value)
        book = books[symbol]
        desk.checks.equal(
            f"book of {symbol} at the end",
            (line.ladder.levels(bids=True), line.ladder.levels(bids=False)),
            (list(book.bids), list(book.asks)),
        )
