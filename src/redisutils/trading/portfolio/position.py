"""What becomes of a position: pure functions from a position and an event to the position after it.

All sums are exact. Where a part of a position is closed, its share of the cost is rounded, half to
even, to 12 places or to as many as the cost has; the rest of the cost stays with what is left, and
closing to zero releases all of it. So no rounding is ever lost, and ``cash + cost == realised``.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, Overflow

from msgspec.structs import replace

from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import ARITHMETIC, ZERO
from redisutils.trading.portfolio.records import Adjustment, Lot, Position

__all__ = ["MAX_LOTS", "adjusted", "charged", "closed_by", "traded", "undone"]

MAX_LOTS = 256
"""Lots of a position at most, which bounds its record: beyond, the two oldest become one, with both
their costs. Neighbours of the same price are one at once."""

PLACES = 12

_SHARES = Context(prec=ARITHMETIC.prec, rounding=ROUND_HALF_EVEN, Emax=999, Emin=-999)
_SHARES.traps[Overflow] = True

_add, _subtract, _multiply = ARITHMETIC.add, ARITHMETIC.subtract, ARITHMETIC.multiply


def traded(position: Position, quantity: Decimal, price: Decimal) -> Position:
    """The position after a trade. Beyond zero, it is closed, and then opened on the other side.

    :param quantity: positive for what was bought.
    """
    unit = _multiply(price, position.multiplier)
    left = _add(position.qty, quantity)
    if _are_opposite(left, position.qty):
        position = _exchanged(
            position, position.qty.copy_negate(), _multiply(position.qty, unit).copy_negate()
        )
        return _exchanged(position, left, _multiply(left, unit))
    return _exchanged(position, quantity, _multiply(quantity, unit))


def closed_by(position: Position, quantity: Decimal) -> Decimal:
    """How much of a trade of this quantity closes what is held; without a sign."""
    if not _are_opposite(position.qty, quantity):
        return ZERO
    return min(position.qty.copy_abs(), quantity.copy_abs())


def undone(
    position: Position,
    quantity: Decimal,
    price: Decimal,
    closed: Decimal = ZERO,
    earned: Decimal = ZERO,
) -> Position:
    """The position without a trade that is taken back. ``cash`` is then, exactly, as if it had
    never been. How that is told in cost and realised P&L:

    What the trade had opened goes at its own price, and nothing is earned by it. With
    ``method="fifo"`` it is taken from the newest lots of that price. What is not there any more,
    since it was closed in between (or, by the average's cost, can only have been: less than nothing
    would be left of the cost), is taken out as by the opposite trade.

    What the trade had closed is opened again at the cost that it had released, and what had been
    earned by it is not; with ``"fifo"`` it is one lot, the oldest.

    :param quantity: the trade's, positive for what was bought.
    :param closed: how much of it had closed what was held (:func:`closed_by`).
    :param earned: what had been realised by that.
    """
    back = quantity.copy_negate()
    reopened = closed.copy_sign(back)
    position = _without_opened(position, _subtract(back, reopened), price)
    if not closed:
        return position
    # What was received (paid) for it, less what was earned by it, is what it had cost.
    worth = _multiply(_multiply(reopened, price), position.multiplier)
    cost = _subtract(worth, earned)
    held = position.qty
    left = _add(held, reopened)
    if _are_opposite(left, held):
        part = _share(cost, held.copy_abs(), closed)
        position = _exchanged(position, held.copy_negate(), part)
        position = _exchanged(position, left, _subtract(cost, part), oldest=True)
    else:
        position = _exchanged(position, reopened, cost, oldest=True)
    return replace(
        position,
        cash=_subtract(position.cash, earned),
        realised=_subtract(position.realised, earned),
    )


def _without_opened(position: Position, back: Decimal, price: Decimal) -> Position:
    """Without what a trade had opened; ``back`` is its opposite."""
    held = position.qty
    if not back:
        return position
    if not _are_opposite(held, back) or back.copy_abs() >= held.copy_abs():
        return traded(position, back, price)
    unit = _multiply(price, position.multiplier)
    if position.method == "fifo":
        position, back = _without_lots(position, back, unit)
        return traded(position, back, price) if back else position
    worth = _multiply(back, unit)
    cost = _add(position.cost, worth)
    if position.reduced and _are_opposite(cost, position.cost):
        return traded(position, back, price)
    return replace(position, qty=_add(held, back), cost=cost, cash=_subtract(position.cash, worth))


def _without_lots(position: Position, back: Decimal, unit: Decimal) -> tuple[Position, Decimal]:
    """Without the newest lots at this cost of a unit, as far as there are any; and the rest."""
    lots, rest = list(position.lots), back
    for at in range(len(lots) - 1, -1, -1):
        lot = lots[at]
        if not rest:
            break
        if lot.cost != _multiply(lot.qty, unit):
            continue
        if lot.qty.copy_abs() <= rest.copy_abs():
            rest = _add(rest, lot.qty)
            del lots[at]
        else:
            left = _add(lot.qty, rest)
            lots[at] = Lot(left, _multiply(left, unit))
            rest = ZERO
    gone = _subtract(back, rest)
    worth = _multiply(gone, unit)
    after = replace(
        position,
        qty=_add(position.qty, gone),
        cost=_add(position.cost, worth),
        cash=_subtract(position.cash, worth),
        lots=tuple(lots),
    )
    return after, rest


def _are_opposite(one: Decimal, other: Decimal) -> bool:
    return (one > ZERO > other) or (one < ZERO < other)


def _exchanged(
    position: Position, quantity: Decimal, worth: Decimal, *, oldest: bool = False
) -> Position:
    """The position after so much came in for what it is worth, or went out; never beyond zero.

    :param oldest: among the lots, what came in is the oldest.
    """
    cash, held = _subtract(position.cash, worth), position.qty
    if not _are_opposite(held, quantity):
        return replace(
            position,
            qty=_add(held, quantity),
            cost=_add(position.cost, worth),
            cash=cash,
            lots=_with_lot(position, Lot(quantity, worth), oldest=oldest),
        )
    cost_out, lots = _released(position, quantity.copy_abs())
    return replace(
        position,
        qty=_add(held, quantity),
        cost=_subtract(position.cost, cost_out),
        cash=cash,
        realised=_subtract(position.realised, _add(worth, cost_out)),
        reduced=True,
        lots=lots,
    )


def charged(position: Position, amount: Decimal, currency: str) -> Position:
    """The position after a fee; a rebate is negative."""
    fees = dict(position.fees)
    fees[currency] = _add(fees.get(currency, ZERO), amount)
    return replace(position, fees=fees)


def adjusted(position: Position, event: Adjustment) -> Position:
    """The position after an adjustment.

    :raises InvalidValue: a split that leaves a fraction without end; a transfer out of what is not
        there.
    """
    if event.kind == "fee":
        after = charged(position, event.amount, event.currency or position.currency)
    elif event.kind == "dividend":
        after = replace(
            position,
            cash=_add(position.cash, event.amount),
            realised=_add(position.realised, event.amount),
        )
    elif event.kind == "split":
        after = _split(position, event)
    else:
        after = _transferred(position, event)
    return replace(after, ts_event=event.ts_event, ts_recv=event.ts_recv)


def _split(position: Position, event: Adjustment) -> Position:
    many, few = Decimal(event.numerator), Decimal(event.denominator)
    try:
        quantity = ARITHMETIC.divide(_multiply(position.qty, many), few)
    except DecimalException:
        raise InvalidValue(
            f"a split {event.numerator}:{event.denominator} of {position.qty} "
            f"{position.instrument} leaves a fraction without end: sell what is paid out in cash "
            "first"
        ) from None
    lots: list[Lot] = []
    rest = quantity
    for lot in position.lots[:-1]:
        share = _SHARES.divide(_multiply(lot.qty, many), few)
        share = _rounded(share, lot.qty)
        rest = _subtract(rest, share)
        lots.append(Lot(share, lot.cost))
    if position.lots:
        lots.append(Lot(rest, position.lots[-1].cost))
    return replace(position, qty=quantity, lots=tuple(lots), splits=position.splits + 1)


def _transferred(position: Position, event: Adjustment) -> Position:
    quantity, held = event.qty, position.qty
    if not _are_opposite(held, quantity):
        return _exchanged(position, quantity, event.cost)
    if quantity.copy_abs() > held.copy_abs():
        raise InvalidValue(
            f"a transfer of {quantity} {position.instrument} is more than there is, {held}"
        )
    cost_out, _ = _released(position, quantity.copy_abs())
    return _exchanged(position, quantity, cost_out.copy_negate())


# -- cost ----------------------------------------------------------------------------------------


def _released(position: Position, quantity: Decimal) -> tuple[Decimal, tuple[Lot, ...]]:
    """The cost of a part of a position, and the lots that are left; ``quantity`` has no sign."""
    held = position.qty.copy_abs()
    if quantity == held:
        return position.cost, ()
    if position.method == "average":
        return _share(position.cost, quantity, held), ()
    cost, lots = ZERO, list(position.lots)
    taken = 0
    while quantity:
        lot = lots[taken]
        size = lot.qty.copy_abs()
        if size <= quantity:
            cost = _add(cost, lot.cost)
            quantity = _subtract(quantity, size)
            taken += 1
            continue
        part = _share(lot.cost, quantity, size)
        cost = _add(cost, part)
        left = _subtract(size, quantity).copy_sign(lot.qty)
        lots[taken] = Lot(left, _subtract(lot.cost, part))
        break
    return cost, tuple(lots[taken:])


def _share(cost: Decimal, quantity: Decimal, held: Decimal) -> Decimal:
    return _rounded(_SHARES.divide(_multiply(cost, quantity), held), cost)


def _rounded(value: Decimal, like: Decimal) -> Decimal:
    exponent = like.as_tuple().exponent
    assert isinstance(exponent, int)  # only of NaN and infinities it is a letter
    places = Decimal((0, (1,), min(exponent, -PLACES)))
    return _SHARES.quantize(value, places).normalize(_SHARES)


def _with_lot(position: Position, lot: Lot, *, oldest: bool) -> tuple[Lot, ...]:
    if position.method == "average":
        return ()
    lots = position.lots
    if lots:
        beside = lots[0 if oldest else -1]
        if _multiply(beside.cost, lot.qty) == _multiply(lot.cost, beside.qty):
            one = _merged(beside, lot)
            return (one, *lots[1:]) if oldest else (*lots[:-1], one)
    lots = (lot, *lots) if oldest else (*lots, lot)
    return lots if len(lots) <= MAX_LOTS else (_merged(lots[0], lots[1]), *lots[2:])


def _merged(one: Lot, other: Lot) -> Lot:
    return Lot(_add(one.qty, other.qty), _add(one.cost, other.cost))
