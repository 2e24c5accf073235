"""Sentinels replace a primary that is to go, or that has gone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.sentinel

from redisutils.errors import ConnectTimeout
from redisutils.testing import EmbeddedSentinels, find_servers

from .servers import client_of

Sentinel: Any = redis.sentinel.Sentinel  # has no types

# All that a group does with servers runs in threads: one kind of loop shows as much as two.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])


# A failover takes seconds: one kind of server goes through all of it, the other through one.
MAIN, *OTHERS = find_servers()


@pytest.fixture(scope="module")
def group() -> Iterator[EmbeddedSentinels]:
    with EmbeddedSentinels(binary=MAIN, master_name="books") as group:
        yield group


def client_through(group: EmbeddedSentinels) -> redis.Redis:
    sentinels = Sentinel(group.addresses, sentinel_kwargs={"password": group.sentinel_password})
    client: redis.Redis = sentinels.master_for(
        "books", password=group.password, decode_responses=True
    )
    return client


@one_loop
async def test_a_failover_on_demand(group: EmbeddedSentinels) -> None:
    old = group.primary
    with client_of(old.url) as client:
        client.set("k", "v")
    await group.wait_in_sync()
    new = await group.failover()
    assert new is group.primary is not old
    assert old in group.replicas
    with client_through(group) as client:
        assert client.get("k") == "v"


@one_loop
async def test_the_death_of_the_primary(group: EmbeddedSentinels) -> None:
    old = group.primary
    await old.kill()
    new = await group.wait_for_primary()
    assert new is group.primary is not old
    with client_through(group) as client:
        client.set("k", "after")
    await old.start()
    await group.wait_in_sync()
    with client_of(old.url) as client:
        assert client.get("k") == "after"


@one_loop
async def test_a_sentinel_that_is_killed_knows_what_it_knew(group: EmbeddedSentinels) -> None:
    witness = group.sentinels[0]
    await witness.kill()
    assert await group.wait_for_primary() is group.primary  # It is not asked.
    await witness.start()
    with client_of(witness.url) as client:
        assert client.sentinel_get_master_addr_by_name("books")[1] == group.primary.port
        assert len(client.sentinel_sentinels("books")) == 2


@one_loop
async def test_waiting_ends_at_its_time(group: EmbeddedSentinels) -> None:
    with pytest.raises(ConnectTimeout, match="the sentinels name as primary"):
        await group.wait_for_primary(timeout=0.1, but=group.primary)


def test_who_does_not_know_the_password_asks_in_vain(group: EmbeddedSentinels) -> None:
    assert group.password != group.sentinel_password
    for secret in (group.password, group.sentinel_password):
        assert secret not in repr(group)
    for host, port in group.addresses:
        stranger = client_of(f"redis://:{group.password}@{host}:{port}")
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()


@one_loop
@pytest.mark.parametrize("kind", OTHERS)
async def test_another_kind_of_server_without_passwords(kind: str) -> None:
    async with EmbeddedSentinels(1, 1, kind, password="", sentinel_password="") as group:
        sentinel = Sentinel(group.addresses)
        ports = [("127.0.0.1", server.port) for server in (group.primary, group.replicas[0])]
        assert sentinel.discover_slaves("mymaster") == ports[1:]
        await group.failover()
        assert sentinel.discover_master("mymaster") == ports[1]
