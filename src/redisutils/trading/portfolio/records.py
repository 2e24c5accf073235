"""What an account holds of an instrument, and what changes it beside executions."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Literal

import msgspec

from redisutils.trading.codec import Record
from redisutils.trading.money import ARITHMETIC, ZERO

__all__ = ["Adjustment", "AdjustmentKind", "Lot", "Method", "Position"]

Method = Literal["average", "fifo"]
AdjustmentKind = Literal["split", "dividend", "transfer", "fee"]

_ONE = Decimal(1)
_DISPLAY = Context(prec=28)


class Lot(msgspec.Struct, frozen=True, array_like=True):
    """What was bought (or sold short: negative) together, and its cost."""

    qty: Decimal
    cost: Decimal


class Position(Record, frozen=True, kw_only=True):
    """A position. Amounts are in ``currency``, fees in whatever they were charged in.

    ``qty`` is negative when short, and then so is ``cost``, what opening it brought in. ``cash`` is
    all that was paid (negative) and received. Always, exactly::

        cash + cost == realised

    ``lots`` are there with ``method="fifo"`` only, the oldest first. ``reduced`` says whether any
    of it was ever closed or transferred out, ``splits`` how often it was split.
    """

    instrument: str
    currency: str = ""
    multiplier: Decimal = _ONE
    method: Method = "average"
    qty: Decimal = ZERO
    cost: Decimal = ZERO
    cash: Decimal = ZERO
    realised: Decimal = ZERO
    fees: dict[str, Decimal] = msgspec.field(default_factory=dict)
    lots: tuple[Lot, ...] = ()
    reduced: bool = False
    splits: int = 0
    ts_event: int = 0
    ts_recv: int = 0

    @property
    def avg_px(self) -> Decimal:
        """The average price that it was opened at, to 28 digits; 0 when flat."""
        if not self.qty:
            return ZERO
        return _DISPLAY.divide(self.cost, ARITHMETIC.multiply(self.qty, self.multiplier))


class Adjustment(Record, frozen=True, kw_only=True):
    """A change of a position that no execution made. The same ``id`` is the same adjustment.

    ============ ===============================================================================
    kind         what it does
    ============ ===============================================================================
    ``split``    ``numerator`` new units for ``denominator`` old ones; the cost stays
    ``dividend`` ``amount`` in the position's currency is received (negative: paid, when short)
    ``transfer`` ``qty`` units come in at ``cost``, or go out (of what is there, so with the other
                 sign than the position) at what they cost: nothing is earned by it
    ``fee``      ``amount`` of ``currency`` is charged (negative: given back)
    ============ ===============================================================================

    A transfer into an instrument that was never held opens it, in ``currency`` and with
    ``multiplier``. Else these are the position's own, whether said or not; of fees alone the
    currency may be another.
    """

    id: str
    kind: AdjustmentKind
    instrument: str
    ts_event: int
    ts_recv: int
    numerator: int = 1
    denominator: int = 1
    amount: Decimal = ZERO
    currency: str = ""
    qty: Decimal = ZERO
    cost: Decimal = ZERO
    multiplier: Decimal = _ONE
    note: str = ""
