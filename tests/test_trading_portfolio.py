"""An account's positions as they are kept: with each fill, by adjustments; compared and valued."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from time import time_ns
from typing import Any, NamedTuple, cast

import pytest
import redis
from msgspec.structs import replace

from redisutils.testing import EmbeddedServer
from redisutils.trading.errors import (
    Conflict,
    IllegalTransition,
    InvalidValue,
    LedgerClosed,
    UnknownPosition,
)
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType
from redisutils.trading.portfolio.reconciling import Difference, Holding, differences
from redisutils.trading.portfolio.records import Adjustment, Position
from redisutils.trading.portfolio.service import Portfolio
from redisutils.trading.portfolio.valuing import valued

from .ours import pool_at
from .trading import account, fill, report

NOW = time_ns()


class Price(NamedTuple):
    price: Decimal
    ts_event: int


class Fixed:
    """Prices that do not move."""

    def __init__(self, **prices: Price) -> None:
        self.known = prices
        self.asked: list[Sequence[str]] = []

    async def prices(
        self, instruments: Sequence[str], *, max_age: float | None = None
    ) -> Mapping[str, Price]:
        self.asked.append(instruments)
        return {name: self.known[name] for name in instruments if name in self.known}


def adjustment(kind: Any, **fields: Any) -> Adjustment:
    given = {"id": "a1", "instrument": "ABC", "ts_event": NOW, "ts_recv": NOW}
    return Adjustment(kind=kind, **{**given, **fields})


async def trade(orders: Orders, name: str, side: str, quantity: int, price: str, **of: Any) -> None:
    terms = {"instrument": "ABC", "currency": "USD", **of}
    await orders.place(cl_ord_id=name, side=side, order_qty=quantity, **terms)
    await orders.apply(report(name))
    await orders.apply(fill(name, quantity, price, fee=Decimal("0.5")))


async def test_positions_move_with_their_fills(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (pool, orders):
        portfolio = Portfolio(pool, account="A")
        assert await portfolio.positions() == {}
        assert await portfolio.position("ABC") is None
        await trade(orders, "1", "1", 10, "100")
        await trade(orders, "2", "2", 4, "110")
        await trade(orders, "3", "5", 3, "7", instrument="DEF", currency="EUR", multiplier=10)
        held = await portfolio.positions()
        assert list(held) == ["ABC", "DEF"]
        long, short = held.values()
        assert (str(long.qty), str(long.cost), str(long.realised)) == ("6", "600", "40")
        assert (str(short.qty), str(short.cost), str(short.cash)) == ("-3", "-210", "210")
        assert (long.fees, short.fees) == ({"USD": Decimal("1.0")}, {"EUR": Decimal("0.5")})
        assert await portfolio.position("ABC") == long
        bust = report("2", ExecType.TRADE_CANCEL, exec_ref_id=await last_fill(orders, "2"))
        await orders.apply(bust)
        after = await portfolio.position("ABC")
        assert after is not None
        assert after.qty == 10
        assert after.cash + after.cost == after.realised


async def held(portfolio: Portfolio) -> tuple[str, str, str]:
    position = await portfolio.position("ABC")
    assert position is not None
    assert position.cash + position.cost == position.realised
    return str(position.qty), str(position.cost), str(position.realised)


async def test_busts_and_corrections_earn_nothing(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (pool, orders):
        portfolio = Portfolio(pool, account="A")
        await trade(orders, "1", "1", 40, "12")
        await trade(orders, "2", "1", 10, "10")
        refs = {name: await last_fill(orders, name) for name in "12"}
        await orders.apply(report("1", ExecType.TRADE_CANCEL, exec_ref_id=refs["1"]))
        assert await held(portfolio) == ("10", "100", "0")
        right = {"last_qty": Decimal(8), "last_px": Decimal(11), "exec_ref_id": refs["2"]}
        await orders.apply(report("2", ExecType.TRADE_CORRECT, **right))
        assert await held(portfolio) == ("8", "88", "0")
        # A sale that is taken back is as if it had not been, whatever came after it.
        await trade(orders, "3", "2", 6, "20")
        await trade(orders, "4", "1", 4, "30")
        assert await held(portfolio) == ("6", "142", "54")
        sold = {"exec_ref_id": await last_fill(orders, "3")}
        less = {**sold, "last_qty": Decimal(5), "last_px": Decimal(21)}
        await orders.apply(report("3", ExecType.TRADE_CORRECT, **less))
        await orders.apply(report("3", ExecType.TRADE_CANCEL, **sold))
        assert [Decimal(figure) for figure in await held(portfolio)] == [12, 208, 0]


async def test_no_bust_from_before_a_split(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (pool, orders), Portfolio(pool, account="A") as portfolio:
        await trade(orders, "1", "1", 10, "100")
        await portfolio.adjust(adjustment("split", numerator=2))
        old = await last_fill(orders, "1")
        for kind in (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT):
            about = {"exec_ref_id": old, "last_qty": Decimal(1), "last_px": Decimal(1)}
            with pytest.raises(IllegalTransition, match="is from before a split of ABC: what"):
                await orders.apply(report("1", kind, **about))
        await trade(orders, "2", "1", 5, "50")
        new = await last_fill(orders, "2")
        await orders.apply(report("2", ExecType.TRADE_CANCEL, exec_ref_id=new))
        assert await held(portfolio) == ("20", "1000", "0")


async def last_fill(orders: Orders, name: str) -> str:
    return [event async for event in orders.history(name)][-1].message.exec_id  # type: ignore[union-attr]  # it is a report


async def test_first_in_first_out_on_request(clean_server: EmbeddedServer) -> None:
    async with account(clean_server, method="fifo") as (pool, orders):
        portfolio = Portfolio(pool, account="A")
        await trade(orders, "1", "1", 10, "100")
        await trade(orders, "2", "1", 10, "110")
        await trade(orders, "3", "2", 15, "120")
        position = await portfolio.position("ABC")
        assert position is not None
        assert (str(position.realised), str(position.cost)) == ("250", "550")
        # What a position was opened with, it keeps.
        async with Orders(pool, account="A", method="average") as others:
            await trade(others, "4", "2", 1, "120")
        position = await portfolio.position("ABC")
        assert position is not None
        assert position.method == "fifo"
        assert len(position.lots) == 1


async def test_adjustments_are_events_that_happen_once(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (pool, orders), Portfolio(pool, account="A") as portfolio:
        with pytest.raises(UnknownPosition, match="a split of ABC, which is not held"):
            await portfolio.adjust(adjustment("split"))
        transfer = adjustment("transfer", qty=10, cost="950", currency="USD")
        held = await portfolio.adjust(transfer)
        assert (held.qty, held.cost, held.currency) == (Decimal(10), Decimal(950), "USD")
        split = adjustment("split", id="a2", numerator=2)
        results = await asyncio.gather(*(portfolio.adjust(split) for _ in range(5)))
        assert {str(one.qty) for one in results} == {"20"}
        assert await portfolio.adjust(replace(split, ts_recv=NOW + 1)) == results[0]
        with pytest.raises(Conflict, match="adjustment 'a2' was another one"):
            await portfolio.adjust(replace(split, numerator=3))
        await trade(orders, "1", "2", 20, "50")
        last = await portfolio.position("ABC")
        assert last is not None
        assert (str(last.qty), str(last.cost), str(last.realised)) == ("0", "0", "50")
        assert [e.kind async for e in orders.replay() if isinstance(e, Event)] == [
            "adjusted",
            "adjusted",
            "placed",
            "executed",
            "executed",
        ]
        await trade(orders, "2", "1", 1, "50")
        for wrong in ({"currency": "EUR"}, {"multiplier": 50}):
            for kind in ("dividend", "transfer", "split"):
                with pytest.raises(
                    Conflict, match="ABC is held in currency='USD' with multiplier=1"
                ):
                    await portfolio.adjust(adjustment(kind, id="a5", qty=1, **wrong))
        with pytest.raises(InvalidValue, match="is more than there is"):
            await portfolio.adjust(adjustment("transfer", id="a3", qty=-2))
        assert admin.hlen("ord:{A}:adj") == 2
        await portfolio.close()
        with pytest.raises(LedgerClosed):
            await portfolio.adjust(adjustment("fee", id="a4", amount=1))
        assert repr(portfolio).startswith("<Portfolio A <Ledger ")


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"kind": "merge"}, "kind='merge' must be one of split, dividend, transfer, fee"),
        ({"numerator": 0}, "numerator=0 must be an int from 1"),
        ({"denominator": 1.5}, "denominator=1.5 must be an int"),
        ({"amount": 1.5}, "amount=1.5 is a float"),
        ({"id": "a b"}, "id='a b'"),
        ({"instrument": ""}, "instrument=''"),
        ({"kind": "transfer"}, "qty=0 of a transfer must not be 0"),
        ({"ts_event": 5}, "ts_event=5 is before 2001"),
        ({"currency": "{}"}, "currency='{}'"),
        ({"currency": None}, "currency=None"),
        ({"note": 5}, "note=5 must be a string"),
    ],
)
async def test_adjustments_that_cannot_be_meant(
    server: EmbeddedServer, fields: dict[str, Any], text: str
) -> None:
    async with pool_at(server) as pool:
        portfolio = Portfolio(pool, account="none")
        with pytest.raises(InvalidValue) as caught:
            await portfolio.adjust(replace(adjustment("split"), **fields))
        assert text in str(caught.value)


@pytest.mark.parametrize("options", [{"method": "lifo"}, {"outbox": 0}, {"account": ""}])
async def test_settings_that_cannot_be(server: EmbeddedServer, options: dict[str, Any]) -> None:
    async with pool_at(server) as pool:
        with pytest.raises(InvalidValue):
            Portfolio(pool, **{"account": "A", **options})


# -- statements ----------------------------------------------------------------------------------


def position(instrument: str, quantity: int | str, cost: int | str, **fields: Any) -> Position:
    return Position(
        instrument=instrument,
        qty=Decimal(quantity),
        cost=Decimal(cost),
        **{"currency": "USD", **fields},
    )


def test_a_statement_that_agrees() -> None:
    ours = {
        "ABC": position("ABC", 3, 10),
        "FLAT": position("FLAT", 0, 0),
        "DEF": position("DEF", -5, -50),
    }
    statement = [
        Holding(instrument="ABC", qty=Decimal(3), avg_px=Decimal("3.33"), currency="USD"),
        Holding(instrument="DEF", qty=Decimal(-5), cost=Decimal("-50.00")),
        Holding(instrument="GONE", qty=Decimal(0)),
    ]
    assert differences(ours, statement) == []


def test_a_statement_that_does_not() -> None:
    ours = {"ABC": position("ABC", 3, 10), "OURS": position("OURS", 1, 1)}
    statement = [
        Holding(
            instrument="ABC",
            qty=Decimal(4),
            avg_px=Decimal("3.35"),
            cost=Decimal("10.1"),
            currency="EUR",
        ),
        Holding(instrument="THEIRS", qty=Decimal(2)),
    ]
    found = differences(ours, statement)
    assert found == [
        Difference("ABC", "qty", Decimal(3), Decimal(4)),
        Difference("ABC", "currency", "USD", "EUR"),
        Difference("ABC", "avg_px", ours["ABC"].avg_px, Decimal("3.35")),
        Difference("ABC", "cost", Decimal(10), Decimal("10.1")),
        Difference("OURS", "qty", Decimal(1), None),
        Difference("THEIRS", "qty", None, Decimal(2)),
    ]
    assert str(found[0]) == "ABC qty: 3 here, 4 there"
    assert str(found[4]) == "OURS qty: 1 here, nothing there"
    with pytest.raises(InvalidValue, match="the statement has THEIRS twice"):
        differences({}, [statement[1]] * 2)


async def test_reconciling_an_account(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (pool, orders):
        await trade(orders, "1", "1", 10, "100")
        portfolio = Portfolio(pool, account="A")
        assert await portfolio.reconcile([Holding(instrument="ABC", qty=Decimal(10))]) == []
        found = await portfolio.reconcile([Holding(instrument="ABC", qty=Decimal(9))])
        assert [str(one) for one in found] == ["ABC qty: 10 here, 9 there"]


# -- value ---------------------------------------------------------------------------------------


async def test_what_an_account_is_worth(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (pool, orders):
        await trade(orders, "1", "1", 10, "100")
        await trade(orders, "2", "5", 3, "7", instrument="DEF", currency="EUR", multiplier=10)
        await trade(orders, "3", "1", 1, "5", instrument="GHI")
        await trade(orders, "4", "1", 1, "5", instrument="FLT")
        await trade(orders, "5", "2", 1, "6", instrument="FLT")
        now = NOW + 10 * 10**9
        market = Fixed(
            ABC=Price(Decimal("101.5"), now - 10**9), DEF=Price(Decimal(8), now - 4 * 10**9)
        )
        portfolio = Portfolio(pool, account="A", clock=lambda: now)
        for no_market in ({"ABC": 1}, None):
            with pytest.raises(InvalidValue, match=r"^market=.* must have prices"):
                await portfolio.value(cast(Any, no_market))
        for no_statement in (None, [None], {"ABC": 1}, 7):
            with pytest.raises(InvalidValue, match="statement"):
                await portfolio.reconcile(cast(Any, no_statement))
        with pytest.raises(InvalidValue, match="event=None must be an Adjustment"):
            await portfolio.adjust(cast(Any, None))
        for wrong in (0, -1.0, float("nan"), "2", True):
            with pytest.raises(InvalidValue, match=r"^max_age="):
                await portfolio.value(market, max_age=cast(Any, wrong))
        worth = await portfolio.value(market, max_age=2.0)
        assert market.asked == [["ABC", "DEF", "GHI"]]
        assert {name: one.state for name, one in worth.positions.items()} == {
            "ABC": "fresh",
            "DEF": "stale",
            "FLT": "flat",
            "GHI": "missing",
        }
        assert (worth.missing, worth.stale, worth.complete) == (("GHI",), ("DEF",), False)
        first = worth.positions["ABC"]
        assert (first.value, first.unrealised, first.age) == (Decimal(1015), Decimal(15), 1.0)
        dollars, euros = worth.totals["USD"], worth.totals["EUR"]
        assert (str(dollars.value), str(dollars.unrealised)) == ("1015.0", "15.0")
        assert (str(dollars.realised), str(dollars.fees)) == ("1", "2.0")
        assert str(dollars.profit) == "14.0"
        assert not dollars.complete
        assert (str(euros.value), str(euros.unrealised), euros.complete) == ("-240", "-30", False)
        both = worth.total("USD", {"EUR": Decimal("1.1")})
        assert (str(both.value), str(both.profit)) == ("751.0", "-19.55")
        with pytest.raises(InvalidValue, match="rates must say what 'EUR' is worth in 'USD'"):
            worth.total("USD", {})


def test_without_a_bound_no_price_is_stale() -> None:
    worth = valued([position("ABC", 3, 10)], {"ABC": Price(Decimal(4), NOW)}, NOW + 10**12, None)
    assert worth.complete
    assert worth.positions["ABC"].age == 1000.0
    assert valued([], {}, NOW, None).totals == {}


async def test_nothing_is_asked_for_an_empty_account(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        market = Fixed()
        assert (await Portfolio(pool, account="A").value(market)).positions == {}
        assert market.asked == []


async def test_an_adjustment_of_what_somebody_has_deleted(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (pool, _), Portfolio(pool, account="A") as portfolio:
        given = adjustment("transfer", qty=Decimal(5), cost=Decimal(10))
        await portfolio.adjust(given)
        admin.delete("ord:{A}:pos:ABC")
        with pytest.raises(UnknownPosition, match="'a1' was made before, but ABC is not there"):
            await portfolio.adjust(given)
        assert (await portfolio.adjust(replace(given, id="a2"))).qty == 5
