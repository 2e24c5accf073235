"""One price of an instrument, out of its last trade and its quote. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, Literal, get_args

import msgspec

from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.trade import Trade
from redisutils.trading.money import ARITHMETIC

__all__ = ["Price", "PricedBy", "checked_choice", "price_of"]

PricedBy = Literal["trade", "mid"]

_HALF: Final = Decimal("0.5")


class Price(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What one of an instrument is worth."""

    price: Decimal
    ts_event: int
    """Of the trade or the quote that says so, ns since 1970 UTC."""
    by: PricedBy
    """Whether it is the price of the last trade, or the middle of bid and offer."""


def checked_choice(by: object) -> None:
    """:raises InvalidValue: it is neither ``"trade"`` nor ``"mid"``."""
    if by not in get_args(PricedBy):
        raise InvalidValue(f"by={by!r} must be 'trade' or 'mid'")


def price_of(
    trade: Trade | None, quote: Quote | None, by: PricedBy, oldest: int | None = None
) -> Price | None:
    """The one that is asked for, and where there is none, the other one.

    :param oldest: ns; if it is from before this moment and the other one is not, the other one.
    """
    traded = (
        None if trade is None else Price(price=trade.price, ts_event=trade.ts_event, by="trade")
    )
    first, second = (traded, _mid(quote)) if by == "trade" else (_mid(quote), traded)
    if first is None or second is None:
        return first or second
    if oldest is not None and first.ts_event < oldest <= second.ts_event:
        return second
    return first


def _mid(quote: Quote | None) -> Price | None:
    """Of a quote with both sides, the bid not above the offer. Exact: half of a sum has one digit
    more than it at most."""
    if quote is None or quote.bid is None or quote.ask is None or quote.bid > quote.ask:
        return None
    price = ARITHMETIC.multiply(ARITHMETIC.add(quote.bid, quote.ask), _HALF)
    return Price(price=price, ts_event=quote.ts_event, by="mid")
