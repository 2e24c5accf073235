"""Commands that block, beside others and after their callers have gone."""

from __future__ import annotations

import asyncio
import itertools
import math

from benchmarks.faults.stage import Figures, Stage, count_clients, until

BUDGET = 5.0
BLOCKED = 2.0
"""Seconds for which the BLPOP waits in vain."""
SPACING = 0.005
"""Seconds between GETs, which are issued whether or not those before were answered."""

ROUNDS = 10
GRACE = 0.5
"""Seconds that a client has to withdraw a cancelled BLPOP."""


async def beside(stage: Stage) -> Figures:
    """GETs at a steady pace while another task of the same client waits in a BLPOP."""
    loop = asyncio.get_running_loop()
    seconds = max(0.3, BLOCKED * min(1.0, stage.scale))
    waited: list[float] = []
    answered: list[float] = []
    failed = 0
    async with stage.client(BUDGET, port=stage.server.port) as client:
        await asyncio.gather(*(client.get("key") for _ in range(10)))

        async def call() -> None:
            nonlocal failed
            begun = loop.time()
            try:
                await client.get("key")
            except Exception:
                failed += 1
            else:
                answered.append(loop.time())
            waited.append(loop.time() - begun)

        with stage.admin() as admin:
            blocked = asyncio.create_task(client.blpop("empty", seconds))
            if not await until(lambda: count_clients(admin, "blocked") > 0, 2.0):
                raise RuntimeError("the BLPOP never reached the server")
        begun = loop.time()
        calls = []
        while loop.time() < begun + seconds:
            calls.append(asyncio.create_task(call()))
            await asyncio.sleep(SPACING)
        await asyncio.gather(blocked, *calls)
    moments = [begun, *answered]
    return {
        "p99": sorted(waited)[math.ceil(0.99 * len(waited)) - 1],
        "stalled": max(b - a for a, b in itertools.pairwise(moments)),
        "failed": failed,
        "calls": len(calls),
    }


async def abandoned(stage: Stage) -> Figures:
    """A BLPOP is cancelled; a moment later something is pushed that nobody waits for."""
    rounds = stage.count(ROUNDS)
    lost = 0
    async with stage.client(BUDGET, port=stage.server.port) as client:
        await client.get("key")
        with stage.admin() as admin:
            for number in range(rounds):
                key = f"list:{number}"
                task = asyncio.create_task(client.blpop(key, 4.0))
                if not await until(lambda: count_clients(admin, "blocked") > 0, 2.0):
                    raise RuntimeError("the BLPOP never reached the server")
                task.cancel()
                await asyncio.wait({task}, timeout=1.0)
                # Asked of the server: on a busy machine it may see a push before a hang-up.
                await until(lambda: count_clients(admin, "blocked") == 0, GRACE)
                # Served by the time that the push is answered, if anybody still waits.
                admin.rpush(key, "item")
                lost += admin.llen(key) == 0
    return {"lost": lost, "rounds": rounds}
