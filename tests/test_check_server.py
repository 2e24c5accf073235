"""``redisutils check`` on servers and users with whom something is wrong."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest
import redis

from redisutils.testing import (
    EmbeddedCluster,
    EmbeddedReplication,
    EmbeddedSentinels,
    EmbeddedServer,
)

from .canary import NEEDLE
from .checkup import ASIDE, ONE_LOOP, PASSWORD, WELL, at, checked
from .conftest import StartServer
from .ours import until
from .servers import client_of
from .surroundings import clear


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


# --- who we are ---


async def test_a_wrong_password(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, clean_server, password=f"{NEEDLE}-is-wrong")
    found = await checked()
    assert found.error.step == "login"
    assert found.error.facts == {"reason": "WRONGPASS", "user": "default"}
    assert found.error.found.startswith("the server refused user 'default'")
    place = f"-h 127.0.0.1 -p {clean_server.port}"
    assert f"redis-cli {place} --user default --askpass PING" in found.told


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
        found = await checked(trying=True)
        [error] = found.all("rights", "error")
        assert "may not PING (idle connections cannot be tested" in error.found
        assert error.remedy == "`ACL SETUSER poor +ping`"
        [warning] = found.all("rights", "warning")
        assert warning.remedy == "`ACL SETUSER poor +unwatch +client|unblock +multi +discard`"
        note = found.all("server", "note")[0]
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
@pytest.mark.parametrize(
    ("rights", "refused"),
    [
        (["~*", "+@all", "-@read", "-@write"], {"reading", "writing"}),
        (["+@all"], {"reading", "writing"}),
        (["~*", "+@all", "-@write"], {"writing"}),
        (["~k", "+@all"], set()),
    ],
)
async def test_a_user_who_may_not_read_or_not_write(
    rights: list[str],
    refused: set[str],
    clean_server: EmbeddedServer,
    admin: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    admin.execute_command("ACL", "SETUSER", "poor", "reset", "on", f">{PASSWORD}", *rights)
    try:
        at(monkeypatch, clean_server, username="poor", password=PASSWORD)
        found = await checked()
    finally:
        admin.acl_deluser("poor")
    told = [one for one in found.all("rights", "warning") if "altogether" in one.found]
    assert {one.facts["what"] for one in told} == refused
    if refused:
        assert found.report.exit_code(strict=True) == 1


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
    assert len(found.warnings(*ASIDE)) == 2
    assert "appendfsync no" in found.all("persistence", "warning")[0].found
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
        assert found.all("server", "ok")[0].found.endswith(", standalone, replica")
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
        assert f"REDIS_NODES={node.host}:{node.port},HOST:PORT,HOST:PORT" in found.told
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
        assert f"{group.sentinels[0].port},HOST:PORT,HOST:PORT" in found.told
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
    admin: Any
    with client_of(server.url) as admin:
        admin.eval("for i = 1, 2e6 do local x = i end", 0, NEEDLE, b"\xff\xfe")
    found = await checked()
    [note] = found.all("slowlog", "note", "warning")
    assert note.facts["command"] == "EVAL"
    assert note.facts["longest"] >= 0.002
    assert "took longer than 2.0 ms in the last hour; the longest, EVAL" in note.found
    assert "SLOWLOG GET" in (note.remedy or "")
