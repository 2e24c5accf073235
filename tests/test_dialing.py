"""Connecting, when the peer breaks it off in odd ways: one clear error, and no connection left."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redisutils import ConnectFailed, Outcome, RedisPool, create_redis_pool, outcome_of
from redisutils.connection import diagnosis, dial
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at, clients_named
from .peers import Peer
from .terminator import Terminator

AUTHORITY = trustme.CA()

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[asyncio.Server]:
    """A server that does ``serve(reader, writer, number)`` for each connection, numbered from 1,
    and then hangs up."""
    accepted = 0
    open_: set[asyncio.StreamWriter] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        open_.add(writer)
        try:
            await serve(reader, writer, accepted)
        except OSError:
            pass  # Who asked has gone.
        finally:
            open_.discard(writer)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    try:
        yield server
    finally:
        server.close()
        for writer in open_:
            writer.transport.abort()
        await asyncio.sleep(0.01)  # until the transports, of TLS above all, have let go


def pool_of(server: asyncio.Server, **settings: Any) -> RedisPool:
    port = server.sockets[0].getsockname()[1]
    return create_redis_pool(host="127.0.0.1", port=port, max_retries=0, **settings)


async def told(pool: RedisPool, words: str) -> ConnectFailed:
    """The error with these words that the first command gets."""
    async with pool:
        with pytest.raises(ConnectFailed, match=words) as failure:
            await pool.client.incr("k")
        assert outcome_of(failure.value) is Outcome.NOT_SENT
        assert pool.status().size == 0
    return failure.value


@pytest.fixture
def trusting(tmp_path: Path) -> dict[str, Any]:
    """Settings of a client with TLS."""
    path = tmp_path / "ca.pem"
    path.write_bytes(AUTHORITY.cert_pem.bytes())
    return {"tls_enabled": True, "tls_ca_path": path}


def speaking() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert("127.0.0.1").configure_cert(context)
    return context


# -- the socket ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 30),
        ({"socket_keepalive": True}, 30),
        ({"socket_keepalive_options": {socket.TCP_KEEPIDLE: 7}}, 7),
        ({"socket_keepalive": False}, None),
    ],
)
async def test_keepalive_is_as_it_was_asked_for(
    clean_server: EmbeddedServer, options: dict[str, Any], expected: int | None
) -> None:
    async with client_at(clean_server, **options) as client:
        assert await client.ping()
        lane: Any = client._source.server().lane()
        connection = lane.connection
        found = connection._transport.get_extra_info("socket")
        assert bool(found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) == bool(expected)
        if expected:
            assert found.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == expected


async def test_a_socket_option_that_the_system_does_not_know(clean_server: EmbeddedServer) -> None:
    unknown = {9999: 1}
    once = Retry(NoBackoff(), 0)
    async with client_at(clean_server, socket_keepalive_options=unknown, retry=once) as client:
        with pytest.raises(ConnectFailed, match=r"cannot connect to .*: Protocol not available"):
            await client.ping()


# -- in plain ------------------------------------------------------------------------------------


def plain_peer(to_ping: bytes | None) -> Serve:
    """Hangs up on whoever says hello; answers PING of one who does not, or stays silent."""

    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        asked = await reader.read(4096)
        if asked.startswith(b"*"):
            return
        if to_ping is None:
            await reader.read()
        writer.write(to_ping or b"")
        await writer.drain()

    return serve


@pytest.mark.parametrize("to_ping", [b"+PONG\r\n", b"-ERR no\r\n", b"?", b"", None])
async def test_hung_up_on_hello(to_ping: bytes | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the server speaks TLS is looked at then; whatever comes of it, this is told."""
    monkeypatch.setattr(diagnosis, "PATIENCE", 0.1)
    async with serving(plain_peer(to_ping)) as server:
        error = await told(pool_of(server), "hung up during the handshake:")
        assert not error.fatal


# -- in TLS --------------------------------------------------------------------------------------


def alert(code: int) -> Serve:
    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        await reader.read(4096)
        writer.write(b"\x15\x03\x03\x00\x02\x02" + bytes([code]))
        await writer.drain()

    return serve


async def test_an_alert_of_no_known_cause_is_told_as_it_is(trusting: dict[str, Any]) -> None:
    async with serving(alert(80)) as server:
        error = await told(pool_of(server, **trusting), "TLS failed: TLSV1_ALERT_INTERNAL_ERROR")
        assert error.fatal


async def test_hung_up_in_the_middle_of_a_tls_handshake(trusting: dict[str, Any]) -> None:
    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        await reader.read(4096)

    async with serving(serve) as server:
        error = await told(pool_of(server, **trusting), "hung up during the TLS handshake")
        assert not error.fatal


@pytest.mark.parametrize("stays", [True, False])
async def test_hung_up_without_a_word_after_the_tls_handshake(
    trusting: dict[str, Any], stays: bool
) -> None:
    """As a server does that wants a client certificate and is in a hurry; it may have gone when we
    look closer."""

    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        if not stays:
            server.close()

    async with serving(serve, speaking()) as server:
        error = await told(pool_of(server, **trusting), "does it ask for a client certificate")
        assert not error.fatal


@pytest.mark.parametrize("look", ["answered", "refused"])
async def test_a_slow_tls_server_is_not_taken_for_a_plain_one(
    clean_server: EmbeddedServer,
    trusting: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    look: str,
) -> None:
    monkeypatch.setattr(dial, "_LONG_HANDSHAKE", 0.02)
    async with (
        Terminator(clean_server.host, clean_server.port, speaking()) as terminator,
        FaultProxy(terminator.host, terminator.port) as proxy,
    ):
        settings = {"password": clean_server.password, **trusting}
        async with create_redis_pool(host=proxy.host, port=proxy.port, **settings) as pool:
            proxy.stall()
            first = asyncio.ensure_future(pool.client.incr("k"))
            await proxy.wait_accepted(1)
            if look == "answered":
                await proxy.wait_accepted(2)
            else:
                proxy.refuse()
                await asyncio.sleep(0.1)  # a refusal leaves no trace to wait for
            proxy.restore()
            assert await first == 1
            assert pool.metrics().errors == {}


# -- what the server says ------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before it is asked", "as an answer"])
async def test_a_server_that_has_too_many_clients_says_so_and_hangs_up(when: str) -> None:
    words = b"-ERR max number of clients reached\r\n"

    async def serve(
        reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        if when == "as an answer":
            await reader.read(4096)
        writer.write(words)
        await writer.drain()
        if when == "before it is asked":
            await reader.read(4096)

    async with serving(serve) as server:
        error = await told(pool_of(server), "refused the connection: max number of clients reached")
        assert not error.fatal


async def test_a_client_that_does_not_say_what_it_is(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    async with client_at(clean_server, driver_info=None, client_name="nobody") as client:
        assert await client.ping()
        (found,) = clients_named(admin, "nobody")
        assert not found.get("lib-name")


async def test_a_client_made_when_the_server_is_known_to_speak_resp2() -> None:
    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"HELLO":
            return b"-ERR unknown command 'HELLO'\r\n"
        return b"*2\r\n+f\r\n+v\r\n" if command[0] == b"HGETALL" else b"+OK\r\n"

    async with Peer(answer, polite=False) as peer, create_redis_pool(url=peer.url) as pool:
        assert await pool.client.hgetall("h") == {b"f": b"v"}
        later = pool.make_client(decode_responses=True)
        assert await later.hgetall("h") == {"f": "v"}
        assert peer.accepted == 1
