"""``redisutils check`` on the way to the server: exact about what is wrong, and never a secret."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from redisutils.testing import (
    EmbeddedServer,
    FaultProxy,
)

from .checkup import ONE_LOOP, PASSWORD, at, checked, free_port
from .surroundings import clear


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def one_server() -> Iterator[EmbeddedServer]:
    """Of whatever kind, where the network is what is looked at."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def network(one_server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    """A faulty one before this server."""
    async with FaultProxy(one_server.host, one_server.port) as proxy:
        yield proxy


async def test_a_refused_port(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    at(monkeypatch, port, password=PASSWORD)
    found = await checked()
    assert found.error.step == "port"
    assert found.error.found == f"port {port}: 127.0.0.1 refuses"
    assert f"ss -ltn | grep {port}" in found.told
    assert found.report.skipped["login"] == "port failed"
    assert found.report.skipped["clock"] == "port failed"
    assert "tls" not in found.report.skipped


async def test_a_name_that_does_not_resolve(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 6379, host="nobody.invalid")
    found = await checked(timeout=5)
    assert found.error.step == "name"
    assert found.error.found.startswith("nobody.invalid does not resolve")
    assert "/etc/resolv.conf" in found.told or "getent hosts nobody.invalid" in found.told


@ONE_LOOP
async def test_the_first_address_refuses(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def both(host: str, port: int) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]  # the server listens on the second alone

    monkeypatch.setattr("redisutils.cli.check.names.addresses", both)
    at(monkeypatch, clean_server, host="db.example")
    monkeypatch.setattr("redisutils.connection.dial.addresses", both)
    found = await checked()
    [warning] = found.all("port", "warning")
    assert "127.0.0.2 refuses and 127.0.0.1 accepts" in warning.found
    assert warning.remedy
    assert "REDIS_HOST=127.0.0.1" in warning.remedy
    assert found.errors == []


@asynccontextmanager
async def answering(words: bytes, *, wait: bool = True) -> AsyncIterator[int]:
    """A port at which these words are the answer to everything."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if wait:
                await reader.readuntil(b"\r\n\r\n")
            writer.write(words)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who only looked whether somebody listens has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def test_a_web_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b"HTTP/1.1 400 Bad Request\r\nServer: web\r\n\r\n") as port:
        at(monkeypatch, port, password=PASSWORD)
        found = await checked()
    assert found.error.step == "port"
    assert found.error.found == (f"a web server answers at port {port}: 'HTTP/1.1 400 Bad Request'")
    assert "Check REDIS_HOST and REDIS_PORT" in found.told


@ONE_LOOP
async def test_another_server(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b"SSH-2.0-OpenSSH_9.2\x1b[31m\r\n", wait=False) as port:
        at(monkeypatch, port, password=PASSWORD)
        found = await checked()
    assert found.error.facts["peer"] == "other"
    assert found.error.found.endswith("is no Redis server: 'SSH-2.0-OpenSSH_9.2·[31m'")


@ONE_LOOP
async def test_one_who_refuses_plain_text_by_an_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b"\x15\x03\x01\x00\x02\x02\x46") as port:
        at(monkeypatch, port, password=PASSWORD)
        found = await checked()
    assert found.error.facts["peer"] == "tls"
    assert "Set REDIS_TLS_ENABLED=true" in found.told


@ONE_LOOP
async def test_one_who_hangs_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async with answering(b"") as port:
        at(monkeypatch, port, password=PASSWORD)
        found = await checked()
    assert found.error.facts["peer"] == "closed"
    assert "hangs up without a word" in found.error.found


async def test_a_black_hole(network: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    network.stall()
    at(monkeypatch, network, password=PASSWORD)
    found = await checked()
    assert found.error.step == "port"
    assert found.error.facts["peer"] == "silent"
    assert "accepts connections, and then nobody answers" in found.error.found
    assert "frozen" in found.told
    assert found.report.seconds < 10


@ONE_LOOP
async def test_one_who_is_late_is_not_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the step's time, which is more than a second, is still within the bound given."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(64):
            await asyncio.sleep(1.5)
            writer.write(b"HTTP/1.1 400 Late\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        at(monkeypatch, server.sockets[0].getsockname()[1])
        found = await checked(timeout=3)
    assert found.error.facts["peer"] == "http"


@ONE_LOOP
async def test_a_server_that_freezes_before_the_handshake(
    network: FaultProxy, one_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.swallow_replies(1, lambda request: b"HELLO" in request)
    at(monkeypatch, network, one_server)
    found = await checked(timeout=0.5)
    assert found.error.step == "login"
    assert found.error.facts["reason"] == "timeout"
    assert "does not answer the handshake" in found.error.found


@ONE_LOOP
async def test_a_slow_line(
    network: FaultProxy, one_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.to_client.latency = 0.021
    at(monkeypatch, network, one_server)
    found = await checked(timeout=5)
    [warning] = found.all("latency", "warning")
    assert warning.facts["p50"] >= 0.021
    assert "another continent" in warning.found or "another region" in warning.found
    assert found.errors == []
    [split] = found.all("latency", "ok")
    assert split.facts["wire"] > split.facts["process"]
