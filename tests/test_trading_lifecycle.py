"""An order's states: FIX's matrices, what is illegal, and what holds after any events."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from redisutils.trading.errors import IllegalTransition, InvalidValue, Overfill, UnknownOrder
from redisutils.trading.orders.drift import drift
from redisutils.trading.orders.lifecycle import (
    MAX_PENDING,
    apply,
    apply_reject,
    request,
)
from redisutils.trading.orders.records import CancelReject, ExecutionReport, Fill, Order, Pending
from redisutils.trading.orders.terms import (
    FINAL,
    LEGAL_FROM,
    ExecType,
    OrdStatus,
    Side,
)

from .fix_scenarios import SCENARIOS

NOW = 1_700_000_000_000_000_000
ROW = re.compile(
    r"(?P<kind>\w) (?P<status>\w) (?P<qty>\d+) (?P<cum>\d+) (?P<leaves>\d+)"
    r"(?: last (?P<last>\d+))?(?: @ (?P<px>[\d.]+))?(?: id (?P<id>\w+))?(?: ref (?P<ref>\w+))?"
    r"(?: by (?P<by>\w)(?:,(?P<orig>\w))?)?(?: avg (?P<avg>[\d.]+))?"
)


def placed(**fields: Any) -> Order:
    given = {
        "id": "X",
        "cl_ord_id": "X",
        "instrument": "ABC",
        "side": Side.BUY,
        "order_qty": Decimal(10000),
    }
    return Order(**{**given, **fields})


def report(kind: ExecType, exec_id: str = "1", **fields: Any) -> ExecutionReport:
    given = {
        "exec_id": exec_id,
        "exec_type": kind,
        "cl_ord_id": "X",
        "trade_date": "20240102",
        "ts_event": NOW,
        "ts_recv": NOW,
    }
    return ExecutionReport(**{**given, **fields})


def rejected(cl_ord_id: str) -> CancelReject:
    return CancelReject(cl_ord_id=cl_ord_id, trade_date="20240102", ts_event=NOW, ts_recv=NOW)


class Story:
    """Plays the rows of a scenario."""

    def __init__(self) -> None:
        self.order: Order | None = None
        self.fills: dict[str, Fill] = {}
        self.roots: dict[str, str] = {}

    def play(self, row: str) -> None:
        if row.startswith("? "):
            before = self.order, dict(self.fills), dict(self.roots)
            self.play(row[2:])
            self.order, self.fills, self.roots = before
            return
        words = row.split()
        if words[0] == "place":
            self.order = _placed_by(words[1:])
        elif words[0] in ("replace", "cancel"):
            assert self.order
            quantity = Decimal(words[2]) if words[0] == "replace" else None
            asked = Pending(cl_ord_id=words[1], replaces=bool(quantity), order_qty=quantity)
            before_it = self.order.status
            self.order = request(self.order, asked)
            assert self.order.status is before_it, "a request alone changes no status"
        elif words[0] == "reject":
            assert self.order
            self.order = apply_reject(self.order, rejected(words[1]))
            assert self.order.status == words[2], f"{self.order.status.name} after {row!r}"
        else:
            self.report(row)

    def report(self, row: str) -> None:
        told = ROW.fullmatch(row)
        assert told, f"{row!r} is no row"
        kind, exec_id = ExecType(told["kind"]), told["id"] or f"#{len(self.roots)}"
        message = report(
            kind,
            exec_id,
            cl_ord_id=told["by"] or "X",
            orig_cl_ord_id=told["orig"] or "",
            exec_ref_id=told["ref"] or "",
            instrument="ABC",
            side=Side.BUY,
            order_qty=Decimal(told["qty"]),
            cum_qty=Decimal(told["cum"]),
            leaves_qty=Decimal(told["leaves"]),
            ord_status=OrdStatus(told["status"]),
            avg_px=Decimal(told["avg"]) if told["avg"] else None,
            last_qty=Decimal(told["last"]) if told["last"] else None,
            last_px=Decimal(told["px"] or 100) if told["last"] else None,
            restatement_reason="0" if kind is ExecType.RESTATED else "",
        )
        root = self.roots[told["ref"]] if told["ref"] else exec_id
        step = apply(self.order, message, self.fills.get(root) if told["ref"] else None)
        self.order = step.order
        self.roots[exec_id] = root
        if step.fill:
            self.fills[root] = step.fill
        assert drift(step.order, message) == (), row
        live = [fill for fill in self.fills.values() if fill.live]
        if not step.order.splits:
            assert step.order.cum_qty == sum(fill.qty for fill in live)
            assert step.order.notional == sum(fill.qty * fill.px for fill in live)


def _placed_by(words: list[str]) -> Order:
    if words[0] == "cash":
        return placed(order_qty=Decimal(0), cash_order_qty=Decimal(words[1]))
    return placed(order_qty=Decimal(words[0]), time_in_force=TIMES_IN_FORCE[" ".join(words[1:])])


TIMES_IN_FORCE = {"": "0", "gtc": "1", "ioc": "3", "fok": "4"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_matrices(name: str) -> None:
    story = Story()
    for row in SCENARIOS[name].strip().splitlines():
        story.play(row.strip())


def test_a_replacement_that_executions_overtook_is_amended_to_them() -> None:
    """As in matrix C.3.c, of a venue that leaves out the quantity."""
    order = apply(placed(), report(ExecType.NEW)).order
    order = request(order, Pending(cl_ord_id="Y", replaces=True, order_qty=Decimal(7000)))
    order = apply(order, trade(8000)).order
    order = apply(order, report(ExecType.REPLACED, cl_ord_id="Y", orig_cl_ord_id="X")).order
    assert order.status is OrdStatus.FILLED
    assert (order.order_qty, order.leaves_qty) == (Decimal(8000), Decimal(0))


# -- what is illegal ---------------------------------------------------------------------------


def in_status(status: OrdStatus) -> Order:
    """An order of 10000 that came to a status by reports."""
    new = apply(placed(), report(ExecType.NEW)).order
    part = apply(new, trade(1000)).order
    roads: dict[OrdStatus, Any] = {
        OrdStatus.PENDING_NEW: placed,
        OrdStatus.NEW: lambda: new,
        OrdStatus.PARTIALLY_FILLED: lambda: part,
        OrdStatus.FILLED: lambda: apply(new, trade(10000)).order,
        OrdStatus.REJECTED: lambda: apply(placed(), report(ExecType.REJECTED)).order,
        OrdStatus.CALCULATED: lambda: (
            apply(apply(new, trade(10000)).order, report(ExecType.CALCULATED)).order
        ),
    }
    if status in roads:
        order: Order = roads[status]()
    else:
        order = apply(new, report(ExecType(status.value), cl_ord_id="Y")).order
    assert order.status is status
    return order


def trade(quantity: int, price: int = 100, exec_id: str = "T") -> ExecutionReport:
    return report(ExecType.TRADE, exec_id, last_qty=Decimal(quantity), last_px=Decimal(price))


# The table as the rules give it: by ExecType, the statuses it comes in. Written anew, so that
# neither table can change alone.
RULES = {
    "A": "A",
    "0": "A",
    "8": "A 0",
    "F": "A 0 1 7 9 6 E 4 C 3",
    "H": "1 2 3 4 6 7 9 B C E",
    "G": "1 2 3 4 6 7 9 B C E",
    "6": "A 0 1 6 7 9 E",
    "4": "A 0 1 6 7 9 E",
    "E": "0 1 2 6 9 E",
    "5": "E 0 1 2",
    "3": "0 1",
    "C": "A 0 1 6 9 E",
    "7": "0 1",
    "9": "0 1",
    "D": "0 1 3 7 9",
    "B": "2 3",
    "L": "A 0 6 9 E",
    "I": "A 0 1 2 3 4 6 7 8 9 B C E",
}


@pytest.mark.parametrize("status", OrdStatus)
@pytest.mark.parametrize("kind", ExecType)
def test_every_transition_is_legal_or_says_why_not(kind: ExecType, status: OrdStatus) -> None:
    order = in_status(status)
    message = report(
        kind, "N", cl_ord_id="Y", exec_ref_id="T", last_qty=Decimal(1), last_px=Decimal(1)
    )
    fill = Fill(order_id="X", qty=Decimal(1), px=Decimal(1))
    legal = status.value in RULES[kind.value].split()
    if kind in (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT) and not order.cum_qty:
        fill = Fill(order_id="X", qty=Decimal(0), px=Decimal(1))
    if legal:
        apply(order, message, fill)
        return
    with pytest.raises(IllegalTransition) as caught:
        apply(order, message, fill)
    error = caught.value
    assert (error.order_id, error.status, error.event) == ("X", status.name, kind.name)
    assert "'X'" in str(error)
    assert status.name in str(error)
    assert error.why in str(error)


def test_the_tables_name_every_execution() -> None:
    assert set(LEGAL_FROM) == set(ExecType) == set(map(ExecType, RULES))


def test_what_is_acknowledged_is_not_acknowledged_again() -> None:
    pending = apply(in_status(OrdStatus.NEW), report(ExecType.PENDING_CANCEL, cl_ord_id="Y")).order
    with pytest.raises(IllegalTransition, match="from PENDING_CANCEL to NEW"):
        apply(pending, report(ExecType.NEW))


def test_what_was_executed_cannot_be_rejected() -> None:
    busted = apply(
        in_status(OrdStatus.PARTIALLY_FILLED),
        report(ExecType.TRADE_CANCEL, exec_ref_id="T"),
        Fill(order_id="X", qty=Decimal(1000), px=Decimal(100)),
    ).order
    assert busted.status is OrdStatus.NEW
    assert apply(busted, report(ExecType.REJECTED)).order.status is OrdStatus.REJECTED


def test_only_three_reports_begin_an_order() -> None:
    for kind in ExecType:
        if kind in (ExecType.PENDING_NEW, ExecType.NEW, ExecType.REJECTED):
            with pytest.raises(UnknownOrder, match="with instrument, side and order_qty it would"):
                apply(None, report(kind))
            continue
        with pytest.raises(IllegalTransition, match="of an order that nobody placed, 'X'"):
            apply(None, report(kind, last_qty=Decimal(1), last_px=Decimal(1)))


@pytest.mark.parametrize(("tif", "is_open"), [("0", False), ("1", True), ("6", True), ("C", True)])
def test_only_what_is_for_longer_lives_on_when_it_is_done_for_day(tif: str, is_open: bool) -> None:
    order = apply(placed(time_in_force=tif), report(ExecType.NEW)).order
    done = apply(order, report(ExecType.DONE_FOR_DAY)).order
    assert (done.is_open, bool(done.leaves_qty)) == (is_open, is_open)


@pytest.mark.parametrize(
    ("told", "tif", "status"),
    [("4", "3", "4"), ("C", "4", "C"), ("4", "0", "1"), ("1", "3", "1"), ("2", "3", "1")],
)
def test_only_what_never_rests_ends_with_its_execution(told: str, tif: str, status: str) -> None:
    order = apply(placed(time_in_force=tif), report(ExecType.NEW)).order
    done = replace(trade(1000), ord_status=OrdStatus(told))
    after = apply(order, done).order
    assert after.status == status
    assert after.leaves_qty == (9000 if status == "1" else 0)
    assert bool(drift(after, done)) == (told != status)


@pytest.mark.parametrize("quantity", [10001, 9001])
def test_more_than_was_ordered_is_refused_or_recorded_apart(quantity: int) -> None:
    part = in_status(OrdStatus.PARTIALLY_FILLED)
    with pytest.raises(Overfill, match="more than 1000 of 10000 would be executed"):
        apply(part, trade(quantity))
    apart = apply(part, trade(quantity, exec_id="O"), overfill="apart")
    assert not apart.moves
    assert apart.fill is not None
    assert apart.fill.apart
    assert apart.order.cum_qty == 1000
    assert apart.order.overfill_qty == quantity
    assert apart.order.status is OrdStatus.PARTIALLY_FILLED
    smaller = apply(
        apart.order,
        report(ExecType.TRADE_CORRECT, last_qty=Decimal(7), last_px=Decimal(1)),
        apart.fill,
        "apart",
    )
    assert smaller.order.cum_qty == 1000
    assert smaller.order.overfill_qty == 7
    busted = apply(smaller.order, report(ExecType.TRADE_CANCEL), smaller.fill)
    assert busted.order.cum_qty == 1000
    assert busted.order.overfill_qty == 0


def test_a_filled_order_that_trades_is_overfilled() -> None:
    filled = in_status(OrdStatus.FILLED)
    with pytest.raises(Overfill):
        apply(filled, trade(1))
    assert apply(filled, trade(1), overfill="apart").order.overfill_qty == 1


def test_corrections_that_overfill_are_refused_whatever_the_policy() -> None:
    filled = in_status(OrdStatus.FILLED)
    fill = Fill(order_id="X", qty=Decimal(10000), px=Decimal(100))
    more = report(ExecType.TRADE_CORRECT, last_qty=Decimal(10001), last_px=Decimal(100))
    with pytest.raises(Overfill):
        apply(filled, more, fill, "apart")


def test_busts_of_what_is_none() -> None:
    part = in_status(OrdStatus.PARTIALLY_FILLED)
    bust = report(ExecType.TRADE_CANCEL, exec_ref_id="T")
    with pytest.raises(InvalidValue, match="must have the execution"):
        apply(part, bust)
    fill = Fill(order_id="X", qty=Decimal(1000), px=Decimal(100))
    with pytest.raises(IllegalTransition, match="'T' is of order 'W'"):
        apply(part, bust, replace(fill, order_id="W"))
    with pytest.raises(IllegalTransition, match="'T' was busted before"):
        apply(part, bust, replace(fill, live=False))
    with pytest.raises(InvalidValue, match="must have last_qty and last_px"):
        apply(part, report(ExecType.TRADE_CORRECT, exec_ref_id="T"), fill)


def test_executions_from_before_a_split_are_told_by_restatements_only() -> None:
    part = in_status(OrdStatus.PARTIALLY_FILLED)
    split = apply(
        part,
        report(
            ExecType.RESTATED,
            restatement_reason="0",
            order_qty=Decimal(20000),
            cum_qty=Decimal(2000),
        ),
    ).order
    assert split.cum_qty == 2000
    assert split.leaves_qty == 18000
    assert split.avg_px == 50
    old = Fill(order_id="X", qty=Decimal(1000), px=Decimal(100))
    with pytest.raises(IllegalTransition, match="from before the order's quantities were restated"):
        apply(split, report(ExecType.TRADE_CANCEL, exec_ref_id="T"), old)
    later = apply(split, trade(500))
    assert later.fill is not None
    assert apply(later.order, report(ExecType.TRADE_CANCEL), later.fill).order.cum_qty == 2000


@pytest.mark.parametrize("kind", [ExecType.REPLACED, ExecType.RESTATED])
def test_a_quantity_below_what_is_executed_is_none(kind: ExecType) -> None:
    with pytest.raises(IllegalTransition, match="its new quantity, 999, is less than the executed"):
        apply(in_status(OrdStatus.PARTIALLY_FILLED), report(kind, order_qty=Decimal(999)))


def test_requests_of_what_is_over() -> None:
    cancel = Pending(cl_ord_id="Y", replaces=False)
    larger = Pending(cl_ord_id="Y", replaces=True, order_qty=Decimal(20000))
    for status in FINAL:
        for asked in (cancel, larger):
            with pytest.raises(IllegalTransition, match="nothing is left of it"):
                request(in_status(status), asked)
    with pytest.raises(IllegalTransition, match="nothing is left of it"):
        request(in_status(OrdStatus.FILLED), cancel)
    assert request(in_status(OrdStatus.FILLED), larger).status is OrdStatus.FILLED
    with pytest.raises(InvalidValue, match="order_qty=999 of order 'X' must be at least"):
        request(
            in_status(OrdStatus.PARTIALLY_FILLED),
            Pending(cl_ord_id="Y", replaces=True, order_qty=Decimal(999)),
        )


def test_requests_that_wait_are_bounded() -> None:
    order = in_status(OrdStatus.NEW)
    for number in range(MAX_PENDING):
        order = request(order, Pending(cl_ord_id=f"Y{number}", replaces=False))
    with pytest.raises(IllegalTransition, match="16 requests are pending already"):
        request(order, Pending(cl_ord_id="Z", replaces=False))
    with pytest.raises(IllegalTransition, match="16 requests are pending already"):
        apply(order, report(ExecType.PENDING_REPLACE, cl_ord_id="Z"))
    assert apply(order, report(ExecType.PENDING_CANCEL, cl_ord_id="Y3")).order.pending


def test_rejects_of_what_nobody_asked() -> None:
    with pytest.raises(IllegalTransition, match="no request 'Y' of it is pending"):
        apply_reject(in_status(OrdStatus.NEW), rejected("Y"))


def test_prices_of_a_chain() -> None:
    order = request(
        in_status(OrdStatus.NEW), Pending(cl_ord_id="Y", replaces=True, price=Decimal("9.5"))
    )
    after = apply(order, report(ExecType.REPLACED, cl_ord_id="Y")).order
    assert after.cl_ord_id == "Y"
    assert after.price == Decimal("9.5")
    assert after.order_qty == 10000
    told = apply(order, report(ExecType.REPLACED, cl_ord_id="Y", price=Decimal(9))).order
    assert told.price == 9


# -- drift ---------------------------------------------------------------------------------------


def test_what_a_report_says_otherwise_is_told() -> None:
    part = apply(in_status(OrdStatus.NEW), trade(3, 100)).order
    part = apply(part, trade(4, 101)).order
    assert part.avg_px == Decimal("100.5714285714285714285714286")
    agrees = report(
        ExecType.ORDER_STATUS,
        ord_status=OrdStatus.PARTIALLY_FILLED,
        cum_qty=Decimal(7),
        leaves_qty=Decimal(9993),
        avg_px=Decimal("100.57"),
        order_qty=Decimal(10000),
    )
    assert drift(part, agrees) == ()
    assert apply(part, agrees).order.cum_qty == 7
    differs = replace(
        agrees, cum_qty=Decimal(8), avg_px=Decimal("100.59"), ord_status=OrdStatus.FILLED
    )
    assert drift(part, differs) == (
        "ord_status: FILLED by the report, PARTIALLY_FILLED by its executions",
        "cum_qty: 8 by the report, 7 by its executions",
        "avg_px: 100.59 by the report, 100.5714285714285714285714286 by its executions",
    )
    assert apply(part, differs).order == part


# -- whatever comes ------------------------------------------------------------------------------

amounts = st.decimals("0.001", 6000, places=3)
prices = st.decimals(-50, 50, places=2)
kinds = st.sampled_from(ExecType)
events = st.lists(
    st.tuples(kinds, st.sampled_from("XYZ"), st.integers(0, 30), amounts, prices, st.booleans()),
    max_size=30,
)


@settings(max_examples=300, deadline=None)
@given(events, st.sampled_from(["refuse", "apart"]), st.sampled_from("01"))
def test_any_sequence_of_reports(
    sequence: list[tuple[ExecType, str, int, Decimal, Decimal, bool]], policy: Any, tif: str
) -> None:
    order = placed(time_in_force=tif)
    fills: dict[int | None, Fill] = {}
    chains: list[int] = []
    for number, (kind, name, which, quantity, price, asks) in enumerate(sequence):
        ref = chains[which % len(chains)] if chains else None
        message = report(
            kind,
            str(number),
            cl_ord_id=name,
            last_qty=quantity,
            last_px=price,
            order_qty=quantity * 4 if kind is not ExecType.NEW else None,
        )
        try:
            if asks:
                order = request(order, Pending(cl_ord_id=name, replaces=which % 2 == 0))
            step = apply(order, message, fills.get(ref), policy)
        except IllegalTransition:
            continue
        except InvalidValue:
            assert kind in (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT)
            continue
        order = step.order
        if step.fill is not None:
            root = number if kind is ExecType.TRADE else ref
            assert root is not None
            fills[root] = step.fill
            chains += [root] if kind is ExecType.TRADE else []
        live = [fill for fill in fills.values() if fill.live and not fill.apart]
        assert order.cum_qty == sum(fill.qty for fill in live)
        assert order.notional == sum(fill.qty * fill.px for fill in live)
        assert order.overfill_qty == sum(f.qty for f in fills.values() if f.live and f.apart)
        assert 0 <= order.cum_qty <= order.order_qty
        over = order.closed in FINAL or (order.closed == "3" and tif == "0")
        assert order.leaves_qty == (0 if over else order.order_qty - order.cum_qty)
        if order.cum_qty:
            assert abs(order.avg_px * order.cum_qty - order.notional) < Decimal("1e-12")
        else:
            assert order.avg_px == 0
        moved = step.moves or step.gone is not None
        assert moved <= (kind.value in "FGH")
        done = order.status.value == "3" and (tif == "0" or not order.leaves_qty)
        assert order.is_open == (order.status.value not in "248BC" and not done)
