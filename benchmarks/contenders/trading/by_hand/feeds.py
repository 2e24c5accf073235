"""Live quotes: one subscription of the server's for each instrument, and a queue for each reader.

It leaves out: the newest quote as the first one; whether anything was missed; a lost connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal

from benchmarks.contenders.trading.by_hand.quotes import Quote, key_of, read

_CAPACITY = 1000
"""Of a queue, as ours."""


class Reader:
    """A queue of quotes. Of those that conflate it holds one."""

    def __init__(self, policy: Literal["conflate", "drop", "block"]) -> None:
        self.blocks = policy == "block"
        self.queue = asyncio.Queue[Quote](1 if policy == "conflate" else _CAPACITY)
        self.left_out = 0

    def offer(self, quote: Quote) -> None:
        """Take it, and let the oldest go where there is no room."""
        if self.queue.full():
            self.queue.get_nowait()
            self.left_out += 1
        self.queue.put_nowait(quote)

    async def quotes(self) -> AsyncIterator[Quote]:
        """What comes."""
        while True:
            yield await self.queue.get()


class Feeds:
    """All readers of this process."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._readers: dict[bytes, list[Reader]] = {}
        self._pubsub: Any = None
        self._listening: asyncio.Task[None] | None = None

    async def subscribe(
        self, instrument: str, policy: Literal["conflate", "drop", "block"]
    ) -> Reader:
        """One more reader."""
        reader = Reader(policy)
        channel = key_of(instrument).encode()
        if channel not in self._readers:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub(ignore_subscribe_messages=True)
            await self._pubsub.subscribe(channel)
            if self._listening is None:
                self._listening = asyncio.create_task(self._listen())
        self._readers.setdefault(channel, []).append(reader)
        return reader

    async def _listen(self) -> None:
        async for message in self._pubsub.listen():
            quote = read(message["data"])
            for reader in self._readers.get(message["channel"], ()):
                if reader.blocks:
                    await reader.queue.put(quote)
                else:
                    reader.offer(quote)

    async def close(self) -> None:
        """Listen no more."""
        if self._listening is not None:
            self._listening.cancel()
            with suppress(asyncio.CancelledError):
                await self._listening
        if self._pubsub is not None:
            await self._pubsub.aclose()
