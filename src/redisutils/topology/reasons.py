"""Why a pool or its server is not healthy: what is judged, and by which thresholds.

Unhealthy means that commands cannot be served, be it the writes alone; degraded, that they can,
and that somebody should look. Each reason says what to do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Self, SupportsIndex

from redisutils.connection.words import cut
from redisutils.metrics.latency import LatencySnapshot
from redisutils.metrics.snapshot import Rates
from redisutils.topology.facts import PERSISTENCE, Info

__all__ = [
    "Grown",
    "Reason",
    "Severity",
    "notes_of_server",
    "of_clock",
    "of_failures",
    "of_lag",
    "of_refused_ping",
    "of_round_trip",
    "of_server",
]

Severity = Literal["degraded", "unhealthy"]

SLOW_ROUND_TRIP: Final = 0.3
"""Seconds. The other side of the world is as far away; what takes longer is no distance."""

FULL: Final = 0.9
"""The part of a limit, of memory or of clients, from which on somebody should look: what grows by a
tenth in a day leaves a day."""

LONGEST_LAG: Final = 10.0
"""Seconds since a replica acknowledged anything, which it does every second. It is the server's own
default, too, for a replica that does not count any more (``min-replicas-max-lag``)."""

LONGEST_SILENCE: Final = 20.0
"""Seconds since a replica heard from its primary, which sends a PING every ten by default."""

CLOCK_SKEW: Final = 1.0
"""Seconds. Times to live and the ids of streams come from the server's clock."""

LOOP_LAG: Final = 0.05
"""Seconds by which the event loop is late. What the network takes within a data centre is a
hundredth of it."""

FEWEST_LATE: Final = 3
"""How often, of the looks at the loop in the window: fewer are a pause or two, as any program
has."""

LONGEST_STANDSTILL: Final = 1.0
"""Seconds for which the loop may have been late in all, or ``STANDSTILL`` of the time if that is
more: while it stands still it does not look how late it is, and few looks say much."""

STANDSTILL: Final = 0.2

SHORTEST_LOOK: Final = 2.0
"""Seconds of looking at the loop without which nothing is said: a program that starts is busy."""

ERROR_RATE: Final = 0.01
"""The part of all calls: the most that clients would call occasional."""

FEWEST_FAILURES: Final = 5
"""Lately: fewer are no rate."""

_TROUBLES: Final = frozenset(
    """AuthenticationFailed CircuitOpen CommandTimeout ConnectFailed ConnectTimeout ConnectionLost
    PoolTimeout ProtocolError""".split()
)
"""Failures that tell of server, network or pool, and not of a mistaken call."""


_CACHE: Final = "allkeys-"
"""With what the policies of a cache begin. To be full, and to evict, is what it is for."""

_LOOK_AT_ITS_DISK: Final = (
    "look at its log, at the space on its disk and at the rights of its directory"
)


class Reason(str):
    """Why something is not healthy: text for people, with a name and a weight for programs."""

    __slots__ = ("code", "severity")

    code: str
    """What it is about, such as ``"memory"``: the same whatever the figures."""
    severity: Severity

    def __new__(cls, text: str, code: str, severity: Severity = "degraded") -> Self:
        made = super().__new__(cls, text)
        made.code = code
        made.severity = severity
        return made

    def __reduce_ex__(self, _: SupportsIndex) -> tuple[type[Self], tuple[str, str, Severity]]:
        return type(self), (str(self), self.code, self.severity)


@dataclass(frozen=True, slots=True)
class Grown:
    """How far a server's counts have come since an earlier look, if it was the same server."""

    seconds: float
    now: Info
    before: Info | None

    def by(self, name: str) -> int:
        """By how much one of them has grown."""
        if self.before is None or self.before.text("run_id") != self.now.text("run_id"):
            return 0
        return max(0, self.now.count(name) - self.before.count(name))

    @property
    def hit_rate(self) -> float | None:
        """Of the reads of keys."""
        hits, misses = self.by("keyspace_hits"), self.by("keyspace_misses")
        return hits / (hits + misses) if hits + misses else None


def of_server(peer: str, info: Info, grown: Grown, refused_writes: int) -> Iterator[Reason]:
    """What a server tells of itself.

    Args:
        refused_writes: how many of ours were refused since, since it is a replica.
    """
    if "sentinel" in (info.text("redis_mode"), info.text("server_mode")):
        yield Reason(
            f"{peer} is a sentinel, and no server: set REDIS_MODE=sentinel, REDIS_NODES to the "
            "sentinels and REDIS_SENTINEL_MASTER to the name of the primary",
            "sentinel",
            "unhealthy",
        )
    if info.number("loading"):
        told = [f"{percent} % done" for percent in [info.text("loading_loaded_perc")] if percent]
        told += [f"about {left} s left" for left in [info.text("loading_eta_seconds")] if left]
        yield Reason(
            f"{peer} is loading its data ({', '.join(told) or 'after a start'}): it refuses "
            "commands until it is done; wait",
            "loading",
            "unhealthy",
        )
    yield from _of_memory(peer, info, grown)
    yield from _of_clients(peer, info, grown)
    yield from _of_persistence(peer, info)
    if info.role == "replica":
        yield from _of_a_replica(peer, info, refused_writes)
    else:
        yield from _of_a_primary(peer, info, grown)


def notes_of_server(peer: str, info: Info, grown: Grown) -> Iterator[str]:
    """What is worth to know, and nothing wrong."""
    policy, evicted = info.text("maxmemory_policy") or "", grown.by("evicted_keys")
    if policy.startswith(_CACHE) and evicted:
        yield (
            f"{peer} evicted {evicted} key{'s' * (evicted != 1)} in the last {grown.seconds:.0f} s "
            f"({policy}), as a cache does that has reached its maxmemory of "
            f"{_size(info.whole('maxmemory') or 0)}"
        )


def _of_memory(peer: str, info: Info, grown: Grown) -> Iterator[Reason]:
    limit, used = info.whole("maxmemory") or 0, info.counted_memory
    policy = info.text("maxmemory_policy") or "noeviction"
    evicted = grown.by("evicted_keys")
    if policy.startswith(_CACHE):
        return
    if limit and used >= FULL * limit:
        what = f"{peer} uses {used / limit:.0%} of its maxmemory of {_size(limit)}"
        if policy != "noeviction":
            yield Reason(
                f"{what}: it evicts keys as it fills up ({policy}); raise maxmemory, or store less",
                "memory",
            )
        elif used >= limit:
            yield Reason(
                f"{what}: it refuses writes (noeviction); raise maxmemory, or delete",
                "memory",
                "unhealthy",
            )
        else:
            yield Reason(
                f"{what}: when it is full writes will fail (noeviction); raise maxmemory, or "
                "store less",
                "memory",
            )
    if evicted:
        yield Reason(
            f"{peer} evicted {evicted} key{'s' * (evicted != 1)} in the last "
            f"{grown.seconds:.0f} s ({policy}): data is being lost; raise maxmemory, or keep here "
            "only what may be lost",
            "evictions",
        )


def _of_clients(peer: str, info: Info, grown: Grown) -> Iterator[Reason]:
    clients, limit = info.whole("connected_clients"), info.whole("maxclients")
    if clients is not None and limit and clients >= FULL * limit:
        yield Reason(
            f"{peer} has {clients} clients of {limit} at most: it will refuse connections; raise "
            "maxclients, or lower REDIS_POOL_MAX_SIZE where it is needed least",
            "clients",
        )
    rejected = grown.by("rejected_connections")
    if rejected:
        yield Reason(
            f"{peer} refused {rejected} connection{'s' * (rejected != 1)} in the last "
            f"{grown.seconds:.0f} s: its maxclients"
            f"{'' if limit is None else f' of {limit}'} were reached; raise it, or lower "
            "REDIS_POOL_MAX_SIZE",
            "rejected-connections",
        )


def _of_persistence(peer: str, info: Info) -> Iterator[Reason]:
    for name in info.failing:
        refuses = name == "aof_last_write_status" and info.role == "primary"
        yield Reason(
            f"{PERSISTENCE[name]} of {peer} failed{', and it refuses writes' if refuses else ''}; "
            f"{_LOOK_AT_ITS_DISK}",
            "persistence",
            "unhealthy" if refuses else "degraded",
        )


def _of_a_replica(peer: str, info: Info, refused_writes: int) -> Iterator[Reason]:
    since = info.replication_lag
    primary = f"{info.text('master_host')}:{info.text('master_port')}"
    if info.text("master_link_status") != "up":
        syncs = " (it is being synchronised)" if info.number("master_sync_in_progress") else ""
        ago = "" if since is None else f" for {since:.0f} s"
        yield Reason(
            f"{peer} is a replica without a link to its primary {primary}{ago}{syncs}: what is "
            "read from it is old; look whether the primary lives and lets it in",
            "replica-link",
        )
    elif since is not None and since > LONGEST_SILENCE:
        yield Reason(
            f"{peer} is a replica that has heard nothing from its primary {primary} for "
            f"{since:.0f} s: what is read from it is old",
            "replication-lag",
        )
    if refused_writes:
        yield Reason(
            f"{peer} is a read-only replica and refused {refused_writes} "
            f"write{'s' * (refused_writes != 1)}: write to its primary {primary}",
            "read-only",
        )


def _of_a_primary(peer: str, info: Info, grown: Grown) -> Iterator[Reason]:
    for replica in info.replicas():
        if not replica.online:
            yield Reason(
                f"{replica.name}, a replica of {peer}, is being synchronised: until it is done it "
                "cannot take over",
                "replica-link",
            )
        elif replica.lag > LONGEST_LAG:
            yield Reason(
                f"{replica.name}, a replica of {peer}, has acknowledged nothing for "
                f"{replica.lag:.0f} s: what is written meanwhile would be lost with the primary",
                "replication-lag",
            )
    good = info.whole("min_slaves_good_slaves")
    refused = grown.by("errorstat_NOREPLICAS")
    if good == 0 or (good is not None and refused):
        yield Reason(
            f"{peer} refuses writes: it has {good} good replica{'s' * (good != 1)}, fewer than "
            "min-replicas-to-write; look at its replicas, or lower that",
            "too-few-replicas",
            "unhealthy",
        )


_REFUSALS: Final[Mapping[str, tuple[str, str]]] = {
    "LOADING": ("loading", "it is loading its data; wait"),
    "BUSY": ("busy", "a script runs for too long; SCRIPT KILL ends one that has written nothing"),
    "MASTERDOWN": (
        "replica-link",
        "it is a replica without a link to its primary (replica-serve-stale-data no)",
    ),
    "MISCONF": (
        "persistence",
        f"it cannot save what is written, and refuses writes; {_LOOK_AT_ITS_DISK}",
    ),
}


def of_refused_ping(peer: str, code: str, told: str) -> Reason:
    """PING was refused, with an error that begins with ``code``."""
    known = _REFUSALS.get(code)
    if known is None:
        return Reason(f"{peer} refused PING: {cut(told)}", "refused")
    name, why = known
    return Reason(f"{peer} refuses commands ({code}): {why}", name, "unhealthy")


def of_one_of_many(peer: str, primaries: int) -> Reason:
    """It is a node of a cluster, and spoken to as if it were alone."""
    return Reason(
        f"{peer} is one of {primaries} primaries of a cluster, or a replica of one, and is spoken "
        "to as if it were alone: commands for other nodes' keys fail with MOVED; set "
        "REDIS_MODE=cluster",
        "one-of-many",
        "unhealthy",
    )


def of_round_trip(peer: str, seconds: float) -> Iterator[Reason]:
    """How long PING took."""
    if seconds > SLOW_ROUND_TRIP:
        yield Reason(
            f"{peer} took {seconds:.2g} s to answer PING: look for slow commands (SLOWLOG GET), a "
            "fork for persistence, a busy machine or network",
            "round-trip",
        )


def of_clock(peer: str, ahead: float) -> Iterator[Reason]:
    """By how many seconds the server's clock is ahead of ours."""
    if abs(ahead) > CLOCK_SKEW:
        yield Reason(
            f"the clock of {peer} is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} "
            "ours: times to live and stream ids are off by that; look at the time service (NTP) "
            "on both machines",
            "clock",
        )


def of_lag(lag: LatencySnapshot, seconds: float) -> Iterator[Reason]:
    """How late the event loop was in the last seconds."""
    late = sum(count for by, count in lag.spread() if by > LOOP_LAG)
    stood_still = lag.total >= max(LONGEST_STANDSTILL, STANDSTILL * seconds)
    if seconds >= SHORTEST_LOOK and late and (late >= FEWEST_LATE or stood_still):
        yield Reason(
            f"the event loop was late by more than {LOOP_LAG * 1000:.0f} ms {late} "
            f"time{'s' * (late != 1)} in the last {seconds:.0f} s, by up to "
            f"{lag.max * 1000:.0f} ms, and every answer with it: something in this program "
            "blocks it, or its machine is busy; asyncio's debug mode tells what",
            "loop-lag",
        )


def of_failures(rates: Rates, grown: Mapping[tuple[str, str], int]) -> Iterator[Reason]:
    """How many calls fail.

    Args:
        rates: over the last ten seconds.
        grown: by how much each kind of failure has grown lately.
    """
    troubles = {kind: count for kind, count in grown.items() if kind[0] in _TROUBLES and count > 0}
    if sum(troubles.values()) < FEWEST_FAILURES:
        return
    # Rates know no kinds: the part of these in what was counted lately is that in the rate, too.
    failing = rates.failures * sum(troubles.values()) / sum(grown.values())
    share = failing / (rates.commands + failing) if failing else 0.0
    if share >= ERROR_RATE:
        name, outcome = max(troubles, key=lambda kind: troubles[kind])
        yield Reason(
            f"{share:.0%} of all calls of the last 10 s failed, {_figure(failing)} a second, most "
            f"of them with {name} ({outcome}): pool.metrics().failures tells all, and so does "
            "redisutils_failures_total",
            "failures",
        )


def _figure(number: float) -> str:
    """Two digits, or all before the point."""
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _size(count: float) -> str:
    for unit in ("B", "kiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
