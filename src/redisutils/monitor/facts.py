"""What a server says of itself: the frame's ``server``, read from ``INFO``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from redis.exceptions import RedisError

from redisutils.errors import RedisUtilsError
from redisutils.monitor.frame import ServerFrame

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool

__all__ = ["Lookups", "ask_server", "facts_of"]

Lookups = tuple[int, int]
"""Keys that were looked up since the server started: found, and not found."""


async def ask_server(pool: RedisPool, timeout: float) -> dict[str, Any] | None:
    """``INFO``; None if there is no answer within ``timeout`` seconds, or a refusal."""
    try:
        info: dict[str, Any] = await pool.client.with_timeout(timeout).info()
    except (RedisError, RedisUtilsError, OSError):
        return None  # the health report says what is wrong
    return info


def facts_of(info: Mapping[str, Any], before: Lookups | None) -> tuple[ServerFrame, Lookups]:
    """The facts, and the lookups to hand in next time.

    Args:
        info: the reply to ``INFO``.
        before: the lookups of the last time.
    """
    lookups = (_whole(info, "keyspace_hits") or 0, _whole(info, "keyspace_misses") or 0)
    version = info.get("valkey_version", info.get("redis_version"))
    loading = _whole(info, "loading")
    server: ServerFrame = {
        "kind": "valkey" if "valkey_version" in info else "redis",
        "version": None if version is None else str(version),
        "role": _text(info, "role"),
        "uptime": _whole(info, "uptime_in_seconds"),
        "used_memory": _whole(info, "used_memory"),
        "maxmemory": _whole(info, "maxmemory"),
        "eviction_policy": _text(info, "maxmemory_policy"),
        "clients": _whole(info, "connected_clients"),
        "maxclients": _whole(info, "maxclients"),
        "ops": _whole(info, "instantaneous_ops_per_sec"),
        "hit_rate": _hit_rate(lookups, before),
        "replicas": _whole(info, "connected_slaves"),
        "replication_lag": _lag(info),
        "loading": None if loading is None else bool(loading),
        "persistence": _persistence(info),
        "keys": _keys(info),
    }
    return server, lookups


def _whole(info: Mapping[str, Any], name: str) -> int | None:
    value = info.get(name)
    return int(value) if isinstance(value, int | float) else None


def _text(info: Mapping[str, Any], name: str) -> str | None:
    value = info.get(name)
    return value if isinstance(value, str) else None


def _hit_rate(now: Lookups, before: Lookups | None) -> float | None:
    if before is None:
        return None
    found, missed = now[0] - before[0], now[1] - before[1]
    if found < 0 or missed < 0 or not found + missed:  # it has started anew, or was not asked
        return None
    return round(found / (found + missed), 4)


def _lag(info: Mapping[str, Any]) -> float | None:
    if info.get("role") == "slave":
        silent = _whole(info, "master_last_io_seconds_ago")
        return None if silent is None or silent < 0 else float(silent)
    lags = [
        float(replica["lag"])
        for name, replica in info.items()
        if name.startswith("slave") and isinstance(replica, dict) and "lag" in replica
    ]
    return max(lags, default=None)


def _persistence(info: Mapping[str, Any]) -> Literal["ok", "failing"] | None:
    # INFO does not tell whether snapshots are off.
    appending = _whole(info, "aof_enabled")
    saved = info.get("rdb_last_bgsave_status")
    if appending is None or saved is None:
        return None
    written = ("aof_last_write_status", "aof_last_bgrewrite_status") if appending else ()
    told = [saved, *(info.get(name, "ok") for name in written)]
    return "ok" if all(status == "ok" for status in told) else "failing"


def _keys(info: Mapping[str, Any]) -> int | None:
    if "uptime_in_seconds" not in info:
        return None
    return sum(
        int(database.get("keys", 0))
        for name, database in info.items()
        if name.startswith("db") and name[2:].isdigit() and isinstance(database, dict)
    )
