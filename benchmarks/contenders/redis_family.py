"""What redis-py, its fork valkey-py and redisutils have in common: redis-py's methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.contenders.base import Batch, Contender
from benchmarks.server import Server


class RedisFamily(Contender):
    """A client with redis-py's methods; how it connects is for subclasses to say."""

    def __init__(self, server: Server, *, tasks: int, connections: int | None = None) -> None:
        super().__init__(server, tasks=tasks, connections=connections)
        # Any: three libraries of one shape and no common type.
        self.client: Any = None

    def use(self, client: Any) -> None:
        """Call on ``client`` from now on."""
        self.client = client
        self.get = client.get
        self.set = client.set
        self.publish = client.publish

    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        return await piped(self.client, batch)

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[str | bytes]]:
        async with self.client.pubsub() as pubsub:
            await pubsub.subscribe(channel)
            confirmation = await anext(aiter(pubsub.listen()))
            assert confirmation["type"] == "subscribe"
            yield _payloads(pubsub)


async def piped(client: Any, batch: Batch) -> Sequence[Any]:
    """Send ``batch`` by redis-py's methods of a pipeline."""
    pipe = client.pipeline(transaction=False)
    for key, value in batch:
        if value is None:
            pipe.get(key)
        else:
            pipe.set(key, value)
    replies: Sequence[Any] = await pipe.execute()
    return replies


async def _payloads(pubsub: Any) -> AsyncIterator[str | bytes]:
    async for message in pubsub.listen():
        yield message["data"]
