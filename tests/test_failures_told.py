"""What callers were told is counted by class and outcome, and an error's text says it."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any

import pytest
import redis

from redisutils import (
    CommandTimeout,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    PoolTimeout,
    outcome_of,
    retry,
)
from redisutils.retry import Backoff, RetryPolicy
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import pool_at, until


async def test_each_failure_is_counted_as_it_was_told(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy, pool_max_size=2, pool_timeout=0.01) as pool:
        client = pool.client
        await client.set("s", b"\xff")
        with pytest.raises(redis.ResponseError):
            await client.lpush("s", 1)
        with pytest.raises(UnicodeDecodeError):
            await pool.make_client(decode_responses=True).get("s")
        pipe: Any = client.pipeline(transaction=False)
        pipe.lpush("s", 1).get("s").lpush("s", 2)
        await pipe.execute(raise_on_error=False)
        async with pool.get():
            with pytest.raises(PoolTimeout):
                (await pool.get()).release()
        proxy.stall()
        with pytest.raises(CommandTimeout):
            await client.with_timeout(0.02).incr("n")
        gone = asyncio.ensure_future(client.with_timeout(0.02).incr("n"))
        await asyncio.sleep(0)
        gone.cancel()  # it is told nothing
        with pytest.raises(asyncio.CancelledError):
            await gone
        pending = asyncio.ensure_future(client.incr("n"))
        await asyncio.sleep(0)
        proxy.refuse()
        proxy.reset()
        with pytest.raises(ConnectionLost):
            await pending
        with pytest.raises(CommandTimeout):
            await client.with_timeout(0.02).incr("n")
        found = dict(pool.metrics().failures)
    assert found == {
        ("ResponseError", "REJECTED"): 3,
        ("UnicodeDecodeError", "EXECUTED"): 1,
        ("PoolTimeout", "NOT_SENT"): 1,
        ("CommandTimeout", "UNKNOWN"): 1,
        ("ConnectionLost", "UNKNOWN"): 1,
        ("CommandTimeout", "NOT_SENT"): 1,
    }


async def test_what_a_retry_mends_is_no_failure(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy, retry_delay_ms=1) as pool:
        await pool.client.set("k", "v")
        proxy.swallow_replies(1, lambda request: b"GET" in request, then="reset")
        assert await pool.client.get("k") == b"v"
        found = pool.metrics()
        assert found.errors == {"ConnectionLost": 1}
        assert found.failures == {}
        assert found.connections_lost == 1


def test_the_text_ends_with_the_outcome() -> None:
    lost = ConnectionLost("gone", outcome=Outcome.UNKNOWN)
    assert str(lost) == "gone [outcome: UNKNOWN]"
    assert lost.message == "gone"
    assert str(ConnectFailed("refused")) == "refused [outcome: NOT_SENT]"
    assert str(ConfigError("port=0")) == "port=0"  # nothing was to be sent
    again = pickle.loads(pickle.dumps(lost))  # our own
    assert str(again) == str(lost)


async def test_it_is_said_once(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy, retry_delay_ms=1) as pool:
        await pool.client.ping()
        proxy.refuse()
        proxy.reset()
        await until(lambda: pool.status().size == 0, "the end of the connection")
        for use in (pool.client.incr("n"), pool.get(), pool.client.blpop("q", 1)):
            with pytest.raises(ConnectFailed) as told:
                await use
            assert str(told.value).count("outcome") == 1
            assert str(told.value).endswith("[outcome: NOT_SENT]")
            assert outcome_of(told.value) is Outcome.NOT_SENT


async def test_a_read_that_was_not_answered_is_no_unknown_write(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.stall()
        hasty = pool.client.with_timeout(0.02)
        for reads in (hasty.get("k"), hasty.ping(), hasty.info(), hasty.mget("a", "b")):
            with pytest.raises(CommandTimeout):
                await reads
        assert pool.metrics().unknown_writes == 0
        transaction: Any = hasty.pipeline()
        transaction.get("k").incr("n")
        for writes in (hasty.set("k", 1), hasty.publish("c", "m"), transaction.execute()):
            with pytest.raises(CommandTimeout):
                await writes
        assert pool.metrics().unknown_writes == 3
        assert pool.metrics().failures == {("CommandTimeout", "UNKNOWN"): 7}
        proxy.restore()


async def test_who_waited_in_vain_is_none_of_those_who_wait(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool, pool.get():
        with pytest.raises(PoolTimeout, match="no other callers waiting"):
            (await pool.get(timeout=0.01)).release()


class Spoken(ConnectionLost):
    """A user's own, which has a habit."""

    def __init__(self, message: str) -> None:
        self.message = "mine"
        super().__init__(message)
        self.message = "mine, too"


def test_a_subclass_may_have_a_message_of_its_own() -> None:
    error = Spoken("gone")
    assert str(error) == "gone [outcome: UNKNOWN]"
    assert error.message == "mine, too"


async def test_what_the_pool_asks_for_itself_is_nobodys_failure(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy, health_check_interval=0.1, command_timeout=0.2) as pool:
        await pool.client.ping()
        proxy.stall()
        await until(lambda: pool.metrics().background_errors, "a health check that failed")
        assert pool.metrics().failures == {}
        assert pool.metrics().timeouts == 0
        proxy.restore()


async def test_an_attempt_of_a_blocking_command_that_is_repeated_is_no_failure(
    clean_server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "TRANSIENT", frozenset({"WRONGTYPE"}))  # which can be had at will
    async with pool_at(clean_server, proxy, retry_delay_ms=1, max_retries=50) as pool:
        await pool.client.set("q", "text")
        waiting = asyncio.ensure_future(pool.client.blpop("q", 1))
        await until(lambda: pool.metrics().retries, "a refusal")
        await pool.client.delete("q")
        await pool.client.rpush("q", 1)
        assert await waiting
        assert pool.metrics().failures == {}
        pool.server.set_policy(RetryPolicy("never", 0, Backoff(0.1, 1.0)))
        await pool.client.set("q", "text")
        with pytest.raises(redis.ResponseError):
            await pool.client.blpop("q", 1)
        assert pool.metrics().failures == {("ResponseError", "REJECTED"): 1}
