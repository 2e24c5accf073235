"""An account on a server of the tests, and reports about its orders."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from time import time_ns
from typing import Any

from redisutils import RedisPool
from redisutils.testing import EmbeddedServer
from redisutils.trading.orders.records import Applied, CancelReject, ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType

from .ours import Place, pool_at

DAY = "20240102"
_numbers = count(1)


def report(cl_ord_id: str, kind: ExecType = ExecType.NEW, **fields: Any) -> ExecutionReport:
    """A report with an ExecID of its own."""
    given: dict[str, Any] = {
        "exec_id": f"E{next(_numbers)}",
        "exec_type": kind,
        "cl_ord_id": cl_ord_id,
        "trade_date": DAY,
        "venue": "XNAS",
        "ts_event": time_ns(),
        "ts_recv": time_ns(),
    }
    return ExecutionReport(**{**given, **fields})


def fill(cl_ord_id: str, quantity: int | str, price: int | str, **fields: Any) -> ExecutionReport:
    """A report of a trade."""
    traded = {"last_qty": Decimal(quantity), "last_px": Decimal(price)}
    return report(cl_ord_id, ExecType.TRADE, **{**traded, **fields})


def reject(cl_ord_id: str, **fields: Any) -> CancelReject:
    """A refusal of a request."""
    now = time_ns()
    return CancelReject(
        cl_ord_id=cl_ord_id, trade_date=DAY, venue="XNAS", ts_event=now, ts_recv=now, **fields
    )


def figures(applied: Applied) -> tuple[str, str, str, str]:
    """OrdStatus, CumQty, LeavesQty and AvgPx."""
    numbers = applied.cum_qty, applied.leaves_qty, applied.avg_px
    return applied.status.value, *map(str, numbers)  # type: ignore[return-value]  # three of them


@asynccontextmanager
async def account(
    server: EmbeddedServer, at: Place | None = None, **options: Any
) -> AsyncIterator[tuple[RedisPool, Orders]]:
    """The account A of a server: a pool of its own, and its orders."""
    settings = options.pop("settings", {})
    async with pool_at(server, at, **settings) as pool, Orders(pool, account="A", **options) as it:
        yield pool, it
