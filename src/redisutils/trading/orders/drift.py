"""What the venue says of an order, against what follows from its executions."""

from __future__ import annotations

from decimal import Decimal

from redisutils.trading.orders.records import ExecutionReport, Order
from redisutils.trading.rounded import agrees

__all__ = ["drift"]


def drift(order: Order, report: ExecutionReport) -> tuple[str, ...]:
    """In what a report's totals differ from the order after it: ``"cum_qty: 900 by the report, 1000
    by its executions"``. Empty when they agree, and where the report says nothing.

    The average price is compared to as many digits as the report gives.
    """
    found: list[str] = []
    if report.ord_status is not None and report.ord_status is not order.status:
        theirs_is, ours_is = report.ord_status.name, order.status.name
        found.append(f"ord_status: {theirs_is} by the report, {ours_is} by its executions")
    pairs: tuple[tuple[str, Decimal | None, Decimal], ...] = (
        ("order_qty", report.order_qty, order.order_qty),
        ("cum_qty", report.cum_qty, order.cum_qty),
        ("leaves_qty", report.leaves_qty, order.leaves_qty),
    )
    for name, theirs, ours in pairs:
        if theirs is not None and theirs != ours:
            found.append(f"{name}: {theirs} by the report, {ours} by its executions")
    if report.avg_px is not None and not agrees(report.avg_px, order.avg_px):
        found.append(f"avg_px: {report.avg_px} by the report, {order.avg_px} by its executions")
    return tuple(found)
