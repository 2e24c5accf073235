"""FIX's words for orders: the values of Side (54), ExecType (150) and OrdStatus (39), and from
which status which execution is legal.

The rules are those of FIX 5.0 SP2, volume 4, "Order State Change Matrices"
(https://www.fixtrading.org/online-specification/order-state-changes/). That a matrix is missing
there does not forbid a step, so the table is wider than them in three places, each with its reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

__all__ = [
    "BUYS",
    "FINAL",
    "IMMEDIATE",
    "LEGAL_FROM",
    "MULTI_DAY",
    "ORD_TYPES",
    "PRECEDENCE",
    "TIMES_IN_FORCE",
    "ExecType",
    "OrdStatus",
    "Side",
]


class Side(StrEnum):
    """Side (54)."""

    BUY = "1"
    SELL = "2"
    BUY_MINUS = "3"
    SELL_PLUS = "4"
    SELL_SHORT = "5"
    SELL_SHORT_EXEMPT = "6"


BUYS: Final = frozenset({Side.BUY, Side.BUY_MINUS})
"""The sides whose executions add to a position; those of the others take from it."""


class ExecType(StrEnum):
    """ExecType (150): why a report was sent."""

    NEW = "0"
    DONE_FOR_DAY = "3"
    CANCELED = "4"
    REPLACED = "5"
    PENDING_CANCEL = "6"
    STOPPED = "7"
    REJECTED = "8"
    SUSPENDED = "9"
    PENDING_NEW = "A"
    CALCULATED = "B"
    EXPIRED = "C"
    RESTATED = "D"
    PENDING_REPLACE = "E"
    TRADE = "F"
    TRADE_CORRECT = "G"
    TRADE_CANCEL = "H"
    ORDER_STATUS = "I"
    TRIGGERED = "L"


class OrdStatus(StrEnum):
    """OrdStatus (39): where an order stands."""

    NEW = "0"
    PARTIALLY_FILLED = "1"
    FILLED = "2"
    DONE_FOR_DAY = "3"
    CANCELED = "4"
    PENDING_CANCEL = "6"
    STOPPED = "7"
    REJECTED = "8"
    SUSPENDED = "9"
    PENDING_NEW = "A"
    CALCULATED = "B"
    EXPIRED = "C"
    PENDING_REPLACE = "E"


_S = OrdStatus

PRECEDENCE: Final[Mapping[OrdStatus, int]] = MappingProxyType(
    {
        _S.PENDING_CANCEL: 12,
        _S.PENDING_REPLACE: 11,
        _S.DONE_FOR_DAY: 10,
        _S.CALCULATED: 9,
        _S.FILLED: 8,
        _S.STOPPED: 7,
        _S.SUSPENDED: 6,
        _S.CANCELED: 5,
        _S.EXPIRED: 5,
        _S.PARTIALLY_FILLED: 4,
        _S.NEW: 2,
        _S.REJECTED: 2,
        _S.PENDING_NEW: 2,
    }
)
"""Of several states that an order is in, the one with the highest figure is its status."""

FINAL: Final = frozenset({_S.CANCELED, _S.REJECTED, _S.CALCULATED, _S.EXPIRED})
"""What no execution leads out of. Filled is not among them: a bust, a correction or a larger
replacement reopens it."""

ORD_TYPES: Final = tuple("123456789ABCDEFGHIJKLMPQRS")
"""OrdType (40), those of the extension packs and those that are no longer used, too."""

TIMES_IN_FORCE: Final = tuple("0123456789ABC")
"""TimeInForce (59), those of the extension packs, too."""

IMMEDIATE: Final = frozenset({"3", "4"})
"""TimeInForce (59) of orders of which nothing rests: immediate or cancel, fill or kill."""

MULTI_DAY: Final = frozenset({"1", "6", "C"})
"""TimeInForce (59) of orders that live on after the day: good till cancel, good till date, good for
month."""


def _statuses(codes: str) -> frozenset[OrdStatus]:
    return frozenset(map(OrdStatus, codes.split()))


LEGAL_FROM: Final[Mapping[ExecType, frozenset[OrdStatus]]] = MappingProxyType(
    {
        ExecType.PENDING_NEW: _statuses("A"),
        ExecType.NEW: _statuses("A"),
        ExecType.REJECTED: _statuses("A 0"),
        ExecType.TRADE: _statuses("A 0 1 7 9 6 E 4 C 3"),
        # 7 and 9: as an order that is stopped or suspended trades (matrix L.1.a), what it traded
        # can be busted there, too.
        ExecType.TRADE_CANCEL: _statuses("1 2 3 4 6 7 9 B C E"),
        ExecType.TRADE_CORRECT: _statuses("1 2 3 4 6 7 9 B C E"),
        ExecType.PENDING_CANCEL: _statuses("A 0 1 6 7 9 E"),
        ExecType.CANCELED: _statuses("A 0 1 6 7 9 E"),
        ExecType.PENDING_REPLACE: _statuses("0 1 2 6 9 E"),
        ExecType.REPLACED: _statuses("E 0 1 2"),
        ExecType.DONE_FOR_DAY: _statuses("0 1"),
        ExecType.EXPIRED: _statuses("A 0 1 6 9 E"),
        ExecType.STOPPED: _statuses("0 1"),
        ExecType.SUSPENDED: _statuses("0 1"),
        ExecType.RESTATED: _statuses("0 1 3 7 9"),
        # By its definition: an order that is filled or done for day, and settled.
        ExecType.CALCULATED: _statuses("2 3"),
        ExecType.ORDER_STATUS: frozenset(OrdStatus),
        ExecType.TRIGGERED: _statuses("A 0 6 9 E"),
    }
)
"""By what an order's status may be for an execution to be applied to it. Three more rules look at
more than the status (:mod:`redisutils.trading.orders.lifecycle`): New, or else Rejected, also
arrives while a cancel of an order that was not acknowledged is pending (matrix B.1.d); Replaced
wherever a replacement is pending, whatever covers it; and since the restatement of a multi-day
order in the morning is optional (matrices H.1), such an order can be cancelled, replaced or expire
while it is done for day."""
