"""A process of its own that applies its share of an account's reports: ``python -m
tests.trading_worker <url> <worker> <workers> <seed>``.

It begins when its standard input says so, and writes how many were duplicates and refused.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Iterator
from decimal import Decimal

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


def reports(seed: int) -> Iterator[ExecutionReport]:
    """Trades of all orders, some of them of one price each, and corrections and busts of trades
    that come before; whatever order they are applied in by whomever, the sums are the same."""
    dice = random.Random(seed)
    for number in range(ORDERS * TRADES):
        yield ExecutionReport(
            exec_id=f"T{number}",
            exec_type=ExecType.TRADE,
            cl_ord_id=f"O{number % ORDERS}",
            trade_date="20240102",
            ts_event=NOW,
            ts_recv=NOW,
            last_qty=Decimal(dice.randrange(1, 9)),
            last_px=Decimal(dice.randrange(1, 9000)) / 100,
            fee=Decimal("0.01"),
        )


def share(seed: int, worker: int, workers: int) -> list[ExecutionReport]:
    """What one worker applies: its own part, and a part of his neighbour's, too."""
    every = list(reports(seed))
    mine = [one for number, one in enumerate(every) if number % workers == worker]
    also = [one for number, one in enumerate(every) if number % (3 * workers) == worker + 1]
    both = mine + also
    random.Random(worker).shuffle(both)
    return both


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
