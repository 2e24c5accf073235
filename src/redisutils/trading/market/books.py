"""Order books in the database: who writes one, and how they are read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from decimal import Decimal
from secrets import token_hex
from typing import Any, Final, Literal, NamedTuple

import msgspec

from redisutils.trading.errors import BookReplaced, Crossed, InvalidValue
from redisutils.trading.market.book import (
    Applied,
    Book,
    BookDelta,
    BookSnapshot,
    BookState,
    Change,
)
from redisutils.trading.market.instruments import Instrument
from redisutils.trading.scripts import Scripts, load
from redisutils.trading.times import checked_age, moment

__all__ = ["BookLevel", "BookReader", "BookView", "BookWriter", "read_all"]

_MOST_LEVELS: Final = 1000


class BookLevel(NamedTuple):
    """What is bid or offered at one price."""

    price: Decimal
    quantity: Decimal


class BookView(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The best levels of an order book at one moment.

    ``state`` is ``"fresh"``, ``"stale"`` or ``"absent"``. Stale by its writer's word
    (``why``: gap, crossed, checksum, …) it shows no levels: they are not known. Older than
    ``max_age`` it is stale too (``why`` is age), and shows what it was.
    """

    state: Literal["fresh", "stale", "absent"]
    why: str = ""
    bids: tuple[BookLevel, ...] = ()
    """Best first."""
    asks: tuple[BookLevel, ...] = ()
    """Best first."""
    seq: int = 0
    epoch: int = 0
    """Counts its snapshots."""
    age: float | None = None
    """Seconds since the ``ts_event`` of its last change; None if there was none."""
    ts_event: int = 0
    ts_recv: int = 0

    @property
    def best_bid(self) -> BookLevel | None:
        """None if nothing is bid, or nobody knows."""
        return self.bids[0] if self.bids else None

    @property
    def best_ask(self) -> BookLevel | None:
        """None if nothing is offered, or nobody knows."""
        return self.asks[0] if self.asks else None

    @property
    def locked(self) -> bool:
        """Whether the best bid and offer are at one price."""
        return bool(self.bids and self.asks) and self.bids[0].price == self.asks[0].price


class BookReader:
    """Reads with ``lua/book_read.lua``.

    :param clock: the present, ns since 1970 UTC.
    """

    def __init__(self, scripts: Scripts, clock: Callable[[], int]) -> None:
        self._scripts = scripts
        self._script = load("book_read")
        self._clock = clock

    async def read(self, known: Instrument, levels: int, max_age: float | None) -> BookView:
        """One book's best levels. One round trip.

        :raises InvalidValue: ``levels`` is not 1 to 1,000, or ``max_age`` none.
        """
        given: Any = levels
        if type(given) is not int or not 1 <= given <= _MOST_LEVELS:
            raise InvalidValue(f"levels={levels!r} must be a whole number from 1 to {_MOST_LEVELS}")
        checked_age(max_age)
        found = await self._scripts.run(self._script, known.book, [levels])
        if found is None:
            return BookView(state="absent")
        state, why, seq, epoch, ts_event, ts_recv, *sides = found
        known_at = int(ts_event)
        age = max(0.0, (self._clock() - known_at) / 1e9) if known_at else None
        good = state == b"good"
        old = good and max_age is not None and age is not None and age > max_age
        return BookView(
            state="fresh" if good and not old else "stale",
            why="age" if old else why.decode(),
            bids=_levels(sides[0]) if good else (),
            asks=_levels(sides[1]) if good else (),
            seq=int(seq),
            epoch=int(epoch),
            age=age,
            ts_event=known_at,
            ts_recv=int(ts_recv),
        )


def _levels(flat: Sequence[bytes]) -> tuple[BookLevel, ...]:
    numbers = [Decimal(text.decode()) for text in flat]
    return tuple(map(BookLevel, numbers[::2], numbers[1::2]))


class BookWriter:
    """Keeps one order book, and its image in the database. Made by ``MarketData.book_writer()``.

    One writer writes a book at a time: whoever put the last snapshot. Changes go out in the order
    in which they are applied here, each call as one script. What the database did not get, or has
    lost, is made good with the next call: the book as it is here is put in its place.

    :param book: the book here.
    :param ttl: seconds after which an image that is not written any more is gone.
    """

    def __init__(
        self,
        scripts: Scripts,
        known: Instrument,
        book: Book,
        *,
        ttl: float,
        clock: Callable[[], int],
    ) -> None:
        self._scripts = scripts
        self._known = known
        self._ttl = str(round(ttl * 1000))
        self._clock = clock
        self._name = token_hex(8)
        self._snapshots = 0
        self._token = ""  # of the last snapshot that we have tried to write
        self._written = (0, 0, 0)  # up to where the database has it, unless it is behind
        self._behind = True
        self._taking = True  # whether it is still to be made ours, whosever it is
        self._replaced = False
        self._turn = asyncio.Lock()
        self.book: Final = book

    def __repr__(self) -> str:
        return f"<BookWriter {self._known.name} {self.book!r}>"

    @property
    def state(self) -> BookState:
        """Of the book here."""
        return self.book.state

    async def snapshot(self, snapshot: BookSnapshot) -> Applied:
        """Put a snapshot in the place of the book.

        :returns: ``"applied"``; ``"stale"``: its checksum is another than ours; it is not shown.
        :raises InvalidValue: it cannot be meant; nothing has changed.
        :raises Crossed: it is crossed; nothing has changed.
        :raises redis.RedisError: the database may not have it: the next call will see to it.
        """
        self._check(snapshot)
        async with self._turn:
            told = self.book.reset(snapshot)
            self._behind, self._taking, self._replaced = True, True, False
            await self._write_all()
            return told

    async def apply(self, *deltas: BookDelta) -> Applied:
        """Apply changes, in their order, with one script.

        :returns: of the last of them ``"applied"`` or ``"old"``; ``"stale"``: the book is, here and
            in the database: get a snapshot.
        :raises InvalidValue: one cannot be meant; it and those after it were not applied.
        :raises Crossed: one makes a crossed book, which is stale from now on, here and there.
        :raises BookReplaced: another writer has put a snapshot since ours.
        :raises redis.RedisError: the database may not have them: the next call will see to it.
        """
        for delta in deltas:
            self._check(delta)
        async with self._turn:
            if self._replaced:
                raise self._was_replaced()
            told: Applied = "old" if self.book.state == "good" else "stale"
            changed: dict[tuple[bool, int], Change] = {}
            try:
                for delta in deltas:
                    told = self.book.apply(delta, changed)
            except (Crossed, InvalidValue):
                await self._write(changed)
                raise
            await self._write(changed)
            return told

    async def stale(self, why: str) -> None:
        """Show the book no more until the next snapshot: its feed was lost, say.

        Before our first snapshot it takes the book, as that does: a program that was started again
        need not leave what it wrote before on show until it has another.

        :param why: a few words for those who read it.
        :raises InvalidValue: they are none, or more than 64 characters.
        :raises BookReplaced: another writer has put a snapshot since ours.
        """
        if not why or not why.isprintable() or len(why) > 64:
            raise InvalidValue(f"why={why!r} must be 1 to 64 printable characters")
        async with self._turn:
            if self._replaced:
                raise self._was_replaced()
            self.book.spoil(why)
            await self._write({})

    def _check(self, given: BookSnapshot | BookDelta) -> None:
        now = self._clock()
        moment("ts_event", given.ts_event, now)
        moment("ts_recv", given.ts_recv, now)

    async def _write(self, changed: dict[tuple[bool, int], Change]) -> None:
        """Let the database have what the book here is."""
        book = self.book
        if book.state == "empty":
            return
        if self._behind:
            await self._write_all()
        elif book.state == "stale":
            await self._run_delta(())  # each time: the server may be one that has not heard of it
        elif changed or _reached(book) != self._written:
            self._behind = True  # until we know better
            words = [word for change in changed.values() for word in _words(change)]
            if await self._run_delta(words):
                self._behind, self._written = False, _reached(book)
            else:  # the database has lost a part of it
                await self._write_all()

    async def _run_delta(self, words: Sequence[Any]) -> bool:
        """Whether the database has followed.

        :raises BookReplaced: it is another's.
        """
        book = self.book
        head = (self._token, self._written[0], *_reached(book), self._ttl)
        told = await self._scripts.run(
            load("book_delta"), self._known.book, (*head, book.why, *words)
        )
        if told == b"replaced":
            raise self._was_replaced()
        return bool(told == b"good")

    async def _write_all(self) -> None:
        """Write the book as it is.

        :raises BookReplaced: it is another's, and we had it before.
        """
        book = self.book
        self._snapshots += 1
        self._token = f"{self._name}:{self._snapshots}"
        changes = book.changes() if book.state == "good" else []
        reached = _reached(book)
        arguments: list[Any] = [
            self._token,
            *reached,
            self._ttl,
            f"{book.tick:f}",
            "" if self._taking else self._name,
            book.why,
            sum(change.bid for change in changes),
        ]
        for change in changes:
            arguments += change[1:]
        if not await self._scripts.run(load("book_snapshot"), self._known.book, arguments):
            raise self._was_replaced()
        self._behind, self._taking, self._written = False, False, reached

    def _was_replaced(self) -> BookReplaced:
        self._replaced = True
        return BookReplaced(
            f"another writer has put a snapshot of {self._known.name}: put one of ours to take the "
            "book back, or stop"
        )


def _reached(book: Book) -> tuple[int, int, int]:
    return book.seq, book.ts_event, book.ts_recv


def _words(change: Change) -> tuple[Any, ...]:
    return ("b" if change.bid else "a", *change[1:])


async def read_all(
    reader: BookReader, instruments: Sequence[Instrument], levels: int, max_age: float | None
) -> dict[str, BookView]:
    """Many books, in one round trip (to each node of a cluster)."""
    found = await asyncio.gather(
        *(reader.read(known, levels, max_age) for known in instruments), return_exceptions=True
    )
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return {
        known.name: one
        for known, one in zip(instruments, found, strict=True)
        if isinstance(one, BookView)
    }
