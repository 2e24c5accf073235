"""What tests of reading from replicas have in common, whoever says which replicas there are."""

from __future__ import annotations

import asyncio
from typing import Any

from redisutils import Redis, RedisPool
from redisutils.testing import EmbeddedServer

from .clusters import told

__all__ = ["calls", "get_many", "write_off_lanes"]


def calls(node: EmbeddedServer, command: str) -> int:
    """How many of this command a server has executed."""
    stats = told(node, "INFO", "commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def get_many(pool: RedisPool, times: int = 40) -> None:
    """Read ``k``, which is ``v``, so many times at once."""
    assert await asyncio.gather(*(pool.client.get("k") for _ in range(times))) == [b"v"] * times


async def write_off_lanes(client: Redis) -> None:
    """Write ``{3}w`` and ``{4}w`` on connections that nobody asked for by name."""
    pipe: Any = client.pipeline()
    await pipe.watch("{3}w")
    pipe.multi()
    await pipe.set("{3}w", "mine").execute()
    await client.rpush("{4}from", "mine")
    assert await client.blmove("{4}from", "{4}w", timeout=1)
