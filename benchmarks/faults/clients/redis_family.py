"""redis-py's methods, which redisutils has, too."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from benchmarks.faults.clients.base import Client, Heard

PAUSE = 0.05
"""Seconds before a subscriber that got an error listens again."""


class RedisFamily(Client):
    """How it connects is for subclasses to say."""

    # Any: redis-py's methods are typed as an awaitable or a value.
    client: Any

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self.client.get(key)
        return value

    async def set(self, key: str, value: str) -> None:
        await self.client.set(key, value)

    async def incr(self, key: str) -> int:
        return int(await self.client.incr(key))

    async def blpop(self, key: str, timeout: float) -> Any:
        return await self.client.blpop([key], timeout=timeout)

    async def listen(self, channel: str, heard: Heard) -> None:
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            while True:
                try:
                    async for message in pubsub.listen():
                        if message["type"] == "subscribe":
                            heard.confirmed()
                        else:
                            heard.message(message["data"])
                except RedisError as error:
                    heard.error(error)
                    await asyncio.sleep(PAUSE)
