"""Where a scenario is played: a server, a network before it, and the client under fault."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal

import redis

from benchmarks.faults.clients import Client
from benchmarks.faults.network import Network
from redisutils.testing import EmbeddedServer

Figures = dict[str, float | None]
"""What a scenario has counted. Durations in seconds, None for one that did not end."""

_CLOSING = 3.0
"""Seconds that a client may take to close. How it closes is not what is measured."""


@dataclass
class Stage:
    """What a scenario is given. Good for one."""

    server: EmbeddedServer
    network: Network
    adapter: type[Client]
    random: random.Random
    scale: float = 1.0

    def count(self, whole: int) -> int:
        """``whole`` for a whole run, less in a smaller one."""
        return max(1, round(whole * self.scale))

    def admin(self) -> redis.Redis:
        """A plain blocking client past the network, to look at the server."""
        return redis.Redis(host=self.server.host, port=self.server.port, socket_timeout=10)

    @asynccontextmanager
    async def client(
        self, budget: float, *, port: int | None = None, pool: int | None = None
    ) -> AsyncIterator[Client]:
        """The client under fault, open; by default through the network.

        ``pool``: the size of its pool, for a scenario that only checks connections out.
        """
        client = self.adapter(port or self.network.port, budget)
        await (client.open() if pool is None else client.open_pool(pool))
        try:
            yield client
        finally:
            try:
                async with asyncio.timeout(_CLOSING):
                    await client.close()
            except Exception:  # see _CLOSING
                pass


def count_clients(admin: redis.Redis, which: Literal["connected", "blocked"]) -> int:
    """How many clients the server says are connected, ``admin`` included, or blocked."""
    info: Any = admin.info("clients")
    return int(info[f"{which}_clients"])


async def finished(tasks: Iterable[asyncio.Task[None]], patience: float) -> int:
    """Wait for ``tasks``, and cancel those that take longer than ``patience`` seconds; how many
    those were. Raises what a task raised."""
    done, hung = await asyncio.wait(set(tasks), timeout=patience)
    for task in hung:
        task.cancel()
    for task in done:
        task.result()
    return len(hung)


async def until(condition: Callable[[], bool], patience: float) -> bool:
    """Ask every few milliseconds; whether it came true within ``patience`` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while not condition():
        if loop.time() > end:
            return False
        await asyncio.sleep(0.005)
    return True
