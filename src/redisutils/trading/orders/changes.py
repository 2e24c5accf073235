"""Acknowledgements, ends, halts and restatements; requests, and what becomes of them."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from redisutils.trading.errors import InvalidValue
from redisutils.trading.orders.records import CancelReject, ExecutionReport, Fill, Order, Pending
from redisutils.trading.orders.states import (
    Handler,
    OverfillPolicy,
    Step,
    check_covers,
    heard,
    refuse,
    settled,
)
from redisutils.trading.orders.terms import FINAL, OrdStatus

__all__ = [
    "MAX_PENDING",
    "apply_reject",
    "closes",
    "halts",
    "new",
    "pending_new",
    "pends",
    "replaced",
    "request",
    "restated",
    "triggered",
]

MAX_PENDING = 16
"""How many requests of one order may wait for an answer at a time, which bounds its record."""

_GT_CORPORATE_ACTION = "0"
"""ExecRestatementReason (378): quantities are restated, say after a split."""

_S = OrdStatus


def pending_new(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """The venue has it, and says nothing yet."""
    return Step(_named_by_venue(heard(order, report), report))


def new(order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy) -> Step:
    """The venue accepted it."""
    # Of an order for an amount of money, the venue says how many units that is.
    quantity = order.order_qty
    if not quantity and report.order_qty is not None:
        quantity = report.order_qty
    after = replace(heard(order, report), acknowledged=True, order_qty=quantity)
    return Step(settled(_named_by_venue(after, report)))


def triggered(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """What it waited for has come, and it works now, as any other (matrix E.1.f)."""
    return Step(settled(replace(heard(order, report), acknowledged=True)))


def _named_by_venue(order: Order, report: ExecutionReport) -> Order:
    if report.venue_order_id and report.venue_order_id != order.venue_order_id:
        return replace(order, venue_order_id=report.venue_order_id)
    return order


def closes(flag: OrdStatus) -> Handler:
    """What ends an order with this status."""

    def closing(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        if flag is _S.REJECTED and order.cum_qty:
            refuse(order, report.exec_type.name, f"{order.cum_qty} of it are executed")
        after = replace(
            heard(order, report), closed=flag.value, pending=_without(order, report.cl_ord_id)
        )
        return Step(settled(_named_by_venue(after, report)))

    return closing


def halts(flag: OrdStatus) -> Handler:
    """What stops or suspends an order."""

    def halting(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        return Step(settled(replace(heard(order, report), halted=flag.value)))

    return halting


def restated(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """Its terms are told anew; what it was halted or done for day by is over."""
    quantity = order.order_qty if report.order_qty is None else report.order_qty
    cum_qty, splits = order.cum_qty, order.splits
    if report.restatement_reason == _GT_CORPORATE_ACTION and report.cum_qty is not None:
        if bool(report.cum_qty) is not bool(cum_qty):
            refuse(order, "RESTATED", f"cum_qty={report.cum_qty} of {cum_qty} is no split")
        # What was paid stays; it is other units that it was paid for.
        splits += report.cum_qty != cum_qty
        cum_qty = report.cum_qty
    check_covers(order, "RESTATED", quantity, cum_qty)
    after = replace(
        heard(order, report),
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
        refuse(order, name, "nothing is left of it")
    if len(order.pending) >= MAX_PENDING:
        refuse(order, name, f"{MAX_PENDING} requests are pending already")
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
        refuse(order, "cancel reject", f"no request {reject.cl_ord_id!r} of it is pending")
    return settled(replace(heard(order, reject), pending=rest))


def pends(replaces: bool) -> Handler:
    """What says that a request to replace or to cancel is pending."""

    def pending(
        order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
    ) -> Step:
        asked = _asked(order, report.cl_ord_id, replaces)
        if asked is None and len(order.pending) >= MAX_PENDING:
            refuse(order, report.exec_type.name, f"{MAX_PENDING} requests are pending already")
        told = replace(asked or Pending(cl_ord_id=report.cl_ord_id, replaces=replaces), told=True)
        requests = (*_without(order, report.cl_ord_id), told)
        return Step(settled(replace(heard(order, report), pending=requests)))

    return pending


def replaced(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """A replacement was accepted: its ClOrdID is the chain's from now on."""
    asked = _asked(order, report.cl_ord_id, True)
    if asked is None:
        asked = Pending(cl_ord_id=report.cl_ord_id, replaces=True)
    quantity = report.order_qty
    if quantity is None:
        # What was executed since it was asked for cannot be taken back (matrix C.3.c).
        wanted = order.order_qty if asked.order_qty is None else asked.order_qty
        quantity = max(wanted, order.cum_qty)
    check_covers(order, "REPLACED", quantity, order.cum_qty)
    after = replace(
        heard(order, report),
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
