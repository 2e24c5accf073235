"""redis-py and valkey-py: clients whose every call takes a connection from a pool."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.contenders.redis_family import RedisFamily


class PooledClient(RedisFamily):
    """Their way to a connection of one's own is ``client.client()``: a client of the same
    methods on one connection of the pool. Below it are the pool's ``get_connection`` and
    ``release``, which give a connection that only sends and reads.
    """

    pool: Any
    take: Callable[[], Awaitable[Any]]
    """Takes a connection from the pool."""

    def pool_size(self) -> int:
        """As many connections as tasks, as a pool that takes one per call in flight
        wants them: with fewer, calls fail, or wait in the blocking kind of pool, which
        is slower. One more for the subscription."""
        return (self.connections or self.tasks) + 1

    async def close(self) -> None:
        await self.client.aclose()
        await self.pool.disconnect()

    async def checkout_get(self, key: str) -> Any:
        async with self.client.client() as own:
            return await own.get(key)

    async def bare_checkout_get(self, key: str) -> Any:
        connection = await self.take()
        try:
            await connection.send_command("GET", key)
            return await connection.read_response()
        finally:
            await self.pool.release(connection)

    async def acquire_release(self) -> None:
        await self.pool.release(await self.take())

    async def hold_open(self, keys: Sequence[str]) -> Sequence[Any]:
        replies = []
        for key in keys:
            # Not given back: disconnecting the pool closes those in use as well.
            connection = await self.take()
            await connection.send_command("GET", key)
            replies.append(await connection.read_response())
        return replies
