"""Tables of other libraries hold what the records do, to the last digit. Skipped where a library is
not installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from redisutils.trading import InvalidValue
from redisutils.trading.errors import MissingLibrary
from redisutils.trading.market.bars import Bar, fill
from redisutils.trading.market.frames import to_arrow, to_pandas, to_polars
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.times import SECOND

from .trades import MINUTE, NOON, a_tape, bars_of, trade

ALL: dict[str, Callable[..., Any]] = {
    "pyarrow": to_arrow,
    "polars": to_polars,
    "pandas": to_pandas,
}

every_library = pytest.mark.parametrize("library", ALL)


def table(library: str, *records: Any) -> Any:
    pytest.importorskip(library)
    return ALL[library](*records)


def columns(frame: Any) -> list[str]:
    return list(getattr(frame, "column_names", None) or frame.columns)


def values(frame: Any, column: str) -> list[Any]:
    found = frame[column]
    return list((found.to_list if hasattr(found, "to_list") else found.to_pylist)())


def moments(library: str, frame: Any, column: str) -> list[Any]:
    """As ns, by each library's own means."""
    if library == "pyarrow":
        return list(frame[column].cast("int64").to_pylist())
    if library == "polars":
        return list(frame[column].to_physical().to_list())
    return [None if str(each) == "NaT" else each.value for each in frame[column]]


@every_library
def test_trades(library: str) -> None:
    trades = [*a_tape(300, side="sell"), trade(301, "-0.000000001", "1e9", at=NOON + 123456789)]
    frame = table(library, trades)
    assert columns(frame)[:6] == ["instrument", "price", "quantity", "ts_event", "ts_recv", "seq"]
    assert len(frame) == 301
    for name in ("instrument", "price", "quantity", "seq", "side", "trade_id"):
        assert values(frame, name) == [getattr(each, name) for each in trades]
    assert all(isinstance(each, Decimal) for each in values(frame, "price"))
    assert moments(library, frame, "ts_event") == [each.ts_event for each in trades]


@every_library
def test_bars(library: str) -> None:
    bars = bars_of([trade(1, "0.1", "0.3"), trade(2, "7", "3", at=NOON + 3 * MINUTE)], "1m")
    filled = list(fill(bars, NOON, NOON + 5 * MINUTE))
    frame = table(library, filled)
    for name in ("open", "high", "low", "close", "volume", "notional", "count", "doubtful"):
        assert values(frame, name) == [getattr(each, name) for each in filled]
    assert moments(library, frame, "start") == [each.start for each in filled]
    assert moments(library, frame, "first_ts") == [each.first[0] or None for each in filled]
    places = values(frame, "last_seq")
    assert [None if str(each) == "<NA>" else each for each in places] == [1, None, None, 2, None]


@every_library
def test_their_types(library: str) -> None:
    frame = table(library, a_tape(10))
    if library == "pyarrow":
        assert str(frame.schema.field("price").type) == "decimal128(38, 2)"
        assert str(frame.schema.field("ts_event").type) == "timestamp[ns, tz=UTC]"
    elif library == "polars":
        assert str(frame.schema["price"]) == "Decimal(precision=38, scale=2)"
        assert str(frame.schema["ts_event"]) == "Datetime(time_unit='ns', time_zone='UTC')"
    else:
        assert str(frame["price"].dtype) == "object"
        assert str(frame["ts_event"].dtype) == "datetime64[ns, UTC]"
        assert str(frame["seq"].dtype) == "int64"


@every_library
def test_long_numbers(library: str) -> None:
    long = "123456789012345678.123456789012345678"
    trades = [trade(1, long, long)]
    assert values(table(library, trades), "price") == [Decimal(long)]
    bars = bars_of(trades, "1m")  # of which the notional has 72 digits
    if library == "polars":
        with pytest.raises(InvalidValue, match=r"notional=7\d digits are more than the 38"):
            table(library, bars)
    else:
        assert values(table(library, bars), "notional") == [bars[0].notional]


@every_library
def test_none_at_all(library: str) -> None:
    frame = table(library, [], Bar)
    assert len(frame) == 0
    assert "first_seq" in columns(frame)
    with pytest.raises(InvalidValue, match="records=none, and kind=None must be of one class"):
        table(library, [])
    bust = TradeBust(
        instrument="ES", ts_event=NOON, ts_recv=NOON, seq=2, trade_seq=1, trade_ts=NOON
    )
    with pytest.raises(InvalidValue, match="records=Trade, TradeBust must be of one class"):
        table(library, [trade(1), bust])
    frame = table(library, [bust], TradeBust)
    assert moments(library, frame, "trade_ts") == [NOON]
    assert values(frame, "trade_seq") == [1]


@every_library
def test_what_is_missing_is_named(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingLibrary, match=f"{library}, which is not installed: pip install"):
        ALL[library]([trade(1, at=NOON + SECOND)])
    with pytest.raises(ImportError):
        ALL[library]([], Trade)
