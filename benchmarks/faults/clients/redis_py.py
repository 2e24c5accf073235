"""redis-py."""

from __future__ import annotations

from redis.asyncio import BlockingConnectionPool, Redis

from benchmarks.faults.clients.base import HOST
from benchmarks.faults.clients.redis_family import RedisFamily


class RedisPy(RedisFamily):
    """``redis.asyncio.Redis`` with its own pool and retries, and the budget as its timeouts."""

    async def open(self) -> None:
        self.client = Redis(
            host=HOST,
            port=self.port,
            socket_timeout=self.budget,
            socket_connect_timeout=self.budget,
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def open_pool(self, size: int) -> None:
        pool = BlockingConnectionPool(
            max_connections=size,
            timeout=self.budget,
            host=HOST,
            port=self.port,
            socket_timeout=self.budget,
            socket_connect_timeout=self.budget,
        )
        self.client = Redis.from_pool(pool)

    async def checked_out_get(self, key: str) -> bytes | None:
        # Each of its calls takes a connection from the pool and gives it back.
        return await self.get(key)
