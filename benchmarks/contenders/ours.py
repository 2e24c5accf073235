"""redisutils."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from typing import Any

from benchmarks.contenders.redis_family import RedisFamily
from benchmarks.contenders.unmeasured import unmeasured
from redisutils import RedisConfig, create_redis_pool


class Redisutils(RedisFamily):
    """A pool with everything at its default but the address and, for checkouts, the size."""

    async def open(self) -> None:
        settings: dict[str, Any] = {"host": self.server.host, "port": self.server.port}
        if self.server.username is not None:
            settings["username"] = self.server.username
        if self.server.password is not None:
            settings["password"] = self.server.password
        if self.connections is not None:
            # One more for the shared connection behind ``pool.client``.
            settings["pool_max_size"] = self.connections + 1
        self.held = AsyncExitStack()
        self.pool = await create_redis_pool(RedisConfig(**settings))
        self.use(self.pool.client)

    async def close(self) -> None:
        await self.held.aclose()
        await self.pool.close()

    async def checkout_get(self, key: str) -> Any:
        async with self.pool.get() as connection:
            return await connection.get(key)

    async def bare_checkout_get(self, key: str) -> Any:
        async with self.pool.get() as connection:
            return await connection.execute("GET", key)

    async def acquire_release(self) -> None:
        async with self.pool.get():
            pass

    def without_measuring(self) -> AbstractContextManager[None]:
        return unmeasured(self.pool)

    async def hold_open(self, keys: Sequence[str]) -> Sequence[Any]:
        replies = []
        for key in keys:
            connection = await self.held.enter_async_context(self.pool.get())
            replies.append(await connection.execute("GET", key))
        return replies
