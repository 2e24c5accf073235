"""The best bid and offer of an instrument, and what may be taken for one."""

from __future__ import annotations

from decimal import Decimal, DecimalException
from time import time_ns
from typing import Final, Self

from redisutils.trading.codec import Record
from redisutils.trading.errors import Crossed, InvalidValue
from redisutils.trading.money import ZERO, in_bounds, number, size_number
from redisutils.trading.names import checked_name
from redisutils.trading.times import moment

__all__ = ["Quote", "check", "order_of"]

_MOST: Final = 10**19


class Quote(Record, frozen=True, kw_only=True):
    """A bid and an offer. Made by :meth:`of`, which takes strings too, or field by field.

    Either side may be missing (None), so may sizes. Prices may be negative, as those of spreads and
    of oil have been.
    """

    instrument: str
    bid: Decimal | None = None
    bid_size: Decimal | None = None
    ask: Decimal | None = None
    ask_size: Decimal | None = None
    ts_event: int
    """When it came to be at its venue, ns since 1970 UTC."""
    ts_recv: int
    """When it was received, ns since 1970 UTC."""
    seq: int | None = None
    """Its number at the venue, 0 or more: decides between two of one ``ts_event``. Where the venue
    gives none, ``ts_recv`` does."""

    @classmethod
    def of(
        cls,
        instrument: str,
        bid: Decimal | int | str | None = None,
        ask: Decimal | int | str | None = None,
        *,
        bid_size: Decimal | int | str | None = None,
        ask_size: Decimal | int | str | None = None,
        ts_event: int | None = None,
        ts_recv: int | None = None,
        seq: int | None = None,
    ) -> Self:
        """A quote that has been checked.

        :param ts_event, ts_recv: ns since 1970 UTC; the present if not given, ``ts_event`` then
            being ``ts_recv``.
        :raises InvalidValue: a value cannot be meant, floats above all.
        :raises Crossed: the bid is above the offer.
        """
        received = time_ns() if ts_recv is None else ts_recv
        quote = cls(
            instrument=checked_name("instrument", instrument),
            bid=None if bid is None else number("bid", bid),
            bid_size=None if bid_size is None else number("bid_size", bid_size),
            ask=None if ask is None else number("ask", ask),
            ask_size=None if ask_size is None else number("ask_size", ask_size),
            ts_event=received if ts_event is None else ts_event,
            ts_recv=received,
            seq=seq,
        )
        check(quote, time_ns())
        return quote

    @property
    def locked(self) -> bool:
        """Whether bid and offer are at the same price."""
        return self.bid is not None and self.bid == self.ask


def order_of(quote: Quote) -> tuple[int, int]:
    """What decides which of two quotes of an instrument is the newer."""
    return quote.ts_event, quote.ts_recv if quote.seq is None else quote.seq


def check(quote: Quote, now: int) -> None:
    """Refuse a quote that cannot be meant.

    :param now: the present, ns.
    :raises InvalidValue: a number is no Decimal, NaN or too long; a size is negative, or without
        its price; a moment is in the future or in another unit; the sequence is no number of
        0 to 10**19 - 1. The instrument's name is not looked at.
    :raises Crossed: the bid is above the offer.
    """
    if not _plain(quote):
        _check_numbers(quote)
    moment("ts_event", quote.ts_event, now)
    moment("ts_recv", quote.ts_recv, now)
    seq = quote.seq
    if seq is not None and (type(seq) is not int or not 0 <= seq < _MOST):
        raise InvalidValue(f"seq={seq!r} must be an int from 0 to 10**19 - 1, or None")


def _plain(quote: Quote) -> bool:
    """Whether there is nothing to say against the numbers of a quote with all four of them: most
    are such, and this takes a third of the time."""
    bid, bid_size, ask, ask_size = quote.bid, quote.bid_size, quote.ask, quote.ask_size
    try:
        return (
            type(bid) is Decimal
            and type(ask) is Decimal
            and type(bid_size) is Decimal
            and type(ask_size) is Decimal
            and bid <= ask
            and bid_size >= ZERO
            and ask_size >= ZERO
            and in_bounds(bid)
            and in_bounds(ask)
            and in_bounds(bid_size)
            and in_bounds(ask_size)
        )
    except DecimalException:  # NaN
        return False


def _check_numbers(quote: Quote) -> None:
    bid, ask = quote.bid, quote.ask
    if bid is None:
        if quote.bid_size is not None:
            raise InvalidValue(f"bid_size={quote.bid_size} of {quote.instrument} has no bid")
    else:
        _price("bid", bid)
        if quote.bid_size is not None:
            _size("bid_size", quote.bid_size)
    if ask is None:
        if quote.ask_size is not None:
            raise InvalidValue(f"ask_size={quote.ask_size} of {quote.instrument} has no ask")
    else:
        _price("ask", ask)
        if quote.ask_size is not None:
            _size("ask_size", quote.ask_size)
        if bid is not None and bid > ask:
            raise Crossed(
                f"the quote of {quote.instrument} is crossed: bid={bid} is above ask={ask}"
            )


def _price(name: str, value: Decimal) -> None:
    number(name, value)
    if type(value) is not Decimal:
        raise InvalidValue(f"{name}={value!r} must be a Decimal: Quote.of() makes one of it")


def _size(name: str, value: Decimal) -> None:
    size_number(name, value)
    if type(value) is not Decimal:
        raise InvalidValue(f"{name}={value!r} must be a Decimal: Quote.of() makes one of it")
