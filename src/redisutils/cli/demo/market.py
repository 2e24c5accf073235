"""What a trade is, and a simulated market that makes them."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

__all__ = ["INSTRUMENTS", "Instrument", "Trade", "simulated_market"]


class Trade(NamedTuple):
    """One trade, as a tape reports it."""

    symbol: str
    price: Decimal
    lots: int
    """How many were traded; at least 1. A tape does not say who was the buyer."""
    at: float
    """Seconds since the first trade of its source; 0.0 from a source without a clock."""


class Instrument(NamedTuple):
    """What is traded, and in which steps its price moves."""

    symbol: str
    start: Decimal
    tick: Decimal
    volatility: float
    """Standard deviation of one trade's relative price change."""


INSTRUMENTS: Final = (
    Instrument("BTCUSD", Decimal("50000.0"), Decimal("0.5"), 4e-5),
    Instrument("ETHUSD", Decimal("2500.00"), Decimal("0.05"), 5e-5),
    Instrument("ES", Decimal("5400.25"), Decimal("0.25"), 5e-5),
    Instrument("ZN", Decimal("110.250000"), Decimal("0.015625"), 6e-5),
    Instrument("XAUUSD", Decimal("2350.10"), Decimal("0.10"), 4e-5),
    Instrument("EURUSD", Decimal("1.08250"), Decimal("0.00005"), 3e-5),
    Instrument("AAPL", Decimal("190.00"), Decimal("0.01"), 6e-5),
    Instrument("MSFT", Decimal("415.00"), Decimal("0.01"), 6e-5),
)


def simulated_market(
    seed: int = 1, instruments: tuple[Instrument, ...] = INSTRUMENTS
) -> Iterator[Trade]:
    """Trades without end: a geometric random walk on each instrument's price ticks.

    The same seed gives the same trades. Prices are whole ticks and at least one tick.

    Args:
        seed: Of the pseudo-random numbers.
        instruments: Traded with equal likelihood.
    """
    rng = random.Random(seed)
    # The walk itself is a float, or moves smaller than half a tick would never add up;
    # a price is only ever a whole number of ticks times an exact Decimal.
    levels = [float(each.start / each.tick) for each in instruments]
    while True:
        which = rng.randrange(len(instruments))
        instrument = instruments[which]
        levels[which] = max(1.0, levels[which] * math.exp(rng.gauss(0.0, instrument.volatility)))
        ticks = round(levels[which])
        lots = 1 + int(rng.expovariate(0.6))
        yield Trade(instrument.symbol, ticks * instrument.tick, lots, 0.0)
