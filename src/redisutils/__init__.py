"""redisutils: the Redis connection manager for trading platforms.

Redis-py's API on shared, multiplexed connections; a pool in deadpool's sense for what needs
a connection of its own; and errors that say what happened to a write.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from redisutils.client.lease import PooledConnection
from redisutils.client.redis import Redis
from redisutils.client.redis_pool import (
    HealthReport,
    RedisPool,
    RetainResult,
    create_redis_pool,
)
from redisutils.errors import (
    AuthenticationFailed,
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
from redisutils.version import VERSION

if TYPE_CHECKING:
    from redisutils.config import RedisConfig

__all__ = [
    "AuthenticationFailed",
    "CommandTimeout",
    "ConfigError",
    "ConnectFailed",
    "ConnectTimeout",
    "ConnectionLost",
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


def __getattr__(name: str) -> Any:
    # pydantic takes a quarter of a second to import: only for those who make a RedisConfig.
    if name == "RedisConfig":
        return import_module("redisutils.config").RedisConfig
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
