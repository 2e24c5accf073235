"""What the tape tells: trades, and that one of them never was."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, get_args

from msgspec import Raw

from redisutils.trading.codec import Record
from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import number, positive_number
from redisutils.trading.names import checked_name
from redisutils.trading.times import moment

__all__ = ["MAX_SEQ", "Side", "Trade", "TradeBust", "checked", "checked_order"]

Side = Literal["", "buy", "sell"]

_SIDES = frozenset(get_args(Side))

MAX_SEQ = 2**63 - 1

_LONGEST_ID = 1000
_SURROGATE = re.compile("[\ud800-\udfff]")


class Trade(Record, frozen=True, kw_only=True):
    """A trade, as its venue told it.

    Two trades that differ in nothing but ``seq`` are two trades.
    """

    instrument: str
    price: Decimal
    """Of any sign: spreads and, once, crude oil have traded below 0."""
    quantity: Decimal
    """More than 0."""
    ts_event: int
    """When it happened, by the venue's clock; nanoseconds since 1970 UTC."""
    ts_recv: int
    """When we got to know of it."""
    seq: int
    """Its place in the instrument's source, 0 to 2**63 - 1: whatever grows from message to message,
    without an end. A source that begins anew each week puts the week in front: ``week * 10**12 +
    number``."""
    side: Side = ""
    """Who took what the other offered, where the venue says so."""
    trade_id: str = ""
    """The venue's name for it, at most 1000 characters."""
    left_out: tuple[str, ...] = ()
    """The intervals whose bars do not count it, since it came late and they ``drop`` such trades.
    Set when it is written."""


class TradeBust(Record, frozen=True, kw_only=True):
    """The venue takes a trade back. (A correction is a bust, and a trade with its values.)"""

    instrument: str
    ts_event: int
    """When it was taken back, as ``Trade.ts_event``."""
    ts_recv: int
    seq: int
    """The bust's own place in the source, as ``Trade.seq``."""
    trade_seq: int
    """The ``seq`` of the trade."""
    trade_ts: int
    """The ``ts_event`` of the trade."""


def checked(event: Trade | TradeBust, now: int) -> None:
    """Refuse what no venue can have meant.

    :param now: the present, ns.
    :raises InvalidValue: naming the field, its value and what would be right.
    """
    if type(event) is not Trade and not isinstance(event, Trade | TradeBust):
        raise InvalidValue(f"event={event!r} must be a Trade or a TradeBust")
    checked_name("instrument", event.instrument)
    if type(event.v) is not int or event.extra is not None:
        _check_version(event)
    moment("ts_event", event.ts_event, now)
    moment("ts_recv", event.ts_recv, now)
    _checked_seq("seq", event.seq)
    if isinstance(event, TradeBust):
        moment("trade_ts", event.trade_ts, now)
        _checked_seq("trade_seq", event.trade_seq)
        if event.trade_seq >= event.seq:
            raise InvalidValue(
                f"trade_seq={event.trade_seq} must be below seq={event.seq}: a trade is told "
                "before it is taken back"
            )
        return
    number("price", event.price)
    positive_number("quantity", event.quantity)
    if type(event.price) is not Decimal or type(event.quantity) is not Decimal:
        raise InvalidValue(
            f"price={event.price!r} and quantity={event.quantity!r} must be Decimals"
        )
    if event.side not in _SIDES:
        raise InvalidValue(f"side={event.side!r} must be 'buy', 'sell' or ''")
    if event.trade_id:
        _check_id(event.trade_id)
    if event.left_out:
        raise InvalidValue(f"left_out={event.left_out!r} is for the tape to say: leave it away")


def checked_order(instrument: str, events: Sequence[Trade | TradeBust]) -> None:
    """Refuse what would be taken for a duplicate of its successors. A place that was there before
    may come again.

    :raises InvalidValue: a place is below one before it, and not a repeated one.
    """
    seqs = [event.seq for event in events]
    if seqs == sorted(seqs):
        return
    top, seen = -1, set[int]()
    for seq in seqs:
        if seq < top and seq not in seen:
            raise InvalidValue(
                f"seq={seq} of {instrument} comes after seq={top} in one call: give them in the "
                "order of seq, for what is below the place that was reached is a duplicate"
            )
        seen.add(seq)
        top = max(top, seq)


def _check_version(event: Trade | TradeBust) -> None:
    if type(event.v) is not int:
        raise InvalidValue(f"v={event.v!r} must be an int: leave it away")
    extra: object = event.extra
    if extra is not None and not (
        isinstance(extra, dict) and all(type(each) is Raw for each in extra.values())
    ):
        raise InvalidValue(f"extra={extra!r} must be as it was read: leave it away")


def _check_id(value: object) -> None:
    # Lone surrogates, as of broken UTF-8, cannot be written.
    if not isinstance(value, str) or len(value) > _LONGEST_ID or _SURROGATE.search(value):
        raise InvalidValue(
            f"trade_id={value!r:.80} must be a str of at most {_LONGEST_ID} characters, none of "
            "them a surrogate"
        )


def _checked_seq(name: str, value: object) -> None:
    if type(value) is not int or not 0 <= value <= MAX_SEQ:
        raise InvalidValue(f"{name}={value!r} must be an int from 0 to 2**63 - 1")
