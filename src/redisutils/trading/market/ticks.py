"""``Ticks``: an instrument's trades, the latest of them, and its bars."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from time import time_ns
from typing import Any, Self

from redisutils import RedisPool
from redisutils.topology.plan import ReadFrom
from redisutils.trading.codec import Encoding
from redisutils.trading.errors import InvalidValue, ServiceClosed
from redisutils.trading.market.appending import Appender
from redisutils.trading.market.bars import Bar, LatePolicy, fill, merge
from redisutils.trading.market.busts import Undoing
from redisutils.trading.market.history import MILLISECOND, PAGE, busted_in, forwards
from redisutils.trading.market.instruments import Instruments
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.latest import Latest
from redisutils.trading.market.newest import Newest
from redisutils.trading.market.tape_form import Retention, TapeForm, TapeKeys
from redisutils.trading.market.tape_state import Written, name_of
from redisutils.trading.market.trade import Trade, TradeBust, checked, checked_order
from redisutils.trading.names import checked_series, each_once
from redisutils.trading.pools import checked_pool
from redisutils.trading.scripts import Scripts, load
from redisutils.trading.times import checked_span

__all__ = ["Ticks"]

MAX_FILLED = 1_000_000
"""Bars of one answer that fills gaps."""

MAX_KNOWN = 10_000
"""Instruments whose keys and state are remembered: 5 kB each. Others are looked up again."""

_BARS = load("bars")


class Ticks:
    """The tapes of any number of instruments: ``md:{INST}:t`` and its neighbours.

    Each trade and bust has a place in its instrument's source (``seq``), and is in the tape once,
    however often it is written and by how many writers: what is at or below the place that has been
    reached is a duplicate. A source that is read again after a failure is best read from
    :meth:`reached`. Places have to grow; they need not be dense.

    History, latest trade, bars and the place reached change together, or not at all.

    :param pool: where all is kept.
    :param prefix: what all keys begin with.
    :param intervals: the intervals whose bars are kept, ``("1m", "1d+22h")``; see
        :class:`~redisutils.trading.market.intervals.Interval`. All who write to a tape have to
        say the same; longer bars that fit are made of them when they are read.
    :param late: ``"amend"``: a trade that comes after a later bar has begun changes its own all
        the same; ``"drop"``: it does not (and is in the history, which says so).
    :param retention: for how long things are kept.
    :param encoding: of records, ``"json"`` or ``"msgpack"``; one of a tape for ever.
    :param instruments: those that there are; others are refused. None: any.
    :param lane: by which of the pool's shared connections.
    :param read_from: where the latest trade is read; None for where the pool does. All else is read
        where it is written.
    :param clock: the present, ns since 1970 UTC.
    :raises InvalidValue: one of these cannot be meant.
    """

    def __init__(
        self,
        pool: RedisPool,
        *,
        prefix: str = "",
        intervals: Sequence[str | Interval] = ("1m",),
        late: LatePolicy = "amend",
        retention: Retention | None = None,
        encoding: Encoding = "json",
        instruments: Collection[str] | None = None,
        lane: str = "market",
        read_from: ReadFrom | None = None,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        pool = checked_pool(pool)
        self._form = TapeForm(prefix, intervals, late, retention or Retention(), encoding)
        self._client = pool.lane(lane, read_from="primary")
        self._scripts = Scripts(pool, lane)
        self._undoing = Undoing(self._client, self._scripts, self._form)
        self._instruments = Instruments(prefix, instruments)
        self._newest = Newest(
            pool,
            self._form.trades,
            lambda name: self._keys(name).latest,
            lane=lane,
            read_from=read_from,
            clock=clock,
        )
        self._clock = clock
        self._known: dict[str, TapeKeys] = {}
        self._appenders: dict[str, Appender] = {}
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        names = ", ".join(self._form.names)
        return (
            f"<Ticks {self._form.prefix}md:{{…}}:t, bars {names}, {len(self._appenders)} written>"
        )

    # -- writing -----------------------------------------------------------------------------

    async def write(self, events: Iterable[Trade | TradeBust]) -> Written:
        """Write trades and busts of any instruments, each instrument's in the order of ``seq``;
        what is repeated in it is a duplicate.

        Calls may overlap; those of one instrument take effect in the order in which they were
        made. Many trades in one call cost the least. Above 65,536 waiting trades of an
        instrument, callers wait. A call that is cancelled may still be carried out.

        :returns: what became of them.
        :raises InvalidValue: one of them cannot be meant; none of this call was written.
        :raises ServiceClosed: after :meth:`aclose`.
        :raises TapeMismatch: a tape is kept with other intervals, policy or encoding.
        :raises TradesMissing: an earlier call failed, and its trades have not been written again.
        :raises CommandTimeout, ConnectionLost, ConnectFailed: for one of the instruments it could
            not be done, or it is not known; calls behind it fail too. Write them again, all or
            from :meth:`reached`: what was done are duplicates.
        """
        if self._closed:
            raise ServiceClosed("the tapes are closed: make another MarketData or Ticks")
        groups: dict[str, list[Trade | TradeBust]] = {}
        now = self._clock()
        for event in checked_series("events", events):
            checked(event, now)
            group = groups.get(event.instrument)
            if group is None:
                self._keys(event.instrument)
                group = groups[event.instrument] = []
            group.append(event)
        for name, group in groups.items():
            checked_order(name, group)
        calls = [self._appender(name).append(group) for name, group in groups.items()]
        if len(calls) == 1:
            return await calls[0]
        results = await asyncio.gather(*calls, return_exceptions=True)
        written = Written()
        for result in results:
            if isinstance(result, BaseException):
                raise result
            written += result
        return written

    async def reached(self, instrument: str) -> int:
        """The place in the source up to which everything is in; -1 if nothing is."""
        place = await self._client.hget(self._keys(instrument).state, "s")
        return -1 if place is None else int(place)

    def forget(self, instrument: str) -> None:
        """Give up what :exc:`TradesMissing` asks for: go on with what comes next."""
        if instrument in self._appenders:
            self._appenders[instrument].forget()

    async def aclose(self) -> None:
        """Take nothing more to write, and wait until what was given is written, or has failed. The
        pool stays open, and reading goes on."""
        self._closed = True
        await asyncio.gather(*(each.drain() for each in self._appenders.values()))

    # -- the latest trade ----------------------------------------------------------------------

    async def latest(
        self, instrument: str, max_age: float | None = None
    ) -> Latest[Trade] | Latest[None]:
        """The latest trade by ``(ts_event, seq)``.

        :param max_age: seconds since ``ts_event`` after which it is called stale.
        :raises InvalidValue: ``max_age`` is not more than 0, or the instrument cannot be meant.
        :raises UnreadableRecord: what is there is not ours.
        """
        return await self._newest.one(instrument, max_age)

    async def latest_of(
        self, instruments: Iterable[str], max_age: float | None = None
    ) -> dict[str, Latest[Trade] | Latest[None]]:
        """The same of many, in one round trip (to each node of a cluster)."""
        return await self._newest.many(instruments, max_age)

    # -- history -------------------------------------------------------------------------------

    async def between(
        self,
        instrument: str,
        start: int = 0,
        end: int | None = None,
        *,
        busted: bool = False,
        page: int = PAGE,
    ) -> AsyncIterator[Trade]:
        """Trades that happened from ``start`` and before ``end``, in the order of their places in
        the source, late ones among them; read page by page.

        :param start: ns since 1970 UTC.
        :param end: None: up to now.
        :param busted: those too that were taken back.
        :param page: how many are read at a time, 1 to 10,000.
        """
        if type(page) is not int or not 1 <= page <= 10_000:
            raise InvalidValue(f"page={page!r} must be an int from 1 to 10000")
        checked_span(start, end)
        keys = self._keys(instrument)
        last = "+"
        if end is not None:
            slack = int(await self._client.hget(keys.state, "l") or 0)
            last = str(max(0, (end - 1) // MILLISECOND + slack))
        first = str(max(0, start // MILLISECOND))
        gone: frozenset[int] = frozenset()
        read = 0
        async for _, trade in forwards(self._client, self._form, keys, first, last, page):
            if not busted and read % page == 0:
                gone = await busted_in(self._client, keys)
            read += 1
            inside = start <= trade.ts_event and (end is None or trade.ts_event < end)
            if inside and trade.seq not in gone:
                yield trade

    async def busts(self, instrument: str) -> list[TradeBust]:
        """What was taken back of that which history has, in the order of the source."""
        keys = self._keys(instrument)
        found: list[Any] = await self._client.hvals(keys.busts)
        busts = [self._form.busts.decode(record, keys.busts) for record in found]
        return sorted(busts, key=lambda bust: bust.seq)

    # -- bars ----------------------------------------------------------------------------------

    async def bars(
        self,
        instrument: str,
        interval: str | Interval,
        start: int = 0,
        end: int | None = None,
        *,
        filled: bool = False,
    ) -> list[Bar]:
        """Bars that begin from ``start`` and before ``end``, by time. Where nothing was traded,
        there is none.

        :param interval: one that is kept, or of which each bar consists of whole ones that are.
        :param start: ns since 1970 UTC.
        :param end: None: up to the newest.
        :param filled: with bars of count 0 at the last close where nothing was traded.
        :raises InvalidValue: bars of this interval are not kept, nor can be made of those that
            are; or ``filled`` would make more than 1,000,000 bars.
        """
        interval = Interval.of(interval)
        checked_span(start, end)
        if end is not None and end <= start:
            return []
        # Whole bars alone: the first begins at or after start, the last before end.
        start = interval.start(start + interval.length - 1)
        if end is not None:
            end = interval.start(end + interval.length - 1)
        found = await self._read(instrument, interval, start, end)
        if not filled:
            return found
        before = await self._before(instrument, interval, start)
        if end is None:
            end = found[-1].start + interval.length if found else start
        if (end - (found[0].start if before is None and found else start)) > (
            MAX_FILLED * interval.length
        ):
            raise InvalidValue(
                f"start={start} to end={end} has more than {MAX_FILLED} bars of {interval}, with "
                "the gaps filled: ask for less at a time"
            )
        return list(fill(found, start, end, before))

    async def bars_of(
        self,
        instruments: Iterable[str],
        interval: str | Interval,
        start: int = 0,
        end: int | None = None,
        *,
        filled: bool = False,
    ) -> dict[str, list[Bar]]:
        """The same of many; of up to 1000 bars each in one round trip."""
        names = each_once("instruments", instruments)
        found = await asyncio.gather(
            *(self.bars(name, interval, start, end, filled=filled) for name in names)
        )
        return dict(zip(names, found, strict=True))

    async def newest_bars(
        self, instruments: Iterable[str], interval: str | Interval, count: int = 1
    ) -> dict[str, list[Bar]]:
        """The newest bars of many instruments, by time, the last of which may still change; in one
        round trip.

        :param interval: one that is kept.
        :param count: how many of each, 1 to 1000.
        """
        if type(count) is not int or not 1 <= count <= PAGE:
            raise InvalidValue(f"count={count!r} must be an int from 1 to {PAGE}")
        interval = Interval.of(interval)
        names = each_once("instruments", instruments)
        found = await asyncio.gather(
            *(self._page(name, interval, "<", "+", "-", count) for name in names)
        )
        return {name: bars[::-1] for name, (_, bars) in zip(names, found, strict=True)}

    async def _read(
        self, instrument: str, interval: Interval, start: int, end: int | None
    ) -> list[Bar]:
        kept = self._finest_for(interval)
        first = f"[{name_of(max(0, start))}"
        last = "+" if end is None else f"({name_of(max(0, end))}"
        found: list[Bar] = []
        while True:
            gone, page = await self._page(instrument, kept, ">", first, last, PAGE)
            found += page
            if len(page) < PAGE:
                break
            first = f"({name_of(page[-1].start)}"
        if kept == interval:
            return found
        # Of a bar that begins before what has gone, a part may have.
        return [bar for bar in merge(found, interval) if bar.start >= gone]

    async def _before(self, instrument: str, interval: Interval, start: int) -> Bar | None:
        """The last bar that begins before ``start``; of it, the close."""
        kept = self._finest_for(interval)
        _, found = await self._page(instrument, kept, "<", f"({name_of(max(0, start))}", "-", 1)
        return next(merge(found, interval), None) if kept != interval else next(iter(found), None)

    async def _page(
        self, instrument: str, kept: Interval, way: str, first: str, last: str, count: int
    ) -> tuple[int, list[Bar]]:
        """Bars of an interval that is kept, and the moment before which some have gone."""
        if kept not in self._form.intervals:
            raise InvalidValue(
                f"interval={kept} is none of {', '.join(self._form.names)}, which are kept"
            )
        keys = self._keys(instrument)
        starts, bars = keys.bars[self._form.intervals.index(kept)]
        gone, records = await self._scripts.run(
            _BARS, (keys.state, starts, bars), (way, first, last, count)
        )
        return int(gone or 0), [self._form.bars.decode(record, bars) for record in records]

    def _finest_for(self, interval: Interval) -> Interval:
        """Of the intervals that are kept, that of which to make these bars."""
        fitting = [each for each in self._form.intervals if interval.consists_of(each)]
        if not fitting:
            raise InvalidValue(
                f"interval={interval} is neither one of {', '.join(self._form.names)}, which are "
                "kept, nor made of whole ones of them: add it to intervals="
            )
        return max(fitting, key=lambda each: each.length)

    # -- names ---------------------------------------------------------------------------------

    def _keys(self, instrument: str) -> TapeKeys:
        keys = self._known.get(instrument)
        if keys is None:
            self._instruments.check(instrument)
            if len(self._known) >= MAX_KNOWN:
                self._known.clear()
            keys = self._known[instrument] = self._form.keys(instrument)
        return keys

    def _appender(self, instrument: str) -> Appender:
        appender = self._appenders.get(instrument)
        if appender is None:
            if len(self._appenders) >= MAX_KNOWN:
                self._appenders = {
                    name: each for name, each in self._appenders.items() if not each.idle
                }
            appender = self._appenders[instrument] = Appender(
                instrument, self._keys(instrument), self._scripts, self._undoing, self._form
            )
        return appender
