"""What the trading services let in: numbers, names, moments; and records as bytes."""

from __future__ import annotations

from decimal import Decimal, Inexact
from time import time_ns
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisutils.trading import InvalidValue, UnreadableRecord
from redisutils.trading.codec import Codec, Encoding, Part, Record
from redisutils.trading.money import ARITHMETIC, number, positive_number, size_number
from redisutils.trading.names import checked_name, checked_prefix
from redisutils.trading.times import SECOND, moment

# -- numbers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("50000.10"), "50000.10"),
        ("0.00000001", "1E-8"),
        ("1e3", "1E+3"),
        (-3, "-3"),
        (Decimal("-0"), "0"),
        ("123456789012345678.123456789012345678", "123456789012345678.123456789012345678"),
    ],
)
def test_numbers_stay_as_they_are_written(value: object, text: str) -> None:
    assert str(number("price", value)) == text


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (1.1, 'is a float, which is rounded already: give Decimal or str, Decimal("1.1")'),
        (Decimal("NaN"), "must be a finite number"),
        (Decimal("-Infinity"), "must be a finite number"),
        ("nan", "a string of digits"),
        ("1_000", "a string of digits"),
        (" 1", "a string of digits"),
        ("1\n", "a string of digits"),
        ("١", "a string of digits"),
        ("", "a string of digits"),
        (True, "must be a Decimal"),
        (None, "must be a Decimal"),
        (b"1", "must be a Decimal"),
        ("1e18", "at most 18 digits before the point"),
        (Decimal("1e-36"), "36 in all"),
        ("0." + "1" * 37, "36 in all"),
        ("1234567890123456789", "at most 18 digits before the point"),
        ("1e99", "at most 18 digits before the point"),
    ],
)
def test_what_is_no_number_says_so(value: object, hint: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        number("price", value)
    assert str(caught.value).startswith("price=")
    assert hint in str(caught.value)


def test_signs() -> None:
    assert size_number("size", 0) == 0
    with pytest.raises(InvalidValue, match="size=-1 must not be negative"):
        size_number("size", -1)
    with pytest.raises(InvalidValue, match="quantity=0 must be more than 0"):
        positive_number("quantity", "0")


in_bounds = st.decimals(
    min_value=-(10**18) + 1, max_value=10**18 - 1, allow_nan=False, allow_infinity=False, places=18
)


@given(st.lists(st.tuples(in_bounds, in_bounds), max_size=50))
def test_sums_of_products_are_exact_or_raise(pairs: list[tuple[Decimal, Decimal]]) -> None:
    total = Decimal(0)
    for quantity, price in pairs:
        product = ARITHMETIC.multiply(number("q", quantity), number("p", price))
        total = ARITHMETIC.add(total, product)
    scale = 10**36
    assert int(ARITHMETIC.multiply(total, Decimal(scale))) == sum(
        int(q.scaleb(18, ARITHMETIC)) * int(p.scaleb(18, ARITHMETIC)) for q, p in pairs
    )
    with pytest.raises(Inexact):
        ARITHMETIC.divide(Decimal(1), Decimal(3))


# -- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "symbol", ["BTC/USD", "ESZ6", "BRK.B", "^GSPC", "BINANCE:BTCUSDT", "EUR=", "a" * 64, "-"]
)
def test_symbols_as_venues_write_them(symbol: str) -> None:
    assert checked_name("instrument", symbol) == symbol


@pytest.mark.parametrize(
    "symbol",
    [
        "",
        "BTC USD",
        "{BTC}",
        "BTC}",
        "a" * 65,
        "BTC\n",
        "B*",
        "[a]",
        "a?",
        "a\\b",
        "é",
        'a"',
        7,
        b"A",
    ],
)
def test_what_would_spoil_a_key_is_no_symbol(symbol: object) -> None:
    with pytest.raises(InvalidValue, match=r"^instrument="):
        checked_name("instrument", symbol)


def test_prefixes() -> None:
    assert checked_prefix("") == ""
    assert checked_prefix("paper:desk-1/") == "paper:desk-1/"
    for wrong in ("{a}", "a b", "x" * 65, None):
        with pytest.raises(InvalidValue, match=r"^prefix="):
            checked_prefix(wrong)


# -- moments -----------------------------------------------------------------------------------


def test_moments_are_nanoseconds_of_now_or_before() -> None:
    now = time_ns()
    assert moment("ts_event", now) == now
    assert moment("ts_event", now + 4 * SECOND, now) == now + 4 * SECOND
    with pytest.raises(InvalidValue, match=r"6\.000 s in the future"):
        moment("ts_event", now + 6 * SECOND, now)
    for other_unit in (now // 1000, now // 1_000_000, now // SECOND, 0, -1):
        with pytest.raises(InvalidValue, match="in another unit"):
            moment("ts_event", other_unit)
    for no_int in (1.7e18, "1", True, None):
        with pytest.raises(InvalidValue, match="must be an int: nanoseconds"):
            moment("ts_event", no_int)


# -- records -----------------------------------------------------------------------------------


class Fill(Record, frozen=True, kw_only=True):
    """An example."""

    price: Decimal
    note: str = ""


class NewerFill(Record, frozen=True, kw_only=True):
    """The same kind, as a later version has it."""

    v: int = msgspec.field(default_factory=(2).__int__)
    price: Decimal
    note: str = ""
    venue: str
    parts: dict[str, Any]


both = pytest.mark.parametrize("encoding", ["json", "msgpack"])


@both
def test_records_survive_their_way(encoding: Encoding) -> None:
    codec = Codec(Fill, encoding)
    for price in ("50000.10", "1E-8", "0", "-7"):
        fill = Fill(price=Decimal(price), note="é")
        assert codec.decode(codec.encode(fill)) == fill
        assert str(codec.decode(codec.encode(fill)).price) == price


def test_json_is_for_everybody() -> None:
    assert Codec(Fill).encode(Fill(price=Decimal("1.50"))) == b'{"v":1,"price":"1.50"}'


@both
def test_what_a_newer_version_wrote_is_kept(encoding: Encoding) -> None:
    newer = NewerFill(price=Decimal(1), venue="X", parts={"a": [1.50, 2**60, None]})
    codec, newer_codec = Codec(Fill, encoding), Codec(NewerFill, encoding)
    read = codec.decode(newer_codec.encode(newer))
    assert read.v == 2
    changed = msgspec.structs.replace(read, note="changed here")
    again = newer_codec.decode(codec.encode(changed))
    assert again == msgspec.structs.replace(newer, note="changed here")
    # What this version has taken back to its default is not what the newer one wrote.
    assert newer_codec.decode(codec.encode(read)).note == ""


class Deeper(Part, frozen=True, kw_only=True):
    """A part of a part."""

    qty: Decimal


class Leg(Part, frozen=True, kw_only=True):
    """A part of an example."""

    qty: Decimal
    deeper: Deeper | None = None


class Legs(Record, frozen=True, kw_only=True):
    """An example with parts."""

    first: Leg
    second: Leg | None = None
    more: tuple[Leg, ...] = ()
    note: str = ""


@both
def test_what_a_newer_version_wrote_in_parts_is_kept(encoding: Encoding) -> None:
    codec = Codec(Legs, encoding)
    text = msgspec.json if encoding == "json" else msgspec.msgpack
    newer = {
        "v": 2,
        "first": {"qty": "1", "venue": "X"},
        "second": {"qty": "2", "deeper": {"qty": "3", "odd": [1, None]}},
        "more": [{"qty": "4"}, {"qty": "5", "parts": {"a": 2**60}}],
        "unknown": {"first": {"qty": 5}},
    }
    read = codec.decode(text.encode(newer))
    assert (read.first.qty, read.more[1].qty) == (Decimal(1), Decimal(5))
    assert read.second is not None
    assert read.second.deeper is not None
    assert read.second.deeper.qty == 3
    assert text.decode(codec.encode(read)) == newer
    # They go where their part goes, and nowhere else.
    moved = msgspec.structs.replace(read, more=read.more[1:], note="changed", second=None)
    assert text.decode(codec.encode(moved)) == {
        **{name: value for name, value in newer.items() if name != "second"},
        "more": [newer["more"][1]],  # type: ignore[index]  # a list
        "note": "changed",
    }
    plain = {"v": 1, "first": {"qty": "1"}, "second": None, "unknown": 1}
    assert codec.decode(text.encode(plain)).second is None
    wrong: Any
    for wrong in ({"first": {"venue": "X"}}, {"first": []}, {"first": {"qty": "1"}, "more": {}}):
        with pytest.raises(UnreadableRecord, match="of ours under k: "):
            codec.decode(text.encode(wrong), "k")


@both
@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{}", b'{"price":[]}', b"\xff\x00", b'{"price":"x"}']
)
def test_what_is_no_record_says_where_it_is(text: bytes, encoding: Encoding) -> None:
    with pytest.raises(UnreadableRecord, match="no Fill of ours under md:q: "):
        Codec(Fill, encoding).decode(text, "md:q")


def test_an_unknown_encoding() -> None:
    with pytest.raises(InvalidValue, match="encoding='pickle' must be one of json, msgpack"):
        Codec(Fill, "pickle")  # type: ignore[arg-type]  # it is what is refused
