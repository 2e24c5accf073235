"""What all events of an order have to do with: its status, and refusing what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, NamedTuple, NoReturn

from msgspec.structs import replace

from redisutils.trading.errors import IllegalTransition
from redisutils.trading.money import ZERO
from redisutils.trading.orders.records import CancelReject, ExecutionReport, Fill, Order
from redisutils.trading.orders.terms import FINAL, PRECEDENCE, OrdStatus

__all__ = [
    "PENDING",
    "Handler",
    "OverfillPolicy",
    "Step",
    "check_covers",
    "heard",
    "refuse",
    "settled",
]

OverfillPolicy = Literal["refuse", "apart"]

_S = OrdStatus

PENDING = (_S.PENDING_CANCEL, _S.PENDING_REPLACE)
"""What a request makes the status, by whether it replaces."""


class Step(NamedTuple):
    """What an event makes of an order."""

    order: Order
    fill: Fill | None = None
    """The execution as it is now, if one is new or changed."""
    gone: Fill | None = None
    """The execution as it was that the position is to be without."""
    moves: bool = False
    """Whether the position gains ``fill``."""


Handler = Callable[[Order, ExecutionReport, Fill | None, OverfillPolicy], Step]
"""What an execution of some kind does: to an order, by a report, with the execution that a bust or
a correction is about, under a policy for overfills."""


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
        states += (PENDING[one.replaces] for one in order.pending if one.told)
        states += (OrdStatus(flag) for flag in (order.halted, order.closed) if flag)
        status = max(states, key=PRECEDENCE.__getitem__)
    return status


def heard(order: Order, event: ExecutionReport | CancelReject) -> Order:
    """The order, heard of at the event's moments."""
    return replace(order, ts_event=event.ts_event, ts_recv=event.ts_recv)


def check_covers(order: Order, event: str, quantity: Decimal, cum_qty: Decimal) -> None:
    """A new quantity is to be at least what is executed."""
    if quantity < cum_qty:
        refuse(order, event, f"its new quantity, {quantity}, is less than the executed {cum_qty}")


def refuse(order: Order, event: str, why: str) -> NoReturn:
    """An event that the order cannot have."""
    to = _TO.get(event, event)
    status = order.status.name
    cannot = f"cannot go from {status} to {to}" if to else f"in {status} cannot have a {event}"
    raise IllegalTransition(
        f"order {order.id!r} {cannot}: {why}",
        order_id=order.id,
        status=order.status.name,
        event=event,
        why=why,
    )


_TO = {
    "TRADE": "PARTIALLY_FILLED or FILLED",
    "TRADE_CANCEL": "",
    "TRADE_CORRECT": "",
    "cancel request": "PENDING_CANCEL",
    "replace request": "PENDING_REPLACE",
    "cancel reject": "",
}
"""For those events whose name is not that of the status they lead to; "" if that depends."""
