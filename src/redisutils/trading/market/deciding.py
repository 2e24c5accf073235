"""Decides what trades change in a tape. Pure: no I/O, no clock."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from redisutils.trading.market.bars import notional_of
from redisutils.trading.market.history import MILLISECOND
from redisutils.trading.market.tape_form import TapeForm
from redisutils.trading.market.tape_state import Change, State, Written, name_of, order_key
from redisutils.trading.market.trade import Trade

__all__ = ["Decision", "decide", "wanted_bars"]


class Decision:
    """What is to be written in one step, and what then has become of each list of trades."""

    __slots__ = ("change", "results")

    def __init__(self, change: Change | None, results: list[Written]) -> None:
        self.change = change
        """None when there is no news."""
        self.results = results


def decide(
    lists: Sequence[list[Trade]], state: State, form: TapeForm
) -> Decision | list[list[int]]:
    """Take trades into ``state``, and say what that changes on the server.

    :param lists: of one instrument, none empty.
    :returns: if bars have to be known of which nothing is, instead their beginnings, by interval;
        ``state`` is then as it was.
    """
    news = _news_of(lists, state.seq)
    moments = [trade.ts_event for some in news for trade in some]
    if not moments:
        return Decision(None, [Written(duplicates=len(trades)) for trades in lists])
    wanted = [series.missing(moments) for series in state.series]
    if any(wanted):
        return wanted
    change = Change(len(state.series))
    late = [_add(some, state, change, form) for some in news]
    if change.latest[1]:
        change.latest = order_key(state.latest), change.latest[1]
    encode, instrument = form.bars.encode, lists[0][0].instrument
    for series, words in zip(state.series, change.bars, strict=True):
        for bar in series.take_changed(instrument):
            words.extend((name_of(bar.start), encode(bar)))
    return Decision(
        change,
        [
            Written(written=len(some), duplicates=len(trades) - len(some), late=came_late)
            for trades, some, came_late in zip(lists, news, late, strict=True)
        ],
    )


def wanted_bars(lists: Sequence[list[Trade]], state: State) -> list[list[int]]:
    """The beginnings of bars that have to be known before trades are taken in, by interval."""
    moments = [trade.ts_event for some in _news_of(lists, state.seq) for trade in some]
    return [series.missing(moments) if moments else [] for series in state.series]


def _news_of(lists: Sequence[list[Trade]], reached: int) -> list[list[Trade]]:
    """Of each list, what is not in yet; what does not come in order is no news."""
    every = []
    for trades in lists:
        news = []
        for trade in trades:
            if trade.seq > reached:
                reached = trade.seq
                news.append(trade)
        every.append(news)
    return every


def _add(trades: list[Trade], state: State, change: Change, form: TapeForm) -> int:
    """Count them, but for the bars' records and the latest trade's key; how many came late."""
    encode, words, every = form.trades.encode, change.trades, state.series
    drop = form.late == "drop"
    top, slack, late = state.top, state.slack, 0
    for trade in trades:
        moment, seq = trade.ts_event, trade.seq
        key = moment, seq
        price, quantity, notional = trade.price, trade.quantity, notional_of(trade)
        written = trade
        missed: tuple[str, ...] = ()
        for series in every:
            if not series.add(key, price, quantity, notional):
                missed = (*missed, series.interval.name)
        if missed:
            late += 1
            if drop:
                written = replace(trade, left_out=missed)
        time = moment // MILLISECOND
        if time > top:
            top = time
        elif top - time > slack:
            slack = top - time
        record = encode(written)
        words.append(f"{top}-{seq}")
        words.append(record)
        if key > state.latest:
            state.latest = key
            change.latest = "", record
    if trades:
        state.top, state.slack, state.seq = top, slack, trades[-1].seq
    return late
