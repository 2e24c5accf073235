"""A cluster of one's own: its slots move on request, its replicas stand in for primaries, nodes
join and leave it, and it can be cut in two."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import redis

from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout
from redisutils.testing import EmbeddedCluster, EmbeddedServer, find_servers

from .ours import until
from .servers import client_of, running

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
async def test_moves_may_follow_each_other_at_once(cluster: EmbeddedCluster) -> None:
    slot = cluster.slot_of("k")
    first = cluster.owner_of(slot)
    others = [node for node in cluster.primaries if node is not first]
    for target in [*others, first] * 20:
        await cluster.move_slot(slot, target)
        assert cluster.owner_of(slot) is target


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


# --- many slots, and nodes that come and go ---


def fill(cluster: EmbeddedCluster, number: int = 2000) -> list[str]:
    """Keys all over the cluster, whose values they are."""
    keys = [f"fill:{one}" for one in range(number)]
    with redis.RedisCluster.from_url(cluster.nodes[0].url) as client:
        for key in keys:
            client.set(key, key)
    return keys


def assert_filled(cluster: EmbeddedCluster, keys: list[str]) -> None:
    """Each key is where its slot is, and nowhere else."""
    for primary in cluster.primaries:
        own = [key for key in keys if cluster.node_for(key) is primary]
        with client_of(primary.url) as client:
            pipe = client.pipeline(transaction=False)
            for key in own:
                pipe.get(key)
            assert pipe.execute() == own
            assert sorted(client.scan_iter("fill:*", count=1000)) == sorted(own)


def slots_of(cluster: EmbeddedCluster, node: EmbeddedServer, count: int) -> list[int]:
    return [slot for slot in range(16384) if cluster.owner_of(slot) is node][:count]


async def many_move_there_and_back(cluster: EmbeddedCluster) -> None:
    keys = fill(cluster)
    source, target, third = cluster.primaries[:3]
    slots = slots_of(cluster, source, 300)
    more = slots_of(cluster, third, 20)
    await cluster.move_slots([*slots, *more, *slots_of(cluster, target, 2)], target)
    assert {cluster.owner_of(slot) for slot in slots + more} == {target}
    assert_filled(cluster, keys)
    await cluster.move_slots(slots, source)
    await cluster.move_slots(more, third)
    assert slots_of(cluster, source, 300) == slots
    assert_filled(cluster, keys)


@one_loop
async def test_many_slots_move_with_their_keys(cluster: EmbeddedCluster) -> None:
    await many_move_there_and_back(cluster)


@one_loop
async def test_a_move_that_is_given_up_leaves_no_slot_half_way(cluster: EmbeddedCluster) -> None:
    source, target = cluster.node_for("k"), other_primary(cluster, "k")
    slots = [cluster.slot_of("k"), *slots_of(cluster, source, 3000)]
    moving = asyncio.create_task(cluster.move_slots(slots, target))
    await until(lambda: answer(source, "GET", "k").startswith("Moved"), "the first move")
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    for node in cluster.primaries:
        assert "[" not in answer(node, "CLUSTER", "NODES")
    await cluster.wait_until_ok()
    assert cluster.owner_of(slots[0]) is target
    assert cluster.owner_of(slots[-1]) is source
    await cluster.move_slots(slots, source)


async def grow_and_shrink(cluster: EmbeddedCluster, primary: EmbeddedServer) -> None:
    keys = fill(cluster)
    before = cluster.nodes
    first, second = await cluster.add_primaries(2)
    assert cluster.nodes == (*before, first, second)
    assert first not in cluster.primaries
    taken = slots_of(cluster, primary, 200)
    await cluster.move_slots(taken[:100], first)
    await cluster.move_slots(taken[100:], second)
    assert {first, second} < set(cluster.primaries)
    assert f"cluster_known_nodes:{len(cluster.nodes)}" in answer(before[0], "CLUSTER", "INFO")
    assert_filled(cluster, keys)
    await cluster.remove(first)
    await cluster.remove(second)
    assert cluster.nodes == before
    assert not any(node.running for node in (first, second))
    assert f"cluster_known_nodes:{len(before)}" in answer(before[0], "CLUSTER", "INFO")
    assert_filled(cluster, keys)
    with pytest.raises(ConfigError, match="is no node of"):
        await cluster.remove(first)


@one_loop
async def test_nodes_join_and_leave(cluster: EmbeddedCluster) -> None:
    await grow_and_shrink(cluster, cluster.primaries[0])
    for primary in cluster.primaries:
        with pytest.raises(ConfigError, match="has replicas: remove them first"):
            await cluster.remove(primary)


@one_loop
async def test_a_replica_joins_and_leaves(cluster: EmbeddedCluster) -> None:
    primary = cluster.node_for("k")
    answer(primary, "SET", "k", "kept")
    node = await cluster.add_replica(primary)
    assert node in cluster.replicas_of(primary)
    assert "7 of 7" in repr(cluster)
    with client_of(node.url) as client:
        client.readonly()
        assert client.get("k") == "kept"
    with pytest.raises(ConfigError, match="is a replica"):
        await cluster.add_replica(node)
    await node.kill()
    await cluster.remove(node)
    assert len(cluster.replicas_of(primary)) == 1


@one_loop
async def test_a_node_goes_to_another_port_and_keeps_its_data(cluster: EmbeddedCluster) -> None:
    node = cluster.node_for("k")
    old, id_ = node.port, cluster.id_of(node)
    with client_of(node.url) as client:
        client.set("k", "kept")
        await cluster.readdress(node)
        with pytest.raises(redis.ConnectionError):
            client.get("k")
    assert node.port != old
    assert (cluster.node_for("k"), cluster.id_of(node)) == (node, id_)
    assert answer(node, "GET", "k") == "kept"
    moved = answer(other_primary(cluster, "k"), "GET", "k")
    assert f"127.0.0.1:{node.port}" in moved
    for other in cluster.nodes:
        assert f":{old}@" not in answer(other, "CLUSTER", "NODES")
    await node.kill()
    await node.start()
    await cluster.wait_until_ok()


# --- partitions ---


@one_loop
async def test_a_primary_that_hears_nobody_is_replaced_while_clients_reach_it(
    cluster: EmbeddedCluster,
) -> None:
    primary = cluster.node_for("k")
    (replica,) = cluster.replicas_of(primary)
    async with cluster.isolated(primary):
        assert answer(primary, "SET", "k", "v") == "True"
        await until(lambda: "'master'" in answer(replica, "ROLE"), "the election", 15)
        await until(lambda: "ClusterDown" in answer(primary, "SET", "k", "v"), "the end", 15)
    assert cluster.node_for("k") is replica
    assert cluster.replicas_of(replica) == [primary]
    for node in cluster.nodes:
        assert f"@{node.process.bus_port}" in answer(cluster.nodes[0], "CLUSTER", "NODES")


@one_loop
async def test_slots_move_only_to_who_has_heard_their_owner(cluster: EmbeddedCluster) -> None:
    """What it has not heard as yet may be an old claim to slots, from before the owner had more."""
    owner, other = cluster.primaries[:2]
    slot = next(slot for slot in range(16384) if cluster.owner_of(slot) is owner)
    async with cluster.isolated(other, *cluster.replicas_of(other)):  # not to be replaced
        unheard = f"port {other.port} does not hear what port {owner.port} says"
        with pytest.raises(ConnectTimeout, match=unheard):
            await cluster.move_slots([slot], other, timeout=0.6)
        with pytest.raises(ConnectTimeout, match=unheard):
            await cluster.move_slot(slot, other, timeout=0.6)
        assert "->-" not in answer(owner, "CLUSTER", "NODES")
    await cluster.move_slot(slot, other)
    assert cluster.owner_of(slot) is other


@one_loop
async def test_a_node_is_cut_off_from_clients_alone(cluster: EmbeddedCluster) -> None:
    node = cluster.node_for("k")
    async with cluster.proxied(seed=7) as network:
        assert network.address_map.keys() == {(one.host, one.port) for one in cluster.nodes}
        assert sorted(network.address_map.values()) == sorted(network.addresses)
        proxy = network.proxies[node]
        assert network.address_map[node.host, node.port] == (proxy.host, proxy.port)
        with client_of(proxy.url, socket_timeout=0.1) as client:
            await asyncio.to_thread(client.set, "k", "v")
            proxy.blackhole()
            with pytest.raises(redis.TimeoutError):
                await asyncio.to_thread(client.get, "k")
            assert answer(node, "GET", "k") == "v"
            await cluster.wait_until_ok(timeout=1)
            network.restore()
            assert await asyncio.to_thread(client.get, "k") == "v"
        assert cluster.password not in repr(network)


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
        await grow_and_shrink(other, replica)
        coverage = "cluster-require-full-coverage"
        assert "'yes'" in answer(other.nodes[0], "CONFIG", "GET", coverage)
        assert "'no'" in answer(cluster.nodes[0], "CONFIG", "GET", coverage)


@one_loop
async def test_the_last_primary_stays() -> None:
    async with EmbeddedCluster(1, 0, MAIN) as alone:
        with pytest.raises(ConfigError, match="is the last primary"):
            await alone.remove(alone.nodes[0])
        joined = await alone.add_primary()
        pid = joined.pid
        await alone.stop()
        assert not running(pid)
        assert joined not in alone.nodes
        with pytest.raises(ConnectFailed, match="does not run"):
            await alone.add_primary()
