"""What the looks at the nodes of a cluster come to.

Unhealthy: no node that owns slots serves commands, or all of them refuse to, since the cluster is
down; or it is not known who owns what. A part of the nodes that is down makes the cluster degraded
only: it costs the slots of that part, and a program that is taken out of service for it would
cost all others, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal

from redisutils.address import Address, AddressMap
from redisutils.pool.model import PoolStatus
from redisutils.topology.cluster.keys import SLOTS
from redisutils.topology.cluster.node import Node
from redisutils.topology.facts import ReplicaLink
from redisutils.topology.health import EndpointHealth, HealthReport
from redisutils.topology.reasons import Reason

__all__ = ["Asked", "MapState", "Ranges", "View", "judge", "share_of", "slots_told"]

Ranges = tuple[tuple[int, int], ...]
"""Slots: first and last of each range."""

_EACH: Final = 3
"""Nodes that are told of one by one when the same is wrong with several; the others by name."""

_NAMED: Final = 5
"""Nodes that are named."""

_OLD: Final = 150.0
"""Seconds: a map that is older was not refreshed twice."""

_HOT: Final = 2.0
"""How much more than its share of the slots a node has of the commands, to be called hot."""

_BUSY: Final = 200.0
"""Commands a second in all, below which nobody is."""

_OURS: Final = frozenset({"loop-lag"})
"""What is wrong with this program, and found again at each node."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking one node."""

    report: HealthReport | None
    info: Mapping[str, str]
    """Its CLUSTER INFO (https://valkey.io/commands/cluster-info/); empty if it did not tell."""
    rate: float = 0.0
    """Commands a second that it answered us."""


@dataclass(frozen=True, slots=True)
class MapState:
    """How the map was come by."""

    age: float
    """Seconds."""
    rounds: int
    """How often the nodes were asked for it."""
    epoch: int
    error: str | None = None
    """Why there was none the last time."""


@dataclass(frozen=True, slots=True)
class View:
    """All that is known of a cluster at one moment."""

    name: str
    primaries: Sequence[Node]
    """Those that own slots."""
    replicas: Sequence[Node]
    ranges: Mapping[Node, Ranges]
    uncovered: Ranges
    """Slots that nobody owns."""
    asked: Mapping[Node, Asked]
    addresses: AddressMap
    """Where announced addresses are reached from here."""
    map: MapState
    pool: PoolStatus


def judge(view: View) -> HealthReport:
    """The report on all of it."""
    reasons = list(_of_the_whole(view))
    reasons += _of_nodes(view)
    reasons += _of_replicas(view)
    reasons.sort(key=lambda reason: reason.severity != "unhealthy")
    status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
    if reasons:
        status = reasons[0].severity
    reports = [asked.report for asked in view.asked.values() if asked.report is not None]
    trips = [report.round_trip for report in reports if report.round_trip is not None]
    return HealthReport(
        status=status,
        reasons=tuple(reasons),
        round_trip=max(trips, default=None),
        pool=view.pool,
        endpoints=tuple(_endpoints(view)),
        notes=tuple(_notes(view, reports)),
    )


# -- the cluster as a whole ----------------------------------------------------------------


def _of_the_whole(view: View) -> Iterator[Reason]:
    states = {
        node: asked.info.get("cluster_state")
        for node, asked in view.asked.items()
        if node.primary is None and "cluster_state" in asked.info
    }
    down = [node for node, state in states.items() if state == "fail"]
    if view.uncovered:
        yield Reason(
            f"{slots_told(view.uncovered)} of {view.name} have no owner, and commands for them "
            "fail: `redis-cli --cluster check` tells why, `--cluster fix` mends it",
            "uncovered-slots",
        )
    if down and len(down) == len(states):
        yield Reason(
            f"{view.name} is down (cluster_state:fail, say all that were asked): it refuses "
            "commands until most primaries hear each other and each slot has an owner that lives; "
            "with cluster-require-full-coverage no, the slots that have one would be served",
            "cluster-down",
            "unhealthy",
        )
    elif down:
        yield Reason(
            f"{_named(down)} take{'s' * (len(down) == 1)} the cluster for down "
            "(cluster_state:fail), and refuse"
            f"{'s' * (len(down) == 1)} commands, and the others do not: a failover, or "
            "a network that is cut between the nodes",
            "nodes-disagree",
        )
    else:
        yield from _of_epochs(view)
    if view.map.error is not None:
        yield Reason(
            f"the map of {view.name} is {view.map.age:.0f} s old and cannot be refreshed: "
            f"{view.map.error}",
            "old-map",
        )
    elif _OLD < view.map.age < inf:
        yield Reason(f"the map of {view.name} is {view.map.age:.0f} s old", "old-map")


def _of_epochs(view: View) -> Iterator[Reason]:
    epochs = {
        node: int(told)
        for node, asked in view.asked.items()
        if (told := asked.info.get("cluster_current_epoch", "")).isdigit()
    }
    newest = max(epochs.values(), default=0)
    behind = [node for node, epoch in epochs.items() if epoch < newest]
    if behind:
        yield Reason(
            f"{_named(behind)} {'is' if len(behind) == 1 else 'are'} behind: at epoch "
            f"{min(epochs.values())}, and others at {newest}: in a failover that is over in "
            "seconds, and otherwise the nodes do not hear each other (the bus: port + 10000)",
            "nodes-disagree",
        )


def _of_nodes(view: View) -> Iterator[Reason]:
    """What is wrong with each, told once if it is the same with many."""
    unserved = {
        node
        for node in view.primaries
        if (asked := view.asked.get(node)) is not None
        and asked.report is not None
        and asked.report.status == "unhealthy"
    }
    all_lost = bool(view.primaries) and len(unserved) == len(view.primaries)
    found: dict[str, list[tuple[Node, Reason]]] = {}
    for node, asked in view.asked.items():
        for reason in asked.report.reasons if asked.report is not None else ():
            found.setdefault(reason.code, []).append((node, reason))
    for code, cases in found.items():
        # The gravest, and those that own most, are the ones to read of.
        cases.sort(key=lambda case: (case[1].severity != "unhealthy", -_size(view, case[0])))
        told = cases[: 1 if code in _OURS else _EACH]
        for node, reason in told:
            yield _of_node(view, node, reason, all_lost)
        if len(cases) > len(told) and code not in _OURS:
            others = [node for node, _ in cases[_EACH:]]
            yield Reason(f"the same of {_named(others)}", code)


def _of_node(view: View, node: Node, reason: Reason, all_lost: bool) -> Reason:
    text = str(reason)
    if str(node.address) not in text and reason.code not in _OURS:
        text = f"{node.address}: {text}"
    if reason.severity != "unhealthy":
        return Reason(text, reason.code)
    if node.primary is None and node in view.ranges:
        followers = [each for each in view.replicas if each.primary is node and _well(each)]
        hope = (
            f"until a replica takes over ({_named(followers)})"
            if followers
            else "and it has no replica that could take over"
        )
        text += f"; {slots_told(view.ranges[node])} cannot be served {hope}"
    return Reason(text, reason.code, "unhealthy" if all_lost else "degraded")


def _of_replicas(view: View) -> Iterator[Reason]:
    followers: dict[Node, list[Node]] = {node: [] for node in view.primaries}
    for replica in view.replicas:
        if replica.primary in followers:
            followers[replica.primary].append(replica)
    down = [replica for replica in view.replicas if not _well(replica)]
    if down:
        yield Reason(
            f"the other nodes say that {_named(down)} {'is' if len(down) == 1 else 'are'} not "
            f"online: {'it' if len(down) == 1 else 'they'} cannot take over",
            "replica-down",
        )
    if any(followers.values()):
        alone = [node for node, theirs in followers.items() if not theirs]
        if alone:
            lost = sorted(range_ for node in alone for range_ in view.ranges.get(node, ()))
            yield Reason(
                f"{_named(alone)} {'has' if len(alone) == 1 else 'have'} no replica, as others "
                f"have: {slots_told(tuple(lost))} would be lost with "
                f"{'it' if len(alone) == 1 else 'them'}",
                "no-replica",
            )


def _well(node: Node) -> bool:
    return node.member is None or node.member.healthy


def _notes(view: View, reports: Iterable[HealthReport]) -> Iterator[str]:
    sizes = [_size(view, node) for node in view.primaries]
    if sizes:
        least, most = min(sizes), max(sizes)
        each = f"{most:,} slots" if least == most else f"{least:,} to {most:,} slots"
        epoch = f", epoch {view.map.epoch}" if view.map.epoch else ""
        yield (
            f"{len(sizes)} primar{'y' if len(sizes) == 1 else 'ies'} with {each}"
            f"{' each' * (len(sizes) > 1)} and {len(view.replicas)} "
            f"replica{'s' * (len(view.replicas) != 1)}; the map is {view.map.age:.0f} s old "
            f"(asked for {view.map.rounds} time{'s' * (view.map.rounds != 1)}{epoch})"
        )
    if view.primaries and not view.replicas:
        yield "no primary has a replica: what one holds is gone, or out of reach, with it"
    total = sum(view.asked[node].rate for node in view.primaries if node in view.asked)
    for node in view.primaries:
        asked = view.asked.get(node)
        share = _size(view, node) / SLOTS
        if asked is None or total < _BUSY or share > 1 / _HOT:
            continue
        carried = asked.rate / total
        if carried > _HOT * share:
            yield (
                f"{node.address} answers {carried:.0%} of the commands with {share:.0%} of the "
                "slots: a hot key, or a hash tag that puts much into one slot"
            )
    told: dict[str, None] = {}
    for report in reports:
        told.update(dict.fromkeys(report.notes))
    yield from list(told)[: 2 * _NAMED]


# -- each node -------------------------------------------------------------------------------


def _endpoints(view: View) -> Iterator[EndpointHealth]:
    """Primaries by their slots, then replicas by those."""
    links: dict[Node, tuple[ReplicaLink, ...]] = {}
    for node in view.primaries:
        seen = _asked(view, node)
        if seen.server is not None:
            links[node] = seen.server.links
        yield EndpointHealth(
            endpoint=str(node.address),
            reachable=seen.reachable,
            round_trip=seen.round_trip,
            server=seen.server,
            told_role="primary",
            status=seen.status,
            slots=view.ranges.get(node, ()),
            zone=_zone(node),
        )
    place = {node: number for number, node in enumerate(view.primaries)}
    for node in sorted(view.replicas, key=lambda node: place.get(node.primary or node, SLOTS)):
        seen = _asked(view, node)
        primary = node.primary
        link = _link(node, links.get(primary, ()), view.addresses) if primary else None
        yield EndpointHealth(
            endpoint=str(node.address),
            reachable=seen.reachable,
            round_trip=seen.round_trip,
            server=seen.server,
            told_role="replica",
            bytes_behind=None if link is None else link.behind,
            told_lag=None if link is None else link.lag,
            status=seen.status,
            follows=None if primary is None else str(primary.address),
            zone=_zone(node),
        )


def _asked(view: View, node: Node) -> EndpointHealth:
    asked = view.asked.get(node)
    if asked is not None and asked.report is not None and asked.report.endpoints:
        return asked.report.endpoints[0]
    return EndpointHealth(str(node.address), _well(node), None, None)


def _zone(node: Node) -> str | None:
    return None if node.member is None else node.member.zone


def _link(node: Node, links: Iterable[ReplicaLink], addresses: AddressMap) -> ReplicaLink | None:
    """It as its primary sees it, which may know it by another address than we do: then its port
    will do, if no other replica has it."""
    by_port = []
    for link in links:
        host, _, port = link.name.rpartition(":")
        if not port.isdigit():
            continue
        announced = Address(host, int(port))
        if addresses.get(announced, announced) == node.address:
            return link
        if announced.port == node.address.port:
            by_port.append(link)
    return by_port[0] if len(by_port) == 1 else None


# -- words -------------------------------------------------------------------------------------


def share_of(ranges: Ranges) -> float:
    """The part of all slots."""
    return sum(last - first + 1 for first, last in ranges) / SLOTS


def slots_told(ranges: Ranges) -> str:
    """``slots 0-5460 (33%)``."""
    named = [f"{first}-{last}" if last > first else f"{first}" for first, last in ranges]
    more = f" and {len(named) - _NAMED} more ranges" if len(named) > _NAMED else ""
    share = share_of(ranges)
    part = f"{share:.0%}" if share >= 0.01 else "less than 1%"
    slots = "slot" if len(ranges) == 1 and ranges[0][0] == ranges[0][1] else "slots"
    return f"{slots} {', '.join(named[:_NAMED])}{more} ({part})"


def _size(view: View, node: Node) -> int:
    return sum(last - first + 1 for first, last in view.ranges.get(node, ()))


def _named(nodes: Sequence[Node]) -> str:
    named = [str(node.address) for node in nodes[:_NAMED]]
    if len(nodes) > _NAMED:
        return f"{', '.join(named)} and {len(nodes) - _NAMED} more"
    if len(named) > 1:
        return f"{', '.join(named[:-1])} and {named[-1]}"
    return "".join(named)
