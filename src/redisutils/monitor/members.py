"""The part of a frame that tells of each server behind a pool that has several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar

from redisutils.metrics import LaneMetrics, NodeMetrics
from redisutils.monitor.frame import NodeFrame, ServerFrame
from redisutils.topology.health import EndpointHealth

__all__ = ["NODES", "lanes_together", "node_frames", "servers_together"]

NODES: Final = 128
"""Servers that a frame tells of at most. Some 40 kB, and only in the latest frame."""

_SLOTS: Final = 16_384
_RANGES: Final = 3
"""Ranges of slots that are written out."""

_NAME: Final = 200

_T = TypeVar("_T")


def node_frames(
    nodes: Iterable[NodeMetrics], endpoints: Sequence[EndpointHealth], seconds: float
) -> list[NodeFrame]:
    """Each server: what we measured of it, with what it and others say of it. Each primary comes
    with its replicas after it. Of one server alone there is nothing to tell that is not told
    elsewhere.

    Args:
        nodes: what was counted in the last ``seconds``.
        endpoints: what the latest look has found.
    """
    measured = {node.endpoint: node for node in nodes}
    seen = {endpoint.endpoint: endpoint for endpoint in endpoints}
    primaries = [name for name, endpoint in seen.items() if endpoint.role == "primary"]
    only = primaries[0] if len(primaries) == 1 else None
    if len(measured) == 1 and not measured.keys() & seen.keys():
        # One that moves is counted under the name that it always has: ``mymaster (10.0.0.1:6379)``.
        [(name, node)] = measured.items()
        measured = {next((one for one in seen if one.startswith(f"{name} (")), name): node}
    if len({*measured, *seen}) < 2:
        return []
    followers: dict[str | None, list[EndpointHealth]] = {}
    for endpoint in endpoints:
        leader = endpoint.follows or only
        known = leader in seen and endpoint.role == "replica"
        followers.setdefault(leader if known else None, []).append(endpoint)
    found: list[NodeFrame] = []
    for first in followers.get(None, ()):
        found += [
            _node(endpoint, measured.pop(endpoint.endpoint, None), seconds)
            for endpoint in (first, *followers.get(first.endpoint, ()))
        ]
    found += [_node(None, node, seconds) for node in measured.values()]
    if len(found) <= NODES:
        return found
    # Those that somebody should look at, then those that own something.
    ranked = sorted(range(len(found)), key=lambda at: (_calm(found[at]), at))
    return [found[at] for at in sorted(ranked[:NODES])]


def _calm(node: NodeFrame) -> int:
    if node["breaker"] != "closed" or not node["reachable"]:
        return 0
    if node["status"] not in ("healthy", None):
        return 1
    return 2 if node["role"] == "primary" else 3


def _node(
    endpoint: EndpointHealth | None, measured: NodeMetrics | None, seconds: float
) -> NodeFrame:
    frame: NodeFrame = {
        "endpoint": "",
        "role": None,
        "status": None,
        "reachable": True,
        "connected": False,
        "slots": None,
        "ranges": "",
        "follows": None,
        "zone": None,
        "rate": 0.0,
        "p99": None,
        "in_flight": 0,
        "waiting": 0,
        "size": 0,
        "breaker": "closed",
        "lag": None,
        "behind": None,
    }
    if measured is not None:
        latency = measured.latency
        frame["endpoint"] = measured.endpoint[:_NAME]
        frame["role"] = measured.role
        frame["connected"] = measured.connected
        frame["rate"] = round(measured.commands / seconds, 3)
        frame["p99"] = round(latency.p99, 7) if latency.count else None
        frame["in_flight"] = measured.in_flight
        frame["waiting"] = measured.waiting
        frame["size"] = measured.size
        frame["breaker"] = measured.breaker.state
    if endpoint is not None:
        frame["endpoint"] = endpoint.endpoint[:_NAME]
        frame["role"] = endpoint.role or frame["role"]
        frame["status"] = endpoint.status
        frame["reachable"] = endpoint.reachable
        frame["follows"] = endpoint.follows and endpoint.follows[:_NAME]
        frame["zone"] = endpoint.zone and endpoint.zone[:_NAME]
        if endpoint.slots:
            owned = sum(last - first + 1 for first, last in endpoint.slots)
            frame["slots"] = round(owned / _SLOTS, 5)
            frame["ranges"] = _ranges(endpoint.slots)
        if endpoint.role == "replica":
            frame["lag"] = endpoint.replication_lag
            frame["behind"] = endpoint.bytes_behind
    return frame


def _ranges(slots: Sequence[tuple[int, int]]) -> str:
    told = [f"{first}-{last}" if last > first else str(first) for first, last in slots[:_RANGES]]
    more = len(slots) - len(told)
    return ", ".join(told) + (f" and {more} more" if more else "")


def lanes_together(lanes: Iterable[LaneMetrics]) -> list[LaneMetrics]:
    """A lane to many servers is one lane for those who issue commands on it."""
    found: dict[str, LaneMetrics] = {}
    for lane in lanes:
        known = found.get(lane.name)
        found[lane.name] = (
            lane
            if known is None
            else LaneMetrics(
                lane.name,
                connected=known.connected or lane.connected,
                in_flight=known.in_flight + lane.in_flight,
                waiting=known.waiting + lane.waiting,
                blocked=known.blocked or lane.blocked,
            )
        )
    return list(found.values())


def servers_together(servers: Sequence[ServerFrame]) -> ServerFrame | None:
    """What several servers say of themselves, as if they were one: sums of what they hold and do,
    the worst of what may go wrong; None where they differ."""
    if len(servers) < 2:
        return servers[0] if servers else None

    def same(read: Callable[[ServerFrame], _T]) -> _T | None:
        values = {read(server) for server in servers}
        return values.pop() if len(values) == 1 else None

    def known(read: Callable[[ServerFrame], _T | None]) -> list[_T]:
        return [value for server in servers if (value := read(server)) is not None]

    def total(read: Callable[[ServerFrame], int | None]) -> int | None:
        values = known(read)
        return sum(values) if values else None

    limits = known(lambda server: server["maxmemory"])
    lags = known(lambda server: server["replication_lag"])
    ops = known(lambda server: server["ops"])
    rates = known(lambda server: server["hit_rate"])
    kept = known(lambda server: server["persistence"])
    persistence = same(lambda server: server["persistence"])
    if "failing" in kept:
        persistence = "failing"
    elif "off" in kept:
        persistence = "off"
    versions = sorted(set(known(lambda server: server["version"])))
    return ServerFrame(
        kind=servers[0]["kind"],
        version=" and ".join(versions[:3]) or None,
        role=None,
        uptime=min(known(lambda server: server["uptime"]), default=None),
        used_memory=total(lambda server: server["used_memory"]),
        # One without a limit may take all there is.
        maxmemory=(sum(limits) if all(limits) else 0) if limits else None,
        eviction_policy=same(lambda server: server["eviction_policy"]),
        clients=total(lambda server: server["clients"]),
        maxclients=total(lambda server: server["maxclients"]),
        ops=sum(ops) if ops else None,
        hit_rate=sum(rates) / len(rates) if rates else None,
        replicas=total(lambda server: server["replicas"]),
        replication_lag=max(lags, default=None),
        loading=any(known(lambda server: server["loading"])),
        persistence=persistence,
        keys=total(lambda server: server["keys"]),
    )
