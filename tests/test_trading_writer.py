"""The writer for hot feeds: what is overtaken is not sent, and nothing is lost without a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import time_ns
from typing import Any

import msgspec
import pytest
import redis

from redisutils import Outcome, RedisPool
from redisutils.errors import code_of, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.errors import Crossed, InvalidValue, NotWritten, ServiceClosed
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.writer import WriteFailure
from redisutils.trading.times import SECOND

from .conftest import StartServer
from .ours import our_tasks, pool_at, until

NOW = time_ns() - SECOND


def quote(number: int, instrument: str = "ES", **fields: Any) -> Quote:
    """The feed's quote of this number."""
    given = {"bid": number, "ask": number + 1, "bid_size": 1, "ask_size": 1, **fields}
    return Quote.of(instrument, ts_event=NOW + number, ts_recv=NOW, seq=number, **given)


@pytest.fixture
async def far_pool(clean_server: EmbeddedServer, proxy: FaultProxy) -> AsyncIterator[RedisPool]:
    """By way of the proxy, and soon out of patience."""
    async with pool_at(
        clean_server, proxy, command_timeout=0.3, retry_delay_ms=5, retry_max_delay_ms=20
    ) as pool:
        yield pool


async def seqs(market: MarketData, instrument: str = "ES") -> list[int | None]:
    return [one.seq async for one in market.quote_history(instrument)]


async def test_only_the_newest_goes_out(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool)
    async with market.writer() as writer:
        for number in range(900):
            assert writer.offer(quote(number, f"I{number % 3}"))
        assert writer.offer(quote(0, "I0"))  # late: overtaken before it came
        await writer.flush()
        stats = writer.stats()
        assert (stats.put, stats.conflated, stats.written, stats.held) == (901, 898, 3, 0)
    found = await market.quotes(["I0", "I1", "I2"])
    assert [one.value.seq for one in found.values() if one.value] == [897, 898, 899]
    assert admin.hget("md:{I0}:q", "n") == "1"


async def test_what_is_not_conflated_goes_out_one_by_one(
    pool: RedisPool, admin: redis.Redis
) -> None:
    market = MarketData(pool)
    async with market.writer(conflate=False) as writer:
        for number in range(3000):
            await writer.put(quote(number))
        await writer.put(quote(7))
        await writer.flush()
        stats = writer.stats()
        assert (stats.put, stats.conflated, stats.written, stats.late) == (3001, 0, 3000, 1)
    assert admin.hget("md:{ES}:q", "n") == "3000"


async def test_history_stays_complete(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool, history=10_000)
    async with market.writer() as writer:
        for number in (*range(1500), 3):
            await writer.put(quote(number))
    assert await seqs(market) == [*range(1500), 3]
    assert int(admin.hget("md:{ES}:q", "n") or 0) < 1500
    newest = (await market.quote("ES")).value
    assert newest is not None
    assert newest.seq == 1499


async def test_what_cannot_be_meant_is_refused_at_once(pool: RedisPool) -> None:
    market = MarketData(pool)
    async with market.writer() as writer:
        crossed = quote(1)
        bad = Quote(instrument="ES", bid=crossed.ask, ask=crossed.bid, ts_event=NOW, ts_recv=NOW)
        with pytest.raises(Crossed):
            await writer.put(bad)
        with pytest.raises(InvalidValue):
            writer.offer("ES")  # type: ignore[arg-type]  # refused
        assert writer.stats().put == 0
    for wrong in ({"capacity": 0}, {"capacity": True}, {"interval": -1}, {"interval": "1"}):
        with pytest.raises(InvalidValue, match=next(iter(wrong))):
            market.writer(**wrong)


async def test_an_interval_lets_more_be_overtaken(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool)
    async with market.writer(interval=60) as writer:
        await writer.put(quote(0))
        await until(lambda: writer.stats().written == 1)
        for number in range(1, 100):
            await writer.put(quote(number))
            await asyncio.sleep(0)
        assert writer.stats().written == 1
        await writer.flush()  # which does not wait for it
        assert writer.stats().written == 2


# -- back-pressure and faults ------------------------------------------------------------------


async def test_at_the_bound_callers_wait_or_are_refused(
    far_pool: RedisPool, proxy: FaultProxy
) -> None:
    market = MarketData(far_pool, history=10_000)
    async with market.writer(capacity=10) as writer:
        await writer.put(quote(0))
        await writer.flush()
        proxy.stall()
        taken = [number for number in range(1, 20) if writer.offer(quote(number))]
        assert taken == list(range(1, 11))
        waiting = asyncio.create_task(writer.put(quote(20)))
        await asyncio.sleep(0)
        assert not waiting.done()
        assert writer.stats().held == 10
        proxy.restore()
        await waiting
    assert await seqs(market) == [*range(11), 20]


async def test_while_conflating_the_bound_counts_instruments(
    far_pool: RedisPool, proxy: FaultProxy
) -> None:
    market = MarketData(far_pool)
    async with market.writer(capacity=2) as writer:
        for number in range(100):
            assert writer.offer(quote(number, "A"))
            assert writer.offer(quote(number, "B"))
        assert not writer.offer(quote(1, "C"))


async def test_an_outage_loses_and_doubles_nothing(far_pool: RedisPool, proxy: FaultProxy) -> None:
    failures: list[WriteFailure] = []
    market = MarketData(far_pool, history=100_000)
    async with market.writer(conflate=False, on_failure=failures.append) as writer:
        for number in range(3000):
            if number % 1000 == 500:
                await writer.flush()
                proxy.swallow_replies(1, lambda request: b"EVALSHA" in request, then="reset")
            if number == 1200:
                proxy.refuse()
                proxy.reset()
            if number == 1300:
                await until(lambda: failures)
                proxy.restore()
            await writer.put(quote(number))
        await writer.flush()
        stats = writer.stats()
    assert sorted(one or 0 for one in await seqs(market)) == list(range(3000))
    assert all(failure.repeated for failure in failures)
    assert stats.failures == len(failures) > 0
    assert (stats.lost, stats.held) == (0, 0)
    assert stats.written + stats.late == 3000


async def test_a_call_of_unknown_fate_is_not_recorded_twice(
    far_pool: RedisPool, proxy: FaultProxy
) -> None:
    failures: list[WriteFailure] = []
    market = MarketData(far_pool, history=1000)
    async with market.writer(on_failure=failures.append) as writer:
        await writer.put(quote(0))
        await writer.flush()
        proxy.swallow_replies(1, lambda request: b"EVALSHA" in request)  # for good: no reset
        await writer.put(quote(1))
        await proxy.wait_until(lambda proxy: proxy.swallowed == 1)
        proxy.refuse()
        await until(lambda: failures)
        assert outcome_of(failures[0].error) is Outcome.UNKNOWN
        proxy.restore()
        proxy.reset()
    assert await seqs(market) == [0, 1]


async def test_what_the_server_refuses_is_told(pool: RedisPool, admin: redis.Redis) -> None:
    admin.set("md:{BAD}:q", "no hash")
    market = MarketData(pool)
    async with market.writer() as writer:
        for name in ("A", "BAD", "B"):
            await writer.put(quote(1, name))
        with pytest.raises(redis.ResponseError, match=r"WRONGTYPE.*md:\{BAD\}:q"):
            await writer.flush()
        assert (writer.stats().written, writer.stats().lost) == (2, 1)
        await writer.put(quote(2, "A"))  # told once
        await writer.put(quote(2, "BAD"))
        await until(lambda: writer.stats().lost == 2)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await writer.put(quote(3, "A"))
        assert writer.stats().put == 5
        await writer.put(quote(3, "BAD"))
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await writer.aclose()
    failures: list[WriteFailure] = []

    def tell(failure: WriteFailure) -> None:
        failures.append(failure)
        raise ValueError("the program's own fault")

    async with market.writer(on_failure=tell) as writer:
        await writer.put(quote(4, "BAD"))
        await writer.put(quote(4, "A"))
        await writer.flush()
    assert [(list(one.quotes), one.repeated) for one in failures] == [([quote(4, "BAD")], False)]


async def test_closing_writes_what_is_held(pool: RedisPool) -> None:
    market = MarketData(pool)
    writer = market.writer(interval=60)
    await writer.put(quote(1))
    await until(lambda: writer.stats().written)
    writer.offer(quote(2))
    await writer.aclose()
    await writer.aclose()
    assert (await market.quote("ES")).value == quote(2)
    with pytest.raises(ServiceClosed):
        writer.offer(quote(3))
    assert repr(writer) == "<QuoteWriter closed: 0 of 50000 held>"


async def test_what_could_not_be_written_is_counted(far_pool: RedisPool, proxy: FaultProxy) -> None:
    market = MarketData(far_pool)
    writer = market.writer()
    proxy.refuse()
    proxy.reset()
    for name in "ABC":
        await writer.put(quote(1, name))
    flushing = asyncio.create_task(writer.flush())
    await asyncio.sleep(0)
    with pytest.raises(NotWritten, match=r"3 quotes could not be written within timeout=0\.05 s"):
        await writer.aclose(timeout=0.05)
    with pytest.raises(NotWritten):
        await flushing


@pytest.mark.parametrize("refusal", ["OOM", "NOREPLICAS"])
@pytest.mark.parametrize("history", [0, 1000])
async def test_a_refusal_that_passes_loses_nothing(
    pool: RedisPool, admin: redis.Redis, refusal: str, history: int
) -> None:
    setting, value = {
        "OOM": ("maxmemory", "1"),
        "NOREPLICAS": ("min-replicas-to-write", "1"),
    }[refusal]
    failures: list[WriteFailure] = []
    market = MarketData(pool, history=history)
    async with market.writer(on_failure=failures.append) as writer:
        await writer.put(quote(0))
        await writer.flush()
        admin.config_set(setting, value)
        try:
            await writer.put(quote(1))
            await writer.put(quote(1, "NQ"))
            await until(lambda: failures)
        finally:
            admin.config_set(setting, "0")
        await writer.flush()
        assert (writer.stats().written, writer.stats().lost) == (3, 0)
    assert all(failure.repeated for failure in failures)
    assert {code_of(failure.error) for failure in failures} == {refusal}
    assert (await market.quote("ES")).value == quote(1)
    if history:
        assert await seqs(market) == [0, 1]


async def test_a_server_that_is_killed_and_comes_back(start_server: StartServer) -> None:
    server = await start_server()
    async with pool_at(server, retry_delay_ms=5, retry_max_delay_ms=20) as pool:
        market = MarketData(pool, history=1000)
        async with market.writer() as writer:
            await writer.put(quote(0))
            await writer.flush()
            await server.kill()
            for number in range(1, 300):
                await writer.put(quote(number))
            await until(lambda: writer.stats().failures)
            await server.start()
        stats = writer.stats()
        assert (stats.written + stats.late, stats.lost, stats.held) == (300, 0, 0)
        assert (await market.quote("ES")).value == quote(299)
        assert await seqs(market) == list(range(1, 300))  # what it had, it has lost


async def test_what_comes_after_a_call_in_doubt_waits_for_it(
    clean_server: EmbeddedServer, proxy: FaultProxy, pool: RedisPool
) -> None:
    async with pool_at(
        clean_server, proxy, max_retries=0, retry_delay_ms=400, retry_max_delay_ms=400
    ) as far_pool:
        market = MarketData(far_pool, history=100_000)
        async with market.writer(conflate=False) as writer:
            await writer.put(quote(0))
            await writer.flush()
            proxy.swallow_replies(1, lambda request: b"EVALSHA" in request, then="reset")
            await writer.put(quote(1))
            await until(lambda: writer.stats().failures)
            for number in range(2, 6000):
                await writer.put(quote(number))
        assert await seqs(market) == list(range(6000))


async def test_several_writers_of_one_instrument(pool: RedisPool) -> None:
    market = MarketData(pool, history=10_000)
    writers = [market.writer() for _ in range(3)]
    for number in range(900):
        await writers[number % 3].put(quote(number))
    for writer in writers:
        await writer.aclose()
    assert (await market.quote("ES")).value == quote(899)
    assert sorted(one or 0 for one in await seqs(market)) == list(range(900))
    stats = [writer.stats() for writer in writers]
    assert sum(one.written + one.late for one in stats) == 900


async def test_who_is_cancelled_while_waiting_has_put_nothing(
    far_pool: RedisPool, proxy: FaultProxy
) -> None:
    market = MarketData(far_pool, history=1000)
    async with market.writer(capacity=2) as writer:
        await writer.put(quote(0))
        await writer.flush()
        proxy.stall()
        await writer.put(quote(1))
        await writer.put(quote(2))
        putting = asyncio.create_task(writer.put(quote(3)))
        flushing = asyncio.create_task(writer.flush())
        await asyncio.sleep(0)
        for task in (putting, flushing):
            task.cancel()
        await asyncio.wait([putting, flushing])
        assert (putting.cancelled(), flushing.cancelled()) == (True, True)
        proxy.restore()
        await writer.put(quote(4))
    assert await seqs(market) == [0, 1, 2, 4]


@pytest.mark.parametrize("conflate", [True, False])
async def test_closing_while_the_server_is_away_ends(
    far_pool: RedisPool, proxy: FaultProxy, conflate: bool
) -> None:
    market = MarketData(far_pool)
    writer = market.writer(conflate=conflate)
    proxy.refuse()
    proxy.reset()
    for name in "ABC":
        await writer.put(quote(1, name))
    await until(lambda: writer.stats().failures)
    flushing = asyncio.create_task(writer.flush())
    await asyncio.sleep(0.01)
    async with asyncio.timeout(5):
        with pytest.raises(NotWritten):
            await writer.aclose(timeout=0.05)
        with pytest.raises(NotWritten, match="3 quotes left"):
            await flushing
        with pytest.raises(NotWritten, match="3 quotes left"):
            await writer.flush()
    assert writer.stats().held == 3


async def test_closing_may_be_cancelled(far_pool: RedisPool, proxy: FaultProxy) -> None:
    market = MarketData(far_pool)
    await market.put_quote(quote(0))
    before = our_tasks()
    writer = market.writer()
    proxy.stall()
    await writer.put(quote(1))
    closing = asyncio.create_task(writer.aclose())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait([closing])
    assert closing.cancelled()
    assert our_tasks() == before


async def test_what_cannot_be_encoded_holds_up_nobody(pool: RedisPool) -> None:
    failures: list[WriteFailure] = []
    market = MarketData(pool)
    bad = msgspec.structs.replace(quote(1), extra={"mood": object()})
    async with market.writer(on_failure=failures.append) as writer:
        await writer.put(bad)
        await until(lambda: failures)
        await writer.put(quote(2))
        await writer.flush()
        assert (writer.stats().written, writer.stats().lost, writer.stats().held) == (1, 1, 0)
    assert [(list(one.quotes), one.repeated) for one in failures] == [([bad], False)]
    assert isinstance(failures[0].error, TypeError)
