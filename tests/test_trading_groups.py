"""What is decided in one group is what would have come of it one after the other: the answers, and
every key."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from time import time_ns
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from redisutils.testing import EmbeddedServer
from redisutils.trading.errors import TradingError
from redisutils.trading.orders.records import ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType

from .ours import pool_at
from .trading import fill, reject, report

NOW = time_ns()
STEPS = 150
KINDS = (
    "new fill fill fill ask ask replaced replaced bust bust correct other reject unasked".split()
)
Call = Callable[[Orders], Awaitable[Any]]


class Story:
    """Calls about three orders, by chance: many are refused, as they would be in any order."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.chains = {name: [name] for name in "XYZ"}
        self.executions: list[tuple[str, str]] = []
        self.calls = [self._call(number, "place") for number in range(9)]
        self.calls += [self._call(number, dice.choice(KINDS)) for number in range(9, STEPS)]

    def _call(self, number: int, kind: str) -> Call:
        dice, chain = self.dice, self.chains[self.dice.choice("XYZ")]
        some, last = dice.choice(chain[-3:]), chain[-1]
        if kind in ("ask", "unasked"):
            chain.append(f"{chain[0]}{number}")
        told: dict[str, Any] = {"exec_id": str(number), "ts_event": NOW, "ts_recv": NOW}
        quantity = Decimal(dice.choice((5, 12, 20, 40)))
        if kind == "place":
            terms: dict[str, Any] = {
                "order_qty": 20,
                "time_in_force": dice.choice("01"),
                "ts_event": NOW,
            }
            return lambda orders: orders.place(
                cl_ord_id=chain[0], instrument="ABC", side="1", **terms
            )
        if kind == "ask" and dice.random() < 0.4:
            return lambda orders: orders.cancel(some, cl_ord_id=chain[-1], ts_event=NOW)
        if kind == "ask":
            return _asking(some, chain[-1], quantity)
        if kind == "reject":
            return lambda orders: orders.apply_reject(
                replace(reject(last), ts_event=NOW, ts_recv=NOW)
            )
        if kind == "new":
            return _applying(report(chain[0], **told))
        if kind == "fill":
            self.executions.append((told["exec_id"], some))
            return _applying(fill(some, dice.choice((1, 2, 5, 10)), dice.randrange(1, 9), **told))
        if kind in ("replaced", "unasked"):
            told |= {"orig_cl_ord_id": some, "order_qty": quantity}
            return _applying(report(chain[-1], ExecType.REPLACED, **told))
        if kind in ("bust", "correct") and self.executions:
            told["exec_ref_id"], some = dice.choice(self.executions[-6:])
            if kind == "bust":
                return _applying(report(some, ExecType.TRADE_CANCEL, **told))
            told |= {"last_qty": Decimal(dice.randrange(1, 8)), "last_px": Decimal(3)}
            return _applying(report(some, ExecType.TRADE_CORRECT, **told))
        other = (
            *(ExecType.PENDING_CANCEL, ExecType.PENDING_REPLACE, ExecType.RESTATED) * 6,
            *(ExecType.CANCELED, ExecType.DONE_FOR_DAY),
        )
        return _applying(report(last, dice.choice(other), orig_cl_ord_id=some, **told))


def _asking(orig: str, name: str, quantity: Decimal) -> Call:
    return lambda orders: orders.replace(orig, cl_ord_id=name, order_qty=quantity, ts_event=NOW)


def _applying(message: ExecutionReport) -> Call:
    return lambda orders: orders.apply(message)


async def answer(call: Call, orders: Orders) -> Any:
    try:
        return await call(orders)
    except TradingError as error:
        return str(error)


def stored(admin: redis.Redis) -> dict[str, tuple[str, bool]]:
    """All keys: what is there but for the names of commits and calls, and whether it expires."""
    reads: dict[str, Callable[[str], Any]] = {
        "hash": lambda key: sorted(admin.hgetall(key).items()),
        "list": lambda key: admin.lrange(key, 0, -1),
        "set": lambda key: sorted(admin.smembers(key)),
        "stream": admin.xrange,
        "string": admin.get,
        "zset": lambda key: sorted(admin.zrange(key, 0, -1)),
    }
    names = re.compile(r'"by":"\w+"|\(\'(n|tip)\', \'\w+\'\)|\'c\': \'[^\']*\'')
    keys: Any = admin.keys()
    return {
        key: (names.sub("", str(reads[str(admin.type(key))](key))), int(admin.ttl(key)) > 0)
        for key in keys
    }


@pytest.mark.parametrize("seed", range(8))
async def test_a_group_is_as_one_after_the_other(
    clean_server: EmbeddedServer, admin: redis.Redis, seed: int
) -> None:
    calls = Story(random.Random(seed)).calls
    found = []
    for size in (1, 7, 64):
        admin.flushall()
        async with (
            pool_at(clean_server) as pool,
            Orders(pool, account="A", clock=lambda: NOW) as orders,
        ):
            answers: list[Any] = []
            for at in range(0, len(calls), size):
                group = (answer(call, orders) for call in calls[at : at + size])
                answers += await asyncio.gather(*group)
        found.append((answers, stored(admin)))
    singly, sevens, whole = found
    assert sum(not isinstance(one, str) for one in singly[0]) > STEPS / 10
    assert sevens == singly
    assert whole == singly
