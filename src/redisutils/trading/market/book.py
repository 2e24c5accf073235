"""An order book by price (L2), as a venue's snapshots and changes make it. Does no I/O, knows no
clock.

======  ============================================================  ==========================
state   becomes so by                                                 until
======  ============================================================  ==========================
empty   being made                                                    a snapshot
good    a snapshot
stale   a gap in the sequence; a change that makes it cross, or whose  a snapshot
        checksum is another; :meth:`Book.spoil`
======  ============================================================  ==========================

A stale book has no levels to show: what they are is not known.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal, DecimalException
from typing import Final, Literal, NamedTuple

import msgspec

from redisutils.trading.errors import Crossed, InvalidValue
from redisutils.trading.money import ARITHMETIC, number, positive_number, size_number

__all__ = [
    "Applied",
    "Book",
    "BookDelta",
    "BookSnapshot",
    "BookState",
    "Change",
    "Checksum",
    "Level",
]

BookState = Literal["empty", "good", "stale"]

Applied = Literal["applied", "old", "stale"]
"""What became of a delta: it was applied; it is older than the book; the book is stale."""

Level = tuple[str, str]
"""Price and quantity, as the venue writes them: checksums are made of their digits."""

_MOST_TICKS: Final = 2**53
"""Servers sort by doubles, which have no more exact whole numbers."""

_REMEMBERED: Final = 100_000


class BookSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All levels of a book."""

    bids: Sequence[Level]
    asks: Sequence[Level]
    ts_event: int
    """ns since 1970 UTC, as ``ts_recv``."""
    ts_recv: int
    seq: int = 0
    """The venue's number of the last change that is in it; 0 where it numbers none."""
    checksum: int | None = None


class BookDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Changes of a book. A quantity of 0 deletes its price.

    Venues number their changes in three ways: one by one (give ``seq``); as a range (``first`` to
    ``seq``); with a link to the change before (``prev``, and ``seq``). Some do not: give none, and
    let checksums tell. The first change after a snapshot may begin before it: quantities are what
    there is, and not what was added, so to make a change twice does no harm.
    """

    bids: Sequence[Level] = ()
    asks: Sequence[Level] = ()
    ts_event: int
    """ns since 1970 UTC, as ``ts_recv``."""
    ts_recv: int
    seq: int | None = None
    first: int | None = None
    prev: int | None = None
    checksum: int | None = None


class Change(NamedTuple):
    """What one price of a book has become."""

    bid: bool
    ticks: int
    price: str
    quantity: str
    """Empty: the price has gone."""


class _Side:
    """One side's levels by whole ticks, with the ticks in order."""

    __slots__ = ("levels", "ticks")

    def __init__(self) -> None:
        self.levels: dict[int, Level] = {}
        self.ticks: list[int] = []

    def put(self, ticks: int, level: Level) -> None:
        if ticks not in self.levels:
            insort(self.ticks, ticks)
        self.levels[ticks] = level

    def remove(self, ticks: int) -> Level | None:
        level = self.levels.pop(ticks, None)
        if level is not None:
            del self.ticks[bisect_left(self.ticks, ticks)]
        return level


class Book:
    """See the module's docstring.

    :param tick: prices are whole multiples of it.
    :param depth: levels of each side that are kept; the worse go, as venues expect it whose
        subscriptions have a depth. None keeps all.
    :param checksum: makes the number that the venue sends along: see
        :mod:`redisutils.trading.market.checksums`.
    :raises InvalidValue: ``tick`` or ``depth`` is none.
    """

    def __init__(
        self,
        tick: Decimal | int | str,
        *,
        depth: int | None = None,
        checksum: Checksum | None = None,
    ) -> None:
        self.tick: Final = positive_number("tick", tick)
        if depth is not None and (type(depth) is not int or depth < 1):
            raise InvalidValue(f"depth={depth!r} must be a number of levels, 1 or more, or None")
        self._depth = depth
        self._checksum = checksum
        self._known: dict[str, int] = {}
        self._bids, self._asks = _Side(), _Side()
        self.state: BookState = "empty"
        self.why = ""
        """Why it is stale: gap, crossed, checksum, or what :meth:`spoil` was told."""
        self.seq = 0
        self.ts_event = self.ts_recv = 0
        self._linked = False  # whether the last change is what the next one links to
        self._numbered = False  # whether the venue numbers its changes

    def __repr__(self) -> str:
        state = f"{self.state} ({self.why})" if self.why else self.state
        return (
            f"<Book {state} at {self.seq}: {len(self._bids.ticks)} bids, "
            f"{len(self._asks.ticks)} asks>"
        )

    # -- what it shows -------------------------------------------------------------------------

    def bids(self, levels: int | None = None) -> list[Level]:
        """The best bids, best first; none of a book that is not good."""
        if self.state != "good":
            return []
        side = self._bids
        best = side.ticks if levels is None else side.ticks[max(0, len(side.ticks) - levels) :]
        return [side.levels[ticks] for ticks in reversed(best)]

    def asks(self, levels: int | None = None) -> list[Level]:
        """The best offers, best first; none of a book that is not good."""
        if self.state != "good":
            return []
        return [self._asks.levels[ticks] for ticks in self._asks.ticks[:levels]]

    @property
    def locked(self) -> bool:
        """Whether it is good, and the best bid and offer are at one price."""
        bids, asks = self._bids.ticks, self._asks.ticks
        return self.state == "good" and bool(bids and asks) and bids[-1] == asks[0]

    def changes(self) -> list[Change]:
        """All levels, as changes of an empty book."""
        return [
            Change(bid, ticks, *side.levels[ticks])
            for bid, side in ((True, self._bids), (False, self._asks))
            for ticks in side.ticks
        ]

    # -- what changes it -----------------------------------------------------------------------

    def reset(self, snapshot: BookSnapshot) -> Applied:
        """Take a snapshot in the place of all that was.

        :returns: ``"applied"``; ``"stale"`` if its checksum is another than ours.
        :raises InvalidValue: a number of it cannot be meant; nothing has changed.
        :raises Crossed: its best bid is above its best offer; nothing has changed.
        """
        bids, asks = _Side(), _Side()
        for side, given in ((bids, snapshot.bids), (asks, snapshot.asks)):
            for ticks, level in self._read(given):
                if level[1]:
                    side.put(ticks, level)
        if bids.ticks and asks.ticks and bids.ticks[-1] > asks.ticks[0]:
            raise Crossed(_crossed("snapshot", bids, asks))
        self._bids, self._asks = bids, asks
        self.state, self.why = "good", ""
        self.seq, self._linked, self._numbered = snapshot.seq, False, False
        self.ts_event, self.ts_recv = snapshot.ts_event, snapshot.ts_recv
        self._cut(None)
        return self._verified(snapshot.checksum)

    def apply(
        self, delta: BookDelta, changed: dict[tuple[bool, int], Change] | None = None
    ) -> Applied:
        """Apply changes, all or none.

        :param changed: what each price has become is entered here.
        :returns: ``"applied"``; ``"old"`` if the book has it already; ``"stale"``: the book is, and
            shows nothing until the next snapshot.
        :raises InvalidValue: a number of it cannot be meant; nothing has changed.
        :raises Crossed: the best bid would be above the best offer; the book is stale.
        """
        if self.state != "good":
            return "stale"
        follows = self._follows(delta)
        if follows is None:
            return "old"
        if not follows:
            self.spoil("gap")
            return "stale"
        wanted = [
            Change(bid, ticks, *level)
            for bid, given in ((True, delta.bids), (False, delta.asks))
            for ticks, level in self._read(given)
        ]
        made: dict[tuple[bool, int], Change] = {}
        for change in wanted:
            self._make(change, made)
        bids, asks = self._bids, self._asks
        if bids.ticks and asks.ticks and bids.ticks[-1] > asks.ticks[0]:
            self.spoil("crossed")
            raise Crossed(_crossed("change", bids, asks))
        self._cut(made)
        self.seq = self.seq + 1 if delta.seq is None else delta.seq
        self._linked, self._numbered = True, delta.seq is not None
        self.ts_event, self.ts_recv = delta.ts_event, delta.ts_recv
        if changed is not None:
            changed.update(made)
        return self._verified(delta.checksum)

    def spoil(self, why: str) -> None:
        """Let it be stale: the connection to the venue was lost, say."""
        self.state, self.why = "stale", why

    def _follows(self, delta: BookDelta) -> bool | None:
        """Whether a delta is the next one; None: the book has it already."""
        if delta.seq is None:
            if self._numbered:
                raise InvalidValue(
                    f"seq=None of a change after number {self.seq}: the venue numbers them, and "
                    "without its number nobody knows whether it is the next"
                )
            return True
        if delta.prev is not None:
            # One venue at least begins to count anew, and links that change as any other. A
            # snapshot that was asked for apart has any number: the change that it is from the
            # midst of follows. https://www.okx.com/docs-v5/en/ ("How to manage a local order book
            # correctly"), https://developers.binance.com/docs/derivatives/usds-margined-futures
            if delta.prev == self.seq or (not self._linked and delta.prev < self.seq < delta.seq):
                return True
        elif (delta.seq if delta.first is None else delta.first) <= self.seq + 1 <= delta.seq:
            return True
        return None if delta.seq <= self.seq else False

    def _make(self, change: Change, made: dict[tuple[bool, int], Change]) -> None:
        side = self._bids if change.bid else self._asks
        if change.quantity:
            side.put(change.ticks, (change.price, change.quantity))
        else:
            side.remove(change.ticks)
        made[change.bid, change.ticks] = change

    def _cut(self, made: dict[tuple[bool, int], Change] | None) -> None:
        """Let go what is deeper than is kept."""
        if self._depth is None:
            return
        for bid, side in ((True, self._bids), (False, self._asks)):
            while len(side.ticks) > self._depth:
                ticks = side.ticks[0] if bid else side.ticks[-1]
                gone = side.remove(ticks)
                if made is not None and gone is not None:
                    made[bid, ticks] = Change(bid, ticks, gone[0], "")

    def _verified(self, expected: int | None) -> Applied:
        if expected is None or self._checksum is None or self._checksum(self) == expected:
            return "applied"
        self.spoil("checksum")
        return "stale"

    def _read(self, levels: Iterable[Level]) -> list[tuple[int, Level]]:
        """Levels with their ticks; an empty quantity in the place of 0."""
        found = []
        for each in levels:
            given: object = each
            if not isinstance(given, tuple | list) or len(given) != 2:
                raise InvalidValue(f"level={given!r} must be a pair: price and quantity")
            price, quantity = each
            ticks = self._known.get(price) if type(price) is str else None
            if ticks is None:
                ticks = self._ticks(price)
            exact = size_number("quantity", quantity)
            level = (_text(price), _text(quantity) if exact else "")
            found.append((ticks, level))
        return found

    def _ticks(self, price: str) -> int:
        exact = number("price", price)
        try:
            ticks, rest = ARITHMETIC.divmod(exact, self.tick)
        except DecimalException:  # a quotient of more digits than are reckoned with
            ticks, rest = Decimal(_MOST_TICKS), Decimal(0)
        if rest:
            raise InvalidValue(f"price={price} must be a multiple of tick={self.tick}")
        if not -_MOST_TICKS < ticks < _MOST_TICKS:
            raise InvalidValue(f"price={price} is more than 2**53 times tick={self.tick}")
        if type(price) is str:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            self._known[price] = int(ticks)
        return int(ticks)


Checksum = Callable[[Book], int]
"""Makes the number that a venue sends along to compare."""


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _crossed(what: str, bids: _Side, asks: _Side) -> str:
    bid, ask = bids.levels[bids.ticks[-1]], asks.levels[asks.ticks[0]]
    return f"the {what} makes a crossed book: the bid {bid[0]} is above the ask {ask[0]}"
