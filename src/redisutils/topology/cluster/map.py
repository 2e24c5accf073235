"""What a cluster says of itself: which node owns which slots, and who follows whom.

Read from CLUSTER SHARDS (https://valkey.io/commands/cluster-shards/), or from CLUSTER SLOTS where
the server is older (https://valkey.io/commands/cluster-slots/).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from redisutils.address import Address, AddressMap
from redisutils.topology.cluster.announced import ip_besides
from redisutils.topology.cluster.keys import SLOTS

__all__ = ["ClusterMap", "Member", "Shard", "from_shards", "from_slots", "taken_over"]


@dataclass(frozen=True, slots=True)
class Member:
    """One node, as the others see it."""

    id: str
    address: Address
    """Where it is reached from here."""
    offset: int = 0
    """How far it is in the stream of replication, in bytes."""
    zone: str | None = None
    """Its availability zone, where the server tells."""
    healthy: bool = True
    ip: str | None = None
    """Where to try if the name that it announces does not resolve."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A primary and those that follow it."""

    primary: Member
    replicas: tuple[Member, ...]
    ranges: tuple[tuple[int, int], ...]
    """The slots that it owns, first and last of each range."""


@dataclass(frozen=True, slots=True)
class ClusterMap:
    """All that own slots."""

    shards: tuple[Shard, ...]
    epoch: int = 0
    """``cluster_current_epoch`` of who told. A smaller one is older."""
    told_by: Address | None = field(default=None, compare=False)
    """Who told, as it is reached from here."""


def from_shards(
    answer: Sequence[Any], asked: Address, tls: bool, addresses: AddressMap, epoch: int = 0
) -> ClusterMap:
    """The answer to CLUSTER SHARDS.

    Args:
        asked: who told: a node that does not name its host is where it was found.
        tls: whether to take the nodes' TLS ports.
        addresses: where announced addresses are reached from here.
    """
    shards = []
    for told in map(_mapping, answer):
        slots = [int(slot) for slot in told.get("slots") or ()]
        primary: Member | None = None
        replicas = []
        for node in map(_mapping, told.get("nodes") or ()):
            port = node.get("tls-port") if tls else node.get("port")
            if not port:
                continue  # it does not speak what we do
            announced = Address(_host(node.get("endpoint"), node.get("ip"), asked), int(port))
            member = Member(
                id=str(node.get("id", "")),
                address=addresses.get(announced, announced),
                ip=_ip(announced, node.get("ip"), asked, addresses),
                offset=int(node.get("replication-offset") or 0),
                zone=str(node.get("availability-zone") or "") or None,
                healthy=node.get("health", "online") == "online",
            )
            if node.get("role") != "master":
                replicas.append(member)
            elif primary is None or (member.healthy and not primary.healthy):
                primary = member  # one that was deposed may still be listed, as failed
        if slots and primary is not None:
            ranges = tuple(map(_range, slots[::2], slots[1::2]))
            shards.append(Shard(primary, tuple(replicas), ranges))
    return ClusterMap(tuple(shards), epoch, asked)


def from_slots(
    answer: Iterable[Sequence[Any]], asked: Address, addresses: AddressMap, epoch: int = 0
) -> ClusterMap:
    """The answer to CLUSTER SLOTS. Arguments as for :func:`from_shards`."""
    ranges: dict[Member, list[tuple[int, int]]] = {}
    followers: dict[Member, dict[Member, None]] = {}
    for first, last, *nodes in answer:
        members = []
        for node in nodes:
            names = _mapping(node[3]) if len(node) > 3 else {}
            announced = Address(_host(node[0], names.get("ip"), asked), int(node[1]))
            id_ = str(node[2]) if len(node) > 2 else ""
            ip = _ip(announced, names.get("ip"), asked, addresses)
            members.append(Member(id_, addresses.get(announced, announced), ip=ip))
        if members:
            primary, *replicas = members
            ranges.setdefault(primary, []).append(_range(first, last))
            followers.setdefault(primary, {}).update(dict.fromkeys(replicas))
    shards = [
        Shard(primary, tuple(followers[primary]), tuple(owned)) for primary, owned in ranges.items()
    ]
    return ClusterMap(tuple(shards), epoch, asked)


def _range(first: object, last: object) -> tuple[int, int]:
    """Raises ValueError if there are no such slots."""
    bounds = int(str(first)), int(str(last))
    if not 0 <= bounds[0] <= bounds[1] < SLOTS:
        raise ValueError(f"{bounds[0]} to {bounds[1]} is no range of slots")
    return bounds


def taken_over(before: ClusterMap, now: ClusterMap) -> int:
    """How many primaries were followed by another node between two maps. Slots that have moved to
    somebody who had some already, or whose owner has kept some, are no such thing. (A replica that
    is just taking over may be on no map at all for a moment.)"""
    owners = {first: shard for shard in before.shards for first, _ in shard.ranges}
    stayed = {shard.primary.address for shard in now.shards}
    had = {shard.primary.address for shard in before.shards}
    count = 0
    for shard in now.shards:
        old = owners.get(shard.ranges[0][0])
        if old is not None and shard.primary.address not in had:
            count += old.primary.address not in stayed
    return count


def _host(endpoint: object, ip: object, asked: Address) -> str:
    """What a node prefers to be called. NULL: as it was found; "?": it does not know."""
    if endpoint == "?" and ip:
        return str(ip)
    return asked.host if endpoint in (None, "", "?") else str(endpoint)


def _ip(announced: Address, ip: object, asked: Address, addresses: AddressMap) -> str | None:
    """None for those that we were told ourselves where they are."""
    return None if announced in addresses else ip_besides(announced.host, ip, asked.host)


def _mapping(told: Any) -> Mapping[str, Any]:
    """A map of RESP3, or RESP2's list of names and values in turn."""
    if isinstance(told, Mapping):
        return told
    return dict(zip(told[::2], told[1::2], strict=True))
