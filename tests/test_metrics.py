"""Figures that are right: percentiles against exact ones, and counts equal to what happened."""

from __future__ import annotations

import asyncio
import dataclasses
import sys
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redisutils.metrics import FOLD_AT, LatencyHistogram
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at, pool_at, until

# From a tenth of a microsecond to some hours, s.
durations = st.floats(min_value=1e-7, max_value=1e4, allow_nan=False)


def exact(values: list[float], percent: int) -> float:
    """The smallest value that at least ``percent`` of all do not exceed."""
    return sorted(values)[max(1, -(-len(values) * percent // 100)) - 1]


def histogram(values: list[float]) -> LatencyHistogram:
    made = LatencyHistogram()
    for value in values:
        made.pending.append(value)
        if len(made.pending) >= FOLD_AT:
            made.fold()
    return made


@given(st.lists(durations, min_size=1, max_size=300))
@settings(max_examples=200, deadline=None)
def test_percentiles_are_within_two_percent(values: list[float]) -> None:
    snapshot = histogram(values).snapshot()
    for percent, found in ((50, snapshot.p50), (95, snapshot.p95), (99, snapshot.p99)):
        assert found == pytest.approx(exact(values, percent), rel=0.02)
    assert snapshot.max == max(values)
    assert snapshot.count == len(values)
    assert snapshot.mean == pytest.approx(sum(values) / len(values))
    assert snapshot.p50 <= snapshot.p95 <= snapshot.p99 <= snapshot.max


@given(durations, st.integers(1, 5000))
@settings(max_examples=50, deadline=None)
def test_one_value_many_times(value: float, count: int) -> None:
    snapshot = histogram([value] * count).snapshot()
    assert snapshot.count == count
    assert snapshot.p50 == snapshot.p99 == pytest.approx(value, rel=0.02)


def test_nothing_and_no_time_at_all() -> None:
    assert LatencyHistogram().snapshot().p99 == 0.0
    assert histogram([0.0, 0.0]).snapshot().max == 0.0


def test_memory_is_fixed() -> None:
    made = LatencyHistogram()
    for octave in range(40):
        for step in range(1000):
            made.pending.append(1e-6 * 2.0**octave * (1 + step / 1000))
        made.fold()
    everything = made._counts
    buckets, size = len(everything), sys.getsizeof(everything)
    assert buckets < 1300
    assert size < 40_000
    for _ in range(100):
        made.pending.extend([0.001] * 1000)
        made.fold()
    assert sys.getsizeof(everything) == size
    assert made.snapshot().count == 40 * 1000 + 100 * 1000
    assert not made.pending


async def test_all_commands_are_counted(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        for _ in range(3):
            await asyncio.gather(*(pool.client.echo("x") for _ in range(FOLD_AT)))
        assert pool.metrics().commands == 3 * FOLD_AT


async def test_commands_and_errors_are_counted(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        client = pool.client
        assert (pool.metrics().commands, pool.metrics().errors) == (0, {})
        await client.set("s", "text")
        for _ in range(3):
            with pytest.raises(redis.ResponseError):
                await client.lpush("s", 1)
        with pytest.raises(redis.DataError):
            await client.execute_command("SET", "k", None)  # never sent
        with pytest.raises(redis.exceptions.NoScriptError):
            await client.evalsha("0" * 40, 0)
        pipe: Any = client.pipeline(transaction=False)
        pipe.get("s").lpush("s", 1).get("s")
        await pipe.execute(raise_on_error=False)
        transaction: Any = client.pipeline()
        transaction.set("k", 1).incr("k")
        await transaction.execute()  # MULTI, two commands and EXEC
        found = pool.metrics()
        assert found.commands == 1 + 3 + 1 + 3 + 4
        assert found.latency.count == 1 + 3 + 1 + 1 + 1
        assert found.errors == {"ResponseError": 4, "NoScriptError": 1}
        assert (found.retries, found.timeouts, found.background_errors) == ({}, 0, 0)


async def test_bytes_are_what_went_over_the_wire(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.set("k", b"x" * 300_000)
        assert len(await pool.client.get("k")) == 300_000
        async with pool.get() as conn:
            await conn.execute("PING")
        await pool.lane("orders").incr("n")
        found = pool.metrics()
        assert found.bytes_out == proxy.to_server.forwarded
        assert found.bytes_in == proxy.to_client.forwarded
        assert found.bytes_in > 300_000


async def test_connections_are_counted(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=2) as pool:
        await pool.client.ping()
        for _ in range(3):
            async with pool.get() as conn:
                await conn.execute("PING")
        async with pool.get() as conn:
            assert pool.metrics().utilisation == 1.0
            waiting = asyncio.create_task(pool.get().__aenter__())
            await asyncio.sleep(0)
            await conn.execute("SELECT", 1)  # it will not be reused
        (await waiting).release()
        found = pool.metrics()
        assert found.connections_created == 3
        assert found.connections_recycled == 3
        assert found.connections_discarded == 1
        assert found.waits == 1
        assert found.utilisation == 0.5


async def test_retries_are_counted_by_reason(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy, retry_delay_ms=1) as pool:
        await pool.client.set("k", "v")
        proxy.swallow_replies(1, lambda request: b"GET" in request, then="reset")
        assert await asyncio.gather(*(pool.client.get("k") for _ in range(5))) == [b"v"] * 5
        found = pool.metrics()
        assert found.retries == {"lost": 5}
        assert found.errors == {"ConnectionLost": 1}
        proxy.refuse()
        proxy.reset()
        await until(lambda: pool.status().size == 0, "the end of the connection")
        with pytest.raises(redis.ConnectionError):
            await pool.client.with_timeout(5).incr("n")
        found = pool.metrics()
        assert found.retries["connect"] == 5  # REDIS_MAX_RETRIES
        assert found.errors["ConnectFailed"] == 6


async def test_timeouts_are_counted(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.stall()
        quick = pool.client.with_timeout(0.02)
        answers = await asyncio.gather(*(quick.get("k") for _ in range(4)), return_exceptions=True)
        assert all(isinstance(answer, redis.TimeoutError) for answer in answers)
        assert pool.metrics().timeouts == 4
        proxy.restore()
        assert await pool.client.ping()


async def test_a_snapshot_is_frozen(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        before = pool.metrics()
        with pytest.raises(redis.ResponseError):
            await pool.client.execute_command("NO-SUCH-COMMAND")
        assert before.commands == 1
        assert before.errors == {}
        with pytest.raises(dataclasses.FrozenInstanceError):
            before.commands = 7  # type: ignore[misc]  # it is frozen
        with pytest.raises(TypeError):
            before.errors["x"] = 1  # type: ignore[index]  # it is frozen
        assert pool.metrics().errors == {"ResponseError": 1}


async def test_latency_is_the_callers(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.to_client.latency = 0.2  # far more than the PING before it took
        loop = asyncio.get_running_loop()
        started = loop.time()
        await pool.client.get("k")
        took = loop.time() - started
        assert 0.199 <= pool.metrics().latency.max <= took + 0.001


async def test_a_clients_own_pool_has_figures_too(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        await client.ping()
        server = client.connection_pool.source.server()
        assert server.snapshot().commands == 1
