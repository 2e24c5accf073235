"""What nodes say of their cluster, in all the forms in which they say it."""

from __future__ import annotations

import logging
from time import process_time
from typing import Any

import pytest

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.pool.settings import PoolSettings
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.map import (
    ClusterMap,
    Member,
    Shard,
    from_shards,
    from_slots,
    taken_over,
)
from redisutils.topology.plan import ClusterPlan

from .ours import until
from .played_cluster import played_cluster

ASKED = Address("10.0.0.9", 7000)


def node(port: int, **more: Any) -> dict[str, Any]:
    """One node of CLUSTER SHARDS."""
    told = {
        "id": f"{port:040d}",
        "port": port,
        "ip": "10.0.0.1",
        "endpoint": "10.0.0.1",
        "role": "master",
        "replication-offset": 0,
        "health": "online",
    }
    return told | {name.replace("_", "-"): value for name, value in more.items()}


def flat(told: Any) -> Any:
    """RESP2's form."""
    if isinstance(told, dict):
        return [each for pair in told.items() for each in (pair[0], flat(pair[1]))]
    return [flat(each) for each in told] if isinstance(told, list) else told


def read(*nodes: dict[str, Any], slots: tuple[int, ...] = (0, 16383), **more: Any) -> ClusterMap:
    told = [{"slots": list(slots), "nodes": list(nodes)}]
    given: dict[str, Any] = {"asked": ASKED, "tls": False, "addresses": {}, **more}
    found = from_shards(told, **given)
    assert from_shards(flat(told), **given) == found, "RESP2 says the same"
    return found


def test_a_primary_and_its_replica() -> None:
    found = read(
        node(1, replication_offset=20),
        node(2, role="replica", replication_offset=14, availability_zone="eu-1a"),
        slots=(0, 99, 200, 200),
        epoch=7,
    )
    primary = Member(f"{1:040d}", Address("10.0.0.1", 1), offset=20)
    replica = Member(f"{2:040d}", Address("10.0.0.1", 2), offset=14, zone="eu-1a")
    assert found == ClusterMap((Shard(primary, (replica,), ((0, 99), (200, 200))),), 7)


@pytest.mark.parametrize(
    ("endpoint", "host"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("node-1.example", "node-1.example"),
        (None, "10.0.0.9"),  # where it was found
        ("", "10.0.0.9"),
        ("?", "10.0.0.5"),  # it does not know its name
    ],
)
def test_how_a_node_wants_to_be_called(endpoint: str | None, host: str) -> None:
    (shard,) = read(node(1, endpoint=endpoint, ip="10.0.0.5")).shards
    assert shard.primary.address == Address(host, 1)


def test_a_deposed_primary_does_not_stand_for_its_successor() -> None:
    for order in (1, -1):
        nodes = [node(1, health="fail"), node(2)][::order]
        (shard,) = read(*nodes).shards
        assert shard.primary.address.port == 2


def test_tls_ports_and_who_has_none() -> None:
    nodes = (
        {**node(1), "tls-port": 11},
        node(2, role="replica"),
        {**node(3, role="replica"), "tls-port": 13},
    )
    (shard,) = read(*nodes, tls=True).shards
    assert shard.primary.address.port == 11
    assert [replica.address.port for replica in shard.replicas] == [13]


def test_addresses_as_they_are_reached_from_here() -> None:
    addresses = {Address("10.0.0.1", 1): Address("127.0.0.1", 17001)}
    (shard,) = read(node(1), node(2, role="replica"), addresses=addresses).shards
    assert shard.primary.address == Address("127.0.0.1", 17001)
    assert shard.replicas[0].address == Address("10.0.0.1", 2)


def test_who_owns_nothing_is_not_on_the_map() -> None:
    assert read(node(1), slots=()).shards == ()


def test_who_has_taken_over_from_whom() -> None:
    def map_of(**owned: tuple[int, int]) -> ClusterMap:
        shards = [
            Shard(Member(name, Address(name, 1)), (), (slots,)) for name, slots in owned.items()
        ]
        return ClusterMap(tuple(shards))

    before = map_of(a=(0, 8191), b=(8192, 16383))
    assert taken_over(ClusterMap(()), before) == 0
    assert taken_over(before, map_of(c=(0, 8191), b=(8192, 16383))) == 1
    assert taken_over(before, map_of(c=(0, 8191), d=(8192, 16383))) == 2
    assert taken_over(before, map_of(b=(0, 16383))) == 0, "slots have moved"
    assert taken_over(before, map_of(c=(0, 99), a=(100, 8191), b=(8192, 16383))) == 0, "joined"
    assert taken_over(before, before) == 0


def test_older_servers_tell_slots() -> None:
    told = [
        [0, 99, ["10.0.0.1", 1, "a"], ["10.0.0.1", 2, "b", []]],
        [200, 200, ["10.0.0.1", 1, "a"], ["10.0.0.1", 2, "b", []]],
        [100, 199, [None, 3, "c", ["hostname", "node-3.example"]]],
        [201, 16383, ["?", 4, "d", {"ip": "10.0.0.4"}]],
        [7, 7, ["", 5]],  # before the nodes had ids
    ]
    found = from_slots(told, ASKED, {}, epoch=3)
    one, replica = (Member(i, Address("10.0.0.1", p)) for i, p in (("a", 1), ("b", 2)))
    assert found.epoch == 3
    assert found.shards == (
        Shard(one, (replica,), ((0, 99), (200, 200))),
        Shard(Member("c", Address("10.0.0.9", 3)), (), ((100, 199),)),
        Shard(Member("d", Address("10.0.0.4", 4)), (), ((201, 16383),)),
        Shard(Member("", Address("10.0.0.9", 5)), (), ((7, 7),)),
    )


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_map_of_fifty_nodes_costs_milliseconds() -> None:
    """Read and taken over, by processor time: of a machine that does other things meanwhile."""

    async def nobody() -> tuple[str, ...]:
        return ()

    plan = ClusterPlan((Address("127.0.0.1", 1),))
    cluster = Cluster(ConnectOptions(credentials=nobody), PoolSettings(), plan)
    lanes = [cluster.lane(name) for name in ("default", "orders", "reports")]
    assert len(lanes) == 3
    took = []
    for turn in range(8):
        told = []
        for number in range(50):
            bounds = [16384 * (number + more) // 50 for more in (0, 1)]
            first, last = bounds[0], bounds[1] - 1
            shift = 30 if turn % 2 else 0  # each slot has another owner than before
            primary = node(7000 + (number + shift) % 50)
            replica = node(8000 + number, role="replica")
            told.append({"slots": [first, last], "nodes": [primary, replica]})
        began = process_time()
        cluster.adopt(from_shards(told, ASKED, tls=False, addresses={}, epoch=turn))
        took.append(process_time() - began)
    logging.getLogger(__name__).warning("a map of 50 nodes took %.1f ms", 1000 * min(took))
    assert len(cluster.primaries) == 50
    assert min(took) < 0.1
    await cluster.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_connections_come_with_need_and_go_with_the_node() -> None:
    async with played_cluster(3) as (cluster, pool):
        server = pool.server
        assert isinstance(server, Cluster)
        assert await pool.client.get("b") == b"b"  # the first node's
        assert [peer.accepted for peer in cluster.nodes] == [1, 0, 0]
        assert await pool.client.get("a") == b"a"  # the last one's
        assert [peer.accepted for peer in cluster.nodes] == [1, 0, 1]
        cluster.ranges = [[(0, 16383)], [], []]
        cluster.epochs = [2, 2, 2]
        server.refresher.want()
        await until(lambda: not cluster.nodes[2].open, "the end of the one that left")
        assert await pool.client.get("a") == b"a"
        assert [len(peer.open) for peer in cluster.nodes] == [1, 0, 0]
