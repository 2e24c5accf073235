"""The health and the figures of a cluster: of all its nodes, asked side by side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from redisutils import HealthReport, PoolStatus, create_redis_pool
from redisutils.address import Address
from redisutils.monitor.feed import Feed, Viewer
from redisutils.monitor.frame import Frame
from redisutils.monitor.prometheus import exposition
from redisutils.testing import EmbeddedCluster
from redisutils.topology.cluster import examining
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.examining import ranges_of
from redisutils.topology.cluster.judging import Asked, MapState, View, judge, slots_told
from redisutils.topology.cluster.map import Member
from redisutils.topology.cluster.node import Node
from redisutils.topology.facts import Info, ReplicaLink
from redisutils.topology.health import EndpointHealth
from redisutils.topology.reasons import Reason, Severity
from redisutils.topology.standalone import Standalone

from .checkup import free_port
from .clusters import cluster_pool, keys_of
from .ours import until
from .played_cluster import played_cluster

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


def codes(report: HealthReport) -> dict[str, str]:
    """What is wrong, and how bad it is."""
    return {reason.code: reason.severity for reason in report.reasons}


def told(report: HealthReport, code: str) -> str:
    return next(reason for reason in report.reasons if reason.code == code)


def nodes_of(pool: Any) -> Cluster:
    server = pool.server
    assert isinstance(server, Cluster)
    return server


# -- real nodes ------------------------------------------------------------------------------------


async def test_a_cluster_that_is_well(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        report = await pool.health()
        assert (report.status, report.reasons) == ("healthy", ())
        assert {each.endpoint for each in report.endpoints} == {
            f"{node.host}:{node.port}" for node in cluster.primaries
        }
        assert all(each.role == "primary" and each.reachable for each in report.endpoints)
        body, _ = exposition(pool)
        assert b'endpoint="cluster"' in body
        assert b'endpoint="the cluster' not in body, "seeds may be others in each process"
        owned = [pair for each in report.endpoints for pair in each.slots]
        assert sum(last - first + 1 for first, last in owned) == 16384
        firsts = [each.slots[0] for each in report.endpoints]
        assert firsts == sorted(firsts), "by their lowest slot"
        assert report.round_trip == max(each.round_trip or 0.0 for each in report.endpoints)
        assert "3 primaries with 5,461 to 5,462 slots each and 0 replicas" in report.notes[0]
        assert "no primary has a replica" in report.notes[1]


@one_loop
async def test_its_figures_are_those_of_its_nodes_together(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        before = pool.metrics()
        for number in range(60):
            await pool.client.set(f"k{number}", number)
        after = pool.metrics().since(before)
        assert after.by_command["SET"].latency.count == 60
        assert {node.endpoint for node in after.nodes} == {
            f"{node.host}:{node.port}" for node in cluster.primaries
        }
        assert all(node.commands > 5 and node.role == "primary" for node in after.nodes)
        assert sum(node.commands for node in after.nodes) >= 60
        assert after.endpoint == str(pool.config.endpoint)


@one_loop
async def test_what_a_node_has_counted_stays_when_it_leaves(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for number in range(60):
            await pool.client.set(f"k{number}", number)
        server = nodes_of(pool)
        commands = pool.metrics().commands
        leaving = server.primaries[0]
        server._leave(leaving)
        assert pool.metrics().commands >= commands  # while it leaves
        await until(lambda: not server._leaving)
        now = pool.metrics()
        assert now.commands >= commands
        assert now.by_command["SET"].latency.count == 60
        assert len(now.nodes) == 2


@pytest.fixture(scope="module")
def small_cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, require_full_coverage=False) as cluster:
        yield cluster


@one_loop
async def test_replicas_are_told_of_without_a_connection_to_them(
    small_cluster: EmbeddedCluster,
) -> None:
    await small_cluster.wait_in_sync()
    async with cluster_pool(small_cluster) as pool:
        report = await pool.health()
        assert report.status == "healthy"
        primaries, replicas = report.endpoints[:3], report.endpoints[3:]
        assert {each.role for each in primaries} == {"primary"}
        assert [each.follows for each in replicas] == [each.endpoint for each in primaries]
        for each in replicas:
            assert each.role == "replica"
            assert each.reachable
            assert each.server is None
            assert each.status is None
            assert each.replication_lag is not None
            assert each.bytes_behind is not None
            assert each.slots == ()
        followers = [node for node in nodes_of(pool).nodes.values() if node.primary is not None]
        assert len(followers) == 3
        assert not any(node.opened for node in followers)


async def frame_of(viewer: Viewer, status: str) -> Frame:
    """The next of that status."""
    async with asyncio.timeout(10):
        async for sheet in viewer:
            if sheet.frame["health"]["status"] == status:
                return sheet.frame
    raise AssertionError("the feed has ended")


@one_loop
async def test_a_dead_shard_is_told_with_its_slots_and_does_not_take_all_out_of_service(
    small_cluster: EmbeddedCluster,
) -> None:
    """Nobody issues a command meanwhile: the looks alone find the successor."""
    dead = small_cluster.primaries[0]
    (heir,) = small_cluster.replicas_of(dead)
    async with cluster_pool(small_cluster) as pool:
        assert (await pool.health()).status == "healthy"
        feed = Feed(pool, interval=0.1)
        with feed.watch() as viewer:
            first = (await anext(viewer)).frame
            assert [node["role"] for node in first["nodes"]] == ["primary", "replica"] * 3
            assert all(node["reachable"] for node in first["nodes"])
            await dead.kill()
            frame = await frame_of(viewer, "degraded")
            (down,) = [node for node in frame["nodes"] if not node["reachable"]]
            assert (down["endpoint"], down["connected"]) == (f"127.0.0.1:{dead.port}", False)
            assert json.loads(feed.history()[-1])["nodes"] == []  # which is bounded so
        await feed.stop()
        report = await pool.health(timeout=0.3)
        assert report.status == "degraded"
        words = told(report, "unreachable")
        assert f"127.0.0.1:{dead.port} does not answer" in words
        assert "(33%) cannot be served until a replica takes over" in words
        assert str(heir.port) in words
        (lost,) = [each for each in report.endpoints if not each.reachable]
        assert lost.status == "unhealthy"
        server = nodes_of(pool)
        await until(
            lambda: heir.port in {node.address.port for node in server.primaries}, "it", 15.0
        )
        report = await pool.health()
        assert codes(report) in ({}, {"no-replica": "degraded"}, {"replica-down": "degraded"})
    await dead.start()
    await small_cluster.wait_until_ok()


@one_loop
async def test_who_gives_no_map_is_unhealthy_and_so_is_a_closed_pool() -> None:
    port = free_port()
    pool = create_redis_pool(mode="cluster", nodes=[("127.0.0.1", port)], max_retries=1)
    async with pool:
        report = await pool.health(timeout=0.5)
        assert codes(report) == {"no-map": "unhealthy"}
        assert str(port) in told(report, "no-map")
    assert codes(await pool.health()) == {"closed": "unhealthy"}


# -- many nodes ------------------------------------------------------------------------------------


@one_loop
async def test_of_many_nodes_some_are_looked_at_whole_in_each_look(
    cluster: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examining, "TOGETHER", 1)
    looked: list[str] = []
    health = Standalone.health

    async def noted(self: Standalone, timeout: float) -> HealthReport:
        looked.append(self.options.peer)
        return await health(self, timeout)

    monkeypatch.setattr(Standalone, "health", noted)
    async with cluster_pool(cluster) as pool:
        await pool.health()
        everybody = set(looked)
        assert len(looked) == len(everybody) == 3
        looked.clear()
        for _ in range(6):
            report = await pool.health()
            assert len(report.endpoints) == 3
        assert len(looked) == 6
        assert set(looked[:3]) == set(looked[3:]) == everybody


@one_loop
async def test_a_look_at_fifty_nodes_is_a_whole_one_at_a_few() -> None:
    async with played_cluster(50) as (played, pool):

        def asked(*words: bytes) -> int:
            size = len(words)
            heard = (command for peer in played.nodes for command in peer.heard)
            return sum(tuple(command[:size]) == words for command in heard)

        assert len((await pool.health()).endpoints) == 50
        assert asked(b"INFO") == 50  # the first looks at all
        await pool.health()
        assert asked(b"INFO") == 50 + examining.TOGETHER
        opinions = asked(b"CLUSTER", b"INFO")
        await asyncio.gather(*(pool.client.set(f"k{number}", 1) for number in range(1000)))
        await pool.health()
        # All have been heard since.
        assert asked(b"CLUSTER", b"INFO") == opinions + examining.TOGETHER


@one_loop
async def test_nodes_that_disagree() -> None:
    async with played_cluster(3) as (played, pool):
        played.epochs = [4, 4, 3]
        report = await pool.health()
        assert "is behind: at epoch 3, and others at 4" in told(report, "nodes-disagree")
        assert str(played.nodes[2].port) in told(report, "nodes-disagree")
        assert report.status == "degraded"


# -- judgements ------------------------------------------------------------------------------------


def node(port: int, primary: Node | None = None, *, healthy: bool = True) -> Node:
    def never(address: Address) -> Standalone:
        raise AssertionError(address)

    made = Node(Address("10.0.0.1", port), never)
    made.member = Member(str(port), made.address, healthy=healthy)
    made.primary = primary
    return made


def report_of(one: Node, *reasons: tuple[str, str, Severity]) -> HealthReport:
    found = tuple(Reason(text, code, severity) for text, code, severity in reasons)
    status = "healthy" if not found else found[0].severity
    endpoint = EndpointHealth(str(one.address), True, 0.001, None, status=status)
    return HealthReport(status, found, 0.001, PoolStatus(1, 1, 0, 0), (endpoint,))


DOWN: tuple[str, str, Severity] = ("it does not answer", "unreachable", "unhealthy")


def view(
    primaries: Sequence[Node],
    asked: dict[Node, Asked] | None = None,
    replicas: Sequence[Node] = (),
    **changes: Any,
) -> View:
    """A cluster of these, that share the slots, all of which are well unless said otherwise."""
    width = 16384 // len(primaries)
    ranges = {one: ((n * width, n * width + width - 1),) for n, one in enumerate(primaries)}
    well = {one: Asked(report_of(one), {"cluster_state": "ok"}) for one in primaries}
    given: dict[str, Any] = {
        "name": "the cluster",
        "primaries": tuple(primaries),
        "replicas": tuple(replicas),
        "ranges": ranges,
        "uncovered": (),
        "asked": well | (asked or {}),
        "addresses": {},
        "map": MapState(age=3.0, rounds=2, epoch=7),
        "pool": PoolStatus(10, 3, 0, 0),
    }
    return View(**given | changes)


def test_one_dead_primary_degrades_and_all_of_them_are_the_end() -> None:
    one, two = nodes = [node(1), node(2)]
    found = judge(view(nodes, {one: Asked(report_of(one, DOWN), {})}))
    assert codes(found) == {"unreachable": "degraded"}
    assert told(found, "unreachable") == (
        "10.0.0.1:1: it does not answer; slots 0-8191 (50%) cannot be served and it has no replica "
        "that could take over"
    )
    all_of_them = {each: Asked(report_of(each, DOWN), {}) for each in (one, two)}
    assert codes(judge(view(nodes, all_of_them))) == {"unreachable": "unhealthy"}


def test_a_cluster_that_is_down_is_unhealthy_and_one_that_thinks_so_alone_is_not() -> None:
    nodes = [node(1), node(2)]
    fail = {each: Asked(report_of(each), {"cluster_state": "fail"}) for each in nodes}
    assert codes(judge(view(nodes, fail))) == {"cluster-down": "unhealthy"}
    found = judge(view(nodes, {nodes[0]: fail[nodes[0]]}))
    assert codes(found) == {"nodes-disagree": "degraded"}
    assert told(found, "nodes-disagree").startswith("10.0.0.1:1 takes the cluster for down")


def test_slots_without_an_owner_an_old_map_and_replicas_that_are_missing() -> None:
    one, two = nodes = [node(1), node(2)]
    found = judge(view(nodes, uncovered=((5, 5), (7, 200))))
    assert "slots 5, 7-200 (1%) of the cluster have no owner" in told(found, "uncovered-slots")
    assert found.status == "degraded"
    old = MapState(age=80.0, rounds=9, epoch=7, error="nobody tells")
    assert "is 80 s old and cannot be refreshed: nobody tells" in told(
        judge(view(nodes, map=old)), "old-map"
    )
    found = judge(view(nodes, replicas=[node(3, one)]))
    assert told(found, "no-replica") == (
        "10.0.0.1:2 has no replica, as others have: slots 8192-16383 (50%) would be lost with it"
    )
    found = judge(view(nodes, replicas=[node(3, one, healthy=False), node(4, two)]))
    assert told(found, "replica-down").startswith("the other nodes say that 10.0.0.1:3 is not")
    assert not found.endpoints[2].reachable


def test_the_same_of_many_is_told_of_a_few_and_what_is_ours_once() -> None:
    nodes = [node(port) for port in range(1, 9)]
    reasons: list[tuple[str, str, Severity]] = [
        ("it is nearly full", "memory", "degraded"),
        ("the event loop was late", "loop-lag", "degraded"),
    ]
    found = judge(view(nodes, {each: Asked(report_of(each, *reasons), {}) for each in nodes}))
    memory = [str(reason) for reason in found.reasons if reason.code == "memory"]
    assert memory[0] == "10.0.0.1:1: it is nearly full"
    assert len(memory) == 4
    assert memory[3] == "the same of 10.0.0.1:4, 10.0.0.1:5, 10.0.0.1:6, 10.0.0.1:7 and 10.0.0.1:8"
    late = [str(reason) for reason in found.reasons if reason.code == "loop-lag"]
    assert late == ["the event loop was late"]


def test_a_node_that_does_much_more_than_its_share_is_noted() -> None:
    nodes = [node(port) for port in range(1, 5)]
    rates = (800.0, 60.0, 70.0, 70.0)
    asked = {
        each: Asked(report_of(each), {}, rate) for each, rate in zip(nodes, rates, strict=True)
    }
    (note,) = [note for note in judge(view(nodes, asked)).notes if "hot key" in note]
    assert note.startswith("10.0.0.1:1 answers 80% of the commands with 25% of the slots")
    calm = {
        each: Asked(report_of(each), {}, rate / 10) for each, rate in zip(nodes, rates, strict=True)
    }
    assert not any("hot key" in note for note in judge(view(nodes, calm)).notes)


@pytest.mark.parametrize(
    ("name", "mapped", "found"),
    [
        ("10.0.0.1:3", {}, True),
        ("172.17.0.2:6379", {Address("172.17.0.2", 6379): Address("10.0.0.1", 3)}, True),
        ("172.17.0.2:3", {}, True),  # by its port
        ("172.17.0.2:6379", {}, False),
        ("?:?", {}, False),
    ],
)
def test_a_replica_is_found_in_what_its_primary_tells(
    name: str, mapped: dict[Address, Address], found: bool
) -> None:
    one = node(1)
    link = ReplicaLink(name, True, 2.0, 512)
    facts = Info("role:master\r\n").facts(hit_rate=None, clock_skew=None)
    endpoint = EndpointHealth(str(one.address), True, 0.001, facts)
    object.__setattr__(facts, "links", (link,))
    asked = {one: Asked(HealthReport("healthy", (), 0.1, PoolStatus(1, 1, 0, 0), (endpoint,)), {})}
    last = judge(view([one], asked, [node(3, one)], addresses=mapped)).endpoints[-1]
    assert (last.replication_lag, last.bytes_behind) == ((2.0, 512) if found else (None, None))


def test_ranges_and_their_words() -> None:
    assert ranges_of("aabba") == {"a": ((0, 1), (4, 4)), "b": ((2, 3),)}  # type: ignore[arg-type, comparison-overlap]  # letters for nodes
    assert slots_told(((3, 3),)) == "slot 3 (less than 1%)"
    many = tuple((n, n) for n in range(0, 20, 2))
    assert slots_told(many).startswith("slots 0, 2, 4, 6, 8 and 5 more ranges")


@one_loop
async def test_a_hot_node_is_seen_by_the_commands_that_it_answers(
    cluster: EmbeddedCluster,
) -> None:
    async with cluster_pool(cluster) as pool:
        await pool.health()
        key = next(keys_of(cluster, cluster.primaries[1], "hot"))
        await asyncio.gather(*(pool.client.incr(key) for _ in range(2000)))
        notes = (await pool.health()).notes
        assert any(f":{cluster.primaries[1].port} answers" in note for note in notes), notes


async def test_the_slow_log_says_which_node_it_was(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for primary in cluster.primaries:
            key = next(keys_of(cluster, primary))
            await pool.client.set(key, primary.port)
        slow = pool.metrics().slow
    wrote = sorted(one.server for one in slow if one.command == "SET")
    assert wrote == sorted(f"{node.host}:{node.port}" for node in cluster.primaries)
