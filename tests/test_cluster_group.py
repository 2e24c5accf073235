"""A cluster of one's own: its slots move on request, and its replicas stand in for primaries."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout
from redisutils.testing import EmbeddedCluster, EmbeddedServer, find_servers

from .servers import client_of

# All that a group does with servers runs in threads: one kind of loop shows as much as two.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])


# To start takes seconds: one kind of server goes through all of it, the others through the moves.
*OTHERS, MAIN = find_servers()


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    """Three primaries with a replica each; tests leave it whole."""
    with EmbeddedCluster(3, 1, MAIN, require_full_coverage=False) as cluster:
        yield cluster


def other_primary(cluster: EmbeddedCluster, key: str) -> EmbeddedServer:
    return next(node for node in cluster.primaries if node is not cluster.node_for(key))


def answer(node: EmbeddedServer, *words: object, asking: bool = False) -> str:
    """What a node itself says, be it an error."""
    with client_of(node.url) as client, client.client() as connection:
        if asking:
            connection.execute_command("ASKING")
        try:
            return str(connection.execute_command(*words))
        except redis.RedisError as error:
            return f"{type(error).__name__} {error}"


def test_all_nodes_know_each_other_and_their_slots(cluster: EmbeddedCluster) -> None:
    assert len(cluster.primaries) == len(cluster.replicas) == 3
    assert set(cluster.primaries + cluster.replicas) == set(cluster.nodes)
    for node in cluster.nodes:
        assert "cluster_known_nodes:6" in answer(node, "CLUSTER", "INFO")
    for primary in cluster.primaries:
        assert len(cluster.replicas_of(primary)) == 1
    assert {cluster.owner_of(slot) for slot in range(16384)} == set(cluster.primaries)
    for key in ("a", "b", "c", "d{a}", "é"):
        assert answer(cluster.node_for(key), "SET", key, "v") == "True"
    assert cluster.slot_of("d{a}") == cluster.slot_of(b"a")


@one_loop
async def test_a_cluster_client_finds_its_way(cluster: EmbeddedCluster) -> None:
    with redis.RedisCluster.from_url(cluster.nodes[0].url, decode_responses=True) as client:
        for number in range(100):
            client.set(f"k{number}", number)
        assert [client.get(f"k{number}") for number in range(100)] == [*map(str, range(100))]
        await cluster.wait_in_sync()
        for primary in cluster.primaries:
            (replica,) = cluster.replicas_of(primary)
            assert answer(primary, "DBSIZE") == answer(replica, "DBSIZE")


@one_loop
async def test_half_way_of_a_move_one_is_sent_to_ask(cluster: EmbeddedCluster) -> None:
    await move_there_and_back(cluster)


async def move_there_and_back(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("{m}"), other_primary(cluster, "{m}")
    slot = cluster.slot_of("{m}")
    with client_of(source.url) as client:
        client.mset({"{m}moved": 1, "{m}stays": 2, b"{m}\xff": 3})
    async with cluster.migrating(slot, target) as migration:
        await migration.move_keys("{m}moved", b"{m}nowhere")
        assert (migration.source, migration.target) == (source, target)
        assert answer(source, "GET", "{m}stays") == "2"
        assert answer(source, "GET", "{m}moved").startswith("AskError")
        assert answer(target, "GET", "{m}moved").startswith("MovedError")
        assert answer(target, "GET", "{m}moved", asking=True) == "1"
        assert cluster.owner_of(slot) is source
    assert cluster.owner_of(slot) is target
    assert answer(source, "GET", "{m}stays").startswith("MovedError")
    assert answer(target, "MGET", "{m}moved", "{m}stays", b"{m}\xff") == "['1', '2', '3']"
    await cluster.move_slot(slot, source)
    assert cluster.owner_of(slot) is source
    assert answer(source, "GET", b"{m}\xff") == "3"


@one_loop
async def test_a_move_is_finished_whatever_happens_within(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("k"), other_primary(cluster, "k")
    slot = cluster.slot_of("k")
    with pytest.raises(ZeroDivisionError):
        async with cluster.migrating(slot, target):
            raise ZeroDivisionError
    assert cluster.owner_of(slot) is target
    assert answer(target, "SET", "k", "v") == "True"
    await cluster.move_slot(slot, source)


@one_loop
async def test_a_slot_moves_to_another_primary_only(cluster: EmbeddedCluster) -> None:
    slot = cluster.slot_of("k")
    with EmbeddedServer(role="cluster") as stranger:
        for to in (cluster.node_for("k"), cluster.replicas[0], stranger):
            with pytest.raises(ConfigError):
                await cluster.move_slot(slot, to)


@one_loop
async def test_a_replica_takes_over_on_demand(cluster: EmbeddedCluster) -> None:
    primary = cluster.node_for("k")
    (replica,) = cluster.replicas_of(primary)
    id_ = cluster.id_of(replica)
    await cluster.failover(replica)
    assert cluster.node_for("k") is replica
    assert cluster.replicas_of(replica) == [primary]
    assert cluster.id_of(replica) == id_
    assert answer(replica, "SET", "k", "v") == "True"


@one_loop
async def test_a_replica_takes_over_from_a_dead_primary(cluster: EmbeddedCluster) -> None:
    primary = cluster.node_for("k")
    (replica,) = cluster.replicas_of(primary)
    answer(primary, "SET", "k", "kept")
    await cluster.wait_in_sync()
    await primary.kill()
    with pytest.raises(ConnectTimeout, match="on port"):
        await cluster.wait_until_ok(timeout=0)
    await cluster.wait_until_ok()
    assert cluster.node_for("k") is replica
    assert answer(replica, "GET", "k") == "kept"
    await primary.start()
    await cluster.wait_until_ok()
    await cluster.wait_in_sync()
    assert cluster.replicas_of(replica) == [primary]


@one_loop
async def test_a_replica_can_be_forced_upon_a_silent_primary(cluster: EmbeddedCluster) -> None:
    primary = cluster.node_for("k")
    (replica,) = cluster.replicas_of(primary)
    await primary.pause()
    await cluster.failover(replica, force=True)
    assert cluster.node_for("k") is replica
    await primary.resume()
    await cluster.wait_until_ok()
    assert cluster.replicas_of(replica) == [primary]


def test_no_secret_is_shown(cluster: EmbeddedCluster) -> None:
    assert cluster.password not in repr(cluster)
    assert "3 primaries, 3 replicas, 6 of 6 servers running" in repr(cluster)


def test_before_its_start_it_has_no_owners() -> None:
    with pytest.raises(ConnectFailed, match="no owner"):
        EmbeddedCluster().node_for("k")


@one_loop
@pytest.mark.parametrize("kind", OTHERS)
async def test_another_kind_of_server_without_a_password(
    cluster: EmbeddedCluster, kind: str
) -> None:
    async with EmbeddedCluster(2, 1, kind, password="") as other:
        await move_there_and_back(other)
        primary = other.primaries[0]
        (replica,) = other.replicas_of(primary)
        await other.failover(replica)
        assert other.replicas_of(replica) == [primary]
        coverage = "cluster-require-full-coverage"
        assert "'yes'" in answer(other.nodes[0], "CONFIG", "GET", coverage)
        assert "'no'" in answer(cluster.nodes[0], "CONFIG", "GET", coverage)
