"""An account's orders as they are kept: applied once, found by every ClOrdID, told to all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from decimal import Decimal
from time import time_ns
from typing import Any, cast

import pytest
import redis
from msgspec.structs import replace

from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.errors import (
    Conflict,
    IllegalTransition,
    InvalidValue,
    LedgerClosed,
    Overfill,
    TradingError,
    UnknownExecution,
    UnknownOrder,
    UnreadableRecord,
)
from redisutils.trading.ledger.ledger import Ledger
from redisutils.trading.ledger.outbox import Gap
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.records import Applied
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType, OrdStatus, Side
from redisutils.trading.scripts import Script

from .ours import pool_at, until
from .trading import DAY, account, figures, fill, reject, report


@pytest.fixture
async def orders(clean_server: EmbeddedServer) -> AsyncIterator[Orders]:
    async with account(clean_server) as (_, orders):
        yield orders


async def place(orders: Orders, name: str = "X", **fields: Any) -> None:
    given: dict[str, Any] = {"instrument": "ABC", "side": Side.BUY, "order_qty": 100}
    await orders.place(cl_ord_id=name, **{**given, **fields})


# -- applied once --------------------------------------------------------------------------------


async def test_an_order_from_its_beginning_to_its_end(orders: Orders, admin: redis.Redis) -> None:
    await place(orders, price="10.5", currency="USD")
    assert figures(await orders.apply(report("X"))) == ("0", "0", "100", "0")
    first = await orders.apply(fill("X", 40, "10.4"))
    assert figures(first) == ("1", "40", "60", "10.4")
    last = await orders.apply(fill("X", 60, "10.5", fee=Decimal("0.25")))
    assert figures(last) == ("2", "100", "0", "10.46")
    order = await orders.get("X")
    assert order is not None
    assert (order.status, order.notional) == (OrdStatus.FILLED, Decimal("1046.0"))
    position = admin.hget("ord:{A}:pos:ABC", "r")
    assert position == (
        '{"v":1,"instrument":"ABC","currency":"USD","multiplier":"1","qty":"100",'
        '"cost":"1046.0","cash":"-1046.0",'
        f'"fees":{{"USD":"0.25"}},"ts_event":{order.ts_event},"ts_recv":{order.ts_recv}}}'
    )
    assert admin.smembers("ord:{A}:pos") == {"ABC"}


async def test_placed_twice_is_placed_once(orders: Orders) -> None:
    await place(orders)
    await orders.apply(report("X"))
    again = await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty="100")
    assert again.status is OrdStatus.NEW
    with pytest.raises(Conflict, match="ClOrdID 'X' is that of another order"):
        await place(orders, order_qty=101)
    assert [event.kind async for event in events(orders)] == ["placed", "executed"]


async def test_duplicates_are_told_what_was_told_before(orders: Orders) -> None:
    await place(orders)
    await orders.apply(report("X"))
    trade = fill("X", 40, 10)
    first = await orders.apply(trade)
    assert not first.duplicate
    await orders.apply(fill("X", 60, 10))
    again = await orders.apply(replace(trade, ts_recv=time_ns()))
    assert again.duplicate
    assert replace(again, duplicate=False) == first
    with pytest.raises(Conflict, match=f"ExecID '{trade.exec_id}' of venue 'XNAS' on {DAY} was"):
        await orders.apply(replace(trade, last_px=Decimal(11)))
    # By venue and trade date, it is another one.
    for other in (replace(trade, venue="ARCX"), replace(trade, trade_date="20240103")):
        with pytest.raises(Overfill):
            await orders.apply(other)
    order = await orders.get("X")
    assert order is not None
    assert order.cum_qty == 100


async def test_the_same_report_written_otherwise(orders: Orders) -> None:
    await place(orders, venue="XNAS", price="10.0")
    assert (
        await orders.place(
            cl_ord_id="X", instrument="ABC", side="1", order_qty="100.00", price=10, venue="XNAS"
        )
    ).price == Decimal("10.0")
    await orders.apply(report("X"))
    trade = fill("X", "40.0", "10", multiplier=Decimal("1.0"))
    assert not (await orders.apply(trade)).duplicate
    for again in (
        replace(trade, last_qty=Decimal(40), last_px=Decimal("1E+1"), multiplier=Decimal(1)),
        replace(trade, text="sent again"),
        replace(trade, venue=""),
    ):
        assert (await orders.apply(again)).duplicate
    with pytest.raises(Conflict, match=r"of order 'X': last_px=11, there 10$"):
        await orders.apply(replace(trade, last_px=Decimal(11), venue=""))
    with pytest.raises(Conflict, match="quantity and price are the same, another field is not"):
        await orders.apply(replace(trade, fee=Decimal(1)))
    with pytest.raises(Conflict, match="another order: order_qty=101, there 100; price=None, ther"):
        await place(orders, order_qty=101, venue="XNAS")
    await orders.cancel("X", cl_ord_id="Y")
    refused = reject("Y")
    assert not (await orders.apply_reject(refused)).duplicate
    for once_more in (replace(refused, venue=""), replace(refused, text="too late")):
        assert (await orders.apply_reject(once_more)).duplicate
    bust = report("X", ExecType.TRADE_CANCEL, exec_ref_id=trade.exec_id, venue="")
    assert (await orders.apply(bust)).cum_qty == 0
    assert (await orders.apply(replace(bust, venue="XNAS"))).duplicate


async def test_all_at_once_are_applied_in_their_order(orders: Orders) -> None:
    await place(orders)
    trades = [fill("X", 1, number) for number in range(1, 131)]
    results = await orders.apply_all([report("X"), *trades, trades[3]])
    assert [r.cum_qty for r in results if isinstance(r, Applied)] == [*range(101), 4]
    refused = results[101:131]
    assert all(isinstance(r, Overfill) for r in refused)
    assert isinstance(results[-1], Applied)
    assert results[-1].duplicate
    assert await orders.apply_all([]) == []


async def test_one_that_is_refused_keeps_back_no_other(orders: Orders) -> None:
    await place(orders)
    wrong = replace(fill("X", 1, 1), last_px=1.5)
    results = await orders.apply_all([report("X"), wrong, fill("Y", 1, 1), fill("X", 2, 3)])
    kinds = [type(result) for result in results]
    assert kinds == [Applied, InvalidValue, UnknownOrder, Applied]


async def test_the_matrix_of_busts_and_corrections_as_it_is_kept(
    orders: Orders, admin: redis.Redis
) -> None:
    await place(orders, order_qty=10000)
    await orders.apply(report("X"))
    one, two = fill("X", 1000, 100, exec_id="C"), fill("X", 9000, 110, exec_id="D")
    assert figures(await orders.apply(one)) == ("1", "1000", "9000", "100")
    assert figures(await orders.apply(two)) == ("2", "10000", "0", "109")
    assert await orders.get("X")
    assert admin.zcard("ord:{A}:open") == 0
    assert 0 < admin.ttl("ord:{A}:o:X") <= 7 * 86400
    bust = report("X", ExecType.TRADE_CANCEL, exec_id="E", exec_ref_id="C")
    assert figures(await orders.apply(bust)) == ("1", "9000", "1000", "110")
    assert admin.ttl("ord:{A}:o:X") == admin.ttl("ord:{A}:h:X") == -1
    assert admin.zrange("ord:{A}:open", 0, -1) == ["X"]
    assert figures(await orders.apply(bust)) == ("1", "9000", "1000", "110")
    correction = {"last_qty": Decimal(9000), "exec_id": "F", "exec_ref_id": "D"}
    correct = report("X", ExecType.TRADE_CORRECT, last_px=Decimal(100), **correction)
    assert figures(await orders.apply(correct)) == ("1", "9000", "1000", "100")
    # The chain goes on from the correction, or from the first again.
    for number, ref in enumerate(("F", "D", "G0")):
        more = report(
            "X",
            ExecType.TRADE_CORRECT,
            exec_id=f"G{number}",
            exec_ref_id=ref,
            last_qty=Decimal(9000 + number),
            last_px=Decimal(120),
        )
        assert (await orders.apply(more)).cum_qty == 9000 + number
    with pytest.raises(IllegalTransition, match="execution 'C' was busted before"):
        await orders.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="C"))
    with pytest.raises(UnknownExecution, match="reported no execution 'Q' on 20240102"):
        await orders.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="Q"))
    next_day = report(
        "X",
        ExecType.TRADE_CANCEL,
        exec_ref_id="G2",
        trade_date="20240103",
        ref_trade_date=DAY,
    )
    assert figures(await orders.apply(next_day)) == ("0", "0", "10000", "0")
    position = [event.position async for event in events(orders)][-1]
    assert position is not None
    assert position.qty == position.cost == 0


async def test_trade_correction_and_bust_in_one_group(orders: Orders) -> None:
    await place(orders)
    results = await orders.apply_all(
        [
            report("X"),
            fill("X", 10, 5, exec_id="T"),
            report(
                "X",
                ExecType.TRADE_CORRECT,
                exec_id="U",
                exec_ref_id="T",
                last_qty=Decimal(20),
                last_px=Decimal(6),
            ),
            report("X", ExecType.TRADE_CANCEL, exec_id="V", exec_ref_id="U"),
        ]
    )
    done = [result for result in results if isinstance(result, Applied)]
    assert [str(one.cum_qty) for one in done] == ["0", "10", "20", "0"]


async def test_overfills_apart(clean_server: EmbeddedServer) -> None:
    async with account(clean_server, overfill="apart") as (_, orders):
        await place(orders)
        await orders.apply(report("X"))
        done = await orders.apply(fill("X", 101, 5, exec_id="O"))
        assert figures(done) == ("0", "0", "100", "0")
        order = await orders.get("X")
        assert order is not None
        assert order.overfill_qty == 101
        await orders.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="O"))
        order = await orders.get("X")
        assert order is not None
        assert order.overfill_qty == 0
        moved = [e.position.qty async for e in events(orders) if e.position]
        assert moved == [0]  # when it was placed


# -- chains --------------------------------------------------------------------------------------


async def test_every_cl_ord_id_of_a_chain_leads_to_one_order(
    orders: Orders, admin: redis.Redis
) -> None:
    await place(orders)
    await orders.apply(report("X"))
    for before, name, quantity in (("X", "Y", 200), ("Y", "Z", 300)):
        asked = await orders.replace(before, cl_ord_id=name, order_qty=quantity)
        assert (asked.id, asked.status) == ("X", OrdStatus.NEW)
        again = await orders.replace(before, cl_ord_id=name, order_qty=quantity)
        assert again.pending == asked.pending
        with pytest.raises(Conflict, match=f"ClOrdID '{name}' is that of another request"):
            await orders.replace(before, cl_ord_id=name, order_qty=quantity + 1)
        chain = {"orig_cl_ord_id": before}
        pending = await orders.apply(report(name, ExecType.PENDING_REPLACE, **chain))
        assert pending.status is OrdStatus.PENDING_REPLACE
        done = await orders.apply(report(name, ExecType.REPLACED, **chain))
        assert done.order_qty == quantity
    for name in "XYZ":
        order = await orders.get(name)
        assert order is not None
        assert (order.id, order.cl_ord_id, order.order_qty) == ("X", "Z", Decimal(300))
    await orders.cancel("Z", cl_ord_id="W")
    with pytest.raises(Conflict, match="'Z' is that of another request"):
        await orders.cancel("X", cl_ord_id="Z")
    with pytest.raises(Conflict, match="ClOrdID 'W' is that of a later request"):
        await place(orders, "W")
    await place(orders, "V")
    with pytest.raises(Conflict, match="ClOrdID 'V' is that of an order"):
        await orders.cancel("X", cl_ord_id="V")
    assert {admin.ttl(f"ord:{{A}}:clid:{name}") for name in "YZW"} == {-1}
    closed = await orders.apply(report("W", ExecType.CANCELED, orig_cl_ord_id="Z"))
    assert closed.status is OrdStatus.CANCELED
    for key in ("o:X", "h:X", "c:X", "clid:Y", "clid:Z", "clid:W"):
        assert 0 < admin.ttl(f"ord:{{A}}:{key}") <= 7 * 86400
    late = await orders.apply(fill("Y", 30, 5))
    assert figures(late) == ("4", "30", "0", "5")


async def test_a_request_to_reopen_a_filled_order(orders: Orders, admin: redis.Redis) -> None:
    await place(orders)
    await orders.apply_all([report("X"), fill("X", 100, 1)])
    await orders.replace("X", cl_ord_id="Y", order_qty=200)
    for key in ("o:X", "c:X", "clid:Y"):
        assert 0 < admin.ttl(f"ord:{{A}}:{key}") <= 7 * 86400
    await orders.apply_reject(reject("Y"))
    assert 0 < admin.ttl("ord:{A}:clid:Y") <= 7 * 86400
    # Asked for, pending and accepted in one group: nothing of it is left to expire.
    results = await asyncio.gather(
        orders.replace("X", cl_ord_id="Z", order_qty=200),
        orders.apply(report("Z", ExecType.PENDING_REPLACE, orig_cl_ord_id="X")),
        orders.apply(report("Z", ExecType.REPLACED, orig_cl_ord_id="X")),
    )
    assert [one.status.value for one in results] == ["2", "E", "1"]
    assert {admin.ttl(f"ord:{{A}}:{key}") for key in ("o:X", "h:X", "c:X", "clid:Y", "clid:Z")} == {
        -1
    }


async def test_a_whole_life_in_one_group(orders: Orders, admin: redis.Redis) -> None:
    await asyncio.gather(
        place(orders),
        orders.apply(report("X")),
        orders.replace("X", cl_ord_id="Y", order_qty=50),
        orders.apply(report("Y", ExecType.REPLACED, orig_cl_ord_id="X")),
        orders.cancel("Y", cl_ord_id="Z"),
    )
    order = await orders.get("Z")
    assert order is not None
    assert (order.is_open, order.links, order.status) == (True, 2, OrdStatus.NEW)
    assert admin.ttl("ord:{A}:clid:Y") == -1
    await asyncio.gather(
        place(orders, "P"),
        orders.cancel("P", cl_ord_id="Q"),
        orders.apply(report("Q", ExecType.CANCELED, orig_cl_ord_id="P")),
    )
    for key in ("o:P", "h:P", "c:P", "clid:Q"):
        assert admin.ttl(f"ord:{{A}}:{key}") > 0
    assert admin.zrange("ord:{A}:open", 0, -1) == ["X"]


async def test_an_execution_is_busted_once_whoever_interferes(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two readings of one decision, another process busts the same execution."""
    async with account(clean_server) as (_, mine), account(clean_server) as (_, theirs):
        await place(mine)
        await mine.apply(report("X"))  # which is what is remembered here
        for name in ("T1", "T2"):
            await theirs.apply(fill("X", 10, 1, exec_id=name))
        ledger = mine._ledger
        read, meanwhile = ledger._load, 0

        async def load(view: Any, missing: Any) -> None:
            nonlocal meanwhile
            await read(view, missing)
            if missing.fields and not meanwhile:
                meanwhile += 1
                await theirs.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="T1"))

        monkeypatch.setattr(ledger, "_load", load)
        with pytest.raises(IllegalTransition, match="execution 'T1' was busted before"):
            await mine.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="T1"))
        assert meanwhile == 1
        order = await theirs.get("X")
        assert order is not None
        assert order.cum_qty == 10


async def test_a_cl_ord_id_goes_to_whoever_writes_first(clean_server: EmbeddedServer) -> None:
    """An order and a request of the same ClOrdID, each of which saw nothing of the other."""
    async with account(clean_server) as (_, mine), account(clean_server) as (_, theirs):
        await place(mine)
        before_writing(mine._ledger, lambda: place(theirs, "Y"))
        with pytest.raises(Conflict, match="ClOrdID 'Y' is that of an order"):
            await mine.cancel("X", cl_ord_id="Y")
        before_writing(mine._ledger, lambda: theirs.cancel("X", cl_ord_id="Z"))
        with pytest.raises(Conflict, match="ClOrdID 'Z' is that of a later request"):
            await place(mine, "Z")


def before_writing(ledger: Ledger, interfere: Callable[[], Awaitable[object]]) -> None:
    """Let somebody do something between a ledger's next decision and its being written."""
    scripts = ledger._scripts

    class Interfering:
        async def run(self, script: Script, keys: Any, arguments: Any) -> Any:
            if script.name == "ledger":
                ledger._scripts = scripts
                await interfere()
            return await scripts.run(script, keys, arguments)

    ledger._scripts = Interfering()  # type: ignore[assignment]  # it has the one method


async def test_a_refused_request(orders: Orders) -> None:
    await place(orders)
    await orders.apply(report("X"))
    await orders.cancel("X", cl_ord_id="Y")
    pending = await orders.apply(report("Y", ExecType.PENDING_CANCEL, orig_cl_ord_id="X"))
    assert pending.status is OrdStatus.PENDING_CANCEL
    refusal = reject("Y", orig_cl_ord_id="X", ord_status=OrdStatus.PARTIALLY_FILLED)
    told = await orders.apply_reject(refusal)
    assert told.status is OrdStatus.NEW
    assert told.drift == ("ord_status: 1 by the reject, NEW by its executions",)
    again = await orders.apply_reject(refusal)
    assert again == replace(told, duplicate=True)
    with pytest.raises(Conflict, match="the reject of 'Y' on 20240102 was another one"):
        await orders.apply_reject(replace(refusal, reason="1"))
    with pytest.raises(UnknownOrder):
        await orders.apply_reject(reject("Q"))


async def test_requests_that_were_sent_elsewhere(orders: Orders) -> None:
    await place(orders)
    await orders.apply(report("X"))
    await orders.apply(report("Y", ExecType.PENDING_REPLACE, orig_cl_ord_id="X"))
    done = report("Y", ExecType.REPLACED, orig_cl_ord_id="X", order_qty=Decimal(50))
    assert (await orders.apply(done)).order_qty == 50
    order = await orders.get("Y")
    assert order is not None
    assert (order.id, order.links) == ("X", 1)
    assert (await orders.apply(fill("Y", 50, 1))).status is OrdStatus.FILLED


async def test_a_cancel_that_was_sent_elsewhere_leads_here(
    orders: Orders, admin: redis.Redis
) -> None:
    """Its ClOrdID is told by the report of the end, and late executions may come with it."""
    await place(orders)
    await orders.apply(report("X"))
    await orders.apply(report("Y", ExecType.CANCELED, orig_cl_ord_id="X"))
    assert (await orders.apply(fill("Y", 10, 1))).cum_qty == 10
    order = await orders.get("Y")
    assert order is not None
    assert (order.id, order.cl_ord_id, order.links) == ("X", "X", 1)
    for key in ("o:X", "c:X", "clid:Y"):
        assert 0 < admin.ttl(f"ord:{{A}}:{key}") <= 7 * 86400
    with pytest.raises(Conflict, match="ClOrdID 'Y' is that of a later request"):
        await place(orders, "Y")


async def test_a_status_is_compared_and_not_kept(orders: Orders, admin: redis.Redis) -> None:
    """All reports of a status may have the ExecID 0."""
    await place(orders)
    await orders.apply_all([report("X"), fill("X", 40, 2)])
    before = {key: admin.dump(key) for key in admin.scan_iter()}
    status = report("X", ExecType.ORDER_STATUS, exec_id="0", cum_qty=Decimal(40))
    for given, differs in (
        (status, tuple[str, ...]()),
        (
            replace(status, cum_qty=Decimal(50)),
            ("cum_qty: 50 by the report, 40 by its executions",),
        ),
    ):
        told = await orders.apply(given)
        assert (str(told.cum_qty), told.drift, told.duplicate) == ("40", differs, False)
    with pytest.raises(UnknownOrder):
        await orders.apply(replace(status, cl_ord_id="Y", ord_status=OrdStatus.REJECTED))
    with pytest.raises(Conflict, match="is about DEF"):
        await orders.apply(replace(status, instrument="DEF"))
    assert {key: admin.dump(key) for key in admin.scan_iter()} == before


async def test_an_order_that_nobody_placed_here(orders: Orders) -> None:
    with pytest.raises(UnknownOrder, match=r"TRADE 'E\d+': no order has ClOrdID 'T'"):
        await orders.apply(fill("T", 1, 1))
    with pytest.raises(UnknownOrder, match="with instrument, side and order_qty it would open"):
        await orders.apply(report("T"))
    terms: dict[str, Any] = {"instrument": "ABC", "side": Side.SELL, "order_qty": Decimal(10)}
    await orders.apply(report("T", **terms))
    assert (await orders.apply(fill("T", 10, 1))).status is OrdStatus.FILLED
    refused = await orders.apply(report("U", ExecType.REJECTED, **terms))
    assert refused.status is OrdStatus.REJECTED
    with pytest.raises(Conflict, match=r"report 'E[0-9]+' is about DEF, order 'T' about ABC"):
        await orders.apply(fill("T", 1, 1, instrument="DEF"))
    with pytest.raises(Conflict, match="is for BUY, order 'T' for SELL"):
        await orders.apply(fill("T", 1, 1, side=Side.BUY))


async def test_what_does_not_fit_the_position_is_seen_before_it_trades(orders: Orders) -> None:
    await place(orders, currency="USD")
    await orders.apply_all([report("X"), fill("X", 1, 1)])
    with pytest.raises(Conflict, match="ABC is held in currency='USD' with multiplier=1, not in"):
        await place(orders, "Y", currency="EUR")
    with pytest.raises(Conflict, match="multiplier=50"):
        await place(orders, "Y", currency="USD", multiplier=50)


async def test_the_first_order_decides_an_instruments_currency(orders: Orders) -> None:
    named: list[dict[str, Any]] = [
        {"currency": "USD"},
        {"currency": "EUR"},
        {"currency": "USD", "multiplier": 50},
        {},
    ]
    results = await asyncio.gather(
        *(place(orders, f"P{at}", **terms) for at, terms in enumerate(named)),
        return_exceptions=True,
    )
    assert results[0] is None
    for at, refused in enumerate(results[1:], start=1):
        assert isinstance(refused, Conflict)
        assert str(refused).startswith(
            f"order 'P{at}': ABC is held in currency='USD' with multiplier=1, not in currency="
        )
    (first,) = [event async for event in events(orders)]
    assert first.position is not None
    assert (first.position.qty, first.position.currency) == (Decimal(0), "USD")
    # Nor can a report open one in another, and what opens one decides, too.
    terms: dict[str, Any] = {"instrument": "ABC", "side": Side.SELL, "order_qty": Decimal(10)}
    with pytest.raises(Conflict, match=r"^NEW 'E\d+' of order 'T': ABC is held in currency='USD'"):
        await orders.apply(report("T", **terms))
    await orders.apply(report("T", **{**terms, "instrument": "DEF", "currency": "CHF"}))
    with pytest.raises(Conflict, match="order 'U': DEF is held in currency='CHF'"):
        await place(orders, "U", instrument="DEF")


async def test_two_writers_cannot_decide_a_currency_each(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (_, one), account(clean_server) as (_, two):
        before_writing(one._ledger, lambda: place(two, "T", currency="EUR"))
        with pytest.raises(Conflict, match="ABC is held in currency='EUR'"):
            await place(one, "O", currency="USD")


# -- reading -------------------------------------------------------------------------------------


async def events(orders: Orders, after: int = 0) -> AsyncIterator[Event]:
    async for event in orders.replay(after):
        assert isinstance(event, Event), f"a gap: {event}"
        yield event


async def test_open_orders(orders: Orders) -> None:
    names = [f"O{number}" for number in range(300)]
    for instrument, part in (("ABC", names[:150]), ("DEF", names[150:])):
        await asyncio.gather(*(place(orders, name, instrument=instrument) for name in part))
    await orders.apply_all(report(name) for name in names)
    await orders.apply(fill("O7", 100, 1))
    await orders.apply(report("O290", ExecType.CANCELED))
    want = [name for name in names if name not in ("O7", "O290")]
    found = [order.id async for order in orders.open_orders(page=10)]
    assert sorted(found) == sorted(want)
    # Those of one commit have no order among them.
    assert [name in names[:64] for name in found].index(False) >= 63
    found = [order.id async for order in orders.open_orders("DEF", page=7)]
    assert sorted(found) == sorted(want[149:])
    assert [order.id async for order in orders.open_orders("QQQ")] == []


async def test_history_and_replay(orders: Orders) -> None:
    await place(orders)
    await place(orders, "Y", instrument="DEF")
    await orders.apply_all([report("X"), report("Y"), fill("X", 100, 3)])
    await orders.cancel("Y", cl_ord_id="Z")
    await orders.apply_reject(reject("Z"))
    told = [event async for event in events(orders)]
    assert [event.seq for event in told] == [1, 2, 3, 4, 5, 6, 7]
    assert [event.kind for event in told] == [
        "placed",
        "placed",
        *["executed"] * 3,
        "cancel-requested",
        "cancel-rejected",
    ]
    assert [e.seq async for e in events(orders, 5)] == [6, 7]
    past = [event async for event in orders.history("Z")]
    assert [event.seq for event in past] == [2, 4, 6, 7]
    assert past == [replace(told[n - 1], commit="", position=None) for n in (2, 4, 6, 7)]
    rebuilt = {event.order.id: event.order for event in told if event.order}
    assert rebuilt == {name: await orders.get(name) for name in "XY"}
    held = {event.position.instrument: event.position for event in told if event.position}
    assert held["ABC"].qty == 100
    with pytest.raises(UnknownOrder):
        _ = [event async for event in orders.history("Q")]
    assert await orders.get("Q") is None


async def test_subscribers_miss_nothing(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (_, orders):
        await place(orders)
        seen: list[int] = []
        here = asyncio.Event()

        async def follow() -> None:
            async with aclosing(orders.subscribe(0)) as told:
                async for event in told:
                    assert isinstance(event, Event)
                    seen.append(event.seq)
                    here.set()

        async with asyncio.TaskGroup() as group:
            follower = group.create_task(follow())
            await here.wait()
            await orders.apply(report("X"))
            await orders.apply_all(fill("X", 1, 1) for _ in range(30))
            await until(lambda: len(seen) == 32, "all events")
            follower.cancel()
        assert seen == list(range(1, 33))


async def test_subscribers_outlive_their_connections(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with account(server) as (_, orders), account(server, proxy) as (_, far):
        await place(orders)
        await orders.apply(report("X"))
        seen: list[int] = []
        async with aclosing(far.subscribe(0)) as told:
            for number in range(10):
                event = await anext(told)
                assert isinstance(event, Event)
                seen.append(event.seq)
                if number > 0:
                    waiting = asyncio.ensure_future(anext(told))
                    await until(lambda: proxy.active > 0, "a connection")
                    proxy.reset()
                    await orders.apply(fill("X", 1, 1))
                    event = await waiting
                    assert isinstance(event, Event)
                    seen.append(event.seq)
                    await orders.apply(fill("X", 1, 1))
        assert seen == list(range(1, 20))


async def test_subscribers_outlive_a_primary_that_becomes_a_replica(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Those who wait there are told UNBLOCKED, as by CLIENT UNBLOCK ... ERROR."""

    def blocked() -> list[str]:
        return [one["id"] for one in admin.client_list() if "b" in one["flags"]]

    async with account(clean_server) as (_, orders), aclosing(orders.subscribe(0)) as told:
        for number in range(1, 4):
            waiting = asyncio.ensure_future(anext(told))
            await until(blocked)
            admin.client_unblock(int(blocked()[0]), error=True)
            await place(orders, f"X{number}")
            event = await waiting
            assert isinstance(event, Event)
            assert event.seq == number


async def test_an_event_that_is_none_of_ours_is_told_as_such(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await place(orders)
        admin.xadd("ord:{A}:ev", {"k": "novel", "r": "{}"}, id="2-0")
        told = orders.replay()
        assert isinstance(await anext(told), Event)
        with pytest.raises(UnreadableRecord, match="no event of ours is event 2: its kind is b'no"):
            [event async for event in told]


async def test_who_missed_something_is_told(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await place(orders)
        await orders.apply_all([report("X"), *(fill("X", 1, 1) for _ in range(5))])
        admin.xtrim("ord:{A}:ev", maxlen=3, approximate=False)
        told = [event async for event in orders.replay(2)]
        assert told[0] == Gap(3, 5)
        async with aclosing(orders.subscribe(2)) as following:
            assert await anext(following) == Gap(3, 5)
            fifth = await anext(following)
            assert isinstance(fifth, Event)
            assert fifth.seq == 5
        # A failover to a replica that was behind: what was told never happened.
        assert [event async for event in orders.replay(9)] == [Gap(10, 8)]
        async with aclosing(orders.subscribe(9)) as following:
            assert await anext(following) == Gap(10, 8)
            await orders.apply(fill("X", 1, 1))
            eighth = await anext(following)
            assert isinstance(eighth, Event)
            assert eighth.seq == 8
        admin.delete("ord:{A}:ev")
        assert [event async for event in orders.replay(6)] == [Gap(7, 9)]
        assert [event async for event in orders.replay(8)] == []
        async with aclosing(orders.subscribe(6)) as following:
            assert await anext(following) == Gap(7, 9)


async def test_who_is_told_another_story_knows(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """The outbox began anew, and came as far as it had been, or further, while nobody looked."""
    async with account(clean_server) as (_, orders):
        await place(orders)
        await orders.apply_all([report("X"), fill("X", 1, 1)])
        mark = [event async for event in events(orders)][-1].mark
        assert [event async for event in orders.replay(mark)] == []
        async with aclosing(orders.subscribe(mark)) as following:
            await orders.apply(fill("X", 1, 1))
            fourth = await anext(following)
            assert isinstance(fourth, Event)
            admin.flushall()
            await place(orders)
            await orders.apply_all([report("X"), *(fill("X", 1, 1) for _ in range(4))])
            assert await anext(following) == Gap(5, 5)
            fifth = await anext(following)
            assert isinstance(fifth, Event)
            assert fifth.seq == 5
        assert await anext(orders.replay(mark)) == Gap(4, 4)
        admin.flushall()
        await place(orders)
        await orders.apply_all([report("X"), fill("X", 1, 1)])
        # No event follows that could tell it.
        assert [event async for event in orders.replay(mark)] == [Gap(4, 4)]
        async with aclosing(orders.subscribe(mark)) as following:
            assert await anext(following) == Gap(4, 4)
            await orders.apply(fill("X", 1, 1))
            fourth = await anext(following)
            assert isinstance(fourth, Event)
            assert fourth.seq == 4


@pytest.mark.parametrize("after", [-1, True, 1.5, "", "7", "7-", "7-X", "-7-a", b"1-a", 10**16])
async def test_places_that_nobody_can_go_on_from(orders: Orders, after: Any) -> None:
    for told in (orders.replay(after), orders.subscribe(after)):
        with pytest.raises(InvalidValue, match=r"^after="):
            await anext(told)


# -- what is kept --------------------------------------------------------------------------------


async def test_closed_orders_are_kept_for_a_while(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server, retention=100) as (_, orders):
        await place(orders)
        await place(orders, "Y")
        await orders.apply_all([report("X"), report("Y"), fill("X", 100, 1)])
        assert 0 < admin.ttl("ord:{A}:o:X") <= 100
        assert 0 < admin.ttl("ord:{A}:h:X") <= 100
        assert admin.ttl("ord:{A}:o:Y") == admin.ttl("ord:{A}:h:Y") == -1
        # Once it is gone it is unknown, whatever is remembered here.
        admin.delete("ord:{A}:o:X", "ord:{A}:h:X")
        await place(orders)
        assert (await orders.apply(report("X"))).status is OrdStatus.NEW
        admin.delete("ord:{A}:o:X", "ord:{A}:h:X")
        with pytest.raises(UnknownOrder):
            await orders.apply(report("X", ExecType.TRADE_CANCEL, exec_ref_id="E0"))


async def test_two_accounts_and_two_prefixes_share_nothing(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        for account_name, prefix in (("A", ""), ("A", "paper:"), ("B", "")):
            async with Orders(pool, account=account_name, prefix=prefix) as orders:
                assert await orders.get("X") is None
                await place(orders)
        keys = await pool.client.keys("*:o:X")
        assert sorted(keys) == [b"ord:{A}:o:X", b"ord:{B}:o:X", b"paper:ord:{A}:o:X"]


async def test_msgpack(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with account(clean_server, encoding="msgpack") as (pool, orders):
        await place(orders)
        await orders.apply_all([report("X"), fill("X", 3, "1.5")])
        text: Any = await pool.client.hget("ord:{A}:o:X", "r")
        assert text is not None
        assert not text.startswith(b"{")
        assert [event.kind async for event in events(orders)] == ["placed", "executed", "executed"]


async def test_what_a_newer_version_knows_of_requests_is_kept(
    orders: Orders, admin: redis.Redis
) -> None:
    await place(orders)
    await orders.cancel("X", cl_ord_id="Y")
    key = "ord:{A}:o:X"
    newer: Any = json.loads(str(admin.hget(key, "r")))
    newer["pending"][0]["desk"] = newer["desk"] = {"name": "north"}
    admin.hset(key, mapping={"n": "f00", "r": json.dumps(newer)})
    await orders.apply(report("X"))
    after = json.loads(str(admin.hget(key, "r")))
    assert after["status"] == "0"
    assert after["desk"] == after["pending"][0]["desk"] == {"name": "north"}


# -- bad input -----------------------------------------------------------------------------------

BAD_ORDERS: list[tuple[dict[str, Any], str]] = [
    ({"cl_ord_id": "a b"}, "cl_ord_id='a b'"),
    ({"instrument": "{BTC}"}, "instrument='{BTC}'"),
    ({"side": "9"}, "side='9' must be one of 1 BUY, 2 SELL"),
    ({"order_qty": 1.5}, "order_qty=1.5 is a float"),
    ({"order_qty": 0}, "order_qty=0 must be more than 0"),
    ({"order_qty": None}, "give one of them"),
    ({"cash_order_qty": 5}, "give one of them"),
    ({"price": Decimal("NaN")}, "price=NaN must be a finite number"),
    ({"multiplier": -1}, "multiplier=-1 must be more than 0"),
    ({"ts_event": 1}, "ts_event=1 is before 2001"),
    ({"currency": "U S"}, "currency='U S'"),
    ({"time_in_force": "DAY"}, "time_in_force='DAY' must be one of FIX's codes: 0, 1, 2"),
    ({"time_in_force": ""}, "time_in_force='' must be one of"),
    ({"ord_type": "LMT"}, "ord_type='LMT' must be one of FIX's codes: 1, 2, 3"),
    ({"note": "x" * 513}, "must be a string of at most 512 characters"),
]

BAD_REPORTS: list[tuple[dict[str, Any], str]] = [
    ({"exec_id": ""}, "exec_id=''"),
    ({"exec_type": "Q"}, "exec_type='Q' must be one of 0 NEW"),
    ({"trade_date": "2024-01-02"}, "trade_date='2024-01-02' must be a date like '20240131'"),
    ({"trade_date": "2024010٢"}, "must be a date"),
    ({"last_qty": Decimal(-1)}, "last_qty=-1 must be more than 0"),
    ({"last_qty": 0.5}, "last_qty=0.5 is a float"),
    ({"last_px": None}, "must have last_qty and last_px"),
    ({"exec_type": ExecType.TRADE_CANCEL}, "must have exec_ref_id"),
    ({"ts_recv": time_ns() + 3600 * 10**9}, "s in the future"),
    ({"ord_status": "5"}, "ord_status='5' must be one of"),
    ({"side": "x"}, "side='x' must be one of"),
    ({"venue": "X Y"}, "venue='X Y'"),
    ({"fee": Decimal("Infinity")}, "fee=Infinity must be a finite number"),
    ({"text": 5}, "text=5 must be a string"),
    ({"text": "\ud800"}, "encodable as UTF-8"),
    ({"trade_date": "20240230"}, "trade_date='20240230' must be a date"),
    # What is written must be read again, or no reader of the events gets beyond it.
    ({"restatement_reason": 0}, "restatement_reason=0 must be a string"),
    ({"ord_type": None}, "ord_type=None must be a string"),
    ({"time_in_force": 1}, "time_in_force=1 must be a string"),
    ({"venue": None}, "venue=None"),
    ({"orig_cl_ord_id": 0}, "orig_cl_ord_id=0"),
    ({"fee_currency": None}, "fee_currency=None"),
    ({"ref_trade_date": None}, "ref_trade_date=None"),
    ({"multiplier": None}, "multiplier=None"),
]

BAD_REJECTS: list[tuple[dict[str, Any], str]] = [
    ({"trade_date": "1"}, "trade_date='1'"),
    ({"ord_status": "5"}, "ord_status='5' must be one of"),
    ({"reason": 1}, "reason=1 must be a string"),
    ({"venue": None}, "venue=None"),
]


async def test_bad_input_is_named_and_nothing_is_written(
    orders: Orders, admin: redis.Redis
) -> None:
    for fields, text in BAD_ORDERS:
        given: dict[str, Any] = {
            "cl_ord_id": "X",
            "instrument": "ABC",
            "side": "1",
            "order_qty": 1,
        }
        with pytest.raises(InvalidValue) as caught:
            await orders.place(**{**given, **fields})
        assert text in str(caught.value)
    for fields, text in BAD_REPORTS:
        with pytest.raises(InvalidValue) as caught:
            await orders.apply(fill("X", 1, 1, **fields))
        assert text in str(caught.value)
    with pytest.raises(InvalidValue, match=r"price=0\.5 is a float"):
        await orders.replace("X", cl_ord_id="Y", price=0.5)  # type: ignore[arg-type]  # refused
    for fields, text in BAD_REJECTS:
        with pytest.raises(InvalidValue) as caught:
            await orders.apply_reject(replace(reject("X"), **fields))
        assert text in str(caught.value)
    wrong: Any
    for wrong in (None, "X", 7, []):
        with pytest.raises(InvalidValue, match="must be an ExecutionReport"):
            await orders.apply(wrong)
        with pytest.raises(InvalidValue, match="must be a CancelReject"):
            await orders.apply_reject(wrong)
    for none in (None, 7, fill("X", 1, 1)):
        with pytest.raises(InvalidValue, match=r"^reports=.* must be a series"):
            await orders.apply_all(cast(Any, none))
    (told,) = await orders.apply_all(cast(Any, [None]))
    assert isinstance(told, InvalidValue)
    for long in ("x" * 100_000, 10**5000, Decimal(10**90)):
        for name in ("cl_ord_id", "instrument", "side", "order_qty", "note", "ts_event"):
            terms = {"cl_ord_id": "X", "instrument": "ABC", "side": "1", "order_qty": 1}
            with pytest.raises(InvalidValue) as caught:
                await orders.place(**cast(Any, {**terms, name: long}))
            assert len(str(caught.value)) < 500
    for page in (0, -1, 1.5):
        with pytest.raises(InvalidValue, match=r"^page="):
            await anext(orders.open_orders(page=page))  # type: ignore[arg-type]  # refused
    assert admin.dbsize() == 0


async def test_words_of_fix_are_taken_as_they_are_on_the_wire(orders: Orders) -> None:
    await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty="10")
    plain: Any = {"exec_type": "F", "last_qty": "4", "last_px": 3, "ord_status": "1", "side": "1"}
    assert figures(await orders.apply(report("X", **plain))) == ("1", "4", "6", "3")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"account": "{A}"}, "account='{A}'"),
        ({"prefix": "a b"}, "prefix='a b'"),
        ({"retention": 0}, "retention=0 must be an int: seconds"),
        ({"retention": 2**62}, "must be an int: seconds, 1 to 3153600000 (a century)"),
        ({"outbox": 1.5}, "outbox=1.5 must be an int: events"),
        ({"outbox": 10**20}, "outbox=100000000000000000000 must be an int: events, 1 to 10000"),
        ({"overfill": "clamp"}, "overfill='clamp' must be one of refuse, apart"),
        ({"method": "lifo"}, "method='lifo' must be one of average, fifo"),
        ({"encoding": "pickle"}, "encoding='pickle' must be one of json, msgpack"),
    ],
)
async def test_settings_that_cannot_be(
    server: EmbeddedServer, options: dict[str, Any], text: str
) -> None:
    async with pool_at(server) as pool:
        with pytest.raises(InvalidValue) as caught:
            Orders(pool, **{"account": "A", **options})
        assert text in str(caught.value)


async def test_closed_is_closed(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (_, orders):
        placing = asyncio.ensure_future(
            orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=1)
        )
        await asyncio.sleep(0)
        await orders.close()
        assert (await placing).id == "X"
        with pytest.raises(LedgerClosed, match="the orders of A are closed"):
            await place(orders, "Y")
        assert repr(orders).startswith("<Orders A <Ledger ord:{A}: waiting=0 cached=")


def test_errors_are_of_one_family() -> None:
    for kind in (Conflict, IllegalTransition, Overfill, UnknownOrder, UnknownExecution):
        assert issubclass(kind, TradingError)
