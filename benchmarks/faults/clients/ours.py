"""redisutils."""

from __future__ import annotations

from benchmarks.faults.clients.base import HOST, Fate
from benchmarks.faults.clients.redis_family import RedisFamily
from redisutils import Outcome, RedisPool, create_redis_pool, outcome_of

_FATES: dict[Outcome | None, Fate] = {
    Outcome.NOT_SENT: "no effect",
    Outcome.REJECTED: "no effect",
    Outcome.EXECUTED: "done",
    Outcome.UNKNOWN: "unknown",
}


class Redisutils(RedisFamily):
    """A pool with everything at its default but the budget and, for checkouts, the size."""

    pool: RedisPool

    async def open(self) -> None:
        self.pool = await create_redis_pool(host=HOST, port=self.port, command_timeout=self.budget)
        self.client = self.pool.client

    async def close(self) -> None:
        await self.pool.close()

    async def open_pool(self, size: int) -> None:
        self.pool = await create_redis_pool(
            host=HOST, port=self.port, command_timeout=self.budget, pool_max_size=size
        )

    async def checked_out_get(self, key: str) -> bytes | None:
        async with self.pool.get() as connection:
            value: bytes | None = await connection.execute("GET", key)
            return value

    def fate(self, error: Exception) -> Fate | None:
        return _FATES.get(outcome_of(error))
