"""The ticks that all contenders are given: the trades of a tape, and quotes around them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from decimal import Decimal
from itertools import count, cycle
from pathlib import Path
from typing import NamedTuple

from redisutils.trading.market.tape import TAPE_VARIABLE, find_tape, read_tape, simulate_tape
from redisutils.trading.market.trade import Trade

SYMBOL = "ES"
"""Whose trades they are."""

INSTRUMENTS = tuple(f"{SYMBOL}{number:02d}" for number in range(100))
"""Among which the ticks go round where many instruments are wanted."""

STEP = Decimal("0.25")
"""How far bid and offer are from the trade's price: the future's tick."""

SIMULATED = 200_000

_BESIDE = Path(__file__).parents[3] / "shared" / "data" / "es-trades.csv.gz"
"""Where a tape may lie that belongs to others, and so is not in the repository."""


class Tick(NamedTuple):
    """A quote, before a contender makes its own of it."""

    instrument: str
    bid: Decimal
    ask: Decimal
    size: Decimal
    ts: int
    """When it came to be and was received, ns."""
    seq: int
    """Grows by one from tick to tick."""


def tape() -> Path | None:
    """The tape, if there is one. The processes that measure, which run elsewhere, are told by the
    environment."""
    path = find_tape() or (_BESIDE if _BESIDE.is_file() else None)
    if path is not None:
        os.environ[TAPE_VARIABLE] = str(path.resolve())
    return path


def origin(path: Path | None) -> str:
    """What the ticks are, for the report."""
    if path is None:
        return (
            f"SIMULATED: {SIMULATED:,} trades that nobody made, since no tape was found; "
            f"{TAPE_VARIABLE}=trades.csv.gz names one"
        )
    return f"{sum(1 for _ in read_tape(path, SYMBOL)):,} trades of a tape, {path.name}"


def trades() -> list[Trade]:
    """All trades of the tape in their order, or simulated ones."""
    path = find_tape()
    return list(simulate_tape(SYMBOL, SIMULATED) if path is None else read_tape(path, SYMBOL))


def ticks(laps: int = 1, instruments: tuple[str, ...] = INSTRUMENTS) -> Iterator[Tick]:
    """A quote for each trade, a step around its price, of one instrument after the other.

    :param laps: how often the tape is gone through; each time later than the time before.
    """
    every = trades()
    if not every:
        return
    span = every[-1].ts_event - every[0].ts_event + 1
    names, numbers = cycle(instruments), count(1)
    sides: dict[Decimal, tuple[Decimal, Decimal]] = {}
    for lap in range(laps):
        for trade in every:
            price = trade.price
            pair = sides.get(price)
            if pair is None:
                pair = sides[price] = price - STEP, price + STEP
            moment = trade.ts_event + lap * span
            yield Tick(next(names), *pair, trade.quantity, moment, next(numbers))
