"""What becomes of an order: a pure function from an order and an event to the order after it.

How it works. An order carries the sums over its live executions, the requests that are pending, and
two flags, for being closed (3, 4, 8, B, C) and halted (7, 9). An event changes these; the status
then follows from them, by FIX's precedence, and is never set by itself. So a bust that comes while
a cancel is pending moves the quantities and leaves the status, as the standard wants it, without a
rule of its own.

What is illegal raises, and changes nothing. Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from redisutils.trading.errors import IllegalTransition, UnknownOrder
from redisutils.trading.orders.changes import (
    MAX_PENDING,
    apply_reject,
    closes,
    halts,
    new,
    pending_new,
    pends,
    replaced,
    request,
    restated,
    triggered,
)
from redisutils.trading.orders.executions import bust, correct, overfilled, trade
from redisutils.trading.orders.records import ExecutionReport, Fill, Order
from redisutils.trading.orders.states import (
    PENDING,
    Handler,
    OverfillPolicy,
    Step,
    heard,
    refuse,
    settled,
)
from redisutils.trading.orders.terms import FINAL, LEGAL_FROM, ExecType, OrdStatus

__all__ = [
    "MAX_PENDING",
    "OPENING",
    "OverfillPolicy",
    "Step",
    "apply",
    "apply_reject",
    "request",
    "settled",
]

_S = OrdStatus


def apply(
    order: Order | None,
    report: ExecutionReport,
    fill: Fill | None = None,
    overfill: OverfillPolicy = "refuse",
) -> Step:
    """The order after an execution report.

    :param order: the order before it; None if none is known by its ClOrdIDs.
    :param fill: for busts and corrections, the execution that is meant.
    :param overfill: what to do with an execution beyond the order's quantity: ``"refuse"`` it, or
        record it ``"apart"``, in ``overfill_qty`` and neither in CumQty nor in the position.
    :raises UnknownOrder: there is none, and the report lacks what it takes to open one.
    :raises IllegalTransition: an order in this status cannot have this.
    :raises Overfill: more would be executed than was ordered.
    """
    kind = report.exec_type
    if order is None:
        order = _opened_by(report)
    elif kind is ExecType.ORDER_STATUS:
        return Step(order)
    elif _is_about_another(report):
        return Step(heard(order, report))
    elif order.status not in LEGAL_FROM[kind] and not _is_legal_beside(order, kind, fill):
        if kind is ExecType.TRADE and order.status is _S.FILLED:
            return overfilled(order, report, overfill)
        refuse(order, kind.name, f"no {kind.name} ({kind.value}) comes in this status")
    return _HANDLERS[kind](order, report, fill, overfill)


def _opened_by(report: ExecutionReport) -> Order:
    """An order that was not placed here: by telephone, say."""
    if report.exec_type not in OPENING:
        raise IllegalTransition(
            f"{report.exec_type.name} of an order that nobody placed, {report.cl_ord_id!r}: only "
            "PENDING_NEW, NEW or REJECTED can be the first of an order",
            order_id=report.cl_ord_id,
            event=report.exec_type.name,
            why="unknown order",
        )
    if not report.instrument or report.side is None or report.order_qty is None:
        raise UnknownOrder(
            f"{report.exec_type.name} {report.exec_id!r}: no order has ClOrdID "
            f"{report.cl_ord_id!r}; with instrument, side and order_qty it would open one"
        )
    return Order(
        id=report.cl_ord_id,
        cl_ord_id=report.cl_ord_id,
        instrument=report.instrument,
        side=report.side,
        order_qty=report.order_qty,
        price=report.price,
        ord_type=report.ord_type,
        time_in_force=report.time_in_force,
        currency=report.currency,
        multiplier=report.multiplier,
        venue=report.venue,
        ts_placed=report.ts_event,
    )


OPENING = (ExecType.PENDING_NEW, ExecType.NEW, ExecType.REJECTED)
"""What can be the first report of an order that was not placed here."""


def _is_about_another(report: ExecutionReport) -> bool:
    """A rejection that tells the status of a living order is about a second order that used its
    ClOrdID (matrices F.1)."""
    return report.exec_type is ExecType.REJECTED and report.ord_status not in (None, _S.REJECTED)


def _is_legal_beside(order: Order, kind: ExecType, fill: Fill | None) -> bool:
    """What more than the status decides."""
    if kind in (ExecType.TRADE_CANCEL, ExecType.TRADE_CORRECT):
        return fill is not None and fill.apart  # it never moved the order
    if kind in (ExecType.NEW, ExecType.REJECTED):
        return not order.acknowledged and order.status in PENDING
    if kind is ExecType.REPLACED and order.closed not in FINAL:
        return any(one.replaces and one.told for one in order.pending)
    return kind in _ENDING_OR_PENDING and order.status is _S.DONE_FOR_DAY and order.is_multi_day


_ENDING_OR_PENDING = (
    ExecType.PENDING_CANCEL,
    ExecType.CANCELED,
    ExecType.PENDING_REPLACE,
    ExecType.REPLACED,
    ExecType.EXPIRED,
)


_HANDLERS: Mapping[ExecType, Handler] = MappingProxyType(
    {
        ExecType.PENDING_NEW: pending_new,
        ExecType.NEW: new,
        ExecType.REJECTED: closes(_S.REJECTED),
        ExecType.TRADE: trade,
        ExecType.TRADE_CANCEL: bust,
        ExecType.TRADE_CORRECT: correct,
        ExecType.PENDING_CANCEL: pends(replaces=False),
        ExecType.CANCELED: closes(_S.CANCELED),
        ExecType.PENDING_REPLACE: pends(replaces=True),
        ExecType.REPLACED: replaced,
        ExecType.DONE_FOR_DAY: closes(_S.DONE_FOR_DAY),
        ExecType.EXPIRED: closes(_S.EXPIRED),
        ExecType.STOPPED: halts(_S.STOPPED),
        ExecType.SUSPENDED: halts(_S.SUSPENDED),
        ExecType.RESTATED: restated,
        ExecType.CALCULATED: closes(_S.CALCULATED),
        ExecType.TRIGGERED: triggered,
    }
)
