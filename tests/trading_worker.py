"""A process of its own that applies its share of an account's reports: ``python -m
tests.trading_worker <url> <worker> <workers> <seed>``.

It begins when its standard input says so, and writes how many were duplicates and refused.
"""

from __future__ import annotations

import asyncio
import random
import sys
from decimal import Decimal
from typing import Any

import msgspec

from redisutils import create_redis_pool
from redisutils.trading.errors import Overfill, TradingError
from redisutils.trading.orders.records import Applied, ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType

ORDERS = 12
TRADES = 40
INSTRUMENTS = ("ABC", "DEF", "GHI")
NOW = 1_704_200_000_000_000_000


def reports(seed: int) -> list[ExecutionReport]:
    """Trades of all orders, then busts and corrections of some of them; in whatever order they are
    applied by whomever, as long as an execution comes before what is about it, quantities and
    notionals are the same."""
    dice = random.Random(seed)
    trades = [
        report(
            number,
            f"T{number}",
            ExecType.TRADE,
            last_qty=Decimal(dice.randrange(1, 9)),
            last_px=Decimal(dice.randrange(1, 9000)) / 100,
            fee=Decimal("0.01"),
        )
        for number in range(ORDERS * TRADES)
    ]
    busts = [
        report(number, f"B{number}", ExecType.TRADE_CANCEL, exec_ref_id=f"T{number}")
        for number in range(3, ORDERS * TRADES, 10)
    ]
    corrections = [
        report(
            number,
            f"C{number}",
            ExecType.TRADE_CORRECT,
            exec_ref_id=f"T{number}",
            last_qty=Decimal(dice.randrange(1, 20)),
            last_px=Decimal("50.5"),
        )
        for number in range(7, ORDERS * TRADES, 10)
    ]
    return trades + busts + corrections


def report(number: int, exec_id: str, kind: ExecType, **fields: Any) -> ExecutionReport:
    return ExecutionReport(
        exec_id=exec_id,
        exec_type=kind,
        cl_ord_id=f"O{number % ORDERS}",
        trade_date="20240102",
        ts_event=NOW,
        ts_recv=NOW,
        **fields,
    )


def share(seed: int, worker: int, workers: int) -> list[ExecutionReport]:
    """What one worker applies: its own part, and a part of his neighbour's trades, too; then what
    is about its own."""
    shuffled = random.Random(worker).shuffle
    trades, fixes = [], []
    for one in reports(seed):
        number = int(one.exec_id[1:])
        if one.exec_ref_id:
            fixes += [one] if number % workers == worker else []
        else:
            trades += [one] if number % workers == worker else []
            trades += [one] if number % (3 * workers) == worker + 1 else []
    shuffled(trades)
    shuffled(fixes)
    return trades + fixes


async def place_all(orders: Orders) -> None:
    """The orders that the reports are about."""
    for number in range(ORDERS):
        await orders.place(
            cl_ord_id=f"O{number}",
            instrument=INSTRUMENTS[number % len(INSTRUMENTS)],
            side="12"[number % 2],
            order_qty=10**6,
            ts_event=NOW,
        )


async def work(url: str, worker: int, workers: int, seed: int) -> dict[str, int]:
    async with create_redis_pool(url=url) as pool, Orders(pool, account="A") as orders:
        await place_all(orders)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.readline)
        todo = share(seed, worker, workers)
        counts = {"applied": 0, "duplicates": 0, "refused": 0}
        for at in range(0, len(todo), 10):
            for result in await orders.apply_all(todo[at : at + 10]):
                if isinstance(result, Applied):
                    counts["duplicates" if result.duplicate else "applied"] += 1
                else:
                    assert isinstance(result, TradingError | Overfill)
                    counts["refused"] += 1
        return counts


if __name__ == "__main__":
    place, *numbers = sys.argv[1:]
    result = asyncio.run(work(place, *map(int, numbers)))
    sys.stdout.write(msgspec.json.encode(result).decode())
