"""``redisutils check``: silent about what is well, exact about what is not, and never a secret."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from rich.console import Console
from typer.testing import CliRunner, Result

import redisutils
from redisutils.cli.app import app
from redisutils.cli.check.finding import Finding
from redisutils.cli.check.report import Report
from redisutils.cli.check.view import LiveView
from redisutils.testing import (
    EmbeddedCluster,
    EmbeddedReplication,
    EmbeddedSentinels,
    EmbeddedServer,
    FaultProxy,
)

from .canary import NEEDLE
from .checkup import at, checked
from .conftest import StartServer
from .ours import until
from .servers import client_of

PASSWORD = f"{NEEDLE}-of-the-server"
SOURCE = Path(redisutils.__file__).parent.parent  # also where the package is not installed
ONE_LOOP = pytest.mark.asyncio(loop_factories=["uvloop"])  # what is looked at is the server

WELL = {"save": "3600 1", "maxmemory": "100mb"}
"""What a server needs for nobody to warn of it."""

# Of the test's own surroundings: asyncio's debug mode.
ASIDE = ("process",)


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where there is no .env


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


# --- as it should be ---


async def test_a_healthy_server_has_no_warnings(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    at(monkeypatch, server)
    found = await checked()
    assert found.report.status == "ok" or found.all("process", "warning")
    assert found.errors == []
    assert found.warnings(*ASIDE) == []
    assert found.report.exit_code(strict=False) == 0
    steps = list(dict.fromkeys(one.step for one in found.report.findings))
    assert steps == [
        "configuration",
        "name",
        "port",
        "login",
        "server",
        "rights",
        "memory",
        "persistence",
        "clients",
        "replication",
        "slowlog",
        "latency",
        "clock",
        "process",
    ]
    [login] = found.all("login", "ok")
    assert login.facts["user"] == "default"
    assert login.facts["protocol"] == 3
    [latency, _] = found.all("latency", "ok", "warning", "note")
    assert latency.facts["pings"] == 200 or latency.facts["max"] > 0.005
    assert set(latency.facts["split"]) == {"wait", "queue", "wire", "loop", "parse"}
    [clock] = found.all("clock", "ok")
    assert abs(clock.facts["ahead"]) < 0.1


@ONE_LOOP
async def test_no_key_is_touched_and_nothing_changed(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    at(monkeypatch, server)
    with client_of(server.url) as admin:
        admin.set("k", "v")
        admin.object("idletime", "k")
        before = admin.config_get("*"), admin.info("keyspace"), admin.acl_list()
        stats = admin.info("stats")
        admin.config_resetstat()
        await checked()
        assert (admin.config_get("*"), admin.info("keyspace"), admin.acl_list()) == before
        stats = admin.info("stats")
        assert (stats["keyspace_hits"], stats["keyspace_misses"]) == (0, 0)
        assert admin.info("persistence")["rdb_changes_since_last_save"] == 1
        calls = set(admin.info("commandstats"))
        assert not calls & {"cmdstat_set", "cmdstat_get", "cmdstat_config|set", "cmdstat_eval"}


@ONE_LOOP
async def test_a_unix_socket_and_a_private_server(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_URL", f"unix://{server.unix_socket}")
    monkeypatch.setenv("REDIS_PASSWORD", server.password)
    found = await checked()
    assert found.errors == []
    assert not {"port", "tls"} & {one.step for one in found.report.findings}
    monkeypatch.delenv("REDIS_PASSWORD")
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/absent.sock")
    found = await checked()
    assert found.error.step == "name"
    assert "No such file" in found.error.found
    assert "unixsocket" in found.told


@ONE_LOOP
async def test_a_private_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "embedded://")
    found = await checked(timeout=5)
    assert found.report.status in ("ok", "warning")
    assert found.warnings(*ASIDE) == []


# --- the way there ---


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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
        if wait:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(words)
        await writer.drain()
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


# --- who we are ---


async def test_a_wrong_password(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, clean_server, password=f"{NEEDLE}-is-wrong")
    found = await checked()
    assert found.error.step == "login"
    assert found.error.facts == {"reason": "WRONGPASS", "user": "default"}
    assert found.error.found.startswith("the server refused user 'default'")
    assert "redis-cli --user default --askpass PING" in found.told


@ONE_LOOP
async def test_a_user_who_does_not_exist(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, clean_server, username="nobody", password=PASSWORD)
    found = await checked()
    assert "refused user 'nobody'" in found.error.found
    assert "ACL GETUSER nobody" in found.told


async def test_no_password(clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, clean_server, password=None)
    found = await checked()
    assert found.error.found == "the server wants a password and none is set"
    assert "Set REDIS_PASSWORD or REDIS_PASSWORD_FILE" in found.told


@ONE_LOOP
async def test_a_user_with_few_rights(
    clean_server: EmbeddedServer, admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.execute_command(
        "ACL", "SETUSER", "poor", "reset", "on", f">{PASSWORD}", "~orders:*", "+@read", "+hello"
    )
    try:
        at(monkeypatch, clean_server, username="poor", password=PASSWORD)
        found = await checked()
        [error] = found.all("rights", "error")
        assert "may not PING (idle connections cannot be tested" in error.found
        assert error.remedy == "`ACL SETUSER poor +ping`"
        [warning] = found.all("rights", "warning")
        assert warning.remedy == "`ACL SETUSER poor +unwatch +client|unblock +multi +discard`"
        [note] = found.all("server", "note")
        assert "may not ask INFO" in note.found
        assert found.report.skipped["memory"] == "this user may not ask INFO"
        unknown = found.all("rights", "note")[-1]
        assert "cannot be told" in unknown.found
        assert "+acl|dryrun" in (unknown.remedy or "")

        admin.execute_command("ACL", "SETUSER", "poor", "+acl|dryrun", "+ping", "+set")
        found = await checked(key="trades:1")
        commands, keys = found.all("rights", "note")[-2:]
        assert "SET" not in commands.facts["refused"]["writing"]
        assert "HSET" in commands.facts["refused"]["writing"]
        assert "reading" not in commands.facts["refused"]
        assert "GET" in keys.facts["refused"]["reading"]
        assert "but not on trades:1" in keys.found
        found = await checked(key="orders:1")
        assert "not on orders:1" not in found.shown
    finally:
        admin.acl_deluser("poor")


@ONE_LOOP
async def test_a_database_that_is_not_there(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, clean_server, database=99)
    found = await checked()
    assert found.error.found == "the server has no database 99"
    assert "`databases`" in found.told


@ONE_LOOP
async def test_a_full_server(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(password=PASSWORD, config=WELL | {"maxclients": 2})
    at(monkeypatch, server)
    holders = [socket.create_connection((server.host, server.port)) for _ in range(2)]
    try:
        found = await checked()
    finally:
        for holder in holders:
            holder.close()
    assert found.error.facts["reason"] == "maxclients"
    assert "CONFIG SET maxclients" in found.told


# --- the server ---


@ONE_LOOP
async def test_maxclients_below_the_pool(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL | {"maxclients": 50})
    at(monkeypatch, server)
    assert (await checked(processes=3)).errors == []
    found = await checked(processes=8)
    assert found.error.step == "clients"
    assert "REDIS_POOL_MAX_SIZE=10 in 8 processes (80 connections)" in found.error.found
    assert found.error.facts["maxclients"] == 50
    assert "maxclients" in found.told


@ONE_LOOP
async def test_memory_is_full(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    with client_of(server.url) as admin:
        used = admin.info("memory")["used_memory"]
        admin.set("k", "v" * 10_000_000)
        admin.config_set("maxmemory", used + 9_000_000)
    at(monkeypatch, server)
    found = await checked()
    assert found.error.step == "memory"
    assert "with noeviction: writes are refused with OOM" in found.error.found
    assert "CONFIG SET maxmemory" in found.told
    with client_of(server.url) as admin:
        admin.config_set("maxmemory-policy", "allkeys-lru")
    found = await checked()
    [warning] = found.all("memory", "warning")
    assert "removes whatever key it likes" in warning.found


@ONE_LOOP
async def test_snapshots_fail(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    with client_of(server.url) as admin:
        # A folder in the snapshot's place cannot be written over, not by root either.
        place = Path(admin.config_get("dir")["dir"]) / admin.config_get("dbfilename")["dbfilename"]
        place.mkdir()
        with pytest.raises(redis.ResponseError):
            admin.save()
        admin.bgsave()
        await until(lambda: not admin.info("persistence")["rdb_bgsave_in_progress"], "the end")
    at(monkeypatch, server)
    found = await checked()
    place.rmdir()
    assert found.error.step == "persistence"
    assert "the last snapshot failed" in found.error.found
    assert "MISCONF" in found.error.found
    assert "BGSAVE" in found.told


@ONE_LOOP
async def test_nothing_is_kept(start_server: StartServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server = await start_server(password=PASSWORD)
    at(monkeypatch, server)
    found = await checked()
    assert found.warnings(*ASIDE) == [
        "nothing is kept on disk: a restart of the server loses all data"
    ]
    assert (found.report.exit_code(strict=False), found.report.exit_code(strict=True)) == (0, 1)
    careless = {"appendonly": "yes", "appendfsync": "no", "timeout": 20}
    at(monkeypatch, await start_server(password=PASSWORD, config=careless))
    found = await checked()
    assert {one.step for one in found.report.findings if one.severity == "warning"} - {
        "process"
    } == {"persistence", "clients"}
    [idle] = found.all("clients", "warning")
    assert "idle for 20 s (timeout)" in idle.found


@ONE_LOOP
async def test_a_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedReplication(replicas=1, password=PASSWORD, config=WELL) as group:
        at(monkeypatch, group.replicas[0])
        found = await checked()
        primary = f"127.0.0.1:{group.primary.port}"
        assert found.error.step == "server"
        assert found.error.found.startswith(f"this is a replica of {primary}: writes fail")
        assert f"primary, {primary}" in found.told
        [link] = found.all("replication", "ok")
        assert "in touch" in link.found

        at(monkeypatch, group.primary)
        found = await checked()
        assert found.errors == []
        [replica] = found.all("replication", "ok")
        assert replica.facts["state"] == "online"
        with client_of(group.primary.url) as admin:
            admin.config_set("min-replicas-to-write", 2)
        found = await checked()
        assert "writes are refused with NOREPLICAS" in found.error.found


@ONE_LOOP
async def test_a_node_of_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedCluster(primaries=2, password=PASSWORD, config=WELL) as cluster:
        node = cluster.primaries[0]
        at(monkeypatch, node)
        found = await checked()
        assert found.error.step == "server"
        assert "one of 2 primaries of a cluster" in found.error.found
        assert "MOVED" in found.error.found
        if node.process.bus_port == node.port + 10_000:
            at(monkeypatch, node.process.bus_port, node)
            found = await checked()
            assert f"set REDIS_PORT={node.port}" in found.told


@ONE_LOOP
async def test_a_sentinel(monkeypatch: pytest.MonkeyPatch) -> None:
    async with EmbeddedSentinels(sentinels=1, replicas=0, quorum=1, password=PASSWORD) as group:
        at(monkeypatch, group.sentinels[0])
        found = await checked()
        assert found.error.step == "server"
        assert "this is a Sentinel" in found.error.found
        assert f"127.0.0.1:{group.primary.port}" in found.told


@ONE_LOOP
async def test_a_server_that_loads_its_data(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(
        password=PASSWORD,
        config=WELL | {"key-load-delay": 2000, "enable-debug-command": "local"},
    )
    admin: Any
    with client_of(server.url) as admin:
        admin.execute_command("DEBUG", "POPULATE", 100_000)
        admin.config_set("loading-process-events-interval-bytes", 1024)
        loading = asyncio.create_task(
            asyncio.to_thread(_ignoring_the_end, admin, "DEBUG", "RELOAD")
        )
        with client_of(server.url) as other:
            await until(lambda: other.info("persistence")["loading"], "loading")
        at(monkeypatch, server)
        found = await checked()
        await server.kill()
        await loading
    assert "the server is loading its data" in found.error.found
    assert "Wait." in found.told
    assert found.report.skipped["latency"] == "server failed"


def _ignoring_the_end(admin: Any, *command: str) -> None:
    try:
        admin.execute_command(*command)
    except redis.ConnectionError:
        pass


@ONE_LOOP
async def test_slow_commands_are_counted_and_not_shown(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL | {"slowlog-log-slower-than": 2000})
    at(monkeypatch, server)
    assert (await checked()).all("slowlog", "ok")
    admin: Any
    with client_of(server.url) as admin:
        admin.eval("for i = 1, 2e6 do local x = i end", 0, NEEDLE, b"\xff\xfe")
    found = await checked()
    [note] = found.all("slowlog", "note", "warning")
    assert note.facts["command"] == "EVAL"
    assert note.facts["longest"] >= 0.002
    assert "took longer than 2.0 ms in the last hour; the longest, EVAL" in note.found
    assert "SLOWLOG GET" in (note.remedy or "")


# --- the configuration ---


@ONE_LOOP
async def test_wrong_and_misspelt_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "no")
    monkeypatch.setenv("REDIS_PASSWROD", PASSWORD)
    found = await checked()
    assert found.error.step == "configuration"
    assert found.error.found == "REDIS_PORT=no: must be a whole number between 1 and 65,535"
    [unknown] = found.all("configuration", "warning")
    assert unknown.remedy == "Rename it to REDIS_PASSWORD."
    assert found.report.skipped["name"] == "configuration failed"


@ONE_LOOP
@pytest.mark.parametrize(
    ("url", "step"),
    [
        (f"redis://alice:{PASSWORD}@127.0.0.1:1/0", "port"),
        (f"redis://alice:{PASSWORD}/2@127.0.0.1", "configuration"),
        (f"redis://{PASSWORD}@nobody.invalid", "name"),
        (f"unix://alice:{PASSWORD}@/no/such.sock", "name"),
    ],
)
async def test_a_password_in_a_url(url: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert (await checked(timeout=5)).error.step == step  # and the secret was looked for


@ONE_LOOP
async def test_odd_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(".env").write_text(f"REDIS_PASSWORD={PASSWORD}\n", "utf-8")
    Path(".env").chmod(0o644)
    at(
        monkeypatch,
        free_port(),
        pool_max_size=1,
        retry="always",
        command_timeout=120,
        pool_max_lifetime_seconds=1,
        health_check_interval=0,
    )
    found = await checked()
    told = [one.found for one in found.all("configuration", "warning")]
    assert [text.partition(":")[0].partition(" has")[0] for text in told] == [
        ".env",
        "REDIS_POOL_MAX_SIZE=1",
        "REDIS_POOL_MAX_LIFETIME_SECONDS=1",
        "REDIS_COMMAND_TIMEOUT=120",
        "REDIS_RETRY=always",
    ]
    Path(".env").chmod(0o600)
    assert len((await checked()).all("configuration", "warning")) == 4
    Path(".env").unlink()
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o604)
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(secret))
    assert (await checked()).all("configuration", "warning")[0].remedy == f"`chmod 600 {secret}`"
    secret.unlink()
    assert "No such file" in (await checked()).error.found


# --- the command ---


def command(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments], env=variables)


def program(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The same as a program of its own, which hears of SIGINT wherever the tests run."""
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from redisutils.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, "check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(SOURCE)} | variables,
    )


def test_json_and_exit_codes(server: EmbeddedServer) -> None:
    done = command("--json", REDIS_URL=server.url)
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["status"] in ("ok", "warning")
    assert told["endpoint"] == f"127.0.0.1:{server.port}"
    assert {frozenset(one) for one in told["findings"]} == {
        frozenset({"step", "severity", "found", "remedy", "facts"})
    }
    assert server.password not in done.output
    assert command("--json", "--strict", REDIS_URL=server.url).exit_code == 1  # nothing is kept


def test_plain_text_is_whole_and_without_colours() -> None:
    with program(REDIS_PORT=str(free_port()), REDIS_PASSWORD=PASSWORD, COLUMNS="40") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    assert "\x1b" not in out
    assert NEEDLE not in out
    [line] = [line for line in out.splitlines() if "port  " in line]
    assert line.startswith("  ✗ port")
    [remedy] = [line for line in out.splitlines() if "→" in line]
    assert remedy.endswith("is the port published?")


def test_wrong_usage() -> None:
    assert command("--timeout", "0").exit_code == 2
    assert command("--key", "two words").exit_code == 2
    told = command("--help").stdout.splitlines()
    assert "    redisutils check --processes 16 --key orders:1" in told
    assert "    130  ended by Ctrl-C" in told


def test_ctrl_c_ends_it_cleanly() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        program(
            "--timeout", "30", REDIS_PORT=str(silent.getsockname()[1]), REDIS_HOST="127.0.0.1"
        ) as process,
    ):
        silent.settimeout(30)
        first, _ = silent.accept()  # the connect, which it closes at once
        second, _ = silent.accept()  # on which it waits for an answer
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        first.close()
        second.close()
    assert (process.returncode, err) == (130, "")
    assert "✗ interrupted, in" in out


@pytest.mark.parametrize("width", [40, 60, 120])
def test_on_a_terminal_nothing_is_wider_than_it(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    remedy = "Set `REDIS_HOST=127.0.0.1` and " + "much more, " * 20
    with LiveView(console, "localhost:6379") as view:
        view.begin("port", 3, 15)
        view.tick(2.5)
        view.found(Finding("port", "error", "a word " * 30, remedy))
        view.skipped("login", "port failed")
        view.skipped("server", "port failed")
        view.end(Report("localhost:6379", [Finding("port", "error", "x", "y")], {}, 1.0))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()))
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "✗ 1 error, in 1.0 s" in text
    assert "login, server: port failed" in text
    assert "2.5 s" in text
