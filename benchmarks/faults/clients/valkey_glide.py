"""valkey-glide."""

from __future__ import annotations

import asyncio
from typing import Any

from glide import (
    GlideClient,
    GlideClientConfiguration,
    GlideError,
    Logger,
    LogLevel,
    NodeAddress,
)
from glide.client_pool import AsyncClientPool, PoolConfig

from benchmarks.faults.clients.base import HOST, Client, Heard
from benchmarks.faults.clients.redis_family import PAUSE

_CHANNELS = GlideClientConfiguration.PubSubChannelModes
_SUBSCRIPTIONS = GlideClientConfiguration.PubSubSubscriptions


class ValkeyGlide(Client):
    """``GlideClient`` with its own reconnecting, and the budget as its request timeout."""

    # Any: mypy does not follow the import, and one of the two is None.
    client: Any = None
    pool: Any = None

    async def open(self) -> None:
        Logger.set_logger_config(LogLevel.OFF)
        self.client = await GlideClient.create(self._settings())

    async def open_pool(self, size: int) -> None:
        Logger.set_logger_config(LogLevel.OFF)
        # Its only pool with a size to choose is one of whole clients.
        self.pool = await AsyncClientPool.create(
            self._settings(),
            PoolConfig(
                max_size=size,
                acquire_timeout_s=self.budget,
                request_timeout_ms=int(self.budget * 1000),
            ),
        )

    async def close(self) -> None:
        if self.client is not None:
            await self.client.close()
        if self.pool is not None:
            self.pool.close()

    async def get(self, key: str) -> bytes | None:
        value: bytes | None = await self.client.get(key)
        return value

    async def set(self, key: str, value: str) -> None:
        await self.client.set(key, value)

    async def incr(self, key: str) -> int:
        return int(await self.client.incr(key))

    async def blpop(self, key: str, timeout: float) -> Any:
        return await self.client.blpop([key], timeout)

    async def checked_out_get(self, key: str) -> bytes | None:
        async with self.pool.borrow() as client:
            value: bytes | None = await client.get(key)
            return value

    async def listen(self, channel: str, heard: Heard) -> None:
        subscriptions = _SUBSCRIPTIONS({_CHANNELS.Exact: {channel}}, callback=None, context=None)
        subscriber = await GlideClient.create(self._settings(pubsub_subscriptions=subscriptions))
        try:
            # It subscribes in its own time and never says when.
            heard.subscribed.set()
            while True:
                try:
                    heard.message((await subscriber.get_pubsub_message()).message)
                except GlideError as error:
                    heard.error(error)
                    await asyncio.sleep(PAUSE)
        finally:
            await subscriber.close()

    def _settings(self, **more: Any) -> GlideClientConfiguration:
        return GlideClientConfiguration(
            [NodeAddress(HOST, self.port)], request_timeout=int(self.budget * 1000), **more
        )
