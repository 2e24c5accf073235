"""A silent connection when the way by which a lane finds out about it is itself in trouble."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import CommandTimeout, ConnectionLost, Outcome, create_redis_pool
from redisutils.errors import PoolClosed
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at, pool_at, until
from .peers import Answer, Peer

QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}

# Seconds of silence pass by in these: on one loop they prove as much as on two.
pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])


def half_open(proxy: FaultProxy) -> None:
    """What is connected falls silent for good; new connections work."""
    proxy.blackhole()
    proxy.restore()


async def test_the_room_that_it_took_to_find_out_is_free_again(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    """Nobody uses the lane any more, whose command must not be repeated."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.4, pool_max_size=2) as pool:
        await pool.client.ping()
        half_open(proxy)
        with pytest.raises(ConnectionLost) as lost:
            await pool.client.incr("n")
        assert lost.value.outcome is Outcome.UNKNOWN
        async with pool.get(timeout=0.2) as conn:
            assert await conn.execute("GET", "n") is None
        assert await pool.client.incr("n") == 1


@pytest.mark.parametrize("options", [{"protocol": 2}, {"username": "plain", "password": "pw"}])
async def test_a_server_that_cannot_be_asked_whether_it_lets_us_wait(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis, options: dict[str, Any]
) -> None:
    """In RESP2 nobody knows his number, and a user may be forbidden to list the clients."""
    admin.acl_setuser(
        "plain", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-client|list"]
    )
    try:
        async with client_at(server, proxy, socket_timeout=0.8, **options) as client:
            await client.ping()
            half_open(proxy)
            started = monotonic()
            assert await client.get("k") is None
            assert monotonic() - started < 0.7, "found out before the budget was over"
            assert proxy.accepted == 2
            ours: Any = client._source.server()
            assert ours.pool.in_use == 1, "the old one's place is free"
    finally:
        admin.acl_deluser("plain")


def peer_that(answer: dict[bytes, bytes]) -> Answer:
    """Gives these answers by command, and tells whoever says hello a number."""

    def answers(command: list[bytes]) -> bytes:
        if command[0] == b"HELLO":
            return b"%1\r\n$2\r\nid\r\n:7\r\n"
        return answer.get(command[0], b"+OK\r\n")

    return answers


async def test_a_server_that_becomes_busy_while_it_is_asked() -> None:
    """It may be with our own script."""
    answer = peer_that({b"GET": b"", b"PING": b"+PONG\r\n", b"CLIENT": b"-BUSY with a script\r\n"})
    async with (
        Peer(answer, polite=False) as peer,
        create_redis_pool(url=peer.url, command_timeout=2, **QUICK) as pool,
    ):
        reading = asyncio.ensure_future(pool.client.with_timeout(5).get("k"))
        await until(lambda: [b"CLIENT", b"LIST", b"ID", b"7"] in peer.heard)
        await until(lambda: pool.status().available == 1, "the end of the asking")
        assert not reading.done()
        assert peer.accepted == 2
        peer.say(b"$1\r\nv\r\n")
        assert await reading == b"v"
        assert pool.metrics().retries == {}


async def test_asking_fails_in_a_way_that_nobody_expects(
    proxy: FaultProxy, server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(server, proxy, **QUICK, command_timeout=0.2, max_retries=0) as pool:
        await pool.client.ping()

        def broken(*_: object) -> None:
            raise LookupError("a hook of the user's")

        pool.post_create.append(broken)
        half_open(proxy)
        with caplog.at_level(logging.ERROR, "redisutils.lane"), pytest.raises(CommandTimeout):
            await pool.client.get("k")
        assert pool.metrics().background_errors > 0
        assert "probing failed" in caplog.text
        assert "a hook of the user's" in caplog.text
        pool.post_create.remove(broken)
        assert await pool.client.with_timeout(5).get("k") is None


async def test_silent_while_the_pool_is_closing(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """There is nobody to ask any more; the command has its budget all the same, and no more."""
    async with pool_at(server, proxy, **QUICK, command_timeout=0.4) as pool:
        await pool.client.ping()
        half_open(proxy)
        counting = asyncio.ensure_future(pool.client.incr("n"))
        await asyncio.sleep(0)
        async with asyncio.timeout(2):
            await pool.close(drain=5)
        with pytest.raises((CommandTimeout, ConnectionLost)) as lost:
            await counting
        assert lost.value.outcome is Outcome.UNKNOWN
        assert proxy.accepted == 1
        with pytest.raises(PoolClosed):
            await pool.client.get("k")


async def test_a_blocking_command_on_a_single_connection_may_be_silent(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Also where the server cannot be asked whether it lets us wait."""
    patience = 0.05
    async with client_at(
        clean_server, single_connection_client=True, socket_timeout=patience, protocol=2
    ) as client:
        before = await client.client_id()
        waiting = asyncio.ensure_future(client.blpop(["list"], timeout=0))
        await until(lambda: int(admin.info("clients")["blocked_clients"]) == 1)
        await asyncio.sleep(4 * patience)
        assert not waiting.done()
        admin.rpush("list", "x")
        assert await waiting == (b"list", b"x")
        assert await client.client_id() == before
