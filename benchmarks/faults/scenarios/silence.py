"""Servers and connections that fall silent, with nobody hanging up."""

from __future__ import annotations

import asyncio

from benchmarks.faults.clients import Client
from benchmarks.faults.stage import Figures, Stage, finished
from redisutils.testing import EmbeddedServer, FaultProxy

BUDGET = 0.5
CALLERS = 20
PATIENCE = 15.0
"""Seconds after which a call is not waited for any more."""

HALF_OPEN_BUDGET = 1.0
HALF_OPEN_CALLERS = 10
HALF_OPEN_PATIENCE = 15.0
_BREATH = 0.02
"""Seconds that a caller pauses after a failure."""


async def silent(stage: Stage) -> Figures:
    """The budget of calls against a server that is stopped, and a network that swallows all."""
    stopped, swallowed = await asyncio.gather(_stopped(stage), _swallowed(stage))
    return {"stopped": stopped, "blackhole": swallowed}


async def _stopped(stage: Stage) -> float | None:
    async with (
        EmbeddedServer(password="") as server,
        stage.client(BUDGET, port=server.port) as client,
    ):
        await client.get("key")
        await server.pause()
        try:
            return await _slowest(client)
        finally:
            await server.resume()


async def _swallowed(stage: Stage) -> float | None:
    async with stage.client(BUDGET) as client:
        await client.get("key")
        await stage.network.apply(lambda proxy: proxy.blackhole())
        return await _slowest(client)


async def _slowest(client: Client) -> float | None:
    """Seconds that the slowest of many calls took; None if one did not end."""
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def call() -> None:
        begun = loop.time()
        try:
            await client.get("key")
        except Exception:
            pass
        took.append(loop.time() - begun)

    hung = await finished([asyncio.create_task(call()) for _ in range(CALLERS)], PATIENCE)
    return None if hung else max(took)


def _hush(proxy: FaultProxy) -> None:
    """Let open connections fall silent, and no others."""
    proxy.blackhole()
    proxy.restore()


async def half_open(stage: Stage) -> Figures:
    """Open connections fall silent, while the server answers whoever connects anew."""
    loop = asyncio.get_running_loop()
    failed = 0
    async with stage.client(HALF_OPEN_BUDGET) as client:
        await asyncio.gather(*(client.get("key") for _ in range(HALF_OPEN_CALLERS)))
        await stage.network.apply(_hush)
        begun = loop.time()
        served: list[float] = []

        async def call() -> None:
            nonlocal failed
            while True:
                try:
                    await client.get("key")
                except Exception:
                    failed += 1
                    await asyncio.sleep(_BREATH)
                else:
                    served.append(loop.time() - begun)
                    return

        tasks = [asyncio.create_task(call()) for _ in range(HALF_OPEN_CALLERS)]
        hung = await finished(tasks, HALF_OPEN_PATIENCE)
    return {"back": None if hung else max(served), "failed": failed}
