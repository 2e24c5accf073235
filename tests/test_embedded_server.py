"""The server for tests: its misfortunes are real, and what it is told to be it is."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import socket
from pathlib import Path

import pytest
import redis
import redis.asyncio
import trustme
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from redisutils.errors import ConfigError
from redisutils.testing import EmbeddedServer, TLSFiles, find_servers

from .conftest import StartServer
from .servers import client_of, running, state_of


async def test_what_is_on_disk_outlives_kill_and_restart(start_server: StartServer) -> None:
    server = await start_server(appendonly=True)
    with client_of(server.url) as client:
        port, pid = server.port, server.pid
        client.set("k", "v")
        await server.kill()
        assert not running(pid)
        with pytest.raises(redis.ConnectionError):
            client.get("k")
        await server.start()
        assert client.get("k") == "v"
        await server.restart()
        assert client.get("k") == "v"
        assert server.port == port
        assert server.pid != pid


async def test_what_config_rewrite_wrote_outlives_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    with client_of(server.url) as client:
        client.config_set("maxmemory", 12345678)
        client.config_rewrite()
        await server.kill()
        await server.start()
        assert client.config_get("maxmemory") == {"maxmemory": "12345678"}


async def test_every_acknowledged_write_outlives_a_kill_under_load(
    start_server: StartServer,
) -> None:
    server = await start_server(appendonly=True)
    acknowledged: list[str] = []
    enough = asyncio.Event()

    async def write(writer: int) -> None:
        once = Retry(NoBackoff(), 0)
        async with redis.asyncio.Redis.from_url(server.url, retry=once) as client:
            for count in itertools.count():
                await client.set(f"{writer}:{count}", "x" * 1000)
                acknowledged.append(f"{writer}:{count}")
                if len(acknowledged) == 500:
                    enough.set()

    writers = [asyncio.create_task(write(writer)) for writer in range(10)]
    async with asyncio.timeout(30):
        await enough.wait()
    await server.kill()
    ends = await asyncio.gather(*writers, return_exceptions=True)
    assert all(isinstance(end, redis.ConnectionError) for end in ends)
    await server.start()
    with client_of(server.url) as client:
        # What was written and not acknowledged may be there, too.
        assert client.exists(*acknowledged) == len(acknowledged) <= client.dbsize()


async def test_a_paused_server_is_silent_until_it_is_resumed(start_server: StartServer) -> None:
    server = await start_server(password="")
    await server.pause()
    with socket.create_connection((server.host, server.port), timeout=0.05) as client:
        client.sendall(b"PING\r\n")
        with pytest.raises(TimeoutError):
            client.recv(100)
        await server.resume()
        client.settimeout(10)
        assert client.recv(100) == b"+PONG\r\n"


@pytest.mark.parametrize("by_others", [False, True])
async def test_a_second_pause_changes_nothing(start_server: StartServer, by_others: bool) -> None:
    server = await start_server()
    if by_others:
        os.kill(server.pid, signal.SIGSTOP)
    else:
        await server.pause()
    for _ in range(3):  # by then the supervisor has seen the first one, too
        await server.pause()
        assert state_of(server.pid) == "T"
    await server.resume()
    with client_of(server.url) as client:
        assert client.ping()
    await server.pause()
    assert state_of(server.pid) == "T"
    os.kill(server.pid, signal.SIGCONT)
    await server.pause()
    assert state_of(server.pid) == "T"
    await server.kill()
    await server.start()


async def test_a_paused_server_can_be_stopped(start_server: StartServer) -> None:
    server = await start_server()
    pid = server.pid
    await server.pause()
    await server.stop()
    assert not running(pid)


async def test_users_come_through_the_configuration(start_server: StartServer) -> None:
    users = ["default off", "alice on >wonder +@all ~*", "bob on >builder +get ~*"]
    server = await start_server(password="", config={"user": users})
    with redis.Redis(port=server.port, username="alice", password="wonder") as alice:
        assert alice.acl_whoami() == "alice"
    with redis.Redis(port=server.port, username="bob", password="builder") as bob:
        assert bob.get("k") is None
        with pytest.raises(redis.exceptions.NoPermissionError):
            bob.set("k", "v")


async def test_tls_with_client_certificates(tmp_path: Path) -> None:
    if "redis" not in find_servers():
        pytest.skip("only redis-server is built with TLS")
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    cert, key, ca = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    issued.cert_chain_pems[0].write_to_path(str(cert))
    issued.private_key_pem.write_to_path(str(key))
    authority.cert_pem.write_to_path(str(ca))
    async with EmbeddedServer(tls=TLSFiles(cert, key, ca, client_auth="yes")) as server:
        trust = {"ssl_ca_certs": str(ca)}
        stranger = client_of(server.tls_url, **trust)
        with stranger, pytest.raises(redis.ConnectionError):
            stranger.ping()
        own = {"ssl_certfile": str(cert), "ssl_keyfile": str(key)}
        with client_of(server.tls_url, **trust, **own) as client:
            assert client.ping()


def test_servers_are_what_they_are_called(server: EmbeddedServer, server_kind: str) -> None:
    with client_of(server.url) as client:
        assert client.info("server").get("server_name", "redis") == server_kind
    assert str(server.pid) in repr(server)
    assert server.password not in repr(server)


def test_a_server_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="/nowhere/server"):
        EmbeddedServer("/nowhere/server")
