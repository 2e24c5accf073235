"""Bids and offers around a tape, which has trades only."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Final

from redisutils.cli.demo.instruments import Instrument
from redisutils.trading.market import Trade

__all__ = ["DEPTH", "Ladder"]

DEPTH: Final = 10
"""Levels of each side."""

Levels = list[tuple[str, str]]


class Ladder:
    """One instrument's made-up book. A trade above the last one was at the offer, one below at the
    bid (the tick rule); it takes its volume from there, and what is used up is filled again.

    Args:
        instrument: Whose book.
        seed: Of the quantities.
    """

    def __init__(self, instrument: Instrument, seed: int) -> None:
        self._tick = instrument.tick
        self._random = Random(seed)
        self._sizes: dict[tuple[bool, int], Decimal] = {}
        self._shown: dict[tuple[bool, int], Decimal] = {}
        self._last: int | None = None
        self._bid = 0

    def trade(self, trade: Trade) -> None:
        """Move to a trade."""
        ticks = int((trade.price / self._tick).to_integral_value())
        if self._last is None or ticks < self._last:
            self._bid = ticks
        elif ticks > self._last:
            self._bid = ticks - 1
        self._last = ticks
        at = (ticks <= self._bid, ticks)
        left = self._size(at) - trade.quantity
        if left > 0:
            self._sizes[at] = left
        else:
            del self._sizes[at]

    def top(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """Best bid, its size, best offer, its size."""
        bid, ask = (True, self._bid), (False, self._bid + 1)
        return self._price(self._bid), self._size(bid), self._price(ask[1]), self._size(ask)

    def levels(self, bids: bool) -> list[tuple[Decimal, Decimal]]:
        """The levels of a side, best first."""
        return [(self._price(at[1]), self._size(at)) for at in self._places() if at[0] is bids]

    def changes(self) -> tuple[Levels, Levels]:
        """Bids and offers that are others than when this was asked last; quantity 0: gone."""
        now = {at: self._size(at) for at in self._places()}
        changed = {at: Decimal(0) for at in self._shown if at not in now}
        changed |= {at: size for at, size in now.items() if self._shown.get(at) != size}
        self._shown = now
        self._sizes = dict(now)  # what has left the window is forgotten
        bids: Levels = []
        asks: Levels = []
        for (bid, ticks), size in changed.items():
            (bids if bid else asks).append((f"{self._price(ticks):f}", f"{size:f}"))
        return bids, asks

    def _places(self) -> list[tuple[bool, int]]:
        bids = [(True, self._bid - place) for place in range(DEPTH)]
        return bids + [(False, self._bid + 1 + place) for place in range(DEPTH)]

    def _price(self, ticks: int) -> Decimal:
        return ticks * self._tick

    def _size(self, at: tuple[bool, int]) -> Decimal:
        size = self._sizes.get(at)
        if size is None:
            away = abs(at[1] - self._bid)
            most = 40 + 25 * min(away, 6)
            size = self._sizes[at] = Decimal(self._random.randint(most // 4, most))
        return size
