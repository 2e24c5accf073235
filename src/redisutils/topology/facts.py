"""What a server tells of itself by INFO (https://valkey.io/commands/info/), in our words.

Redis 6.2 to 8 and Valkey 7.2 to 9 differ in what they add, not in what is read here; what one of
them does not tell is None.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from math import isfinite
from typing import Final, Literal

from redisutils.connection.words import cut

__all__ = ["PERSISTENCE", "SECTIONS", "Info", "ReplicaLink", "ServerFacts"]

SECTIONS: Final = (
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "keyspace",
    "errorstats",
)
"""The sections of INFO that are read here. Redis before 7 takes no more than one at a time, and has
to tell all."""

PERSISTENCE: Final = {
    "rdb_last_bgsave_status": "the last RDB snapshot (BGSAVE)",
    "aof_last_write_status": "the last write to the AOF",
    "aof_last_bgrewrite_status": "the last rewrite of the AOF (BGREWRITEAOF)",
}
"""The fields that say whether data is saved, and of what."""

MOST: Final = 2**20
"""Characters of an answer that are looked at. INFO of a large server takes a hundredth of it."""

_MOST_REPLICAS: Final = 100

_REPLICA: Final = re.compile(r"slave\d+")
_DATABASE: Final = re.compile(r"db\d+")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """One server at one moment. None stands for what it does not tell."""

    kind: Literal["valkey", "redis"]
    version: str | None
    role: Literal["primary", "replica"] | None
    uptime: float | None
    """Seconds."""
    used_memory: int | None
    """Bytes."""
    maxmemory: int | None
    """Bytes; 0 for no limit."""
    eviction_policy: str | None
    clients: int | None
    maxclients: int | None
    ops: float | None
    """Commands of all its clients, per second."""
    hit_rate: float | None
    """The part of the reads of the last seconds that found their key; None if there were none."""
    replicas: int | None
    """Replicas that are connected to it."""
    replication_lag: float | None
    """Seconds. Of a primary, since it heard from its slowest replica; of a replica, since it heard
    from its primary, which speaks every ten seconds at least."""
    loading: bool | None
    """Whether it is loading its data, and refuses commands until it is done."""
    persistence: Literal["ok", "failing", "off"] | None
    """``"off"``: there is no AOF, and no snapshot was made since it started."""
    keys: int | None
    """In all databases."""
    clock_skew: float | None
    """Seconds by which its clock is ahead of ours, less what the round trip leaves uncertain."""
    links: tuple[ReplicaLink, ...] = ()
    """The replicas that are connected to it."""


@dataclass(frozen=True, slots=True)
class ReplicaLink:
    """A replica, as its primary sees it."""

    name: str
    online: bool
    """Whether it gets what is written; if not, it is being synchronised."""
    lag: float
    """Seconds since it acknowledged anything, which it does every second."""
    behind: int | None = None
    """Bytes of the replication stream that it has not acknowledged."""


class Info:
    """An answer to INFO.

    Args:
        text: as it came. What a server tells beyond ``MOST`` is left out.
    """

    def __init__(self, text: str) -> None:
        self.fields: Mapping[str, str] = dict(
            line.split(":", 1) for line in text[:MOST].splitlines() if ":" in line
        )

    def text(self, name: str) -> str | None:
        told = self.fields.get(name)
        return None if told is None else cut(told)

    def number(self, name: str) -> float | None:
        """A number, None if there is none of this name or it is none."""
        return _number(self.fields.get(name))

    def whole(self, name: str) -> int | None:
        number = self.number(name)
        return None if number is None else int(number)

    def count(self, name: str) -> int:
        """What only grows while the server runs: a field, or ``errorstat_`` and a code. 0 if it is
        not told."""
        value = self.fields.get(name, "")
        return int(_number(_parts(value).get("count", value)) or 0)

    def replicas(self) -> Iterator[ReplicaLink]:
        """Of a primary; no more than anybody has."""
        links = (_parts(value) for name, value in self.fields.items() if _REPLICA.fullmatch(name))
        written = self.number("master_repl_offset")
        for parts in islice((link for link in links if "state" in link), _MOST_REPLICAS):
            yield ReplicaLink(
                name=cut(f"{parts.get('ip', '?')}:{parts.get('port', '?')}"),
                online=parts["state"] == "online",
                lag=_number(parts.get("lag")) or 0.0,
                behind=None
                if written is None or (known := _number(parts.get("offset"))) is None
                else max(0, int(written - known)),
            )

    @property
    def in_cluster(self) -> bool:
        """Whether it is a node of a cluster, as far as it tells."""
        return "cluster" in (self.text("redis_mode"), self.text("server_mode"))

    @property
    def role(self) -> Literal["primary", "replica"] | None:
        told = self.text("role")
        return None if told is None else "primary" if told == "master" else "replica"

    @property
    def replication_lag(self) -> float | None:
        """See ``ServerFacts``."""
        if self.role == "replica":
            since = (
                self.number("master_last_io_seconds_ago"),
                self.number("master_link_down_since_seconds"),
            )
            told = [seconds for seconds in since if seconds is not None and seconds >= 0]
        else:
            told = [replica.lag for replica in self.replicas()]
        return max(told, default=None)

    @property
    def failing(self) -> tuple[str, ...]:
        """Which of ``PERSISTENCE`` has failed when it was last tried."""
        return tuple(name for name in PERSISTENCE if self.text(name) not in {"ok", None})

    @property
    def counted_memory(self) -> int:
        """The bytes that count towards ``maxmemory``."""
        used = self.whole("used_memory") or 0
        return used - (self.whole("mem_not_counted_for_evict") or 0)

    def facts(self, *, hit_rate: float | None, clock_skew: float | None) -> ServerFacts:
        """All that is shown of it."""
        loading = self.number("loading")
        databases = [v for name, v in self.fields.items() if _DATABASE.fullmatch(name)]
        valkey = self.text("valkey_version")
        return ServerFacts(
            kind="redis" if valkey is None else "valkey",
            version=valkey or self.text("redis_version"),
            role=self.role,
            uptime=self.number("uptime_in_seconds"),
            used_memory=self.whole("used_memory"),
            maxmemory=self.whole("maxmemory"),
            eviction_policy=self.text("maxmemory_policy"),
            clients=self.whole("connected_clients"),
            maxclients=self.whole("maxclients"),
            ops=self.number("instantaneous_ops_per_sec"),
            hit_rate=hit_rate,
            replicas=self.whole("connected_slaves"),
            replication_lag=self.replication_lag,
            loading=None if loading is None else bool(loading),
            persistence=self._persistence(),
            keys=sum(int(_number(_parts(each).get("keys")) or 0) for each in databases)
            if "role" in self.fields  # an answer that tells less than asked for
            else None,
            clock_skew=clock_skew,
            links=tuple(self.replicas()),
        )

    def _persistence(self) -> Literal["ok", "failing", "off"] | None:
        if "aof_enabled" not in self.fields:
            return None
        if self.failing:
            return "failing"
        never_saved = self.number("rdb_last_bgsave_time_sec") == -1
        return "off" if never_saved and not self.number("aof_enabled") else "ok"


def _number(value: str | None) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None
    return number if isfinite(number) else None


def _parts(value: str) -> dict[str, str]:
    """``a=1,b=2`` apart."""
    return dict(part.split("=", 1) for part in value.split(",") if "=" in part)
