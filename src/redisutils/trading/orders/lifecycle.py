"""What becomes of an order: a pure function from an order and an event to the order after it.

How it works. An order carries the sums over its live executions, the requests that are pending, and
two flags, for being closed (3, 4, 8, B, C) and halted (7, 9). An event changes these; the status
then follows from them, by FIX's precedence, and is never set by itself. So a bust that comes while
a cancel is pending moves the quantities and leaves the status, as the standard wants it, without a
rule of its own.

What is illegal raises, and changes nothing. Nothing here reads a clock or does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Literal, NamedTuple, NoReturn

from msgspec.structs import replace

from redisutils.trading.errors import IllegalTransition, InvalidValue, Overfill
from redisutils.trading.money import ARITHMETIC, ZERO
from redisutils.trading.orders.records import (
    CancelReject,
    ExecutionReport,
    Fill,
    Order,
    Pending,
)
from redisutils.trading.orders.terms import (
    FINAL,
    LEGAL_FROM,
    PRECEDENCE,
    ExecType,
    OrdStatus,
)

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

OverfillPolicy = Literal["refuse", "apart"]

MAX_PENDING = 16
"""How many requests of one order may wait for an answer at a time, which bounds its record."""

_GT_CORPORATE_ACTION = "0"
"""ExecRestatementReason (378): quantities are restated, say after a split."""

_S = OrdStatus


class Step(NamedTuple):
    """What an event makes of an order."""

    order: Order
    fill: Fill | None = None
    """The execution as it is now, if one is new or changed."""
    trades: tuple[tuple[Decimal, Decimal], ...] = ()
    """What a position gains: quantities and their prices; a bust gives a negative quantity."""


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
    :raises IllegalTransition: an order in this status cannot have this.
    :raises Overfill: more would be executed than was ordered.
    """
    kind = report.exec_type
    if order is None:
        order = _opened_by(report)
    elif kind is ExecType.ORDER_STATUS or _is_about_another(report):
        return Step(_heard(order, report))
    elif order.status not in LEGAL_FROM[kind] and not _is_legal_beside(order, kind, fill):
        if kind is ExecType.TRADE and order.status is _S.FILLED:
            return _overfilled(order, report, overfill)
        _refuse(order, kind.name, f"no {kind.name} ({kind.value}) comes in this status")
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
        raise InvalidValue(
            f"{report.exec_type.name} of {report.cl_ord_id!r}, which was not placed here, must "
            "have instrument, side and order_qty"
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
    if kind is ExecType.NEW:
        return not order.acknowledged and order.status in _PENDING
    if kind is ExecType.REPLACED and order.closed not in FINAL:
        return any(one.replaces and one.told for one in order.pending)
    return kind in _ENDING_OR_PENDING and order.status is _S.DONE_FOR_DAY and order.is_multi_day


_PENDING = (_S.PENDING_CANCEL, _S.PENDING_REPLACE)
_ENDING_OR_PENDING = (
    ExecType.PENDING_CANCEL,
    ExecType.CANCELED,
    ExecType.PENDING_REPLACE,
    ExecType.REPLACED,
    ExecType.EXPIRED,
)


# -- status --------------------------------------------------------------------------------------


def settled(order: Order) -> Order:
    """The order with the status that follows from the rest of it."""
    status = _status(order)
    return order if status is order.status else replace(order, status=status)


def _status(order: Order) -> OrdStatus:
    if order.closed in FINAL:
        return OrdStatus(order.closed)
    if ZERO < order.order_qty <= order.cum_qty:
        status = _S.FILLED
    elif order.cum_qty:
        status = _S.PARTIALLY_FILLED
    else:
        status = _S.NEW if order.acknowledged else _S.PENDING_NEW
    if order.pending or order.halted or order.closed:
        states = [status]
        states += (_PENDING[one.replaces] for one in order.pending if one.told)
        states += (OrdStatus(flag) for flag in (order.halted, order.closed) if flag)
        status = max(states, key=PRECEDENCE.__getitem__)
    return status


def _heard(order: Order, event: ExecutionReport | CancelReject) -> Order:
    return replace(order, ts_event=event.ts_event, ts_recv=event.ts_recv)


# -- executions ----------------------------------------------------------------------------------


def _trade(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    quantity, price = _executed(report)
    cum_qty = ARITHMETIC.add(order.cum_qty, quantity)
    if cum_qty > order.order_qty and (order.order_qty or order.cash_order_qty is None):
        return _overfilled(order, report, overfill)
    notional = ARITHMETIC.add(order.notional, ARITHMETIC.multiply(quantity, price))
    after = replace(
        order,
        cum_qty=cum_qty,
        notional=notional,
        acknowledged=True,
        ts_event=report.ts_event,
        ts_recv=report.ts_recv,
    )
    executed = Fill(order_id=order.id, qty=quantity, px=price, splits=order.splits)
    return Step(settled(after), executed, ((quantity, price),))


def _overfilled(order: Order, report: ExecutionReport, policy: OverfillPolicy) -> Step:
    quantity, price = _executed(report)
    if policy == "refuse":
        why = (
            f"{quantity} more than {order.cum_qty} of {order.order_qty} would be executed; "
            'overfill="apart" would record it apart'
        )
        raise Overfill(
            f"{report.exec_type.name} {report.exec_id!r} of order {order.id!r} in "
            f"{order.status.name}: {why}",
            order_id=order.id,
            status=order.status.name,
            event=report.exec_type.name,
            why=why,
        )
    after = replace(
        _heard(order, report), overfill_qty=ARITHMETIC.add(order.overfill_qty, quantity)
    )
    return Step(after, Fill(order_id=order.id, qty=quantity, px=price, apart=True))


def _bust(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    meant = _meant(order, report, fill)
    busted = replace(meant, live=False)
    if meant.apart:
        rest = ARITHMETIC.subtract(order.overfill_qty, meant.qty)
        return Step(replace(_heard(order, report), overfill_qty=rest), busted)
    after = _moved(order, report, meant.qty.copy_negate(), _worth(meant).copy_negate())
    return Step(settled(after), busted, ((meant.qty.copy_negate(), meant.px),))


def _correct(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    meant = _meant(order, report, fill)
    quantity, price = _executed(report)
    corrected = replace(meant, qty=quantity, px=price)
    more = ARITHMETIC.subtract(quantity, meant.qty)
    if meant.apart:
        apart = ARITHMETIC.add(order.overfill_qty, more)
        return Step(replace(_heard(order, report), overfill_qty=apart), corrected)
    if ARITHMETIC.add(order.cum_qty, more) > order.order_qty and order.order_qty:
        # Which part of a correction would be the one apart? Nobody can say.
        return _overfilled(order, report, "refuse")
    worth = ARITHMETIC.subtract(_worth(corrected), _worth(meant))
    after = _moved(order, report, more, worth)
    return Step(settled(after), corrected, ((meant.qty.copy_negate(), meant.px), (quantity, price)))


def _moved(order: Order, report: ExecutionReport, more: Decimal, worth: Decimal) -> Order:
    return replace(
        order,
        cum_qty=ARITHMETIC.add(order.cum_qty, more),
        notional=ARITHMETIC.add(order.notional, worth),
        ts_event=report.ts_event,
        ts_recv=report.ts_recv,
    )


def _worth(fill: Fill) -> Decimal:
    return ARITHMETIC.multiply(fill.qty, fill.px)


def _executed(report: ExecutionReport) -> tuple[Decimal, Decimal]:
    if report.last_qty is None or report.last_px is None:
        raise InvalidValue(
            f"{report.exec_type.name} {report.exec_id!r} must have last_qty and last_px"
        )
    return report.last_qty, report.last_px


def _meant(order: Order, report: ExecutionReport, fill: Fill | None) -> Fill:
    name, ref = report.exec_type.name, report.exec_ref_id
    if fill is None:
        raise InvalidValue(f"{name} {report.exec_id!r} must have the execution that it is about")
    if fill.order_id != order.id:
        _refuse(order, name, f"execution {ref!r} is of order {fill.order_id!r}")
    if not fill.live:
        _refuse(order, name, f"execution {ref!r} was busted before")
    if fill.splits != order.splits and not fill.apart:
        _refuse(
            order,
            name,
            f"execution {ref!r} is from before the order's quantities were restated: what it is in "
            "today's units, only another restatement can say",
        )
    return fill


# -- acknowledgement and end ---------------------------------------------------------------------


def _pending_new(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    return Step(_named_by_venue(_heard(order, report), report))


def _new(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    # Of an order for an amount of money, the venue says how many units that is.
    quantity = order.order_qty
    if not quantity and report.order_qty is not None:
        quantity = report.order_qty
    after = replace(_heard(order, report), acknowledged=True, order_qty=quantity)
    return Step(settled(_named_by_venue(after, report)))


def _named_by_venue(order: Order, report: ExecutionReport) -> Order:
    if report.venue_order_id and report.venue_order_id != order.venue_order_id:
        return replace(order, venue_order_id=report.venue_order_id)
    return order


def _closes(flag: OrdStatus) -> _Handler:
    def closing(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        if flag is _S.REJECTED and order.cum_qty:
            _refuse(order, report.exec_type.name, f"{order.cum_qty} of it are executed")
        after = replace(
            _heard(order, report), closed=flag.value, pending=_without(order, report.cl_ord_id)
        )
        return Step(settled(_named_by_venue(after, report)))

    return closing


def _halts(flag: OrdStatus) -> _Handler:
    def halting(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        return Step(settled(replace(_heard(order, report), halted=flag.value)))

    return halting


def _restated(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """Its terms are told anew; what it was halted or done for day by is over."""
    quantity = order.order_qty if report.order_qty is None else report.order_qty
    cum_qty, splits = order.cum_qty, order.splits
    if report.restatement_reason == _GT_CORPORATE_ACTION and report.cum_qty is not None:
        if bool(report.cum_qty) is not bool(cum_qty):
            _refuse(order, "RESTATED", f"cum_qty={report.cum_qty} of {cum_qty} is no split")
        # What was paid stays; it is other units that it was paid for.
        splits += report.cum_qty != cum_qty
        cum_qty = report.cum_qty
    _check_covers(order, "RESTATED", quantity, cum_qty)
    after = replace(
        _heard(order, report),
        order_qty=quantity,
        price=order.price if report.price is None else report.price,
        cum_qty=cum_qty,
        splits=splits,
        halted="",
        closed="",
    )
    return Step(settled(after))


# -- requests ------------------------------------------------------------------------------------


def request(order: Order, asked: Pending) -> Order:
    """The order with a request to cancel or replace it, sent to the venue but not answered.

    Its status stays as it is until the venue says that the request is pending.

    :raises IllegalTransition: nothing is left to cancel; the order is closed; too many requests
        are pending.
    :raises InvalidValue: the new quantity is less than what is executed already.
    """
    name = "replace request" if asked.replaces else "cancel request"
    done = order.status is _S.FILLED and not asked.replaces
    if done or order.status in FINAL or order.closed in FINAL:
        _refuse(order, name, "nothing is left of it")
    if len(order.pending) >= MAX_PENDING:
        _refuse(order, name, f"{MAX_PENDING} requests are pending already")
    if asked.order_qty is not None and asked.order_qty < order.cum_qty:
        raise InvalidValue(
            f"order_qty={asked.order_qty} of order {order.id!r} must be at least what is executed, "
            f"{order.cum_qty}"
        )
    return settled(replace(order, pending=(*order.pending, asked)))


def apply_reject(order: Order, reject: CancelReject) -> Order:
    """The order after one of its requests was refused.

    :raises IllegalTransition: it has no such request.
    """
    rest = _without(order, reject.cl_ord_id)
    if len(rest) == len(order.pending):
        _refuse(order, "cancel reject", f"no request {reject.cl_ord_id!r} of it is pending")
    return settled(replace(_heard(order, reject), pending=rest))


def _pends(replaces: bool) -> _Handler:
    def pending(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        asked = _asked(order, report.cl_ord_id, replaces)
        if asked is None and len(order.pending) >= MAX_PENDING:
            _refuse(order, report.exec_type.name, f"{MAX_PENDING} requests are pending already")
        told = replace(asked or Pending(cl_ord_id=report.cl_ord_id, replaces=replaces), told=True)
        requests = (*_without(order, report.cl_ord_id), told)
        return Step(settled(replace(_heard(order, report), pending=requests)))

    return pending


def _replaced(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    asked = _asked(order, report.cl_ord_id, True)
    if asked is None:
        asked = Pending(cl_ord_id=report.cl_ord_id, replaces=True)
    quantity = _first_of(report.order_qty, asked.order_qty)
    if quantity is None:
        quantity = order.order_qty
    _check_covers(order, "REPLACED", quantity, order.cum_qty)
    after = replace(
        _heard(order, report),
        cl_ord_id=report.cl_ord_id,
        order_qty=quantity,
        price=_first_of(report.price, asked.price, order.price),
        acknowledged=True,
        closed="",
        pending=_without(order, report.cl_ord_id),
    )
    return Step(settled(_named_by_venue(after, report)))


def _first_of(*numbers: Decimal | None) -> Decimal | None:
    return next((one for one in numbers if one is not None), None)


def _asked(order: Order, cl_ord_id: str, replaces: bool) -> Pending | None:
    for one in order.pending:
        if one.cl_ord_id == cl_ord_id and one.replaces is replaces:
            return one
    return None


def _without(order: Order, cl_ord_id: str) -> tuple[Pending, ...]:
    if not order.pending:
        return ()
    return tuple(one for one in order.pending if one.cl_ord_id != cl_ord_id)


def _check_covers(order: Order, event: str, quantity: Decimal, cum_qty: Decimal) -> None:
    if quantity < cum_qty:
        _refuse(order, event, f"its new quantity, {quantity}, is less than the executed {cum_qty}")


def _refuse(order: Order, event: str, why: str) -> NoReturn:
    raise IllegalTransition(
        f"order {order.id!r} cannot go from {order.status.name} to {_TO.get(event, event)}: {why}",
        order_id=order.id,
        status=order.status.name,
        event=event,
        why=why,
    )


_TO = {
    "TRADE": "PARTIALLY_FILLED or FILLED",
    "TRADE_CANCEL": "what it was without an execution",
    "TRADE_CORRECT": "what it is with another execution",
    "cancel request": "PENDING_CANCEL",
    "replace request": "PENDING_REPLACE",
    "cancel reject": "what it was before its request",
}
"""For those events whose name is not that of the status they lead to."""

_Handler = Callable[[Order, ExecutionReport, Fill | None, OverfillPolicy], Step]

_HANDLERS: Mapping[ExecType, _Handler] = MappingProxyType(
    {
        ExecType.PENDING_NEW: _pending_new,
        ExecType.NEW: _new,
        ExecType.REJECTED: _closes(_S.REJECTED),
        ExecType.TRADE: _trade,
        ExecType.TRADE_CANCEL: _bust,
        ExecType.TRADE_CORRECT: _correct,
        ExecType.PENDING_CANCEL: _pends(replaces=False),
        ExecType.CANCELED: _closes(_S.CANCELED),
        ExecType.PENDING_REPLACE: _pends(replaces=True),
        ExecType.REPLACED: _replaced,
        ExecType.DONE_FOR_DAY: _closes(_S.DONE_FOR_DAY),
        ExecType.EXPIRED: _closes(_S.EXPIRED),
        ExecType.STOPPED: _halts(_S.STOPPED),
        ExecType.SUSPENDED: _halts(_S.SUSPENDED),
        ExecType.RESTATED: _restated,
        ExecType.CALCULATED: _closes(_S.CALCULATED),
    }
)
