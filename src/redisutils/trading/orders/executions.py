"""Trades, busts and corrections: what moves an order's quantities."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from redisutils.trading.errors import InvalidValue, Overfill
from redisutils.trading.money import ARITHMETIC, ZERO
from redisutils.trading.orders.records import ExecutionReport, Fill, Order
from redisutils.trading.orders.states import OverfillPolicy, Step, heard, refuse, settled
from redisutils.trading.orders.terms import IMMEDIATE, OrdStatus

__all__ = ["bust", "correct", "overfilled", "trade"]


def trade(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """Something was executed."""
    quantity, price = _executed(report)
    cum_qty = ARITHMETIC.add(order.cum_qty, quantity)
    if not order.order_qty and report.order_qty:  # which New has not told, of an amount of money
        order = replace(order, order_qty=report.order_qty)
    if cum_qty > order.order_qty and (order.order_qty or order.cash_order_qty is None):
        return overfilled(order, report, overfill)
    notional = ARITHMETIC.add(order.notional, ARITHMETIC.multiply(quantity, price))
    after = replace(
        order,
        cum_qty=cum_qty,
        notional=notional,
        acknowledged=True,
        closed=_closed(order, report),
        ts_event=report.ts_event,
        ts_recv=report.ts_recv,
    )
    executed = Fill(order_id=order.id, qty=quantity, px=price, splits=order.splits)
    return Step(settled(after), executed, moves=True)


def _closed(order: Order, report: ExecutionReport) -> str:
    """Exchanges say in one report what was executed of an order at once, and that the rest of it is
    gone (volume 7, matrix I.1.b for exchanges). And since the restatement of a multi-day order in
    the morning is optional (matrices H.1), it may be its next execution that says that it is no
    longer done for day."""
    status = report.ord_status
    if status in (OrdStatus.CANCELED, OrdStatus.EXPIRED) and order.time_in_force in IMMEDIATE:
        return status.value
    if order.closed == OrdStatus.DONE_FOR_DAY and order.is_multi_day and status in _TRADED:
        return ""
    return order.closed


_TRADED = (OrdStatus.PARTIALLY_FILLED, OrdStatus.FILLED)


def overfilled(order: Order, report: ExecutionReport, policy: OverfillPolicy) -> Step:
    """More was executed than was ordered: refused, or recorded apart.

    :raises Overfill: by the policy, it is refused.
    """
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
    after = replace(heard(order, report), overfill_qty=ARITHMETIC.add(order.overfill_qty, quantity))
    return Step(after, Fill(order_id=order.id, qty=quantity, px=price, apart=True))


def bust(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """An execution did not happen."""
    meant = _meant(order, report, fill)
    busted = replace(meant, live=False)
    if meant.apart:
        rest = ARITHMETIC.subtract(order.overfill_qty, meant.qty)
        return Step(replace(heard(order, report), overfill_qty=rest), busted)
    after = _moved(order, report, meant.qty.copy_negate(), _worth(meant).copy_negate())
    return Step(settled(after), busted, gone=meant)


def correct(
    order: Order, report: ExecutionReport, fill: Fill | None, overfill: OverfillPolicy
) -> Step:
    """An execution was another one."""
    meant = _meant(order, report, fill)
    quantity, price = _executed(report)
    corrected = replace(meant, qty=quantity, px=price, closed=ZERO, earned=ZERO, held_splits=0)
    more = ARITHMETIC.subtract(quantity, meant.qty)
    if meant.apart:
        apart = ARITHMETIC.add(order.overfill_qty, more)
        return Step(replace(heard(order, report), overfill_qty=apart), corrected)
    if ARITHMETIC.add(order.cum_qty, more) > order.order_qty and order.order_qty:
        # Which part of a correction would be the one apart? Nobody can say.
        return overfilled(order, report, "refuse")
    worth = ARITHMETIC.subtract(_worth(corrected), _worth(meant))
    after = _moved(order, report, more, worth)
    return Step(settled(after), corrected, gone=meant, moves=True)


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
        refuse(order, name, f"execution {ref!r} is of order {fill.order_id!r}")
    if not fill.live:
        refuse(order, name, f"execution {ref!r} was busted before")
    if fill.splits != order.splits and not fill.apart:
        refuse(
            order,
            name,
            f"execution {ref!r} is from before the order's quantities were restated: what it is in "
            "today's units, only another restatement can say",
        )
    return fill
