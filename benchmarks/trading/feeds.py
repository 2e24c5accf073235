"""How a live feed with many subscribers in one process is measured. The process publishes, too.

A delivery is a quote that a subscriber's own ``async for`` has got. What was conflated or dropped
is none. In the end, what a subscriber got and what was left out must be all that was published.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter_ns
from typing import Any

from benchmarks.box import Box
from benchmarks.contenders.trading.base import Feed, Policy, TradingClient
from benchmarks.measures import expect
from benchmarks.trading.material import percentiles, ready
from benchmarks.trading.ticks import SYMBOL, ticks

SUBSCRIBERS = 100

_AHEAD = 256
"""Updates that the publisher is ahead of the last subscriber at most; queues hold more."""

_PACE = 500
"""Updates a second of a feed that nobody is too slow for."""


class _Audience:
    """The subscribers, each a task of its own that reads."""

    def __init__(self, client: TradingClient, policy: Policy) -> None:
        self._client = client
        self._policy: Policy = policy
        self._feeds: list[Feed] = []
        self.got = [0] * SUBSCRIBERS
        self.seen = 0
        """The number of the last update that the last of them has read."""
        self._read = asyncio.Event()
        self.heard: Callable[[int], Any] | None = None
        """Called with the number of each update that anybody reads."""

    @asynccontextmanager
    async def listening(self, opening: Any) -> AsyncIterator[None]:
        """Meanwhile they read, from the quote ``opening`` on. Who fails makes all fail."""
        async with AsyncExitStack() as stack:
            for _ in range(SUBSCRIBERS):
                feed = self._client.feed(SYMBOL, self._policy)
                self._feeds.append(await stack.enter_async_context(feed))
            async with asyncio.TaskGroup() as group:
                readers = [
                    group.create_task(self._listen(number, feed))
                    for number, feed in enumerate(self._feeds)
                ]
                await self._client.publish((opening,))
                await self.reach(opening.seq)
                yield
                for reader in readers:
                    reader.cancel()

    async def _listen(self, number: int, feed: Feed) -> None:
        got, heard, last = self.got, self.heard, number == SUBSCRIBERS - 1
        before = 0
        async for quote in feed.quotes:
            got[number] += 1
            if heard is not None:
                heard(quote.seq)
            if quote.seq <= before:
                expect(quote.seq, f"one after {before}")
            before = quote.seq
            if last:
                self.seen = before
                self._read.set()

    async def reach(self, number: int) -> None:
        """Wait until the last of them has read this update, or one after it."""
        while self.seen < number:
            self._read.clear()
            await self._read.wait()

    def left_out(self) -> list[int]:
        """Of each, how many updates it did not get."""
        return [feed.left_out() for feed in self._feeds]


async def fan_out(
    client: TradingClient, _tasks: int, warmup: Box, box: Box, *, policy: Policy, together: int = 1
) -> dict[str, float]:
    """Publish as fast as the last subscriber can follow, so many quotes ``together``. ``share`` is
    how much of what was published a subscriber gets, in hundredths."""
    quotes = ready(map(client.quote, ticks(instruments=(SYMBOL,))))
    audience = _Audience(client, policy)
    published = 1

    async def publish(box: Box) -> int:
        nonlocal published
        before = sum(audience.got)
        while not box.over and published < len(quotes):
            burst = quotes[published : published + together]
            await client.publish(burst)
            published += len(burst)
            await audience.reach(published - _AHEAD)
        await audience.reach(published)
        return sum(audience.got) - before

    async with audience.listening(quotes[0]):
        await warmup.run([publish])
        before = published
        rate = await box.run([publish])
        every = published - before
    for got, left_out in zip(audience.got, audience.left_out(), strict=True):
        expect(got + left_out, published)
    return {"ops": rate, "share": rate * box.elapsed / SUBSCRIBERS / max(1, every) * 100}


async def delay(client: TradingClient, _tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """From the call that publishes an update until a subscriber has it, of all deliveries of a
    feed that is well below its limit. Microseconds."""
    quotes = ready(map(client.quote, ticks(instruments=(SYMBOL,))))
    audience = _Audience(client, "block")
    sent = [perf_counter_ns()]
    took: list[int] = []
    audience.heard = lambda seq: took.append(perf_counter_ns() - sent[seq - 1])
    loop = asyncio.get_running_loop()

    async def publish(box: Box) -> int:
        began, first = loop.time(), len(sent)
        while not box.over and len(sent) < len(quotes):
            quote = quotes[len(sent)]
            sent.append(perf_counter_ns())
            await client.publish((quote,))
            await asyncio.sleep(began + (len(sent) - first) / _PACE - loop.time())
        await audience.reach(len(sent))
        return len(sent) - first

    async with audience.listening(quotes[0]):
        await warmup.run([publish])
        took.clear()
        await box.run([publish])
    expect(min(audience.got), len(sent))
    return percentiles(took)
