"""The parts of the live picture: what is quoted and held, the book, the orders."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from rich.text import Text

from redisutils.cli.demo.blotter import Blotter
from redisutils.cli.demo.columns import Cell, Column, fitting, money, row, signed
from redisutils.cli.demo.instruments import Instrument
from redisutils.trading import Order, OrdStatus, Totals
from redisutils.trading.market import BookLevel, Quote

__all__ = ["BOOK", "BOOK_LEAST", "ORDERS_LEAST", "Arrows", "book", "market", "orders", "tape_time"]

_MARKET: Final = (
    Column("quotes", 7, left=True),
    Column("size", 5, spare=3),
    Column("bid", 10),
    Column("ask", 10),
    Column("size", 5, spare=3),
    Column("", 1),
    Column("held", 6),
    Column("avg price", 12, spare=1),
    Column("value", 15, spare=4),
    Column("unrealised", 12),
    Column("realised", 13, spare=2),
    Column("fees", 11, spare=5),
)

_STATUS: Final = {
    OrdStatus.PENDING_NEW: ("pending", "dim"),
    OrdStatus.NEW: ("new", ""),
    OrdStatus.PARTIALLY_FILLED: ("partial", "cyan"),
    OrdStatus.FILLED: ("filled", "green"),
    OrdStatus.CANCELED: ("cancelled", "dim"),
    OrdStatus.PENDING_CANCEL: ("cancel…", "yellow"),
    OrdStatus.PENDING_REPLACE: ("replace…", "yellow"),
    OrdStatus.REJECTED: ("rejected", "bold red"),
}

_ORDERS: Final = (
    Column("order", 8, left=True),
    Column("", 6, left=True),
    Column("side", 4, left=True),
    Column("done", 5),
    Column("price", 10),
    Column("avg price", 12, spare=2),
    Column("status", 9, left=True),
    Column("placed", 12, spare=3),
)
ORDERS_LEAST: Final = 52
"""Characters that the orders take at least."""

BOOK: Final = 30
BOOK_LEAST: Final = 24
"""Characters that the book takes, and what it can do with."""
_OLD: Final = 2.0
"""Seconds after which what was read is told to be old."""
_SIZE: Final = 8
_PRICE: Final = 12


class Arrows:
    """Which way each price went last."""

    def __init__(self) -> None:
        self._bids: dict[str, Decimal] = {}
        self._marks: dict[str, Cell] = {}

    def of(self, quote: Quote) -> Cell:
        """A mark for the bid, as it is against the one that was shown before."""
        before, bid = self._bids.get(quote.instrument), quote.bid
        if bid is not None:
            if before is not None and bid != before:
                mark = ("▲", "green") if bid > before else ("▼", "red")
                self._marks[quote.instrument] = mark
            self._bids[quote.instrument] = bid
        return self._marks.get(quote.instrument, ("", ""))


def tape_time(moment: int) -> str:
    """A moment of the tape, UTC."""
    return f"{datetime.fromtimestamp(moment / 1e9, UTC):%Y-%m-%d %H:%M:%S}"


def market(
    blotter: Blotter, instruments: dict[str, Instrument], arrows: Arrows, room: int
) -> Iterator[Text]:
    """What is quoted, and what is held of it; and what was earned."""
    shown = fitting(_MARKET, room)
    yield row(_MARKET, shown, None)
    for symbol, instrument in instruments.items():
        yield row(_MARKET, shown, _market_cells(blotter, instrument, symbol, arrows))
    if blotter.valuation is None:
        yield Text()
        return
    for total in blotter.valuation.totals.values():
        yield _profit(total, blotter.age, room)


def _profit(total: Totals, age: float, room: int) -> Text:
    line = Text(no_wrap=True).append("P&L", "bold")
    if age > _OLD:
        line.append(f" of {age:.0f} s ago", "bold yellow")
    text, style = signed(total.profit)
    line.append(f"  {text} {total.currency}", f"bold {style}")
    parts = (
        ("realised", *signed(total.realised)),
        ("unrealised", *signed(total.unrealised)),
        ("fees", money(total.fees), ""),
    )
    for name, text, style in parts:
        told = Text.assemble((f"   {name} ", "dim"), (text, style))
        if line.cell_len + told.cell_len <= room:
            line.append_text(told)
    return line


def _market_cells(
    blotter: Blotter, instrument: Instrument, symbol: str, arrows: Arrows
) -> list[Cell]:
    places = instrument.places
    cells: list[Cell] = [(symbol, "bold")]
    quote = blotter.quotes.get(symbol)
    if quote is None:
        cells += [("", ""), ("–", "dim"), ("–", "dim"), ("", ""), ("", "")]
    else:
        cells += [
            (_plain(quote.bid_size), "dim"),
            (_price(quote.bid, places), "cyan"),
            (_price(quote.ask, places), "magenta"),
            (_plain(quote.ask_size), "dim"),
            arrows.of(quote),
        ]
    valued = None if blotter.valuation is None else blotter.valuation.positions.get(symbol)
    if valued is None:
        return [*cells, ("–", "dim"), ("", ""), ("", ""), ("", ""), ("", ""), ("", "")]
    position = valued.position
    return [
        *cells,
        (f"{position.qty:+f}" if position.qty else "flat", "" if position.qty else "dim"),
        (_price(position.avg_px, places + 1) if position.qty else "", ""),
        (money(valued.value), ""),
        signed(valued.unrealised),
        signed(position.realised),
        (money(sum(position.fees.values(), Decimal(0))), "dim"),
    ]


def book(blotter: Blotter, instrument: Instrument, rows: int, width: int) -> list[Text]:
    """Offers above bids, best to the middle, each with a bar of its size."""
    view = blotter.book
    bar = width - _SIZE - _PRICE
    head = Text(f"{f'book {instrument.symbol}'[: bar + _SIZE - 5]:<{bar + _SIZE - 4}}size", "dim")
    head.append(f"{'price':>{_PRICE}}", "dim")
    if view is None or view.state != "fresh":
        why = "none yet" if view is None else f"{view.state}: {view.why}".rstrip(": ")
        return [head, Text(why, "yellow" if view else "dim")]
    side = max(1, rows // 2)
    asks, bids = view.asks[:side], view.bids[:side]
    most = max((level.quantity for level in (*asks, *bids)), default=Decimal(1))
    lines = [_level(level, most, "magenta", instrument.places, bar) for level in reversed(asks)]
    lines += [_level(level, most, "cyan", instrument.places, bar) for level in bids]
    return [head, *lines]


def _level(level: BookLevel, most: Decimal, style: str, places: int, width: int) -> Text:
    eighths = round(float(level.quantity / most) * width * 8)
    bar = "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")
    return Text.assemble(
        (bar.ljust(width), style),
        f"{_plain(level.quantity):>{_SIZE}}",
        (f"{_price(level.price, places):>{_PRICE}}", style),
    )


def orders(
    blotter: Blotter, instruments: dict[str, Instrument], rows: int, room: int
) -> list[Text]:
    """The latest order of each trader, always in the same place."""
    shown = fitting(_ORDERS, room)
    lines = [row(_ORDERS, shown, None)]
    for _, order in sorted(blotter.orders.items(), key=lambda one: int(one[0][1:]))[:rows]:
        lines.append(row(_ORDERS, shown, _order_cells(order, instruments[order.instrument])))
    return lines


def _order_cells(order: Order, instrument: Instrument) -> list[Cell]:
    status, style = _STATUS.get(order.status, (order.status.name.lower(), "yellow"))
    return [
        (order.id, "dim"),
        (order.instrument, ""),
        ("buy", "cyan") if order.buys else ("sell", "magenta"),
        (f"{_plain(order.cum_qty)}/{_plain(order.order_qty)}", "bold" if order.cum_qty else ""),
        (_price(order.price, instrument.places), ""),
        (_price(order.avg_px, instrument.places + 1) if order.cum_qty else "", "dim"),
        (status, style),
        (tape_time(order.ts_placed or order.ts_event)[11:], "dim"),
    ]


def _price(value: Decimal | None, places: int) -> str:
    return "–" if value is None else f"{value:.{places}f}"


def _plain(value: Decimal | None) -> str:
    return "–" if value is None else f"{value:f}"
