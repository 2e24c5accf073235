"""What an execution makes of the position that its order leads to."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from redisutils.trading.money import ARITHMETIC
from redisutils.trading.orders.records import ExecutionReport, Fill, Order
from redisutils.trading.orders.states import Step, refuse
from redisutils.trading.portfolio.position import charged, closed_by, traded, undone
from redisutils.trading.portfolio.records import Position

__all__ = ["moved"]


def moved(position: Position, step: Step, report: ExecutionReport) -> tuple[Position, Fill | None]:
    """The position after a step, and the step's execution with what it did to the position.

    :raises IllegalTransition: what is taken back is from before a split of the position.
    """
    order, fill = step.order, step.fill
    if step.gone is not None:
        position = _without(position, order, step.gone, report)
    if fill is not None and step.moves:
        quantity = _signed(order, fill.qty)
        after = traded(position, quantity, fill.px)
        if position.splits:
            fill = replace(fill, held_splits=position.splits)
        if closed := closed_by(position, quantity):
            earned = ARITHMETIC.subtract(after.realised, position.realised)
            fill = replace(fill, closed=closed, earned=earned)
        position = after
    if report.fee is not None:
        position = charged(position, report.fee, report.fee_currency or order.currency)
    return replace(position, ts_event=report.ts_event, ts_recv=report.ts_recv), fill


def _without(position: Position, order: Order, fill: Fill, report: ExecutionReport) -> Position:
    if fill.held_splits != position.splits:
        refuse(
            order,
            report.exec_type.name,
            f"execution {report.exec_ref_id!r} is from before a split of {position.instrument}: "
            "what it is in today's units, only an adjustment of the position can say",
        )
    quantity = _signed(order, fill.qty)
    return undone(position, quantity, fill.px, closed=fill.closed, earned=fill.earned)


def _signed(order: Order, quantity: Decimal) -> Decimal:
    return quantity if order.buys else quantity.copy_negate()
