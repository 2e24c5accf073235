"""The commands of a pool that has no other: what a monitor of its own measures.

What a pool asks by itself, to look after its connections and its server, is no caller's command and
has no latency that is told. So a monitor that opens a pool of its own is a caller of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Final

from redis.exceptions import NoPermissionError, RedisError

from redisutils.errors import RedisUtilsError

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool

__all__ = ["PROBES", "probing"]

PROBES: Final = 10
"""PINGs a second."""

_BUDGET: Final = 1.0
"""Seconds that each has."""

_REFUSED_FOR: Final = 60.0
"""Seconds for which a user is left alone who may not PING: each try is written to the server's ACL
LOG."""


@asynccontextmanager
async def probing(pool: RedisPool) -> AsyncIterator[None]:
    """PING the server meanwhile. What fails is counted by the pool as any caller's failure."""
    # Nobody's context: no span of whoever began it is a parent of these.
    task = asyncio.get_running_loop().create_task(_probe(pool), context=Context())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()


async def _probe(pool: RedisPool) -> None:
    client = pool.client.with_timeout(_BUDGET)
    due = monotonic()
    while True:
        pause = 1 / PROBES
        try:
            await client.ping()
        except NoPermissionError:
            pause = _REFUSED_FOR
        except (RedisError, RedisUtilsError):
            pass  # the pool's figures tell of it
        due = max(due + pause, monotonic())
        await asyncio.sleep(due - monotonic())
