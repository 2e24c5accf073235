"""The pool that each service is given."""

from __future__ import annotations

from redisutils import RedisPool
from redisutils.trading.errors import InvalidValue
from redisutils.trading.texts import shown

__all__ = ["checked_pool"]


def checked_pool(pool: object) -> RedisPool:
    """What a service was given as its pool.

    :raises InvalidValue: it is something else, such as the pool's client.
    """
    if isinstance(pool, RedisPool):
        return pool
    raise InvalidValue(
        f"pool={shown(pool)} must be a RedisPool: the pool itself, neither its client nor a "
        "connection"
    )
