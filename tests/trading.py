"""An account on a server of the tests, and reports about its orders."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from itertools import count
from time import time_ns
from typing import Any

import redis

from redisutils import RedisPool
from redisutils.errors import Outcome, outcome_of
from redisutils.testing import EmbeddedServer
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.records import Applied, CancelReject, ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType
from redisutils.trading.portfolio.service import Portfolio

from .ours import Place, pool_at, until

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


class Flow:
    """Orders that flow: some of one instrument, each with its reports one after the other, every
    call repeated until its fate is known. ``done`` counts the calls that were answered.

    :param fills: how often each is executed; the n-th time, n units at a price of n.
    """

    def __init__(self, orders: Orders, names: Sequence[str], fills: int) -> None:
        self.orders = orders
        self.names = names
        self.done = self.unknown = 0
        self.reports = {
            name: [report(name), *(fill(name, n, n) for n in range(1, fills + 1))] for name in names
        }
        self._total = fills * (fills + 1) // 2
        self._cost = len(names) * sum(n * n for n in range(1, fills + 1))

    async def run(self) -> None:
        """All of it."""
        async with asyncio.TaskGroup() as group:
            for name in self.names:
                group.create_task(self._work(name))

    async def _work(self, name: str) -> None:
        await self.surely(
            lambda: self.orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=10**6)
        )
        for number, one in enumerate(self.reports[name]):
            told = await self.surely(partial(self.orders.apply, one))
            assert told.cum_qty == number * (number + 1) // 2

    async def surely(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """What a call returns in the end."""
        while True:
            try:
                result = await call()
            except redis.RedisError as error:
                self.unknown += outcome_of(error) is Outcome.UNKNOWN
                await asyncio.sleep(0)
            else:
                self.done += 1
                return result

    async def goes_on(self, calls: int = 20, patience: float = 30) -> None:
        """Wait until so many more calls were answered, or all."""
        every = sum(len(one) + 1 for one in self.reports.values())
        wanted = min(self.done + calls, every)
        await until(lambda: self.done >= wanted, "progress", patience)

    async def check(self, portfolio: Portfolio) -> None:
        """That every report was applied, and once; that the outbox tells it all."""
        seen = [event async for event in self.orders.replay()]
        assert [one.seq for one in seen if isinstance(one, Event)] == list(range(1, len(seen) + 1))
        told = [
            one.message.exec_id
            for one in seen
            if isinstance(one, Event) and isinstance(one.message, ExecutionReport)
        ]
        assert sorted(told) == sorted(one.exec_id for each in self.reports.values() for one in each)
        for name in self.names:
            order = await self.orders.get(name)
            assert order is not None
            assert order.cum_qty == self._total
        position = await portfolio.position("ABC")
        assert position is not None
        assert position.qty == self._total * len(self.names)
        assert position.cost == self._cost
        open_orders = [order.id async for order in self.orders.open_orders()]
        assert sorted(open_orders) == sorted(self.names)


@asynccontextmanager
async def account(
    server: EmbeddedServer, at: Place | None = None, **options: Any
) -> AsyncIterator[tuple[RedisPool, Orders]]:
    """The account A of a server: a pool of its own, and its orders."""
    settings = options.pop("settings", {})
    async with pool_at(server, at, **settings) as pool, Orders(pool, account="A", **options) as it:
        yield pool, it
