"""One trader: an order after the other, each report of the venue applied and compared."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from time import perf_counter
from typing import Final

from msgspec.structs import replace

from redisutils.cli.demo.checks import Checks
from redisutils.cli.demo.feed import Feed
from redisutils.cli.demo.figures import Timings
from redisutils.cli.demo.instruments import Instrument
from redisutils.cli.demo.keys import RunKeys
from redisutils.cli.demo.venue import NAME, Inbox, Nudge, Venue
from redisutils.trading import (
    Applied,
    CancelReject,
    ExecType,
    ExecutionReport,
    Order,
    Orders,
    OrdStatus,
    Side,
)
from redisutils.trading.market import MarketData, Quote

__all__ = ["Desk", "Trader"]

DONE: Final = frozenset({OrdStatus.FILLED, OrdStatus.CANCELED, OrdStatus.REJECTED})
_QUIET: Final = DONE | {OrdStatus.PENDING_NEW}
"""Statuses in which there is nothing to ask for."""
AGAIN: Final = 0.02
"""Of so many reports the venue sends a second copy, as after a reconnect."""


@dataclass(slots=True)
class Desk:
    """What all traders share."""

    market: MarketData
    orders: Orders
    venue: Venue
    feed: Feed
    keys: RunKeys
    checks: Checks
    timings: Timings
    told: int = 0
    """Events that the account must have had by now: each change of an order is one."""
    placed: int = 0
    repeated: int = 0
    """Reports that came twice."""

    under_way: dict[str, float] = field(default_factory=dict)
    """Reports that are given to the orders service and not come back as events, and since when."""


class Trader:
    """Trades one instrument; see :meth:`run`.

    Args:
        number: Which one this is; part of its orders' ids.
        instrument: What it trades.
        desk: What it shares with the others.
    """

    def __init__(self, number: int, instrument: Instrument, desk: Desk) -> None:
        self._name = f"T{number:02d}"
        self._instrument = instrument
        self._desk = desk
        self._random = Random(number)
        self._orders = 0
        self._held = Decimal(0)
        self._seen: tuple[int, int] = (0, 0)

    async def run(self) -> None:
        """Trade until the venue closes: buy and sell by turns, at the bid or at the offer; what
        rests for too long is replaced or cancelled.

        Raises:
            redis.exceptions.RedisError: From the services, as it is.
        """
        desk, symbol = self._desk, self._instrument.symbol
        await desk.feed.first(symbol)
        while not desk.venue.closed:
            quote = await self._quote()
            if quote is None:
                return
            order = await self._place(quote)
            await self._work(order)
            desk.keys.closed(order.id)

    async def _quote(self) -> Quote | None:
        """The market as it is; never an older one than was seen before."""
        started = perf_counter()
        found = (await self._desk.market.quote(self._instrument.symbol)).value
        self._desk.timings.note("quote read", perf_counter() - started)
        checks = self._desk.checks
        if found is None:
            checks.mismatch(f"{self._instrument.symbol}: its quote has gone")
            return None
        checks.compared += 1
        newest = (found.ts_event, found.seq or 0)
        if newest < self._seen:
            checks.mismatch(f"{found.instrument}: quote {newest} was read after {self._seen}")
        self._seen = newest
        return found

    async def _place(self, quote: Quote) -> Order:
        desk, random = self._desk, self._random
        if self._held:
            side, quantity = Side.SELL if self._held > 0 else Side.BUY, abs(self._held)
        else:
            side, quantity = random.choice((Side.BUY, Side.SELL)), Decimal(random.randint(2, 12))
        patient = random.random() < 0.5
        price = quote.bid if (side is Side.BUY) is patient else quote.ask
        self._orders += 1
        order_id = f"{self._name}-{self._orders}"
        desk.keys.opened(order_id)
        started = perf_counter()
        order = await desk.orders.place(
            cl_ord_id=order_id,
            instrument=self._instrument.symbol,
            side=side,
            order_qty=quantity,
            price=price,
            ord_type="2",
            currency="USD",
            multiplier=self._instrument.multiplier,
            venue=NAME,
        )
        desk.timings.note("order placed", perf_counter() - started)
        desk.placed += 1
        desk.told += 1
        return order

    async def _work(self, order: Order) -> None:
        """Apply what the venue says of an order, until there is no more to say."""
        inbox: Inbox = Inbox()
        venue = self._desk.venue
        venue.submit(order, inbox)
        status, requests, asked, nudged = order.status, 0, False, False
        while status not in DONE or asked:
            message = await inbox.get()
            if isinstance(message, Nudge):
                nudged = True
            else:
                status = (await self._apply(order, message)).status
                asked = asked and not _answers(message)
            if (nudged or venue.closed) and not asked and status not in _QUIET:
                requests, asked, nudged = requests + 1, True, False
                await self._ask(order, requests, inbox)

    async def _ask(self, order: Order, number: int, inbox: Inbox) -> None:
        """Move an order to where it is executed, once; else cancel it."""
        desk, cl_ord_id = self._desk, f"{order.id}.{number}"
        desk.keys.asked(order.id, cl_ord_id)
        quote = None
        if number == 1 and not desk.venue.closed and self._random.random() < 0.6:
            quote = await self._quote()
        price = None if quote is None else quote.ask if order.buys else quote.bid
        if price is None:
            await desk.orders.cancel(order.id, cl_ord_id=cl_ord_id)
            desk.told += 1
            desk.venue.cancel(order, cl_ord_id, inbox)
        else:
            await desk.orders.replace(order.id, cl_ord_id=cl_ord_id, price=price)
            desk.told += 1
            desk.venue.replace(order, cl_ord_id, price, inbox)

    async def _apply(self, order: Order, message: ExecutionReport | CancelReject) -> Applied:
        """Let the orders service have a message, and compare what it makes of it with what the
        venue has."""
        desk, checks = self._desk, self._desk.checks
        desk.keys.executed(message.trade_date)
        started = perf_counter()
        if isinstance(message, CancelReject):
            applied = await desk.orders.apply_reject(message)
        else:
            desk.under_way[message.exec_id] = started
            applied = await desk.orders.apply(message)
            if message.exec_type is ExecType.TRADE and message.last_qty is not None:
                self._held += message.last_qty if order.buys else -message.last_qty
        desk.timings.note("report applied", perf_counter() - started)
        desk.told += 1
        checks.equal(f"order {order.id} after {_name(message)}", (), applied.drift)
        if isinstance(message, ExecutionReport) and self._random.random() < AGAIN:
            desk.repeated += 1
            again = await desk.orders.apply(message)
            expected = replace(applied, duplicate=True)
            checks.equal(f"order {order.id} after {_name(message)}, again", expected, again)
        return applied


def _answers(message: ExecutionReport | CancelReject) -> bool:
    """Whether it is the last word about a request."""
    if isinstance(message, CancelReject):
        return True
    return message.exec_type in (ExecType.REPLACED, ExecType.CANCELED)


def _name(message: ExecutionReport | CancelReject) -> str:
    return "a cancel reject" if isinstance(message, CancelReject) else message.exec_id
