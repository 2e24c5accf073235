"""The ClOrdIDs of a chain, when several things happen to it at once, and when it is gone."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import redis

from redisutils.testing import EmbeddedServer
from redisutils.trading.errors import TradingError
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType

from .trading import account, fill, report

LINK, LINKS = "ord:{A}:clid:Y", "ord:{A}:c:X"


async def working(orders: Orders, *names: str) -> None:
    for name in names:
        await orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=100)
        await orders.apply(report(name))


async def test_a_fill_and_a_request_in_one_step(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await working(orders, "X", "Z")
        filled, asked, other = await asyncio.gather(
            orders.apply(fill("X", 100, 5)),
            orders.replace("X", cl_ord_id="Y", order_qty=200),
            orders.apply(fill("Z", 100, 5)),
        )
        assert asked.status.name == "FILLED"
        assert filled.cum_qty == other.cum_qty == 100
        assert [admin.ttl(key) > 0 for key in ("ord:{A}:o:X", LINK, LINKS)] == [True] * 3


async def test_an_order_that_is_filled_and_opened_again_in_one_step_keeps_its_links(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await working(orders, "X")
        larger = {"orig_cl_ord_id": "X", "order_qty": Decimal(200)}
        await asyncio.gather(
            orders.apply(fill("X", 100, 5)),
            orders.replace("X", cl_ord_id="Y", order_qty=200),
            orders.apply(report("Y", ExecType.REPLACED, **larger)),
        )
        assert [admin.ttl(key) for key in ("ord:{A}:o:X", LINK, LINKS)] == [-1] * 3


async def test_a_filled_order_that_is_asked_for_more_keeps_the_link_as_long_as_itself(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server, retention=100) as (_, orders):
        await working(orders, "X")
        await orders.apply(fill("X", 100, 5))
        await orders.replace("X", cl_ord_id="Y", order_qty=200)
        assert all(0 < admin.ttl(key) <= 100 for key in ("ord:{A}:o:X", LINK, LINKS))
        larger = {"orig_cl_ord_id": "X", "order_qty": Decimal(200)}
        await orders.apply(report("Y", ExecType.REPLACED, **larger))
        assert [admin.ttl(key) for key in ("ord:{A}:o:X", LINK, LINKS)] == [-1] * 3


async def test_names_of_a_chain_that_is_gone_may_be_used_again(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        await working(orders, "X")
        await orders.replace("X", cl_ord_id="Y", price=2)
        await orders.apply(report("Y", ExecType.REPLACED, orig_cl_ord_id="X"))
        await orders.apply(report("Y", ExecType.CANCELED))
        assert 0 < admin.ttl(LINK) <= 7 * 24 * 3600
        admin.delete("ord:{A}:o:X", "ord:{A}:h:X", LINK, LINKS)  # as if their time were over
        await working(orders, "X", "Y")
        assert (await orders.apply(fill("Y", 10, 5))).order_id == "Y"
        found = await orders.get("X")
        assert found is not None
        assert found.cum_qty == 0


async def test_a_name_that_two_want_at_once_is_one_s(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A request here takes it, while another process hears of an order that nobody placed."""
    async with account(clean_server) as (_, mine), account(clean_server) as (_, theirs):
        telephoned: dict[str, Any] = {"instrument": "ABC", "side": "1", "order_qty": Decimal(5)}
        for number in range(20):
            await working(mine, f"X{number}")
            name = f"Y{number}"
            results = await asyncio.gather(
                mine.replace(f"X{number}", cl_ord_id=name, order_qty=50),
                theirs.apply(report(name, **telephoned)),
                return_exceptions=True,
            )
            assert admin.exists(f"ord:{{A}}:o:{name}", f"ord:{{A}}:clid:{name}") == 1
            assert sum(isinstance(one, TradingError) for one in results) == 1
