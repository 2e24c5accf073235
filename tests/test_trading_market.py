"""One door to all of the market data, and the prices that a portfolio is valued by."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pytest
import redis

import redisutils.trading
import redisutils.trading.market
from redisutils import RedisPool
from redisutils.testing import EmbeddedCluster, EmbeddedServer, FaultProxy
from redisutils.trading import (
    ExecType,
    ExecutionReport,
    InvalidValue,
    MarketData,
    Orders,
    Portfolio,
    Price,
    Quote,
    ServiceClosed,
    Side,
    Ticks,
    UnknownInstrument,
    UnreadableRecord,
    Written,
)
from redisutils.trading.times import SECOND

from .clusters import cluster_pool
from .ours import pool_at, until
from .trades import MINUTE, NOON, bars_of, trade


def quote(name: str, bid: str | None = None, ask: str | None = None, at: int = NOON) -> Quote:
    return Quote.of(name, bid, ask, ts_event=at, ts_recv=at)


@pytest.mark.parametrize("service", [MarketData, Ticks, Orders, Portfolio])
async def test_what_is_no_pool_is_refused_at_once(service: Any, pool: RedisPool) -> None:
    account = {"account": "a"} if service in (Orders, Portfolio) else {}
    for wrong in (pool.client, None, "redis://localhost"):
        with pytest.raises(InvalidValue, match=r"^pool=.* must be a RedisPool"):
            service(wrong, **account)


async def test_trades_and_bars_by_the_same_door(pool: RedisPool, admin: redis.Redis) -> None:
    async with MarketData(
        pool,
        prefix="paper:",
        encoding="msgpack",
        instruments=("ES", "NQ"),
        intervals=("5s", "1m"),
        clock=lambda: NOON + 2 * MINUTE,
    ) as market:
        trades = [trade(1), trade(2, "101", at=NOON + MINUTE)]
        assert await market.put_trades(trades) == Written(written=2)
        seen = await market.trade("ES", max_age=60)
        assert (seen.value, seen.age, seen.state) == (trades[1], 60.0, "fresh")
        assert (await market.trade("ES", max_age=59)).state == "stale"
        both = await market.trades(["ES", "NQ"])
        assert both["ES"] == await market.trade("ES")
        assert both["NQ"].state == "absent"
        for interval in ("5s", "1m", "2m"):
            assert await market.bars("ES", interval) == bars_of(trades, interval)
        assert [each async for each in market.ticks.between("ES")] == trades
        with pytest.raises(UnknownInstrument):
            await market.put_trades([trade(1, instrument="CL")])
        found: Any = admin.keys()
        assert all(key.startswith("paper:md:{ES}:") for key in found)
        assert set(admin.hkeys("paper:md:{ES}:last")) == {"k", "v"}


async def test_closing_writes_what_was_given(pool: RedisPool) -> None:
    market = MarketData(pool)
    calls = [
        asyncio.create_task(market.put_trades([trade(seq) for seq in range(1, 2000)])),
        asyncio.create_task(market.ticks.write([trade(2000)])),
    ]
    await asyncio.sleep(0)
    await market.aclose()
    assert all(call.done() for call in calls)
    assert await market.ticks.reached("ES") == 2000
    with pytest.raises(ServiceClosed, match="the tapes are closed"):
        await market.put_trades([trade(2001)])
    await market.aclose()


# -- prices ------------------------------------------------------------------------------------


async def test_a_price_is_the_last_trade_or_the_mid(pool: RedisPool) -> None:
    market = MarketData(pool)
    await market.put_trades([trade(1, "100.5"), trade(1, "7", instrument="BOTH")])
    await market.put_quotes(
        [
            quote("BOTH", "10.01", "10.02", at=NOON + 5),
            quote("QUOTED", "-0.1", "0.000000000000000001"),
            quote("LOCKED", "3", "3"),
            quote("BID", "1"),
            quote("ASK", None, "1"),
        ]
    )
    names = ["ES", "BOTH", "QUOTED", "LOCKED", "BID", "ASK", "NONE", "ES"]
    traded = Price(price=Decimal("100.5"), ts_event=NOON, by="trade")
    mids = {
        "QUOTED": Price(price=Decimal("-0.0499999999999999995"), ts_event=NOON, by="mid"),
        "LOCKED": Price(price=Decimal(3), ts_event=NOON, by="mid"),
    }
    both = Price(price=Decimal(7), ts_event=NOON, by="trade")
    assert await market.prices(names) == {"ES": traded, "BOTH": both, **mids}
    both = Price(price=Decimal("10.015"), ts_event=NOON + 5, by="mid")
    assert await market.prices(names, by="mid") == {"ES": traded, "BOTH": both, **mids}
    assert await market.prices([]) == {}
    with pytest.raises(InvalidValue, match="by='last' must be 'trade' or 'mid'"):
        await market.prices(["ES"], by="last")  # type: ignore[arg-type]  # which is the point


async def test_a_fresh_price_is_better_than_an_old_one(pool: RedisPool) -> None:
    market = MarketData(pool, clock=lambda: NOON + 10 * SECOND)
    await market.put_trades([trade(1, "7")])
    await market.put_quote(quote("ES", "9", "11", at=NOON + 6 * SECOND))
    for by, max_age, expected in (
        ("trade", None, 7),
        ("trade", 10.0, 7),
        ("trade", 9.5, 10),
        ("trade", 3.0, 7),  # both are too old
        ("mid", 9.5, 10),
        ("mid", 3.0, 10),
    ):
        found = await market.prices(["ES"], by=by, max_age=max_age)  # type: ignore[arg-type]  # a str
        assert found["ES"].price == expected
    with pytest.raises(InvalidValue, match="max_age=0 must be"):
        await market.prices(["ES"], max_age=0)


async def test_one_where_many_belong(pool: RedisPool) -> None:
    market = MarketData(pool)
    for wrong in (quote("ES", "1", "2"), None, 7):
        with pytest.raises(InvalidValue, match=r"quotes=.* must be a sequence"):
            await market.put_quotes(wrong)  # type: ignore[arg-type]  # which is the point
    with pytest.raises(InvalidValue, match="since=7 is before 2001"):
        await anext(aiter(market.quote_history("ES", since=7)))


async def test_what_others_wrote_makes_no_price(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool)
    await market.put_quote(quote("ES", "1", "2"))
    record = str(admin.hget("md:{ES}:q", "v"))
    admin.hset("md:{ES}:q", "v", record.replace('"bid":"1"', '"bid":"3"'))
    assert await market.prices(["ES"]) == {}
    admin.hset("md:{ES}:last", "v", "spoilt")
    with pytest.raises(UnreadableRecord, match=r"md:\{ES\}:last"):
        await market.prices(["ES"])


async def test_prices_take_one_round_trip(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    """All is asked for before anything is answered."""
    async with pool_at(clean_server, proxy) as pool:
        market = MarketData(pool)
        await market.prices(["I0"])
        admin.config_resetstat()
        proxy.swallow_replies(1, lambda data: b"HGET" in data, "silence")
        call = asyncio.create_task(market.prices([f"I{number}" for number in range(50)]))

        def asked() -> bool:
            told: Any = admin.info("commandstats")
            return bool(told.get("cmdstat_hget", {}).get("calls", 0) == 100)

        await until(asked)
        assert not call.done()
        proxy.restore()
        proxy.reset()
        assert await call == {}


async def test_a_portfolio_is_valued_by_the_market(pool: RedisPool) -> None:
    """What is none of the market's instruments has no price."""
    market = MarketData(pool, instruments=("ES", "NQ"))
    await market.put_trades([trade(1, "100.5", at=NOON - 2 * MINUTE)])
    await market.put_quote(quote("NQ", "10.01", "10.02"))
    async with (
        Orders(pool, account="a") as orders,
        Portfolio(pool, account="a", clock=lambda: NOON) as portfolio,
    ):
        for name in ("ES", "NQ", "CL"):
            await orders.place(cl_ord_id=name, instrument=name, side=Side.BUY, order_qty=3)
            await orders.apply(
                ExecutionReport(
                    exec_id=name,
                    exec_type=ExecType.TRADE,
                    cl_ord_id=name,
                    trade_date="20231114",
                    ts_event=NOON,
                    ts_recv=NOON,
                    last_qty=Decimal(3),
                    last_px=Decimal(7),
                )
            )
        worth = await portfolio.value(market, max_age=60)
        found = {name: (one.state, str(one.value)) for name, one in worth.positions.items()}
        assert found == {
            "ES": ("stale", "301.5"),
            "NQ": ("fresh", "30.045"),
            "CL": ("missing", "None"),
        }


async def test_prices_in_a_cluster(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, MarketData(pool) as market:
        names = [f"I{number}" for number in range(30)]
        await market.put_trades([trade(1, instrument=name) for name in names[:20]])
        await market.put_quotes([quote(name, "1", "2") for name in names[10:]])
        found = await market.prices(names, by="mid")
        assert {name: str(price.price) for name, price in found.items()} == {
            **dict.fromkeys(names[:10], "100"),
            **dict.fromkeys(names[10:], "1.5"),
        }


# -- names -------------------------------------------------------------------------------------


def test_public_names() -> None:
    for module in (redisutils.trading, redisutils.trading.market):
        assert module.__all__ == sorted(module.__all__)
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert hasattr(module, name)
    assert callable(redisutils.trading.market.checksums.kraken)


def test_who_does_not_trade_loads_none_of_it() -> None:
    program = "import sys, redisutils; print(*(m for m in sys.modules if 'trading' in m))"
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert not ran.stdout.strip()
