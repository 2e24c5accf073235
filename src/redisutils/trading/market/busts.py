"""What is left when a venue takes a trade back.

Sums lose it exactly. Of the edges of a bar (open, high, low, close) only the other trades know what
they are without it: they are read again from the history, as is the latest trade if it was that
one. History keeps the trade, and beside it that it was busted.
"""

from __future__ import annotations

from msgspec.structs import replace

from redisutils import Redis
from redisutils.trading.market.bars import Bar, Building, Series, notional_of
from redisutils.trading.market.history import MILLISECOND, backwards, busted_in, forwards
from redisutils.trading.market.tape_form import TapeForm, TapeKeys
from redisutils.trading.market.tape_state import (
    Change,
    State,
    load_state,
    name_of,
    order_key,
)
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.scripts import Scripts

__all__ = ["Undoing"]


class Undoing:
    """Decides what a bust changes.

    :param client: reads.
    :param scripts: read, too.
    :param form: how tapes are kept.
    """

    def __init__(self, client: Redis, scripts: Scripts, form: TapeForm) -> None:
        self._client = client
        self._scripts = scripts
        self._form = form

    async def decide(self, bust: TradeBust, state: State, keys: TapeKeys) -> Change:
        """What a bust changes; no bust is in it if no trade was found.

        All this is read after ``state`` was. If anything is written meanwhile, the state is
        another, and what is decided here is not written.
        """
        change = Change(len(state.series))
        busted = await busted_in(self._client, keys)
        trade = await self._find(bust, state, keys)
        if trade is None or trade.seq in busted:
            return change
        gone = busted | {trade.seq}
        change.busts = [bust.trade_seq, self._form.busts.encode(bust)]
        for place in busted - await self._kept(busted, keys):
            change.busts += (place, b"")
        starts = [
            []
            if series.interval.name in trade.left_out
            else [series.interval.start(trade.ts_event)]
            for series in state.series
        ]
        known = await load_state(self._scripts, self._form, keys, starts)
        for series, wanted, words in zip(known.series, starts, change.bars, strict=True):
            for start in wanted:
                bar = series.known(start, trade.instrument)
                if bar is not None:
                    left = await self._without(trade, bar, series, state, keys, gone)
                    record = self._form.bars.encode(left) if left else b""
                    words.extend((name_of(start), record))
        if (trade.ts_event, trade.seq) == state.latest:
            change.latest = await self._latest(state, keys, gone)
        return change

    async def _find(self, bust: TradeBust, state: State, keys: TapeKeys) -> Trade | None:
        time, place = bust.trade_ts // MILLISECOND, bust.trade_seq
        # Places grow along the history, so the one sought is the first, unless it came late.
        first, last = f"{time}-{place}", f"{time + state.slack}-{place}"
        async for _, trade in forwards(self._client, self._form, keys, first, last):
            if trade.seq >= place:
                return trade if (trade.seq, trade.ts_event) == (place, bust.trade_ts) else None
        return None

    async def _kept(self, busted: frozenset[int], keys: TapeKeys) -> set[int]:
        """Those that come after the oldest trade in the history."""
        if not busted:
            return set()
        async for _, oldest in forwards(self._client, self._form, keys, page=1):
            return {place for place in busted if place >= oldest.seq}
        return set()

    async def _without(
        self,
        trade: Trade,
        bar: Bar,
        series: Series,
        state: State,
        keys: TapeKeys,
        gone: frozenset[int],
    ) -> Bar | None:
        """What a bar is without a trade of its own."""
        interval = series.interval
        building = Building.of(bar)
        exact = building.take_back(trade)
        if not building.count:
            return None
        if not exact:
            end = bar.start + interval.length
            first = str(bar.start // MILLISECOND)
            last = str((end - 1) // MILLISECOND + state.slack)
            anew = Series(interval, "amend")
            async for _, each in forwards(self._client, self._form, keys, first, last):
                if (
                    bar.start <= each.ts_event < end
                    and each.seq not in gone
                    and interval.name not in each.left_out
                ):
                    key = each.ts_event, each.seq
                    anew.add(key, each.price, each.quantity, notional_of(each))
            for whole in anew.take_changed(trade.instrument):
                if whole.count == building.count:
                    return replace(whole, v=bar.v, extra=bar.extra)
            building.doubtful = True
        return building.bar(trade.instrument, interval.name)

    async def _latest(
        self, state: State, keys: TapeKeys, gone: frozenset[int]
    ) -> tuple[str, bytes]:
        """The latest of the other trades."""
        best: Trade | None = None
        async for time, trade in backwards(self._client, self._form, keys):
            if best and time < best.ts_event // MILLISECOND:
                break  # no time of an id is before its trade's
            key = trade.ts_event, trade.seq
            if trade.seq not in gone and (best is None or key > (best.ts_event, best.seq)):
                best = trade
        if best is None:
            return "-", b""
        return order_key((best.ts_event, best.seq)), self._form.trades.encode(best)
