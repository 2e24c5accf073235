"""redisutils: the Redis connection manager for trading platforms.

Redis-py's API on shared, multiplexed connections; a pool in deadpool's sense for what needs
a connection of its own; and errors that say what happened to a write.
"""

from __future__ import annotations

from importlib import import_module
from logging import NullHandler, getLogger
from typing import TYPE_CHECKING, Any

from redisutils.version import VERSION

if TYPE_CHECKING:
    from redisutils.client.cluster import RedisCluster
    from redisutils.client.lease import PooledConnection
    from redisutils.client.redis import Redis
    from redisutils.client.redis_pool import RedisPool, RetainResult, create_redis_pool
    from redisutils.config import RedisConfig
    from redisutils.errors import (
        AuthenticationFailed,
        CircuitOpen,
        CommandTimeout,
        ConfigError,
        ConnectFailed,
        ConnectionLost,
        ConnectTimeout,
        LeaseReleased,
        NotSharable,
        Outcome,
        PoolClosed,
        PoolTimeout,
        ProtocolError,
        RedisUtilsError,
        WrongLoop,
        outcome_of,
    )
    from redisutils.metrics import LatencySnapshot, MetricsSnapshot
    from redisutils.pool.pool import PoolStatus, Timeouts, Usage
    from redisutils.topology.health import HealthReport

__all__ = [
    "AuthenticationFailed",
    "CircuitOpen",
    "CommandTimeout",
    "ConfigError",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionLost",
    "CrossSlot",
    "HealthReport",
    "LatencySnapshot",
    "LeaseReleased",
    "MetricsSnapshot",
    "NotSharable",
    "Outcome",
    "PoolClosed",
    "PoolStatus",
    "PoolTimeout",
    "PooledConnection",
    "ProtocolError",
    "Redis",
    "RedisCluster",
    "RedisConfig",
    "RedisPool",
    "RedisUtilsError",
    "RetainResult",
    "Timeouts",
    "Usage",
    "WrongLoop",
    "create_redis_pool",
    "outcome_of",
]

__version__ = VERSION

# Silent until the application says where log records go: Python would print warnings otherwise.
getLogger(__name__).addHandler(NullHandler())

_FLOORS = frozenset({"client", "commands", "connection", "errors", "metrics", "pool", "retry"})
"""What is an attribute after ``import redisutils`` alone, too: it comes with the names."""


def __getattr__(name: str) -> Any:
    # With redis-py, what the names stand for takes a sixth of a second to import, and pytest, which
    # loads our plugin, imports this package in every run. All of it comes with the first name.
    if name == "RedisConfig":
        # pydantic takes another quarter of a second: only for those who make a RedisConfig.
        return import_module("redisutils.config").RedisConfig
    if name == "RedisCluster":  # and the routing of a cluster
        return import_module("redisutils.client.cluster").RedisCluster
    if name == "HealthReport":  # and what makes one, some milliseconds
        return import_module("redisutils.topology.health").HealthReport
    if name == "MetricsSnapshot":  # the same
        return import_module("redisutils.metrics.snapshot").MetricsSnapshot
    if name not in __all__ and name not in _FLOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for home in (
        import_module("redisutils.client.redis_pool"),
        import_module("redisutils.client.redis"),
        import_module("redisutils.client.lease"),
        import_module("redisutils.errors"),
        import_module("redisutils.metrics"),
        import_module("redisutils.pool.pool"),
    ):
        globals().update(
            {
                public: value
                for public, value in vars(home).items()
                if public in __all__ and public in home.__all__
            }
        )
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
