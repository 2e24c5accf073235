"""``redisutils check`` of several servers: who is there, who owns what, how they differ, and what
is said once of many."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from redisutils.address import Address
from redisutils.cli.check.topology import judge_map
from redisutils.testing import EmbeddedCluster, EmbeddedSentinels
from redisutils.topology.cluster.map import ClusterMap, Member, Shard

from .checkup import ONE_LOOP, PASSWORD, WELL, checked, findings_of, free_port
from .clusters import told
from .surroundings import clear


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


@pytest.fixture(scope="module")
def group() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, password=PASSWORD, config=WELL) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def watched() -> Iterator[EmbeddedSentinels]:
    with EmbeddedSentinels(
        password=PASSWORD, sentinel_password=f"{PASSWORD}-too", config=WELL
    ) as sentinels:
        yield sentinels


def set_many(patch: pytest.MonkeyPatch, mode: str, nodes: str, **variables: str) -> None:
    given = {"mode": mode, "nodes": nodes, "password": PASSWORD, **variables}
    for name, value in given.items():
        patch.setenv(f"REDIS_{name.upper()}", value)


def of_cluster(patch: pytest.MonkeyPatch, group: EmbeddedCluster, **variables: str) -> None:
    nodes = ",".join(f"{node.host}:{node.port}" for node in group.primaries)
    set_many(patch, "cluster", nodes, **variables)


def of_sentinels(patch: pytest.MonkeyPatch, group: EmbeddedSentinels, **variables: str) -> None:
    nodes = ",".join(f"{host}:{port}" for host, port in group.addresses)
    given = {
        "sentinel_master": group.master_name,
        "sentinel_password": group.sentinel_password,
        **variables,
    }
    set_many(patch, "sentinel", nodes, **given)


@ONE_LOOP
async def test_a_cluster_that_is_well(
    group: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_cluster(monkeypatch, group)
    found = await checked(timeout=5.0)
    assert found.errors == []
    assert found.all("nodes", "warning") == []
    topology = [finding.found for finding in found.all("topology", "ok")]
    assert topology[0] == "3 primaries with 5,461 to 5,462 slots, and 1 replica each"
    first, second, third = group.primaries
    (replica,) = group.replicas_of(first)
    assert topology[1].startswith(f"slots 0-5460 (33 %): 127.0.0.1:{first.port}, replica")
    assert str(replica.port) in topology[1]
    assert str(second.port) in topology[2]
    assert str(third.port) in topology[3]
    nodes = [finding.found for finding in found.all("nodes", "ok")]
    assert nodes[0] == "all 6 can be reached from here"
    assert "their settings agree (12 compared)" in nodes
    assert any("noticed after 1.0 s (cluster-node-timeout)" in told for told in nodes)
    # Of one, the other steps tell as of a server alone; it is no fault to be a node.
    assert found.all("server", "error") == []
    assert found.all("memory", "ok", "note")


@ONE_LOOP
async def test_nodes_that_differ_and_slots_left_on_the_way(
    group: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, second, third = group.primaries
    told(second, "CONFIG", "SET", "maxmemory", "50mb")
    told(third, "CONFIG", "SET", "save", "")
    try:
        async with group.migrating(5, second):
            of_cluster(monkeypatch, group, command_timeout="1")
            found = await checked(timeout=5.0)
    finally:
        told(second, "CONFIG", "SET", "maxmemory", "100mb")
        told(third, "CONFIG", "SET", "save", "3600 1")
    warned = [finding.found for finding in found.all("nodes", "warning")]
    assert any(one.startswith("maxmemory differs: 104857600 on 127.0.0.1:") for one in warned)
    assert any(f"52428800 on 127.0.0.1:{second.port}" in one for one in warned)
    assert "1 slot on the way from one node to another: 5" in warned
    lost = (
        f"127.0.0.1:{third.port}: nothing is kept on disk: a restart of the server loses all data"
    )
    assert lost in warned
    notes = [finding.found for finding in found.all("nodes", "note")]
    assert any("longer than REDIS_COMMAND_TIMEOUT=1" in note for note in notes)


@ONE_LOOP
async def test_what_is_wrong_with_all_is_said_once(
    group: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for node in group.nodes:
        told(node, "CONFIG", "SET", "save", "")
    try:
        of_cluster(monkeypatch, group)
        found = await checked(timeout=5.0)
    finally:
        for node in group.nodes:
            told(node, "CONFIG", "SET", "save", "3600 1")
    assert len(found.all("persistence", "warning")) == 1
    assert found.all("nodes", "warning") == []
    notes = [finding.found for finding in found.all("nodes", "note")]
    assert "what was said of persistence holds of 5 others, too" in notes


@ONE_LOOP
async def test_seeds_that_are_gone(group: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = free_port()
    set_many(monkeypatch, "cluster", f"127.0.0.1:{gone},127.0.0.1:{group.primaries[0].port}")
    found = await checked(timeout=5.0)
    assert found.errors == []
    [warning] = [one.found for one in found.all("seeds", "warning")]
    assert warning == f"1 of 2 nodes of REDIS_NODES can be reached: 127.0.0.1:{gone}: refuses"
    set_many(monkeypatch, "cluster", f"127.0.0.1:{gone}")
    found = await checked()
    assert found.error.step == "seeds"
    assert set(found.report.skipped) >= {"login", "topology", "nodes"}


@ONE_LOOP
async def test_an_address_that_is_none_from_here_is_mapped(
    group: EmbeddedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = group.primaries
    wrong = free_port()
    told(second, "CONFIG", "SET", "cluster-announce-port", wrong)
    try:
        set_many(monkeypatch, "cluster", f"127.0.0.1:{first.port}")
        found = await checked(timeout=5.0)
        while not found.errors:  # until the others have heard of it
            found = await checked(timeout=5.0)
        assert "1 of 6 nodes cannot be reached from here" in found.error.found
        assert f"127.0.0.1:{wrong} (refuses)" in found.error.found
        assert f"REDIS_ADDRESS_MAP=127.0.0.1:{wrong}=HOST:PORT" in found.told
        set_many(
            monkeypatch,
            "cluster",
            f"127.0.0.1:{first.port}",
            address_map=f"127.0.0.1:{wrong}=127.0.0.1:{second.port}",
        )
        assert (await checked(timeout=5.0)).errors == []
    finally:
        told(second, "CONFIG", "SET", "cluster-announce-port", 0)
    await group.wait_until_ok()


# -- sentinels -----------------------------------------------------------------------------------


@ONE_LOOP
async def test_a_primary_that_sentinels_watch_over(
    watched: EmbeddedSentinels, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_sentinels(monkeypatch, watched)
    found = await checked(timeout=5.0)
    assert found.errors == []
    seeds = [finding.found for finding in found.all("seeds", "ok")]
    assert seeds == [
        "3 of 3 sentinels of REDIS_NODES can be reached",
        "3 sentinels with a quorum of 2, 2 replicas",
        f"'mymaster' is at 127.0.0.1:{watched.primary.port}, say 3 sentinels",
    ]
    [topology] = [finding.found for finding in found.all("topology", "ok")]
    assert topology.startswith(f"primary 127.0.0.1:{watched.primary.port}, 2 replicas: ")
    assert "all 3 can be reached from here" in [one.found for one in found.all("nodes", "ok")]


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"sentinel_master": "other"}, "REDIS_SENTINEL_MASTER"),
        ({"sentinel_password": "wrong"}, "it refused the password → Sentinels have passwords"),
    ],
)
@ONE_LOOP
async def test_sentinels_that_do_not_tell(
    variables: dict[str, str],
    words: str,
    watched: EmbeddedSentinels,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    of_sentinels(monkeypatch, watched, **variables)
    found = await checked(timeout=5.0)
    assert found.error.step == "seeds"
    assert words in found.told


# -- judgements ----------------------------------------------------------------------------------


def member(port: int, host: str = "10.0.0.1", *, healthy: bool = True) -> Member:
    return Member(str(port), Address(host, port), healthy=healthy)


def test_holes_replicas_that_are_missing_and_machines_that_hold_both() -> None:
    shards = (
        Shard(member(1), (member(2),), ((0, 9000),)),
        Shard(member(3, "10.0.0.2"), (), ((9002, 12000), (13000, 16383))),
    )
    found = {each.found: each.severity for each in findings_of(judge_map, ClusterMap(shards), {})}
    assert found["nobody owns 1,000 slots (6 %): 9001, 12001-12999"] == "error"
    assert found[
        "10.0.0.2:3 has no replica, as others have: 39 % of the slots would be lost with it"
    ]
    both = "10.0.0.1:1 and all replicas are on the same machine: it takes both with it"
    assert found[both] == "warning"
    down = Shard(member(1), (member(2, "10.0.0.3", healthy=False),), ((0, 16383),))
    state = {"cluster_state": "fail", "cluster_slots_pfail": "5"}
    words = " ".join(each.found for each in findings_of(judge_map, ClusterMap((down,)), state))
    assert "10.0.0.3:2 is not online, say the others" in words
    assert "cluster_state:fail" in words
    assert "5 slots of primaries that do not answer" in words


def test_of_many_shards_some_are_told_of() -> None:
    bounds = [16384 * n // 50 for n in range(51)]
    shards = [
        Shard(member(n), (member(100 + n, "10.0.0.2"),), ((bounds[n], bounds[n + 1] - 1),))
        for n in range(50)
    ]
    found = findings_of(judge_map, ClusterMap(tuple(shards)), {})
    assert [each.severity for each in found] == ["ok"] * 10
    assert found[0].found == "50 primaries with 327 to 328 slots, and 1 replica each"
    assert found[-1].found == "and 42 more (--json tells of all)"
    assert len(found[0].facts["shards"]) == 50
