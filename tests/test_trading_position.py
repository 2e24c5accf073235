"""Positions: average cost and first in, first out, exact whatever comes."""

from __future__ import annotations

from decimal import Decimal, localcontext
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import ARITHMETIC
from redisutils.trading.portfolio.position import (
    MAX_LOTS,
    adjusted,
    charged,
    closed_by,
    traded,
    undone,
)
from redisutils.trading.portfolio.records import Adjustment, Lot, Method, Position

NOW = 1_700_000_000_000_000_000
METHODS: tuple[Method, ...] = ("average", "fifo")
both = pytest.mark.parametrize("method", METHODS)


def after(*trades: tuple[str, str], **fields: Any) -> Position:
    position = Position(instrument="ABC", currency="USD", **fields)
    for quantity, price in trades:
        position = traded(position, Decimal(quantity), Decimal(price))
        check(position)
    return position


def check(position: Position) -> None:
    """What always holds."""
    assert position.cash + position.cost == position.realised
    if not position.qty:
        assert (position.cost, position.lots) == (Decimal(0), ())
    if position.method == "fifo":
        assert sum(lot.qty for lot in position.lots) == position.qty
        assert sum(lot.cost for lot in position.lots) == position.cost
        assert len(position.lots) <= MAX_LOTS


def figures(position: Position) -> tuple[str, str, str]:
    return str(position.qty), str(position.cost), str(position.realised)


def test_average_cost() -> None:
    assert figures(after(("10", "100"), ("10", "110"))) == ("20", "2100", "0")
    assert figures(after(("10", "100"), ("10", "110"), ("-5", "120"))) == ("15", "1575", "75")


def test_first_in_first_out() -> None:
    trades = (("10", "100"), ("10", "110"), ("-15", "120"))
    position = after(*trades, method="fifo")
    assert figures(position) == ("5", "550", "250")
    assert position.lots == (Lot(Decimal(5), Decimal(550)),)


@both
def test_shorts_and_flips(method: Method) -> None:
    short = after(("-10", "100"), ("4", "90"), method=method)
    assert figures(short) == ("-6", "-600", "40")
    long = after(("-10", "100"), ("4", "90"), ("8", "95"), method=method)
    assert figures(long) == ("2", "190", "70")
    assert figures(after(("2", "5"), ("-3", "7"), ("1", "6"), method=method)) == ("0", "0", "5")


@both
def test_thirds_are_not_lost(method: Method) -> None:
    position = after(("3", "0.1"), ("4", "0.2"), method=method)
    for _ in range(7):
        position = traded(position, Decimal(-1), Decimal("0.3"))
        check(position)
    assert position.realised == Decimal("1.0")  # sold for 2.1, bought for 1.1
    assert position.cost == 0


def test_multipliers() -> None:
    position = after(("2", "4500.25"), ("-1", "4510.25"), multiplier=Decimal(50))
    assert position.realised == 500
    assert position.avg_px == Decimal("4500.25")
    assert position.cash == Decimal("-224512.50")


def without(position: Position, quantity: str, price: str, **how: Decimal) -> Position:
    position = undone(position, Decimal(quantity), Decimal(price), **how)
    check(position)
    return position


@both
def test_nothing_is_earned_by_taking_back_what_was_opened(method: Method) -> None:
    position = after(("40", "12"), ("10", "10"), method=method)
    assert figures(without(position, "40", "12")) == ("10", "100", "0")
    assert figures(without(position, "10", "10")) == ("40", "480", "0")
    short = after(("-40", "12"), ("-10", "10"), method=method, multiplier=Decimal(5))
    assert figures(without(short, "-40", "12")) == ("-10", "-500", "0")
    # Prices of spreads have any sign, and so has what is left of the cost.
    spread = after(("10", "-2"), ("10", "3"), method=method)
    assert figures(without(spread, "10", "3")) == ("10", "-20", "0")


def test_what_was_opened_and_sold_is_taken_back_as_by_the_opposite_trade() -> None:
    sold = after(("10", "100"), ("10", "110"), ("-10", "110"))
    # The average was 105, and 50 were earned; nothing was, without the one that had cost less.
    assert figures(sold) == ("10", "1050", "50")
    assert figures(without(sold, "10", "100")) == ("0", "0", "0")
    # At its own price it would leave less than nothing.
    assert figures(after(("10", "100"), ("10", "1"), ("-9", "50"))) == ("11", "555.5", "-4.5")
    less = after(("10", "100"), ("10", "1"), ("-9", "50"))
    assert figures(without(less, "10", "100")) == ("1", "50.5", "490.5")
    assert figures(without(after(("2", "5")), "3", "5")) == ("-1", "-5", "0")


def test_lots_of_its_price_are_taken_back_the_newest_first() -> None:
    position = after(("10", "100"), ("5", "110"), ("10", "100"), ("5", "120"), method="fifo")
    back = without(position, "12", "100")
    assert figures(back) == ("18", "1950", "0")
    assert [str(lot.cost) for lot in back.lots] == ["800", "550", "600"]
    # Of twelve, ten were sold: the others had to be sold in their place.
    sold = after(("10", "100"), ("10", "110"), ("-10", "120"), method="fifo")
    assert figures(without(sold, "10", "100")) == ("0", "0", "100")
    part = after(("10", "100"), ("10", "110"), ("-4", "120"), method="fifo")
    assert figures(without(part, "10", "100")) == ("6", "660", "40")


@both
def test_what_was_closed_is_open_again_at_its_cost(method: Method) -> None:
    opened = after(("10", "100"), ("10", "110"), method=method)
    for quantity in ("-3", "-13", "-20", "-25"):
        sold = traded(opened, Decimal(quantity), Decimal("120.5"))
        closed = closed_by(opened, Decimal(quantity))
        how = {"closed": closed, "earned": sold.realised}
        again = without(sold, quantity, "120.5", **how)
        assert [again.qty, again.cost, again.realised] == [20, 2100, 0]
        more = traded(sold, Decimal(4), Decimal(90))
        check(without(more, quantity, "120.5", **how))


def test_what_was_closed_before_the_other_side_was_opened() -> None:
    flat = after(("10", "100"), ("-10", "110"))
    short = traded(flat, Decimal(-5), Decimal(120))
    how = {"closed": Decimal(10), "earned": flat.realised}
    assert figures(without(short, "-10", "110", **how)) == ("5", "500", "100")
    shorter = traded(short, Decimal(-15), Decimal(120))
    assert figures(without(shorter, "-10", "110", **how)) == ("-10", "-1200", "200")


def test_fees_of_several_currencies() -> None:
    position = charged(charged(after(("1", "5")), Decimal("0.10"), "USD"), Decimal(3), "BNB")
    position = charged(position, Decimal("-0.04"), "USD")
    assert position.fees == {"USD": Decimal("0.06"), "BNB": Decimal(3)}
    check(position)


def event(kind: Any, **fields: Any) -> Adjustment:
    return Adjustment(id="1", kind=kind, instrument="ABC", ts_event=NOW, ts_recv=NOW, **fields)


@both
def test_adjustments(method: Method) -> None:
    position = after(("10", "90"), ("5", "120"), method=method)
    split = adjusted(position, event("split", numerator=3, denominator=2))
    check(split)
    assert figures(split) == ("22.5", "1500", "0")
    paid = adjusted(split, event("dividend", amount=Decimal("11.25")))
    check(paid)
    assert paid.realised == Decimal("11.25")
    into = adjusted(paid, event("transfer", qty=Decimal("2.5"), cost=Decimal(100)))
    check(into)
    assert figures(into) == ("25.0", "1600", "11.25")
    out = adjusted(into, event("transfer", qty=Decimal(-5)))
    check(out)
    assert out.realised == Decimal("11.25")
    assert out.cost == (1280 if method == "average" else 1300)
    charge = adjusted(out, event("fee", amount=Decimal(2)))
    assert charge.fees == {"USD": Decimal(2)}
    assert charge.ts_event == NOW


def test_adjustments_that_cannot_be() -> None:
    position = after(("10", "90"))
    with pytest.raises(InvalidValue, match="a split 1:3 of 10 ABC leaves a fraction without end"):
        adjusted(position, event("split", numerator=1, denominator=3))
    with pytest.raises(InvalidValue, match="a transfer of -11 ABC is more than there is, 10"):
        adjusted(position, event("transfer", qty=Decimal(-11)))


def test_lots_split_unevenly_add_up() -> None:
    position = after(("1", "90"), ("2", "120"), method="fifo")
    third = adjusted(position, event("split", numerator=1, denominator=3))
    check(third)
    assert figures(third) == ("1", "330", "0")


def test_lots_are_bounded() -> None:
    position = Position(instrument="ABC", method="fifo")
    for number in range(MAX_LOTS + 20):
        position = traded(position, Decimal(1), Decimal(number))
    check(position)
    assert len(position.lots) == MAX_LOTS
    assert position.lots[0] == Lot(Decimal(21), Decimal(210))
    same = after(*[("1", "5")] * 10, method="fifo")
    assert same.lots == (Lot(Decimal(10), Decimal(50)),)


quantities = st.decimals(-1000, 1000, places=4).filter(bool)
prices = st.decimals(-100, 10**6, places=6)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("trade"), quantities, prices),
        st.tuples(st.just("split"), st.integers(1, 5), st.sampled_from([1, 2, 4, 5])),
        st.tuples(st.just("dividend"), prices, st.none()),
        st.tuples(st.just("transfer"), quantities, prices),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps, st.sampled_from(METHODS), st.sampled_from(["1", "50", "0.001"]))
def test_cost_and_cash_are_what_was_earned(
    sequence: list[Any], method: Method, multiplier: str
) -> None:
    position = Position(instrument="ABC", method=method, multiplier=Decimal(multiplier))
    cash = Decimal(0)
    for kind, one, other in sequence:
        before = position
        try:
            if kind == "trade":
                position = traded(position, one, other)
                cash -= one * other * Decimal(multiplier)
                assert position.qty == before.qty + one
                assert position.cash == cash
            elif kind == "split":
                position = adjusted(position, event("split", numerator=one, denominator=other))
                assert position.cost == before.cost
            elif kind == "dividend":
                position = adjusted(position, event("dividend", amount=one))
            else:
                position = adjusted(position, event("transfer", qty=one, cost=other))
                assert position.realised == before.realised
        except InvalidValue:
            assert kind == "transfer"
        cash = position.cash
        check(position)
    if position.qty:
        position = traded(position, -position.qty, Decimal(7))
        check(position)
        assert position.realised == position.cash


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(quantities, prices), min_size=1, max_size=12),
    st.integers(0, 11),
    st.sampled_from(METHODS),
)
def test_a_trade_that_is_taken_back_leaves_the_cash_as_if_it_had_not_been(
    trades: list[tuple[Decimal, Decimal]], which: int, method: Method
) -> None:
    which %= len(trades)
    position = others = Position(instrument="ABC", method=method)
    how: dict[str, Decimal] = {}
    for at, (quantity, price) in enumerate(trades):
        before, position = position, traded(position, quantity, price)
        if at == which:
            earned = position.realised - before.realised
            how = {"closed": closed_by(before, quantity), "earned": earned}
            # Where prices have both signs, the average's cost does not tell what is left of it.
            if at == len(trades) - 1 and all(price > 0 for _, price in trades):
                assert undone(position, quantity, price, **how).cost == before.cost
        else:
            others = traded(others, quantity, price)
    back = undone(position, *trades[which], **how)
    check(back)
    assert (back.qty, back.cash) == (others.qty, others.cash)
    same_side = len({quantity > 0 for quantity, _ in trades}) == 1
    if same_side:
        assert back.cost == others.cost
        assert back.realised == 0


def test_lots_that_a_split_leaves_with_fractions_go_on() -> None:
    """All of it divides, its lots do not: 1 and 2 become 1 in all."""
    position = after(("1", "10"), ("2", "11"), method="fifo")
    event = Adjustment(
        id="s",
        kind="split",
        instrument="ABC",
        numerator=1,
        denominator=3,
        ts_event=NOW,
        ts_recv=NOW,
    )
    position = adjusted(position, event)
    assert [str(lot.qty) for lot in position.lots] == ["0.333333333333", "0.666666666667"]
    for quantity, price in (("1", "12.5"), ("-0.5", "12.5"), ("-1.5", "9.75")):
        position = traded(position, Decimal(quantity), Decimal(price))
        check(position)
    assert not position.qty


@both
def test_numbers_of_all_the_digits_that_are_taken(method: Method) -> None:
    """Multipliers, too, and a share of the cost of each."""
    position = Position(
        instrument="ABC", multiplier=Decimal("123456789012345678.123456789012345679"), method=method
    )
    for quantity, price in (
        ("9." + "3" * 35, "9" * 17 + "." + "7" * 19),
        ("9" * 18, "9" * 18),
        ("-3." + "3" * 35, "1." + "7" * 35),
        ("-7." + "1" * 35, "1." + "9" * 35),
    ):
        position = traded(position, Decimal(quantity), Decimal(price))
        with localcontext(ARITHMETIC):
            check(position)
