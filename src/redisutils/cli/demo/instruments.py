"""What is traded, and in which steps its price moves."""

from __future__ import annotations

from decimal import Decimal
from typing import Final, NamedTuple

__all__ = ["INSTRUMENTS", "Instrument", "instrument_of"]


class Instrument(NamedTuple):
    """One instrument; all are priced in US dollars."""

    symbol: str
    start: Decimal
    """The price that a simulated tape begins with."""
    tick: Decimal
    multiplier: Decimal
    """What one unit is worth at a price of 1: 50 of a future on 50 times an index."""

    @property
    def places(self) -> int:
        """Digits behind the point that its prices have."""
        return _places(self.tick)


INSTRUMENTS: Final = (
    Instrument("ES", Decimal("1640.25"), Decimal("0.25"), Decimal(50)),
    Instrument("ZN", Decimal("124.281250"), Decimal("0.015625"), Decimal(1000)),
    Instrument("GC", Decimal("1395.10"), Decimal("0.10"), Decimal(100)),
    Instrument("EURUSD", Decimal("1.32190"), Decimal("0.00005"), Decimal(125_000)),
    Instrument("AAPL", Decimal("487.22"), Decimal("0.01"), Decimal(1)),
)
"""Of the simulated tape, with about the prices of the day that it takes place on."""


def instrument_of(symbol: str, price: Decimal) -> Instrument:
    """The one of this name; of one that nobody knows, a unit is worth its price, which moves in
    steps of the last digit that ``price`` is written with."""
    for known in INSTRUMENTS:
        if known.symbol == symbol:
            return known
    return Instrument(symbol, price, Decimal(1).scaleb(-_places(price)), Decimal(1))


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0
