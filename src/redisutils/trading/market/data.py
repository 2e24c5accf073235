"""``MarketData``: what the markets say at this moment, for all who ask."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from decimal import Decimal
from functools import partial
from time import time_ns
from typing import Self

from redisutils import RedisPool
from redisutils.connection.alarm import FOREVER
from redisutils.topology.plan import ReadFrom
from redisutils.trading.codec import Codec, Encoding
from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.applying import Applier, Channels, Keeping
from redisutils.trading.market.book import Book, Checksum
from redisutils.trading.market.books import BookReader, BookView, BookWriter, read_all
from redisutils.trading.market.hub import Hub
from redisutils.trading.market.instruments import Instrument, Instruments
from redisutils.trading.market.latest import ABSENT, Latest, checked_age
from redisutils.trading.market.quotes import Quote, check
from redisutils.trading.market.subscription import Policy, Subscription
from redisutils.trading.market.together import Together
from redisutils.trading.market.writer import QuoteWriter, WriteFailure
from redisutils.trading.scripts import Scripts

__all__ = ["MarketData"]


class MarketData:
    """The newest quote of each instrument, its history, and its updates as they come.

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
    :param read_from: where :meth:`quote` and :meth:`quotes` read; None for where the pool does.
    :param ttl: seconds after which a quote without a newer one is absent.
    :param history: quotes of each instrument that are kept, about; 0 keeps none but the newest.
    :param history_ttl: seconds that an instrument's history outlives its last quote.
    :param channels: by what updates are published: ``"sharded"`` (Redis 7 or Valkey),
        ``"plain"`` or ``"none"``. Readers and writers must agree.
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
        clock: Callable[[], int] = time_ns,
    ) -> None:
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
        # A read is as near to a bare GET as can be: what is sent is packed once for each
        # instrument, and goes to the lane itself.
        self._lane = pool.server.lane_for(lane, read_from)
        self._client = pool.lane(lane, read_from=read_from)
        self._timeout = min(pool.server.settings.command_timeout, FOREVER)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Write what was put, and close. The pool stays open."""
        if self._hub is not None:
            await self._hub.close()
        await self._together.close()

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
        quotes = tuple(quotes)
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
        if max_age is not None:
            checked_age(max_age)
        known = self._instruments[instrument]
        submit = self._lane.submit  # a slot that holds a function: load it, then call it
        text = await submit(known.read, False, self._timeout)
        if text is None:
            return ABSENT
        if text != known.text:  # what was read before is decoded, and never changed
            self._read(known, text)
        return self._told(known.value, max_age)

    async def quotes(
        self, instruments: Sequence[str], max_age: float | None = None
    ) -> dict[str, Latest[Quote] | Latest[None]]:
        """The newest quotes of many instruments, in one round trip (to each node of a cluster).

        :param max_age: as :meth:`quote` has it.
        """
        checked_age(max_age)
        known = [self._instruments[name] for name in dict.fromkeys(instruments)]
        if not known:
            return {}
        payload = b"".join([one.read for one in known])
        texts = await self._lane.submit_many(payload, len(known), False, self._timeout)
        for text in texts:
            if isinstance(text, Exception):
                raise text
        found: dict[str, Latest[Quote] | Latest[None]] = {}
        for one, text in zip(known, texts, strict=True):
            if text is None:
                found[one.name] = ABSENT
            else:
                self._read(one, text)
                found[one.name] = self._told(one.value, max_age)
        return found

    def _read(self, known: Instrument, text: bytes) -> None:
        if text != known.text:
            known.value = self._codec.decode(text, known.quote)
            known.text = text

    def _told(self, quote: Quote, max_age: float | None) -> Latest[Quote]:
        age = max(0.0, (self._clock() - quote.ts_event) / 1e9)
        return Latest(quote, age, "stale" if max_age is not None and age > max_age else "fresh")

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
        known = [self._instruments[name] for name in dict.fromkeys(instruments)]
        return await read_all(self._books, known, levels, max_age)

    async def quote_history(
        self, instrument: str, *, since: int = 0, page: int = 1000
    ) -> AsyncIterator[Quote]:
        """What is kept of an instrument's quotes, in the order in which they arrived.

        :param since: leave out what arrived before this moment, ns since 1970 UTC by the server's
            clock.
        :param page: read so many at once.
        """
        key = self._instruments[instrument].history
        at = f"{since // 1_000_000}-0"
        while True:
            entries = await self._client.execute_command("XRANGE", key, at, "+", "COUNT", page)
            for _, fields in entries or ():
                yield self._codec.decode(fields[b"r"], key)
            if not entries or len(entries) < page:
                return
            at = "(" + entries[-1][0].decode()
