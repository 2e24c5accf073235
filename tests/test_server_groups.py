"""A group of servers starts and ends as one, and a primary's replicas follow it."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout
from redisutils.testing import EmbeddedReplication, EmbeddedServer
from redisutils.testing.group import ServerGroup

from .servers import client_of, ending, gone, needs_pidfd, parent_of, running

# All that a group does with servers runs in threads: one kind of loop shows as much as two.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture(scope="module")
def pair(server_kind: str) -> Iterator[EmbeddedReplication]:
    """A primary with two replicas; tests leave all of them in sync."""
    with EmbeddedReplication(2, server_kind) as group:
        yield group


def assert_nothing_runs(group: ServerGroup) -> None:
    for member in group.members:
        assert not member.running
        assert member.process.directory is None
    assert f"0 of {len(group.members)} servers running" in repr(group)


# --- replication ---


@one_loop
async def test_replicas_have_what_the_primary_had(pair: EmbeddedReplication) -> None:
    values = {f"k{number}": "x" * 20_000 for number in range(1000)}
    for replica in pair.replicas:
        await replica.pause()
    with client_of(pair.primary.url) as client:
        client.mset(values)
    for replica in pair.replicas:
        await replica.resume()
    await pair.wait_in_sync()
    for replica in pair.replicas:
        with client_of(replica.url) as client:
            assert client.exists(*values) == len(values)
            with pytest.raises(redis.ReadOnlyError):
                client.set("k", "v")
    with client_of(pair.primary.url) as client:
        client.flushall()


@one_loop
async def test_a_promoted_replica_is_followed_by_all_that_answer(
    pair: EmbeddedReplication,
) -> None:
    old, new, paused = pair.primary, *pair.replicas
    await old.kill()
    await paused.pause()
    await pair.promote(new)
    assert pair.primary is new
    assert pair.replicas == [server for server in pair.members if server is not new]
    with client_of(new.url) as client:
        client.set("after", "promotion")
        await old.start()
        await paused.resume()
        await pair.promote(new)
        assert client.info("replication")["connected_slaves"] == 2
    for replica in (old, paused):
        with client_of(replica.url) as client:
            assert client.get("after") == "promotion"


@one_loop
async def test_a_replica_that_is_killed_follows_again(pair: EmbeddedReplication) -> None:
    replica = pair.replicas[0]
    await replica.kill()
    await pair.wait_in_sync()  # It is not waited for.
    with client_of(pair.primary.url) as client:
        client.set("while", "away")
    await replica.start()
    await pair.wait_in_sync()
    with client_of(replica.url) as client:
        assert client.get("while") == "away"


@one_loop
async def test_what_is_not_in_sync_is_named(pair: EmbeddedReplication) -> None:
    stray = pair.replicas[1]
    with client_of(stray.url) as client:
        client.replicaof("NO", "ONE")
    with pytest.raises(ConnectTimeout, match=rf"on port {stray.port} does not replicate"):
        await pair.wait_in_sync(timeout=0.1)
    await pair.promote(pair.primary)


@one_loop
async def test_a_stranger_cannot_be_promoted(pair: EmbeddedReplication) -> None:
    stranger = EmbeddedServer()
    with pytest.raises(ConfigError, match="not a member"):
        await pair.promote(stranger)


def test_each_member_wants_the_password_and_none_shows_it(pair: EmbeddedReplication) -> None:
    assert len(pair.password) > 30
    assert pair.password not in repr(pair)
    assert "3 of 3 servers running" in repr(pair)
    for member in pair.members:
        stranger = client_of(member.url.replace(pair.password, "guess"))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


# --- start and end ---


@one_loop
async def test_a_group_without_a_password_with_data_on_disk() -> None:
    async with EmbeddedReplication(
        1, password="", appendonly=True, config={"maxmemory": "50mb"}
    ) as group:
        with client_of(group.primary.url) as client, client_of(group.replicas[0].url) as other:
            assert client.config_get("maxmemory") == {"maxmemory": str(50 * 2**20)}
            client.set("k", "v")
            await group.primary.kill()
            await group.primary.start()
            await group.wait_in_sync()
            assert client.get("k") == other.get("k") == "v"


@one_loop
async def test_a_stopped_group_starts_again_empty() -> None:
    group = EmbeddedReplication()
    await group.stop()
    for _ in range(2):
        async with group:
            with client_of(group.primary.url) as client:
                assert client.dbsize() == 0
                client.set("k", "v")
            with pytest.raises(ConnectFailed, match="runs already"):
                await group.start()
            assert group.primary.running
        assert_nothing_runs(group)


@one_loop
async def test_a_member_that_cannot_start_takes_all_others_with_it() -> None:
    group = EmbeddedReplication()
    with EmbeddedServer() as other:
        group.members[1].process.port = other.port
        group.members[1].process.binary = Path("/bin/false")
        with pytest.raises(ConnectFailed, match="false ended with code 1"):
            await group.start()
    assert_nothing_runs(group)


@one_loop
async def test_a_group_that_does_not_come_together_is_ended() -> None:
    group = EmbeddedReplication(config={"masterauth": "wrong"}, startup_timeout=1.0)
    with pytest.raises(ConnectTimeout, match="has no link to its primary"), group:
        pass
    assert_nothing_runs(group)


@one_loop
@pytest.mark.parametrize("turns", range(4))
async def test_a_start_cancelled_at_once_leaves_nothing(turns: int) -> None:
    group = EmbeddedReplication()
    starting = asyncio.create_task(group.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert_nothing_runs(group)


@one_loop
async def test_a_start_cancelled_while_it_arranges_leaves_nothing() -> None:
    group = EmbeddedReplication(config={"masterauth": "wrong"}, startup_timeout=60)
    starting = asyncio.create_task(group.start())
    async with asyncio.timeout(30):
        while "AUTH" not in group.members[1].log():  # It has been told whom to follow.
            await asyncio.to_thread(time.sleep, 0.01)
        pids = [member.pid for member in group.members]
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
    assert not any(map(running, pids))
    assert_nothing_runs(group)


PROGRAM = """
import asyncio, sys
from redisutils.testing import EmbeddedReplication

async def main():
    async with EmbeddedReplication(2) as group:
        for member in group.members:
            print(member.pid, member.process.directory, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@needs_pidfd
def test_nothing_survives_the_death_of_the_program() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        servers = [program.stdout.readline().split() for _ in range(3)]
        pids = [int(pid) for pid, _ in servers]
        with ending(*pids, *map(parent_of, pids)):
            program.send_signal(signal.SIGKILL)
            program.wait(10)
        assert all(gone(directory) for _, directory in servers)
