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

__all__ = ["MAX_LOTS", "adjusted", "charged", "traded"]

MAX_LOTS = 256
"""Lots of a position at most, which bounds its record: beyond, the two oldest become one, with both
their costs. Neighbours of the same price are one at once."""

PLACES = 12

_SHARES = Context(prec=ARITHMETIC.prec, rounding=ROUND_HALF_EVEN, Emax=999, Emin=-999)
_SHARES.traps[Overflow] = True

_add, _subtract, _multiply = ARITHMETIC.add, ARITHMETIC.subtract, ARITHMETIC.multiply


def traded(position: Position, quantity: Decimal, price: Decimal) -> Position:
    """The position after a trade. Beyond zero, it is closed, and then opened on the other side.

    A bust is the opposite trade at its price: what was earned by closing in between stays earned.

    :param quantity: positive for what was bought.
    """
    worth = _multiply(_multiply(quantity, price), position.multiplier)
    cash = _subtract(position.cash, worth)
    held = position.qty
    if not held or (held > ZERO) == (quantity > ZERO):
        return replace(
            position,
            qty=_add(held, quantity),
            cost=_add(position.cost, worth),
            cash=cash,
            lots=_with_lot(position, Lot(quantity, worth)),
        )
    left = _add(held, quantity)
    if not left or (left > ZERO) == (held > ZERO):
        cost_out, lots = _released(position, quantity.copy_abs())
        opened = ZERO
    else:
        cost_out = position.cost
        opened = _multiply(_multiply(left, price), position.multiplier)
        lots = (Lot(left, opened),) if position.method == "fifo" else ()
    cost = _add(_subtract(position.cost, cost_out), opened)
    # What it brought in, without what was paid to open the other side, less what it had cost.
    earned = _subtract(_subtract(opened, worth), cost_out)
    return replace(
        position,
        qty=left,
        cost=cost,
        cash=cash,
        realised=_add(position.realised, earned),
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
        share = _rounded(share, share)
        rest = _subtract(rest, share)
        lots.append(Lot(share, lot.cost))
    if position.lots:
        lots.append(Lot(rest, position.lots[-1].cost))
    return replace(position, qty=quantity, lots=tuple(lots))


def _transferred(position: Position, event: Adjustment) -> Position:
    quantity, held = event.qty, position.qty
    if not held or (held > ZERO) == (quantity > ZERO):
        return replace(
            position,
            qty=_add(held, quantity),
            cost=_add(position.cost, event.cost),
            cash=_subtract(position.cash, event.cost),
            lots=_with_lot(position, Lot(quantity, event.cost)),
        )
    if quantity.copy_abs() > held.copy_abs():
        raise InvalidValue(
            f"a transfer of {quantity} {position.instrument} is more than there is, {held}"
        )
    cost_out, lots = _released(position, quantity.copy_abs())
    return replace(
        position,
        qty=_add(held, quantity),
        cost=_subtract(position.cost, cost_out),
        cash=_add(position.cash, cost_out),
        lots=lots,
    )


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


def _with_lot(position: Position, lot: Lot) -> tuple[Lot, ...]:
    if position.method == "average":
        return ()
    lots = position.lots
    if lots and _multiply(lots[-1].cost, lot.qty) == _multiply(lot.cost, lots[-1].qty):
        return (*lots[:-1], _merged(lots[-1], lot))
    if len(lots) >= MAX_LOTS:
        lots = (_merged(lots[0], lots[1]), *lots[2:])
    return (*lots, lot)


def _merged(one: Lot, other: Lot) -> Lot:
    return Lot(_add(one.qty, other.qty), _add(one.cost, other.cost))
