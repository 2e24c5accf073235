"""Of several servers: who is there, who owns which slots, and who would take over from whom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from redis.exceptions import ResponseError

from redisutils.address import Address
from redisutils.cli.check.case import Case, cannot
from redisutils.cli.check.figures import judgement, printable, whole
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import count, listed, share, size, span
from redisutils.topology.cluster.map import ClusterMap, Member, Shard, from_shards, from_slots

__all__ = ["check_topology", "judge_map"]

SLOTS: Final = 16_384

_EACH: Final = 8
"""Shards that are told of one by one."""

_UNEVEN: Final = 1.5
"""How many times as many slots one primary may have as another before it is told."""


async def check_topology(case: Case, say: Say) -> None:
    """The step. Finds ``case.members``."""
    assert case.many is not None
    if case.many.mode == "sentinel":
        _followers(case, say)
        return
    told = await _map(case, say)
    front = Address(case.config.host, case.config.port)
    addresses = dict(case.many.address_map)
    known = isinstance(told, ClusterMap)
    found = told if known else from_shards(told, front, case.many.tls_enabled, addresses)
    [info] = await case.ask(("CLUSTER INFO",))
    state: dict[str, Any] = info if isinstance(info, dict) else {}
    judge_map(found, state, say)
    case.members = [member for shard in found.shards for member in (shard.primary, *shard.replicas)]
    if not case.members:
        raise Stop


async def _map(case: Case, say: Say) -> Any:
    """The answer to CLUSTER SHARDS; the map itself of servers that only know CLUSTER SLOTS."""
    refused = await case.permissions.standing_for(["CLUSTER", "SHARDS"])
    if refused is not None:
        say.error(
            f"{cannot(refused)} ask for the map of the cluster: no program of it could start",
            "Grant `+cluster|shards +cluster|slots +cluster|info`.",
        )
        raise Stop
    execute = case.permissions.connection.execute
    try:
        return decoded(await execute("CLUSTER", "SHARDS"))
    except ResponseError as error:
        if "cluster support disabled" in str(error).lower():
            say.error(
                "this server is no node of a cluster",
                "Set REDIS_MODE=standalone, or start it with `cluster-enabled yes`.",
            )
            raise Stop from None
        if "unknown" not in str(error).lower():
            raise
    assert case.many is not None
    front = Address(case.config.host, case.config.port)
    slots = decoded(await execute("CLUSTER", "SLOTS"))
    return from_slots(slots, front, dict(case.many.address_map))


def decoded(value: Any) -> Any:
    """Text in place of bytes, all the way down."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):
        return {decoded(key): decoded(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [decoded(each) for each in value]
    return value


# -- a cluster ---------------------------------------------------------------------------------


def judge_map(found: ClusterMap, state: dict[str, Any], say: Say) -> None:
    """Who owns what.

    Args:
        found: the map.
        state: CLUSTER INFO.
        say: told.
    """
    _shards(sorted(found.shards, key=lambda shard: shard.ranges), say)
    _holes(found.shards, say)
    if state.get("cluster_state") == "fail":
        say.error(
            "the cluster is down (cluster_state:fail): commands fail with CLUSTERDOWN",
            "Most primaries must hear each other, and each slot needs an owner that lives; with "
            "`cluster-require-full-coverage no` the slots that have one are served.",
            **state,
        )
    with judgement(say):
        suspected = whole(state, "cluster_slots_pfail") + whole(state, "cluster_slots_fail")
        if suspected:
            say.error(
                f"{count(suspected, 'slot')} of primaries that do not answer the node asked",
                "A failover is under way, or that node cannot hear them (bus port: port + 10000).",
                slots=suspected,
            )
    _replicas(found.shards, say)


def _shards(shards: Sequence[Shard], say: Say) -> None:
    sizes = [_slots(shard) for shard in shards]
    followers = Counter(len(shard.replicas) for shard in shards)
    least, most = min(sizes, default=0), max(sizes, default=0)
    each = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    numbers = " or ".join(str(number) for number in sorted(followers)) or "0"
    say.ok(
        f"{len(shards):,} primar{'y' if len(shards) == 1 else 'ies'} with {each} slots, and "
        f"{numbers} {'replica' if numbers == '1' else 'replicas'} each",
        shards=[
            {
                "primary": str(shard.primary.address),
                "replicas": [str(replica.address) for replica in shard.replicas],
                "slots": [list(pair) for pair in shard.ranges],
                "zone": shard.primary.zone,
            }
            for shard in shards
        ],
    )
    for shard in shards[:_EACH]:
        replicas = [f"{_told(replica)}{_behind(shard, replica)}" for replica in shard.replicas]
        say.ok(
            f"slots {_ranges(shard)} ({share(_slots(shard), SLOTS)}): {_told(shard.primary)}"
            + (f", replica {listed(replicas)}" if replicas else ", no replica"),
        )
    if len(shards) > _EACH:
        say.ok(f"and {len(shards) - _EACH} more (--json tells of all)")
    if least and most > _UNEVEN * least:
        say.note(
            f"the slots are spread unevenly: one primary has {most / least:.1f} times as many as "
            "another",
            "`redis-cli --cluster rebalance HOST:PORT`, unless the machines differ like that.",
            least=least,
            most=most,
        )


def _told(member: Member) -> str:
    zone = f" in {printable(member.zone)}" if member.zone else ""
    return f"{member.address}{zone}{'' if member.healthy else ' (not online)'}"


def _behind(shard: Shard, replica: Member) -> str:
    lacks = shard.primary.offset - replica.offset
    return f" ({size(lacks)} behind)" if replica.offset and lacks > 1 << 20 else ""


def _ranges(shard: Shard) -> str:
    told = [f"{a}-{b}" if b > a else str(a) for a, b in shard.ranges]
    return ", ".join(told[:3]) + (f" and {len(told) - 3} more ranges" if len(told) > 3 else "")


def _slots(shard: Shard) -> int:
    return sum(last - first + 1 for first, last in shard.ranges)


def _holes(shards: tuple[Shard, ...], say: Say) -> None:
    owned = sorted(pair for shard in shards for pair in shard.ranges)
    holes, free = [], 0
    for first, last in [*owned, (SLOTS, SLOTS)]:
        if first > free:
            holes.append((free, first - 1))
        free = max(free, last + 1)
    if holes:
        lacking = sum(b - a + 1 for a, b in holes)
        told = ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in holes[:5])
        say.error(
            f"nobody owns {count(lacking, 'slot')} ({share(lacking, SLOTS)}): {told}"
            + (f" and {len(holes) - 5} more ranges" if len(holes) > 5 else ""),
            "`redis-cli --cluster check HOST:PORT` tells why; `--cluster fix` gives them to "
            "somebody, and what was in them is gone unless its node comes back first.",
            slots=lacking,
        )


def _replicas(shards: tuple[Shard, ...], say: Say) -> None:
    alone = [shard for shard in shards if not shard.replicas]
    if shards and len(alone) == len(shards):
        say.warning(
            "no primary has a replica: when a machine is lost, so are its slots",
            "Add one for each: `redis-cli --cluster add-node NEW:PORT HOST:PORT`, and at the new "
            "node `CLUSTER REPLICATE` with the primary's id (`CLUSTER MYID`).",
        )
    elif alone:
        say.warning(
            f"{_named([shard.primary for shard in alone])} {'has' if len(alone) == 1 else 'have'} "
            f"no replica, as others have: {share(sum(map(_slots, alone)), SLOTS)} of the slots "
            "would be lost with " + ("it" if len(alone) == 1 else "them"),
            "Add one: `redis-cli --cluster add-node NEW:PORT HOST:PORT`, and at the new node "
            "`CLUSTER REPLICATE` with the primary's id (`CLUSTER MYID`).",
            primaries=[str(shard.primary.address) for shard in alone],
        )
    down = [m for s in shards for m in (s.primary, *s.replicas) if not m.healthy]
    if down:
        say.error(
            f"{_named(down)} {'is' if len(down) == 1 else 'are'} not online, say the others",
            "Is the process running? See its log; one that loads its data comes by itself.",
            nodes=[str(member.address) for member in down],
        )
    together = [
        shard
        for shard in shards
        if shard.replicas
        and {r.address.host for r in shard.replicas} == {shard.primary.address.host}
    ]
    hosts = {shard.primary.address.host for shard in shards}
    if together and len(hosts) > 1:
        say.warning(
            f"{_named([shard.primary for shard in together])} and all replicas are on the same "
            "machine: it takes both with it",
            "Move the replicas: `CLUSTER REPLICATE ID` on nodes of other machines.",
        )


def _named(members: list[Member]) -> str:
    named = [str(member.address) for member in members]
    return listed(named if len(named) <= 5 else [*named[:4], f"{len(named) - 4} more"])


# -- a primary that sentinels watch over -------------------------------------------------------


def _followers(case: Case, say: Say) -> None:
    assert case.many is not None
    addresses = dict(case.many.address_map)
    front = Address(case.config.host, case.config.port)
    case.members = [Member("", front)]
    told = []
    for name, value in case.info.items():
        if not (name.startswith("slave") and name[5:].isdigit() and isinstance(value, dict)):
            continue
        announced = Address(str(value.get("ip")), int(value.get("port", 0)))
        member = Member("", addresses.get(announced, announced))
        case.members.append(member)
        told.append(f"{member.address} (heard {span(float(value.get('lag', 0)))} ago)")
    say.ok(
        f"primary {front}, "
        + (f"{count(len(told), 'replica')}: {listed(told)}" if told else "no replica"),
        primary=str(front),
        replicas=[str(member.address) for member in case.members[1:]],
    )
