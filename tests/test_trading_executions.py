"""What is kept of executions, by which duplicates are known, and what happens when it is not."""

from __future__ import annotations

from decimal import Decimal

import pytest
import redis

from redisutils.testing import EmbeddedServer
from redisutils.trading.errors import UnknownExecution
from redisutils.trading.orders.records import Applied
from redisutils.trading.orders.terms import ExecType

from .trading import DAY, account, fill, reject, report

KEPT = f"ord:{{A}}:x:{DAY}"
THREE_DAYS = 3 * 24 * 3600


async def test_nothing_is_executed_twice_when_its_day_is_no_longer_kept(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """An order may be open for longer than that."""
    async with account(clean_server) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=100)
        trade = fill("X", 10, 5)
        await orders.apply_all([report("X"), trade])
        admin.delete(KEPT)  # as if its time were over
        tomorrow = fill("X", 1, 5, trade_date="20240103")
        again, another, other_day = await orders.apply_all([trade, fill("X", 2, 5), tomorrow])
        for refused in (again, another):
            assert isinstance(refused, UnknownExecution)
            assert f"the executions of {DAY} are not kept any more" in str(refused)
        assert isinstance(other_day, Applied)
        assert other_day.cum_qty == 11
        await orders.cancel("X", cl_ord_id="Y")
        with pytest.raises(UnknownExecution, match=f"the executions of {DAY}"):
            await orders.apply_reject(reject("Y"))
        assert not admin.exists(KEPT)


async def test_what_was_refused_does_not_make_a_day_known(clean_server: EmbeddedServer) -> None:
    async with account(clean_server) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=100)
        refused, applied = await orders.apply_all([fill("X", 101, 5), fill("X", 1, 5)])
        assert not isinstance(refused, Applied)
        assert isinstance(applied, Applied)


@pytest.mark.parametrize(("retention", "kept"), [(1, THREE_DAYS), (THREE_DAYS, 2 * THREE_DAYS)])
async def test_a_day_is_kept_over_a_weekend_at_least(
    clean_server: EmbeddedServer, admin: redis.Redis, retention: int, kept: int
) -> None:
    async with account(clean_server, retention=retention) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=100)
        await orders.apply(report("X"))
        assert kept - 60 < admin.ttl(KEPT) <= kept


async def test_an_execution_is_kept_as_long_as_what_corrects_it(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=100)
        await orders.apply_all([report("X"), trade := fill("X", 10, 5)])
        admin.expire(KEPT, 1000)
        later = {"trade_date": "20240103", "ref_trade_date": DAY, "exec_ref_id": trade.exec_id}
        price = {"last_qty": Decimal(10), "last_px": Decimal(6)}
        await orders.apply(report("X", ExecType.TRADE_CORRECT, **later, **price))
        assert admin.ttl(KEPT) > 1000
