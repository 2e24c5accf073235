"""coredis, which sends many tasks' commands over each connection of its pool."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import coredis

from benchmarks.contenders.base import Batch, Contender


class Coredis(Contender):
    """``coredis.Redis`` with the pool's default size, save where connections are checked out."""

    async def open(self) -> None:
        self.stack = AsyncExitStack()
        self.client = await self.stack.enter_async_context(
            coredis.Redis(
                host=self.server.host,
                port=self.server.port,
                username=self.server.username,
                password=self.server.password,
                max_connections=self.connections,
            )
        )
        self.pool = self.client.connection_pool
        self.get = self.client.get
        self.set = self.client.set
        self.publish = self.client.publish

    async def close(self) -> None:
        await self.stack.aclose()

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        return await piped(self.client, batch)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[str | bytes]]:
        async with self.client.pubsub(channels=[channel], ignore_subscribe_messages=True) as pubsub:
            yield _payloads(pubsub)

    async def checkout_get(self, key: str) -> Any:
        async with self.pool.acquire() as connection:
            return await connection.create_request(b"GET", key)

    async def acquire_release(self) -> None:
        async with self.pool.acquire():
            pass

    async def hold_open(self, keys: Sequence[str]) -> Sequence[Any]:
        replies = []
        for key in keys:
            connection = await self.stack.enter_async_context(self.pool.acquire())
            replies.append(await connection.create_request(b"GET", key))
        return replies


async def piped(
    client: coredis.Redis[bytes] | coredis.RedisCluster[bytes], batch: Batch
) -> Sequence[Any]:
    """Send ``batch`` by a pipeline of coredis' own; its replies in order."""
    async with client.pipeline(transaction=False) as pipe:
        replies = [pipe.get(key) if value is None else pipe.set(key, value) for key, value in batch]
    return [await reply for reply in replies]


async def _payloads(pubsub: Any) -> AsyncIterator[str | bytes]:
    async for message in pubsub:
        yield message["data"]
