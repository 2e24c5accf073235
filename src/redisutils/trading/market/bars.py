"""Bars: what a while of trading comes to. Pure: no I/O, and no clock but the trades'.

The price that a bar opens with is that of its earliest trade by (``ts_event``, ``seq``), the one
that it closes with that of its latest, in whatever order they arrive: bars of the same trades are
the same. A while without a trade has no bar.

A trade is late for an interval when a bar after its own has begun. By the policy ``amend`` it still
changes its bar; by ``drop`` it does not, and says so in ``Trade.left_out``.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Literal

from msgspec import Raw
from msgspec.structs import replace

from redisutils.trading.codec import Record
from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.trade import Trade
from redisutils.trading.money import ARITHMETIC, ZERO

__all__ = ["Bar", "LatePolicy", "Series", "bar_of", "fill", "merge"]

LatePolicy = Literal["amend", "drop"]

_FOR_DISPLAY = Context(prec=36, rounding=ROUND_HALF_EVEN)

_add = ARITHMETIC.add
_subtract = ARITHMETIC.subtract

Key = tuple[int, int]
"""Of a trade: (``ts_event``, ``seq``)."""


class Bar(Record, frozen=True, kw_only=True):
    """The trades of an instrument within an interval. Sums are exact."""

    instrument: str
    interval: str
    """Its name, ``"1m"``."""
    start: int
    """Its beginning, ns since 1970 UTC."""
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    """The sum of quantities."""
    notional: Decimal = ZERO
    """The sum of quantity times price."""
    count: int = 0
    """How many trades; 0 in what :func:`fill` has put in."""
    first: tuple[int, int] = (0, 0)
    """``ts_event`` and ``seq`` of the trade that it opened with."""
    last: tuple[int, int] = (0, 0)
    """The same of the one it closed with."""
    doubtful: bool = False
    """A trade at its edge (open, high, low or close) was busted when the history no longer reached
    back to all of its trades: sums are exact, edges may be of the trade that was taken back."""

    @property
    def vwap(self) -> Decimal | None:
        """The average price by volume, to 36 digits, half to even; of no trades, None."""
        return _FOR_DISPLAY.divide(self.notional, self.volume) if self.volume else None


class Building:
    """A bar that still changes."""

    __slots__ = (
        *("start", "open", "high", "low", "close", "volume", "notional", "count"),
        *("first", "last", "doubtful", "v", "extra"),
    )

    def __init__(self, start: int, key: Key, price: Decimal) -> None:
        self.start = start
        self.open = self.high = self.low = self.close = price
        self.volume = self.notional = ZERO
        self.count = 0
        self.first = self.last = key
        self.doubtful = False
        self.v = 1
        self.extra: dict[str, Raw] | None = None

    @classmethod
    def of(cls, bar: Bar) -> Building:
        """The same as ``bar``, to go on with."""
        building = cls(bar.start, bar.first, bar.open)
        for name in cls.__slots__:
            setattr(building, name, getattr(bar, name))
        return building

    def add(self, key: Key, price: Decimal, quantity: Decimal, notional: Decimal) -> None:
        """Count a trade, of which ``notional`` is quantity times price."""
        if key > self.last:
            self.last = key
            self.close = price
        elif key < self.first:
            self.first = key
            self.open = price
        if price > self.high:
            self.high = price
        elif price < self.low:
            self.low = price
        self.volume = _add(self.volume, quantity)
        self.notional = _add(self.notional, notional)
        self.count += 1

    def take_back(self, trade: Trade) -> bool:
        """Count a trade no longer.

        :returns: False if it was at an edge, which only the other trades can tell anew.
        """
        self.volume = _subtract(self.volume, trade.quantity)
        self.notional = _subtract(self.notional, notional_of(trade))
        self.count -= 1
        key = trade.ts_event, trade.seq
        return self.low < trade.price < self.high and key not in (self.first, self.last)

    def bar(self, instrument: str, interval: str) -> Bar:
        """As it is now."""
        fields = {name: getattr(self, name) for name in self.__slots__}
        return Bar(instrument=instrument, interval=interval, **fields)


def notional_of(trade: Trade) -> Decimal:
    """Quantity times price."""
    return ARITHMETIC.multiply(trade.quantity, trade.price)


class Series:
    """The bars of one instrument and interval, as far as they may still change.

    :param interval: how long they are.
    :param late: what becomes of a trade that comes after a later bar has begun.
    :param newest: the newest bar so far.
    """

    __slots__ = ("_absent", "_bars", "_changed", "interval", "late", "newest")

    def __init__(self, interval: Interval, late: LatePolicy, newest: Bar | None = None) -> None:
        self.interval = interval
        self.late = late
        self.newest = -1 if newest is None else newest.start
        """Where the newest bar begins; -1 without any."""
        self._bars: dict[int, Building] = {}
        self._absent: set[int] = set()
        self._changed: set[int] = set()
        if newest is not None:
            self.know(newest.start, newest)

    def know(self, start: int, bar: Bar | None) -> None:
        """Take an earlier bar as it was left, or that there was none."""
        if bar is None:
            self._absent.add(start)
        else:
            self._bars[start] = Building.of(bar)

    def known(self, start: int, instrument: str) -> Bar | None:
        """A bar as it is now, if there is one that is known."""
        bar = self._bars.get(start)
        return None if bar is None else bar.bar(instrument, self.interval.name)

    def missing(self, moments: Collection[int]) -> list[int]:
        """The beginnings of bars that trades of these moments change, and of which nothing is
        known; :meth:`know` is to be told before :meth:`add` is."""
        if self.late == "drop" or min(moments) >= self.newest:
            return []
        start, newest = self.interval.start, self.newest
        late = {at for at in map(start, moments) if at < newest}
        return sorted(late - self._bars.keys() - self._absent)

    def add(self, key: Key, price: Decimal, quantity: Decimal, notional: Decimal) -> bool:
        """Count a trade, of which ``notional`` is quantity times price.

        :returns: False if it came late; by policy ``drop`` it was not counted.
        """
        interval = self.interval
        moment = key[0]
        start = moment - (moment - interval.offset) % interval.length
        late = start < self.newest
        if late and self.late == "drop":
            return False
        bar = self._bars.get(start)
        if bar is None:
            bar = self._bars[start] = Building(start, key, price)
            self.newest = max(self.newest, start)
        self._changed.add(start)
        bar.add(key, price, quantity, notional)
        return not late

    def take_changed(self, instrument: str) -> list[Bar]:
        """The bars that have changed since, by time. Of those, only the newest stays known."""
        name, bars = self.interval.name, self._bars
        changed = [bars[start].bar(instrument, name) for start in sorted(self._changed)]
        self._changed.clear()
        self._absent.clear()
        self._bars = {start: bar for start, bar in bars.items() if start == self.newest}
        return changed


def bar_of(trades: Iterable[Trade], interval: Interval) -> Bar | None:
    """The bar of trades that all lie within one; of none, None."""
    series = Series(interval, "amend")
    instrument = ""
    for trade in trades:
        instrument = trade.instrument
        series.add((trade.ts_event, trade.seq), trade.price, trade.quantity, notional_of(trade))
    changed = series.take_changed(instrument)
    if len(changed) > 1:
        raise InvalidValue(f"trades={len(changed)} bars of {interval} are more than one")
    return changed[0] if changed else None


def merge(bars: Iterable[Bar], interval: Interval | str) -> Iterator[Bar]:
    """Longer bars out of shorter ones, exact.

    Late trades that the shorter ones dropped are not in the longer ones either.

    :param bars: of one instrument, by time; of one interval that fits into the other.
    :raises InvalidValue: it does not fit.
    """
    interval = Interval.of(interval)
    merged: Bar | None = None
    for bar in bars:
        if not interval.consists_of(Interval.of(bar.interval)):
            raise InvalidValue(f"bars of {interval} cannot be made of bars of {bar.interval}")
        if not bar.count:
            continue  # what fill() put in adds nothing
        start = interval.start(bar.start)
        if merged is None or merged.start != start:
            if merged is not None:
                yield merged
            merged = replace(bar, interval=interval.name, start=start, extra=None)
        else:
            merged = replace(
                merged,
                high=max(merged.high, bar.high),
                low=min(merged.low, bar.low),
                close=bar.close,
                volume=_add(merged.volume, bar.volume),
                notional=_add(merged.notional, bar.notional),
                count=merged.count + bar.count,
                last=bar.last,
                doubtful=merged.doubtful or bar.doubtful,
            )
    if merged is not None:
        yield merged


def fill(bars: Iterable[Bar], start: int, end: int, before: Bar | None = None) -> Iterator[Bar]:
    """Bars without gaps: a while without a trade has a bar of volume and count 0 at the last close.

    What lies before the first bar that is known stays empty.

    :param bars: of one instrument and interval, by time, none of which begins outside of ``start``
        and ``end``.
    :param start: the first moment of interest, ns.
    :param end: the moment that comes after it, ns.
    :param before: the last bar before ``start``.
    """
    known = before
    for bar in bars:
        yield from _flat(known, start, bar.start)
        yield bar
        known = bar
    yield from _flat(known, start, end)


def _flat(known: Bar | None, start: int, end: int) -> Iterator[Bar]:
    if known is None:
        return
    interval, close = Interval.of(known.interval), known.close
    first = interval.start(max(known.start + interval.length, start + interval.length - 1))
    for at in range(first, end, interval.length):
        yield Bar(
            instrument=known.instrument,
            interval=known.interval,
            start=at,
            open=close,
            high=close,
            low=close,
            close=close,
        )
