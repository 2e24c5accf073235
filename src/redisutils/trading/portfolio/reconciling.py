"""Our positions against a broker's statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import cast

import msgspec

from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import ZERO, number
from redisutils.trading.names import checked_name
from redisutils.trading.portfolio.records import Position
from redisutils.trading.rounded import agrees
from redisutils.trading.texts import shown

__all__ = ["Difference", "Holding", "differences"]


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A line of a statement. What is None was not stated, and is not compared; average price and
    cost are compared to as many digits as they are stated with."""

    instrument: str
    qty: Decimal
    avg_px: Decimal | None = None
    cost: Decimal | None = None
    currency: str | None = None


class Difference(msgspec.Struct, frozen=True):
    """Something that the statement says otherwise: ``ours`` or ``theirs`` is None for an instrument
    that only the other one holds."""

    instrument: str
    field: str
    ours: Decimal | str | None
    theirs: Decimal | str | None

    def __str__(self) -> str:
        def said(value: object) -> str:
            return "nothing" if value is None else str(value)

        return f"{self.instrument} {self.field}: {said(self.ours)} here, {said(self.theirs)} there"


def differences(
    positions: Mapping[str, Position], statement: Iterable[Holding]
) -> list[Difference]:
    """In what positions and a statement differ, by instrument. A flat position and none are the
    same.

    :raises InvalidValue: the statement names an instrument twice, or holds what is no number.
    """
    stated: dict[str, Holding] = {}
    given: object = statement
    if not isinstance(given, Iterable):
        raise InvalidValue(f"statement={shown(given)} must be a series of Holdings")
    for line in statement:
        if not isinstance(cast(object, line), Holding):
            raise InvalidValue(f"the statement has {shown(line)}, which must be a Holding")
        checked_name("instrument", line.instrument)
        if line.instrument in stated:
            raise InvalidValue(f"the statement has {line.instrument} twice")
        stated[line.instrument] = line
    found: list[Difference] = []
    for instrument in sorted(positions.keys() | stated.keys()):
        found += _compared(instrument, positions.get(instrument), stated.get(instrument))
    return found


def _compared(
    instrument: str, position: Position | None, line: Holding | None
) -> Iterable[Difference]:
    theirs = None if line is None else number("qty", line.qty)
    ours = None if position is None else position.qty
    if (ours or ZERO) != (theirs or ZERO):
        yield Difference(instrument, "qty", ours or None, theirs or None)
    if position is None or line is None or not position.qty:
        return
    if line.currency is not None and line.currency != position.currency:
        yield Difference(instrument, "currency", position.currency, line.currency)
    for name, stated, here in (
        ("avg_px", line.avg_px, position.avg_px),
        ("cost", line.cost, position.cost),
    ):
        if stated is not None and not agrees(number(name, stated), here):
            yield Difference(instrument, name, here, stated)
