"""What a frame tells of each of several servers, and of all of them together."""

from __future__ import annotations

from typing import Any, cast

from redisutils.metrics import BreakerStatus, LaneMetrics, NodeMetrics
from redisutils.metrics.latency import LatencyHistogram
from redisutils.monitor.frame import ServerFrame
from redisutils.monitor.members import NODES, lanes_together, node_frames, servers_together
from redisutils.topology.health import EndpointHealth


def measured(name: str, **changes: Any) -> NodeMetrics:
    latency = LatencyHistogram()
    latency.record(0.002)
    given: dict[str, Any] = {
        "endpoint": name,
        "began": 0.0,
        "commands": 30,
        "errors": 0,
        "latency": latency.snapshot(),
        "max_size": 10,
        "size": 2,
        "in_use": 1,
        "waiting": 0,
        "in_flight": 3,
        "connected": True,
        "breaker": BreakerStatus(),
    }
    return NodeMetrics(**given | changes)


def primary(name: str, first: int, last: int, **changes: Any) -> EndpointHealth:
    given: dict[str, Any] = {"told_role": "primary", "status": "healthy", "slots": ((first, last),)}
    return EndpointHealth(name, True, 0.001, None, **given | changes)


def replica(name: str, of: str | None, **changes: Any) -> EndpointHealth:
    given: dict[str, Any] = {"reachable": True, "told_role": "replica", "follows": of}
    given |= {"told_lag": 1.0, "bytes_behind": 64, "round_trip": None, "server": None}
    return EndpointHealth(name, **given | changes)


def test_each_primary_comes_with_its_replicas() -> None:
    endpoints = [
        primary("a:1", 0, 8191, zone="here"),
        primary("b:1", 8192, 16383),
        replica("b:2", "b:1"),
        replica("a:2", "a:1"),
        replica("c:1", "gone:1"),
    ]
    found = node_frames([measured("a:1"), measured("new:1")], endpoints, 2.0)
    assert [node["endpoint"] for node in found] == ["a:1", "a:2", "b:1", "b:2", "c:1", "new:1"]
    first, follower, second, *_, new = found
    assert (first["slots"], first["ranges"], first["zone"]) == (0.5, "0-8191", "here")
    assert (first["rate"], first["in_flight"], first["size"]) == (15.0, 3, 2)
    assert first["p99"] is not None
    assert abs(first["p99"] - 0.002) < 0.0001
    assert (follower["lag"], follower["behind"], follower["follows"]) == (1.0, 64, "a:1")
    assert (second["rate"], second["p99"], second["connected"]) == (0.0, None, False)
    assert (new["role"], new["status"], new["slots"]) == (None, None, None)


def test_a_single_server_is_told_of_elsewhere() -> None:
    assert node_frames([measured("a:1")], [primary("a:1", 0, 16383)], 1.0) == []
    assert node_frames([measured("a:1")], [], 1.0) == []


def test_a_primary_that_moves_is_known_by_the_name_that_stays() -> None:
    endpoints = [primary("mymaster (a:1)", 0, 0, slots=()), replica("a:2", None)]
    first, second = node_frames([measured("mymaster")], endpoints, 1.0)
    assert (first["endpoint"], first["rate"], first["slots"]) == ("mymaster (a:1)", 30.0, None)
    assert (second["endpoint"], second["role"]) == ("a:2", "replica")
    # Nor does it become another one when nobody can ask it for its role.
    endpoints[0] = primary("mymaster (a:1)", 0, 0, slots=(), told_role=None, status="unhealthy")
    names = [node["endpoint"] for node in node_frames([measured("mymaster")], endpoints, 1.0)]
    assert names == ["mymaster (a:1)", "a:2"]


def test_of_too_many_those_in_trouble_are_told_and_then_those_that_own() -> None:
    pairs = [(primary(f"a{n}:1", n, n), replica(f"a{n}:2", f"a{n}:1")) for n in range(200)]
    pairs[180] = (pairs[180][0], replica("down:1", "a180:1", reachable=False))
    endpoints = [one for pair in pairs for one in pair]
    slow = measured("a190:1", breaker=BreakerStatus("open", 3.0))
    found = node_frames([slow], endpoints, 1.0)
    names = [node["endpoint"] for node in found]
    assert len(found) == NODES
    assert {"down:1", "a190:1", "a0:1"} <= set(names)
    assert sum(node["role"] == "replica" for node in found) == 1
    assert names.index("a0:1") < names.index("down:1") < names.index("a190:1")


def test_many_ranges_are_counted() -> None:
    scattered = primary("a:1", 0, 0, slots=tuple((n, n) for n in range(0, 100, 2)))
    assert node_frames([], [scattered, replica("a:2", "a:1")], 1.0)[0]["ranges"] == (
        "0, 2, 4 and 47 more"
    )


def test_a_lane_to_many_servers_is_one() -> None:
    lanes = [
        LaneMetrics("default", connected=True, in_flight=3, waiting=0, blocked=False),
        LaneMetrics("orders", connected=True, in_flight=1, waiting=0, blocked=False),
        LaneMetrics("default", connected=False, in_flight=0, waiting=7, blocked=True),
    ]
    default, orders = lanes_together(lanes)
    assert default == LaneMetrics("default", True, in_flight=3, waiting=7, blocked=True)
    assert orders == lanes[1]


def test_servers_together_are_sums_and_the_worst() -> None:
    one = {
        "kind": "valkey", "version": "9.0.1", "role": "primary", "uptime": 50.0,
        "used_memory": 100, "maxmemory": 1000, "eviction_policy": "noeviction", "clients": 3,
        "maxclients": 100, "ops": 10.0, "hit_rate": 0.5, "replicas": 1, "replication_lag": 0.0,
        "loading": False, "persistence": "ok", "keys": 7,
    }  # fmt: skip
    other = one | {
        "version": "9.0.2", "uptime": 5.0, "hit_rate": None, "replication_lag": 9.0,
        "loading": True, "persistence": "failing", "eviction_policy": "allkeys-lru",
    }  # fmt: skip
    both = servers_together([cast(ServerFrame, one), cast(ServerFrame, other)])
    assert both is not None
    assert both["version"] == "9.0.1 and 9.0.2"
    assert (both["uptime"], both["used_memory"], both["maxmemory"]) == (5.0, 200, 2000)
    assert (both["ops"], both["keys"], both["hit_rate"]) == (20.0, 14, 0.5)
    assert (both["replication_lag"], both["loading"], both["persistence"]) == (9.0, True, "failing")
    assert (both["role"], both["eviction_policy"]) == (None, None)
    boundless = cast(ServerFrame, one | {"maxmemory": 0})
    whole = servers_together([cast(ServerFrame, one), boundless])
    assert whole is not None
    assert whole["maxmemory"] == 0
    assert servers_together([cast(ServerFrame, one)]) == one
    assert servers_together([]) is None
