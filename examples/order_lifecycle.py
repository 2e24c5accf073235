"""An order from its placing to a bust: each report applied once, each refusal with its reason."""

import asyncio
import os
import time
from decimal import Decimal
from typing import Any

from redisutils import create_redis_pool
from redisutils.trading import (
    Applied,
    Event,
    ExecType,
    ExecutionReport,
    IllegalTransition,
    Orders,
    Side,
)

URL = os.environ.get("REDIS_URL", "embedded://")


def report(exec_id: str, kind: ExecType, cl_ord_id: str = "A-1", **fields: Any) -> ExecutionReport:
    """What comes from the venue."""
    now = time.time_ns()
    return ExecutionReport(
        exec_id=exec_id,
        exec_type=kind,
        cl_ord_id=cl_ord_id,
        trade_date="20240102",
        venue="XNAS",
        ts_event=now,
        ts_recv=now,
        **fields,
    )


def trade(exec_id: str, quantity: int, price: str, cl_ord_id: str = "A-1") -> ExecutionReport:
    amounts = {"last_qty": Decimal(quantity), "last_px": Decimal(price)}
    return report(exec_id, ExecType.TRADE, cl_ord_id, **amounts)


def show(what: str, applied: Applied) -> None:
    print(
        f"{what:<18} {applied.status.name:<17} executed {applied.cum_qty:>3}, "
        f"left {applied.leaves_qty:>3}, average {applied.avg_px}"
    )


async def main() -> None:
    async with create_redis_pool(url=URL) as pool, Orders(pool, account="demo") as orders:
        await orders.place(
            cl_ord_id="A-1", instrument="AAPL", side=Side.BUY, order_qty=100, price="185.50"
        )
        show("acknowledged", await orders.apply(report("1", ExecType.NEW)))
        first = trade("2", 40, "185.50")
        show("executed", await orders.apply(first))

        # The venue sends it again after a reconnect: the earlier answer, and nothing else.
        again = await orders.apply(first)
        print("the same report again: duplicate =", again.duplicate)

        await orders.replace("A-1", cl_ord_id="A-2", order_qty=150)
        show("replace pending", await orders.apply(report("3", ExecType.PENDING_REPLACE, "A-2")))
        show("executed meanwhile", await orders.apply(trade("4", 60, "185.40")))
        show("replaced", await orders.apply(report("5", ExecType.REPLACED, "A-2")))
        show("executed", await orders.apply(trade("6", 50, "185.45", "A-2")))
        show("busted", await orders.apply(report("7", ExecType.TRADE_CANCEL, exec_ref_id="4")))

        show("cancelled", await orders.apply(report("8", ExecType.CANCELED, "A-2")))
        try:
            await orders.apply(report("9", ExecType.DONE_FOR_DAY))
        except IllegalTransition as error:
            print("refused:", error)

        told = [event async for event in orders.replay() if isinstance(event, Event)]
        print(f"{len(told)} events; the last has seq {told[-1].seq} and is {told[-1].kind!r}")


asyncio.run(main())
