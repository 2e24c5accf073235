"""``MarketData``: what the markets say at this moment, for all who ask."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from decimal import Decimal
from functools import partial
from time import time_ns
from typing import Final, Self

from redisutils import RedisPool
from redisutils.topology.plan import ReadFrom
from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.applying import Applier, Channels, Keeping
from redisutils.trading.market.bars import Bar, LatePolicy
from redisutils.trading.market.book import Book, Checksum
from redisutils.trading.market.books import BookReader, BookView, BookWriter, read_all
from redisutils.trading.market.hub import Hub
from redisutils.trading.market.instruments import Instruments
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.latest import Latest
from redisutils.trading.market.newest import Newest
from redisutils.trading.market.prices import Price, PricedBy, checked_choice, price_of
from redisutils.trading.market.quotes import Quote, check
from redisutils.trading.market.subscription import Policy, Subscription
from redisutils.trading.market.tape_form import Retention
from redisutils.trading.market.tape_state import Written
from redisutils.trading.market.ticks import Ticks
from redisutils.trading.market.together import Together
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.market.writer import QuoteWriter, WriteFailure
from redisutils.trading.names import checked_series, each_once
from redisutils.trading.pools import checked_pool
from redisutils.trading.scripts import Scripts
from redisutils.trading.times import SECOND, checked_age, checked_bound

__all__ = ["MarketData"]


class MarketData:
    """The newest quote and trade of each instrument, their history, bars, order books, and quotes
    as they come. What there is of trades and bars beyond the methods here, :attr:`ticks` has.

    A quote is the hash ``<prefix>md:{<instrument>}:q``; its field ``v`` is the record itself, for
    any other program to read. Of two quotes the one with the later ``(ts_event, seq)`` is the
    newer, in whatever order they arrive and whoever writes them.

    Close it with :meth:`aclose`, or use ``async with``. Its methods may be called from any number
    of tasks.

    :param pool: an open pool, of one server, sentinels or a cluster.
    :param prefix: what all keys begin with, such as ``"paper:"``.
    :param encoding: ``"json"``, or ``"msgpack"``, which takes two thirds of the space.
    :param instruments: those that may be written and read; others are refused. None for any.
    :param lane: the shared connection that it uses.
    :param read_from: where the newest quotes and trades are read; None for where the pool does.
    :param ttl: seconds after which a quote without a newer one is absent.
    :param history: quotes of each instrument that are kept, about; 0 keeps none but the newest.
    :param history_ttl: seconds that an instrument's history outlives its last quote.
    :param channels: by what updates are published: ``"sharded"`` (Redis 7 or Valkey),
        ``"plain"`` or ``"none"``. Readers and writers must agree.
    :param intervals, late, retention: of trades and their bars, as :class:`Ticks` has them.
    :param clock: the present, ns since 1970 UTC.
    :raises InvalidValue: one of them is wrong.
    :raises PoolClosed: the pool is not open.
    """

    def __init__(
        self,
        pool: RedisPool,
        *,
        prefix: str = "",
        encoding: Encoding = "json",
        instruments: Collection[str] | None = None,
        lane: str = "market",
        read_from: ReadFrom | None = None,
        ttl: float = 60.0,
        history: int = 0,
        history_ttl: float = 7 * 86_400.0,
        channels: Channels = "sharded",
        intervals: Sequence[str | Interval] = ("1m",),
        late: LatePolicy = "amend",
        retention: Retention | None = None,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        pool = checked_pool(pool)
        codec = Codec(Quote, encoding)
        self._pool = pool
        self._instruments = Instruments(prefix, instruments)
        self._codec = codec
        self._clock = clock
        self._applier = Applier(
            pool,
            self._instruments,
            codec,
            lane=lane,
            encoding=encoding,
            keeping=Keeping(ttl, history, history_ttl),
            channels=channels,
        )
        self._together = Together(self._applier)
        self._scripts = Scripts(pool, lane)
        self._books = BookReader(self._scripts, clock)
        self._hub: Hub | None = None
        self._make_hub = partial(
            Hub, pool, codec, lane=lane, encoding=encoding, channels=channels, ttl=ttl
        )
        self._client = pool.lane(lane, read_from=read_from)
        self._newest = Newest(
            pool,
            codec,
            lambda name: self._instruments[name].quote,
            lane=lane,
            read_from=read_from,
            clock=clock,
        )
        self.ticks: Final = Ticks(
            pool,
            prefix=prefix,
            intervals=intervals,
            late=late,
            retention=retention,
            encoding=encoding,
            instruments=instruments,
            lane=lane,
            read_from=read_from,
            clock=clock,
        )
        """The tapes of trades, and their bars."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what was put, and close. The pool stays open."""
        if self._hub is not None:
            await self._hub.close()
        await asyncio.gather(self._together.close(), self.ticks.aclose())

    # -- writing -------------------------------------------------------------------------

    async def put_quote(self, quote: Quote) -> bool:
        """Keep a quote, if it is the newest of its instrument, and publish it.

        What is put in one turn of the event loop, by whatever tasks, leaves as one call (in a
        cluster one for each slot).

        :returns: whether it was the newest, or is there already.
        :raises InvalidValue: it cannot be meant; nothing was sent. See ``Quote``.
        :raises redis.RedisError: it may not be there, as ``outcome`` says; put it again.
        """
        self._check(quote)
        return (await self._together.put((quote,)))[0]

    async def put_quotes(self, quotes: Sequence[Quote]) -> list[bool]:
        """Keep many, as :meth:`put_quote` does. One that is refused refuses all: nothing was sent.

        :returns: of each, whether it was the newest when its turn came.
        """
        quotes = tuple(checked_series("quotes", quotes))
        for quote in quotes:
            self._check(quote)
        return await self._together.put(quotes)

    def writer(
        self,
        *,
        conflate: bool = True,
        capacity: int = 50_000,
        interval: float = 0.0,
        on_failure: Callable[[WriteFailure], None] | None = None,
    ) -> QuoteWriter:
        """A writer for hot feeds, which takes quotes without waiting for each to be written.

        Close it with its ``aclose()``, or use ``async with``: it writes what it holds.

        :param conflate: of each instrument only the newest of what waits goes out and is published.
            History, where this service keeps it, has them all. False: each goes out.
        :param capacity: quotes held at most. While conflating without history those are one or two
            for each instrument.
        :param interval: seconds from one round of sending to the next at least; 0, the default:
            a round begins when there is something to send and the last one has been handed over.
        :param on_failure: called with each failure of a call. Without it the next ``put()``,
            ``flush()`` or ``aclose()`` raises the first error after which quotes were lost.
        :raises InvalidValue: one of them is wrong.
        """
        return QuoteWriter(
            self._applier,
            self._check,
            conflate=conflate,
            capacity=capacity,
            interval=interval,
            backoff=self._pool.server.settings.retry.backoff,
            on_failure=on_failure,
        )

    def _check(self, quote: Quote) -> None:
        given: object = quote
        if not isinstance(given, Quote):
            raise InvalidValue(f"quote={given!r} must be a Quote")
        self._instruments[quote.instrument]
        check(quote, self._clock())

    # -- reading -------------------------------------------------------------------------

    async def quote(
        self, instrument: str, max_age: float | None = None
    ) -> Latest[Quote] | Latest[None]:
        """The newest quote of an instrument. One round trip.

        :param max_age: seconds since its ``ts_event`` beyond which it is stale; None: it never is.
        :raises UnreadableRecord: what is there was written by something else.
        :raises InvalidValue: the name or the age is none.
        """
        return await self._newest.one(instrument, max_age)

    async def quotes(
        self, instruments: Sequence[str], max_age: float | None = None
    ) -> dict[str, Latest[Quote] | Latest[None]]:
        """The newest quotes of many instruments, in one round trip (to each node of a cluster).

        :param max_age: as :meth:`quote` has it.
        """
        return await self._newest.many(instruments, max_age)

    def subscribe(
        self, instrument: str, policy: Policy = "conflate", *, capacity: int = 1000
    ) -> Subscription:
        """An instrument's quotes as they come, beginning with the newest there is.

        All subscriptions of this service to one instrument share one of the server's.

        :param policy: what becomes of updates while their reader is busy. ``"conflate"``: only the
            newest is kept. ``"drop"``: the newest ``capacity`` are, and those that go are counted.
            ``"block"``: all are, and nothing more is read for **any** subscription of this service
            while ``capacity`` of them wait; a reader that stays away makes the server drop the
            connection in the end, which is told as a gap.
        :param capacity: of ``"drop"`` and ``"block"``.
        :raises InvalidValue: one of them is wrong, or the service has no channels.
        :raises UnknownInstrument: it is none of the service's.
        :raises ServiceClosed: after :meth:`aclose`.
        """
        if self._hub is None:
            self._hub = self._make_hub()
        return self._hub.subscribe(self._instruments[instrument], policy, capacity)

    # -- trades and bars --------------------------------------------------------------------

    async def put_trades(self, events: Iterable[Trade | TradeBust]) -> Written:
        """Write trades and busts, each once. See :meth:`Ticks.write`."""
        return await self.ticks.write(events)

    async def trade(
        self, instrument: str, max_age: float | None = None
    ) -> Latest[Trade] | Latest[None]:
        """The latest trade of an instrument. See :meth:`Ticks.latest`."""
        return await self.ticks.latest(instrument, max_age)

    async def trades(
        self, instruments: Iterable[str], max_age: float | None = None
    ) -> dict[str, Latest[Trade] | Latest[None]]:
        """The latest trades of many instruments, in one round trip (to each node of a cluster)."""
        return await self.ticks.latest_of(instruments, max_age)

    async def bars(
        self,
        instrument: str,
        interval: str | Interval,
        start: int = 0,
        end: int | None = None,
        *,
        filled: bool = False,
    ) -> list[Bar]:
        """Bars that begin from ``start`` and before ``end``, by time. See :meth:`Ticks.bars`."""
        return await self.ticks.bars(instrument, interval, start, end, filled=filled)

    async def prices(
        self, instruments: Iterable[str], *, by: PricedBy = "trade", max_age: float | None = None
    ) -> dict[str, Price]:
        """What one of each instrument is worth, in one round trip (to each node of a cluster); as
        :meth:`Portfolio.value() <redisutils.trading.Portfolio.value>` asks for it.

        A trade counts for as long as ``retention`` tells the latest one (60 s by default), a quote
        for ``ttl``; each price says of when it is.

        :param by: ``"trade"``: the price of the last trade, and where there is none the mid of the
            quote; ``"mid"``: the mid, and where there is none the last trade. Of a quote with one
            side there is no mid, nor of one that is crossed.
        :param max_age: seconds; of two prices of which one is older and one is not, it is the
            other one, whatever ``by`` says. None: no price is too old.
        :returns: without those that have none; so are those that are none of ``instruments``.
        :raises UnreadableRecord: what is there was written by something else.
        """
        checked_choice(by)
        checked_age(max_age)
        oldest = None if max_age is None else self._clock() - round(max_age * SECOND)
        asked = each_once("instruments", instruments)
        names = [name for name in asked if self._instruments.may_have(name)]
        quotes, trades = await asyncio.gather(self.quotes(names), self.trades(names))
        found = {
            name: price_of(trades[name].value, quotes[name].value, by, oldest) for name in names
        }
        return {name: price for name, price in found.items() if price is not None}

    # -- order books -----------------------------------------------------------------------

    def book_writer(
        self,
        instrument: str,
        tick: Decimal | int | str,
        *,
        depth: int | None = None,
        checksum: Checksum | None = None,
        ttl: float = 3600.0,
    ) -> BookWriter:
        """A writer of an instrument's order book, which begins with a snapshot.

        :param tick: prices are whole multiples of it.
        :param depth: levels of each side that are kept; None for all.
        :param checksum: checks what the venue sends along:
            :func:`redisutils.trading.market.checksums.kraken`, ``okx``, or a function of a book.
        :param ttl: seconds after which a book that is not written any more is gone.
        :raises InvalidValue: one of them is wrong.
        """
        Keeping(ttl)
        book = Book(tick, depth=depth, checksum=checksum)
        known = self._instruments[instrument]
        return BookWriter(self._scripts, known, book, ttl=ttl, clock=self._clock)

    async def book(
        self, instrument: str, levels: int = 10, max_age: float | None = None
    ) -> BookView:
        """The best levels of an instrument's order book. One round trip.

        :param levels: of each side, 1 to 1,000; 1 is the top of the book.
        :param max_age: seconds since its last change beyond which it is stale; None: it never is.
        :raises InvalidValue: one of them is wrong.
        """
        return await self._books.read(self._instruments[instrument], levels, max_age)

    async def books(
        self, instruments: Sequence[str], levels: int = 1, max_age: float | None = None
    ) -> dict[str, BookView]:
        """The best levels of many order books, in one round trip (to each node of a cluster).
        Arguments as :meth:`book` has them."""
        known = [self._instruments[name] for name in each_once("instruments", instruments)]
        return await read_all(self._books, known, levels, max_age)

    async def quote_history(
        self, instrument: str, *, since: int = 0, page: int = 1000
    ) -> AsyncIterator[Quote]:
        """What is kept of an instrument's quotes, in the order in which they arrived.

        :param since: leave out what arrived before this moment, ns since 1970 UTC by the server's
            clock.
        :param page: read so many at once.
        """
        checked_bound("since", since)
        key = self._instruments[instrument].history
        at = f"{since // 1_000_000}-0"
        while True:
            entries = await self._client.execute_command("XRANGE", key, at, "+", "COUNT", page)
            for _, fields in entries or ():
                yield self._codec.decode(fields[b"r"], key)
            if not entries or len(entries) < page:
                return
            at = "(" + entries[-1][0].decode()
