"""Where a cluster is said to be: some of it wrong, all of it wrong, or something else there."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
from redis.exceptions import RedisError

from redisutils import CommandTimeout, ConnectFailed, Outcome, create_redis_pool, outcome_of
from redisutils.connection.embedded import free_port
from redisutils.testing import EmbeddedCluster, EmbeddedServer, FaultProxy
from redisutils.topology.cluster import refreshing

from .clusters import cluster_pool, keys_of, other_primary

NOWHERE = "no-such-host.invalid"


async def works(cluster: EmbeddedCluster, **settings: Any) -> float:
    """How long the first commands take, in s: one for each primary."""
    began = monotonic()
    async with cluster_pool(cluster, **settings) as pool:
        keys = [next(keys_of(cluster, primary)) for primary in cluster.primaries]
        assert await asyncio.gather(*(pool.client.set(key, key) for key in keys)) == [True] * 3
        took = monotonic() - began
        assert await pool.client.mget(keys) == [key.encode() for key in keys]
    return took


async def test_one_node_is_enough(cluster: EmbeddedCluster) -> None:
    for node in cluster.nodes:
        await works(cluster, nodes=[(node.host, node.port)])


async def test_a_url_names_nodes(cluster: EmbeddedCluster) -> None:
    places = ",".join(f"{node.host}:{node.port}" for node in cluster.nodes[:2])
    url = f"redis+cluster://:{cluster.password}@{places}"
    async with create_redis_pool(url=url) as pool:
        assert await pool.client.set("k", "v") is True
        assert await pool.client.get("k") == b"v"


async def test_a_wrong_seed_among_good_ones(cluster: EmbeddedCluster) -> None:
    good = cluster.nodes[0]
    for wrong in (("127.0.0.1", free_port()), (NOWHERE, 6379)):
        took = await works(cluster, nodes=[wrong, wrong, (good.host, good.port)])
        assert took < 5


async def test_a_silent_seed_among_good_ones(cluster: EmbeddedCluster) -> None:
    good = cluster.nodes[0]
    async with FaultProxy(good.host, good.port) as silent:
        silent.blackhole()
        nodes = [(silent.host, silent.port), (good.host, good.port)]
        assert await works(cluster, nodes=nodes) < 5


async def test_a_server_that_is_no_cluster_among_good_seeds(
    cluster: EmbeddedCluster, server: EmbeddedServer
) -> None:
    with_ours = [(server.host, server.port), (cluster.nodes[0].host, cluster.nodes[0].port)]
    assert await works(cluster, nodes=with_ours) < 5


async def test_all_seeds_are_down(server_kind: str) -> None:
    ports = [free_port(), free_port()]
    nodes = [("127.0.0.1", port) for port in ports]
    async with create_redis_pool(mode="cluster", nodes=nodes, max_retries=1) as pool:
        with pytest.raises(ConnectFailed) as caught:
            await pool.client.get("k")
    assert caught.value.outcome is Outcome.NOT_SENT
    for port in ports:
        assert f"127.0.0.1:{port}" in str(caught.value)


async def test_the_budget_ends_while_all_seeds_are_down() -> None:
    began = monotonic()
    nodes = [("127.0.0.1", free_port())]
    async with create_redis_pool(
        mode="cluster", nodes=nodes, max_retries=1000, command_timeout=0.3
    ) as pool:
        with pytest.raises(RedisError) as caught:
            await pool.client.get("k")
    assert outcome_of(caught.value) is Outcome.NOT_SENT
    assert str(nodes[0][1]) in str(caught.value)
    assert monotonic() - began < 5


@pytest.mark.parametrize(
    ("place", "why"),
    [((NOWHERE, 6379), "does not resolve"), (("127.0.0.1", 0), "connection refused")],
)
async def test_a_short_budget_ends_with_what_is_wrong(
    place: tuple[str, int], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (place[0], place[1] or free_port())
    monkeypatch.setattr(refreshing, "ASK_FOR", 0.3)
    for budget in (0.2, 0.6):  # before nobody has told the map, and after
        async with create_redis_pool(mode="cluster", nodes=[place], command_timeout=budget) as pool:
            with pytest.raises(CommandTimeout, match=why) as caught:
                await pool.client.get("k")
            assert str(caught.value).count(str(place[1])) <= 4
    async with create_redis_pool(mode="cluster", nodes=[place]) as pool:
        report = await pool.health(timeout=0.2)
        assert report.status == "unhealthy"
        assert why in report.reasons[0]


async def test_what_is_wrong_with_all_is_said_once(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster, password="guess") as pool:
        with pytest.raises(RedisError) as caught:
            await pool.client.get("k")
    told = str(caught.value)
    assert told.count("refused the user name or password") == 1
    assert told.count("tried 1 time") == 1
    for node in cluster.nodes:
        # Once in the cluster's name, which tells some, and once where it is said.
        assert told.count(f"127.0.0.1:{node.port}") <= 2


async def test_sentinels_are_no_cluster(server_kind: str) -> None:
    sentinel = EmbeddedServer(server_kind, role="sentinel")
    with sentinel:
        async with create_redis_pool(
            mode="cluster", nodes=[(sentinel.host, sentinel.port)], password=sentinel.password
        ) as pool:
            with pytest.raises(ConnectFailed, match="REDIS_MODE=sentinel") as caught:
                await pool.client.get("k")
    assert "tried 1 time" in str(caught.value)


async def test_a_single_server_is_no_cluster(clean_server: EmbeddedServer) -> None:
    async with create_redis_pool(
        mode="cluster",
        nodes=[(clean_server.host, clean_server.port)],
        password=clean_server.password,
    ) as pool:
        with pytest.raises(ConnectFailed, match="REDIS_MODE=standalone") as caught:
            await pool.client.get("k")
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_a_cluster_is_no_single_server(cluster: EmbeddedCluster) -> None:
    wrong = other_primary(cluster, "k")
    async with create_redis_pool(url=wrong.url) as pool:
        with pytest.raises(RedisError, match="REDIS_MODE=cluster") as caught:
            await pool.client.get("k")
    assert outcome_of(caught.value) is Outcome.REJECTED


async def test_to_speak_to_one_node_of_many_is_not_healthy(cluster: EmbeddedCluster) -> None:
    async with create_redis_pool(url=cluster.nodes[0].url) as pool:
        for _ in range(2):
            report = await pool.health()
            assert report.status == "unhealthy"
            assert [reason.code for reason in report.reasons] == ["one-of-many"]
            assert "set REDIS_MODE=cluster" in report.reasons[0]


async def test_a_wrong_password_is_told_at_once(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster, password="guess") as pool:
        with pytest.raises(RedisError) as caught:
            await pool.client.get("k")
    assert outcome_of(caught.value) is Outcome.NOT_SENT
    assert "guess" not in str(caught.value)
    assert "password" in str(caught.value).lower()
