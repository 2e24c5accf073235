"""coredis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import coredis
from coredis.exceptions import RedisError

from benchmarks.faults.clients.base import HOST, Client, Heard
from benchmarks.faults.clients.redis_family import PAUSE


class Coredis(Client):
    """``coredis.Redis`` with its own pool and retries, and the budget as its timeouts."""

    async def open(self) -> None:
        await self._enter(None)

    async def open_pool(self, size: int) -> None:
        await self._enter(size)

    async def _enter(self, size: int | None) -> None:
        self.stack = AsyncExitStack()
        self.client = await self.stack.enter_async_context(
            coredis.Redis(
                host=HOST,
                port=self.port,
                stream_timeout=self.budget,
                connect_timeout=self.budget,
                pool_timeout=self.budget,
                max_connections=size,
            )
        )

    async def close(self) -> None:
        await self.stack.aclose()

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self.client.get(key)
        return value

    async def set(self, key: str, value: str) -> None:
        await self.client.set(key, value)

    async def incr(self, key: str) -> int:
        return int(await self.client.incr(key))

    async def blpop(self, key: str, timeout: float) -> Any:
        return await self.client.blpop([key], timeout=timeout)

    async def checked_out_get(self, key: str) -> bytes | None:
        async with self.client.connection_pool.acquire() as connection:
            value: bytes | None = await connection.create_request(b"GET", key)
            return value

    async def listen(self, channel: str, heard: Heard) -> None:
        while True:
            try:
                async with self.client.pubsub(channels=[channel]) as pubsub:
                    async for message in pubsub:
                        if message["type"] == "subscribe":
                            heard.confirmed()
                        else:
                            heard.message(message["data"])
            except (RedisError, OSError) as error:
                heard.error(error)
                await asyncio.sleep(PAUSE)
