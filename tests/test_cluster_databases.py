"""Databases of a cluster: Valkey 9 has as many as ``cluster-databases`` says, other servers one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redisutils import ConnectFailed, Outcome, RedisCluster, create_redis_pool, outcome_of
from redisutils.testing import EmbeddedServer

from .clusters import told
from .ours import until


@pytest.fixture(scope="module")
def alone(server_kind: str) -> Iterator[EmbeddedServer]:
    """A cluster of one."""
    several = {"cluster-databases": 4} if server_kind == "valkey" else {}
    with EmbeddedServer(server_kind, role="cluster", config=several) as server:
        told(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        yield server


@pytest.fixture
async def node(alone: EmbeddedServer) -> EmbeddedServer:
    await until(lambda: "cluster_state:ok" in str(told(alone, "CLUSTER", "INFO")), "all slots")
    told(alone, "FLUSHALL")
    return alone


def client(node: EmbeddedServer, database: int) -> RedisCluster:
    return RedisCluster(node.host, node.port, password=node.password, db=database)


def stored(node: EmbeddedServer, database: int) -> list[bytes]:
    """The keys of a database."""
    with redis.Redis(node.host, node.port, database, password=node.password) as other:
        keys: Any = other.keys()
        return sorted(keys)


async def test_valkey_has_those_that_it_is_given(node: EmbeddedServer, server_kind: str) -> None:
    if server_kind != "valkey":
        pytest.skip("it has one database in a cluster")
    async with client(node, 2) as ours:
        assert await ours.set("k", "v") is True
        assert await ours.get("k") == b"v"
        assert await ours.execute_command("DBSIZE") == 1
        pipeline: Any = ours.pipeline()
        await pipeline.set("l", 1).execute()
    settings: dict[str, Any] = {
        "mode": "cluster",
        "nodes": [(node.host, node.port)],
        "password": node.password,
    }
    async with create_redis_pool(**settings, database=2) as pool, pool.get(key="k") as connection:
        assert await connection.get("k") == b"v"
    assert stored(node, 2) == [b"k", b"l"]
    assert stored(node, 0) == []


async def test_a_database_that_there_is_not(node: EmbeddedServer, server_kind: str) -> None:
    ours = client(node, 9)
    with pytest.raises(ConnectFailed, match="cluster-databases") as caught:
        await ours.get("k")
    await ours.aclose()
    assert outcome_of(caught.value) is Outcome.NOT_SENT
    assert "REDIS_DATABASE" in str(caught.value)
    if server_kind == "redis":
        assert "REDIS_DATABASE=0 (db=0) instead of 9" in str(caught.value)


async def test_database_0_is_any_clusters(node: EmbeddedServer) -> None:
    async with client(node, 0) as ours:
        assert await ours.set("k", "v") is True
    assert stored(node, 0) == [b"k"]
