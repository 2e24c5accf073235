"""The faults: which comes when, and for how long, is decided by the seed."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final, NamedTuple

from .world import World

__all__ = ["KINDS", "Fault", "Weather"]

KINDS: Final = (
    "latency",
    "fragments",
    "cut",
    "reset",
    "swallow",
    "stall",
    "blackhole",
    "refuse",
    "half-close",
    "freeze",
    "kill",
    "client kill",
)


class Fault(NamedTuple):
    kind: str
    begin: float
    end: float


class Weather:
    def __init__(self, world: World, began: float, faults: list[Fault]) -> None:
        self.world = world
        self.now = "calm"
        self._began = began
        self._faults = faults
        self._dice = random.Random(f"{world.seed} weather")
        self._enough = asyncio.Event()
        self._kinds: list[str] = []

    def abate(self) -> None:
        """End the fault that goes on, and let :meth:`blow` return."""
        self._enough.set()

    async def blow(self) -> None:
        """Fault after fault until :meth:`abate`. Leaves network and server in order."""
        self._enough.clear()
        kinds = self._kinds
        while not self._enough.is_set():
            await self._last(self._dice.uniform(0.3, 2.0))
            if not kinds:
                kinds += self._dice.sample(KINDS, len(KINDS))
            kind = kinds.pop()
            async with self._fault(kind):
                await self._play(kind)

    async def _last(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._enough.wait()
        except TimeoutError:
            pass

    @asynccontextmanager
    async def _fault(self, kind: str) -> AsyncIterator[None]:
        begin = monotonic() - self._began
        self.now = kind
        try:
            yield
        finally:
            self._faults.append(Fault(kind, begin, monotonic() - self._began))
            self.now = "fair"
            self.world.proxy.restore()

    async def _play(self, kind: str) -> None:
        proxy, server, dice = self.world.proxy, self.world.server, self._dice
        seconds = dice.uniform(0.2, 2.5)
        match kind:
            case "latency":
                proxy.to_client.latency = dice.uniform(0.001, 0.1)
                proxy.to_server.latency = dice.uniform(0.001, 0.1)
                await self._last(seconds)
            case "fragments":
                proxy.to_client.fragment = dice.choice((1, 7, 100))
                proxy.to_server.fragment = dice.choice((1, 7, 100))
                await self._last(seconds)
            case "cut":
                for _ in range(5):
                    way = dice.choice((proxy.to_client, proxy.to_server))
                    way.cut_after(dice.randrange(5000), dice.choice(("close", "reset")))
                    await self._last(seconds / 5)
            case "reset":
                proxy.reset()
            case "swallow":
                proxy.swallow_replies(
                    dice.randrange(1, 20), None, dice.choice(("silence", "close", "reset"))
                )
                await self._last(seconds)
            case "stall":
                proxy.stall()
                await self._last(seconds)
            case "blackhole":
                proxy.blackhole()
                await self._last(seconds)
            case "refuse":
                proxy.refuse()
                proxy.close_all()
                await self._last(seconds)
            case "half-close":
                proxy.half_close(dice.choice(("client", "server")))
            case "freeze":
                await server.pause()
                try:
                    await self._last(seconds)
                finally:
                    await server.resume()
            case "kill":
                await server.kill()
                await self._last(seconds)
                await server.start()
            case "client kill":
                await self.world.admin.client_kill_filter(_type="normal", skipme=True)
