"""valkey-glide: a Rust core with threads of its own (on the same core as Python, here)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from glide import (
    Batch,
    ClusterBatch,
    GlideClient,
    GlideClientConfiguration,
    Logger,
    LogLevel,
    NodeAddress,
    ServerCredentials,
)
from glide.client_pool import AsyncClientPool, PoolConfig

from benchmarks.contenders import base
from benchmarks.server import Server

_CHANNELS = GlideClientConfiguration.PubSubChannelModes
_SUBSCRIPTIONS = GlideClientConfiguration.PubSubSubscriptions


class ValkeyGlide(base.Contender):
    """One multiplexed client for all tasks.

    A connection of one's own is its ``scoped_connection``; the pool of whole clients that
    it offers as well is half as fast. Scopes end at 64, so for holding more open it is the
    pool after all.
    """

    async def open(self) -> None:
        Logger.set_logger_config(LogLevel.ERROR)
        self.held = AsyncExitStack()
        self.client = await GlideClient.create(self._settings())
        self.get = self.client.get
        self.set = self.client.set
        self.publish = self._publish

    async def close(self) -> None:
        await self.held.aclose()
        await self.client.close()

    async def pipeline(self, batch: base.Batch) -> Sequence[Any]:
        commands = Batch(is_atomic=False)
        fill(commands, batch)
        # None would mean a transaction that a WATCH undid.
        return await self.client.exec(commands, raise_on_error=True) or ()

    @asynccontextmanager
    async def subscribe(self, channel: str) -> AsyncIterator[AsyncIterator[str | bytes]]:
        subscriptions = _SUBSCRIPTIONS({_CHANNELS.Exact: {channel}}, callback=None, context=None)
        subscriber = await GlideClient.create(self._settings(pubsub_subscriptions=subscriptions))
        try:
            yield _payloads(subscriber)
        finally:
            await subscriber.close()

    async def checkout_get(self, key: str) -> Any:
        async with await self.client.scoped_connection() as scope:
            # A scope decodes what the client itself gives as bytes.
            return (await scope.get(key)).encode()

    async def acquire_release(self) -> None:
        async with await self.client.scoped_connection():
            pass

    async def hold_open(self, keys: Sequence[str]) -> Sequence[Any]:
        pool = await self.held.enter_async_context(
            await AsyncClientPool.create(
                self._settings(), PoolConfig(max_size=len(keys), acquire_timeout_s=30)
            )
        )
        replies = []
        for key in keys:
            client = await self.held.enter_async_context(pool.borrow())
            replies.append(await client.get(key))
        return replies

    async def _publish(self, channel: str, message: str) -> Any:
        return await self.client.publish(message, channel)

    def _settings(self, **more: Any) -> GlideClientConfiguration:
        return GlideClientConfiguration(
            [NodeAddress(self.server.host, self.server.port)],
            credentials=credentials(self.server),
            # In milliseconds. The default of 250 is too tight for 1,000 tasks on one core.
            request_timeout=10_000,
            # The default of 1,000 would be right at the limit with 1,000 tasks.
            inflight_requests_limit=2_000,
            **more,
        )


def credentials(server: Server) -> ServerCredentials | None:
    """What ``server`` wants to hear; None if it asks for nothing."""
    if server.password is None:
        return None
    return ServerCredentials(server.password, server.username)


def fill(commands: Batch | ClusterBatch, batch: base.Batch) -> None:
    """Put ``batch`` into one of glide's own."""
    for key, value in batch:
        if value is None:
            commands.get(key)
        else:
            commands.set(key, value)


async def _payloads(subscriber: GlideClient) -> AsyncIterator[str | bytes]:
    while True:
        yield (await subscriber.get_pubsub_message()).message
