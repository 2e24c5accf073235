"""Bars are what Decimal arithmetic over their trades says, in whatever order these arrive."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from itertools import groupby
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisutils.trading import InvalidValue
from redisutils.trading.market.bars import (
    Bar,
    Building,
    LatePolicy,
    Series,
    bar_of,
    fill,
    merge,
    notional_of,
)
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.trade import Trade, TradeBust, checked
from redisutils.trading.times import SECOND

from .trades import NOON, trade


def bars_by_hand(trades: Iterable[Trade], interval: Interval) -> list[dict[str, Any]]:
    """The obvious way, with none of our arithmetic: integers of 10**-12."""
    ordered = sorted(trades, key=lambda trade: (trade.ts_event, trade.seq))
    bars = []
    for start, group in groupby(
        ordered,
        lambda trade: (
            (trade.ts_event - interval.offset) // interval.length * interval.length
            + interval.offset
        ),
    ):
        inside = list(group)
        prices = [trade.price for trade in inside]
        bars.append(
            {
                "start": start,
                "open": prices[0],
                "high": max(prices),
                "low": min(prices),
                "close": prices[-1],
                "count": len(inside),
                "volume": sum(units(trade.quantity) for trade in inside),
                "notional": sum(units(trade.quantity) * units(trade.price) for trade in inside),
            }
        )
    return bars


def units(value: Decimal) -> int:
    whole = Fraction(value) * 10**12
    assert whole.denominator == 1
    return int(whole)


def plain(bar: Bar) -> dict[str, Any]:
    """A bar of ours, as :func:`bars_by_hand` has them."""
    fields = ("start", "open", "high", "low", "close", "count")
    return {name: getattr(bar, name) for name in fields} | {
        "volume": units(bar.volume),
        "notional": Fraction(bar.notional) * 10**24,
    }


def reduced(trades: list[Trade], interval: Interval, late: LatePolicy, size: int) -> list[Bar]:
    """As a service would: in batches, between which bars are somewhere else."""
    store: dict[int, Bar] = {}
    newest: Bar | None = None
    for begin in range(0, len(trades), size):
        series = Series(interval, late, newest)
        batch = trades[begin : begin + size]
        for start in series.missing([each.ts_event for each in batch]):
            series.know(start, store.get(start))
        for each in batch:
            key = each.ts_event, each.seq
            series.add(key, each.price, each.quantity, notional_of(each))
        store.update((bar.start, bar) for bar in series.take_changed("ES"))
        newest = store[max(store)]
    return [store[start] for start in sorted(store)]


numbers = st.decimals(-(10**6), 10**6, places=12)
sizes = st.decimals(Decimal("1e-12"), 10**6, places=12)
tapes = st.lists(
    st.tuples(numbers, sizes, st.integers(0, 300 * SECOND)), min_size=1, max_size=60
).map(
    lambda rows: [
        Trade(instrument="ES", price=p, quantity=q, ts_event=NOON + at, ts_recv=NOON, seq=seq)
        for seq, (p, q, at) in enumerate(rows)
    ]
)
intervals = st.sampled_from(["1ns", "777ms", "5s", "1m", "1m+13s", "1d+22h", "7d+4d"]).map(
    Interval.of
)


@given(tapes, intervals, st.integers(1, 20))
def test_bars_are_those_of_the_obvious_way(
    trades: list[Trade], interval: Interval, size: int
) -> None:
    bars = reduced(trades, interval, "amend", size)
    assert [plain(bar) for bar in bars] == bars_by_hand(trades, interval)
    for bar in bars:
        inside = [each for each in trades if interval.start(each.ts_event) == bar.start]
        assert bar == bar_of(reversed(inside), interval)
        assert bar.first == min((each.ts_event, each.seq) for each in inside)
        assert bar.last == max((each.ts_event, each.seq) for each in inside)


@given(tapes, intervals, st.integers(1, 20))
def test_late_trades_are_dropped_on_request(
    trades: list[Trade], interval: Interval, size: int
) -> None:
    kept, newest = [], 0
    for each in trades:
        newest = max(newest, interval.start(each.ts_event))
        if interval.start(each.ts_event) == newest:
            kept.append(each)
    bars = reduced(trades, interval, "drop", size)
    assert [plain(bar) for bar in bars] == bars_by_hand(kept, interval)


def test_a_dropped_trade_is_told() -> None:
    series = Series(Interval.of("1m"), "drop")
    minute = 60 * SECOND

    def add(seq: int, at: int) -> bool:
        return series.add((at, seq), Decimal(1), Decimal(1), Decimal(1))

    assert add(1, NOON)
    assert add(2, NOON + minute)
    assert not add(3, NOON + minute - 1)
    assert add(4, NOON + minute)  # earlier than nothing: the same bar
    assert [bar.count for bar in series.take_changed("ES")] == [1, 2]


@given(tapes, st.sampled_from([("1s", "5s"), ("1m", "1d+22h"), ("1m+13s", "5m+73s")]))
def test_longer_bars_out_of_shorter_ones(trades: list[Trade], names: tuple[str, str]) -> None:
    short, long = map(Interval.of, names)
    merged = list(merge(reduced(trades, short, "amend", 7), long))
    assert merged == reduced(trades, long, "amend", 7)


def test_what_does_not_fit_is_not_merged() -> None:
    bar = bar_of([trade(1)], Interval.of("2m"))
    assert bar is not None
    for wrong in ("5m", "4m+1m", "1m"):
        with pytest.raises(InvalidValue, match=r"cannot be made of bars of 2m"):
            list(merge([bar], wrong))


@given(tapes, st.data())
def test_busts_are_undone_or_are_at_an_edge(trades: list[Trade], data: st.DataObject) -> None:
    interval = Interval.of("366d")
    gone = data.draw(st.sampled_from(trades))
    rest = bar_of((each for each in trades if each is not gone), interval)
    whole = bar_of(trades, interval)
    assert whole is not None
    building = Building.of(whole)
    exact = building.take_back(gone)
    left = building.bar("ES", interval.name)
    if rest is None:
        assert not exact
        assert left.count == 0
        assert left.volume == left.notional == 0
    else:
        assert (left.volume, left.notional) == (rest.volume, rest.notional)
        assert left.count == rest.count
        if exact:
            assert left == rest


@given(tapes, intervals)
def test_no_gaps_when_filled(trades: list[Trade], interval: Interval) -> None:
    if interval.length < SECOND:
        return
    bars = reduced(trades, interval, "amend", 100)
    start, end = bars[0].start - 2 * interval.length, bars[-1].start + 3 * interval.length
    filled = list(fill(bars, start, end))
    assert [bar.start for bar in filled] == list(range(bars[0].start, end, interval.length))
    assert [bar for bar in filled if bar.count] == bars
    close = None
    for bar in filled:
        if not bar.count:
            assert bar.open == bar.high == bar.low == bar.close == close
            assert bar.volume == bar.notional == 0
            assert bar.vwap is None
        close = bar.close
    # In two parts, it is the same.
    middle = bars[0].start + interval.length + 1
    early = [bar for bar in bars if bar.start < middle]
    later = [bar for bar in bars if bar.start >= middle]
    halves = [*fill(early, start, middle), *fill(later, middle, end, early[-1])]
    assert halves == filled
    assert list(merge(filled, interval)) == bars


def test_the_average_price() -> None:
    bar = bar_of([trade(1, "100", "1"), trade(2, "101", "2")], Interval.of("1m"))
    assert bar is not None
    assert bar.notional == 302
    assert bar.vwap == Decimal("100.666666666666666666666666666666667")


# -- intervals ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "canonical", "length", "offset"),
    [
        ("1m", "1m", 60 * SECOND, 0),
        ("60s", "1m", 60 * SECOND, 0),
        ("90s", "90s", 90 * SECOND, 0),
        ("250ms", "250ms", SECOND // 4, 0),
        ("24h", "1d", 86_400 * SECOND, 0),
        ("1d+22h", "1d+22h", 86_400 * SECOND, 79_200 * SECOND),
        ("1h+0s", "1h", 3600 * SECOND, 0),
        ("3ns", "3ns", 3, 0),
    ],
)
def test_names_of_intervals(name: str, canonical: str, length: int, offset: int) -> None:
    interval = Interval.of(name)
    assert (interval.length, interval.offset) == (length, offset)
    assert str(interval) == canonical
    assert Interval.of(canonical) == interval == Interval(length, offset)


@pytest.mark.parametrize(
    "name", ["", "m", "1", "0m", "-1m", "1.5m", "1w", "1 m", "1m+1m", "1m+61s", "367d", 60, None]
)
def test_what_is_no_interval(name: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^(interval|length|offset)="):
        Interval.of(name)


def test_weeks_begin_on_mondays_when_asked() -> None:
    monday = Interval.of("7d+4d").start(NOON)  # 2023-11-14 is a Tuesday
    assert monday == NOON - 36 * 3600 * SECOND


# -- what the tape takes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("instrument", "E S", "no blanks, no braces"),
        ("instrument", "{ES}", "no blanks, no braces"),
        ("price", 1.5, "is a float"),
        ("price", Decimal("NaN"), "finite"),
        ("price", "1.5", "must be Decimals"),
        ("quantity", Decimal(0), "more than 0"),
        ("quantity", Decimal(-1), "more than 0"),
        ("quantity", 2, "must be Decimals"),
        ("ts_event", NOON // 1000, "in another unit"),
        ("ts_event", NOON + 6 * SECOND, "in the future"),
        ("ts_recv", float(NOON), "must be an int"),
        ("seq", -1, "from 0 to"),
        ("seq", 2**63, "from 0 to"),
        ("seq", True, "from 0 to"),
        ("side", "BUY", "'buy', 'sell' or ''"),
        ("left_out", ("1m",), "for the tape to say"),
    ],
)
def test_what_no_venue_can_mean(field: str, value: object, hint: str) -> None:
    with pytest.raises(InvalidValue, match=hint) as caught:
        checked(msgspec.structs.replace(trade(1), **{field: value}), NOON)
    assert field in str(caught.value)


def test_a_bust_is_of_an_earlier_trade() -> None:
    bust = TradeBust(
        instrument="ES", ts_event=NOON, ts_recv=NOON, seq=7, trade_seq=6, trade_ts=NOON
    )
    checked(bust, NOON)
    with pytest.raises(InvalidValue, match="trade_seq=7 must be below seq=7"):
        checked(msgspec.structs.replace(bust, trade_seq=7), NOON)
