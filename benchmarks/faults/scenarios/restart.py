"""A server that is killed and comes back."""

from __future__ import annotations

import asyncio
import itertools

from benchmarks.faults.stage import Figures, Stage, finished

CALLERS = 20
BUDGET = 5.0
BEFORE = 1.0
DOWN = 0.5
AFTER = 3.0
"""Seconds of work before the kill, without a server, and after it answers again."""
_PACE = 0.005
"""Seconds that each caller pauses between its calls."""


async def killed(stage: Stage) -> Figures:
    """Reads and idempotent writes while the server is killed (SIGKILL) and started again."""
    loop = asyncio.get_running_loop()
    long = min(1.0, max(0.2, stage.scale))
    over = False
    back_at = float("inf")
    failed = calls = 0
    first_after: dict[int, float] = {}
    acknowledged: dict[str, str] = {}
    async with stage.client(BUDGET, port=stage.server.port) as client:
        await client.get("key")

        async def call(caller: int) -> None:
            nonlocal failed, calls
            for number in itertools.count():
                if over:
                    return
                key, value = f"key:{caller}", str(number)
                calls += 1
                try:
                    if caller % 2:
                        await client.get(key)
                    else:
                        await client.set(key, value)
                except Exception:
                    failed += 1
                else:
                    if not caller % 2:
                        acknowledged[key] = value
                    if loop.time() >= back_at:
                        first_after.setdefault(caller, loop.time() - back_at)
                await asyncio.sleep(_PACE)

        tasks = [asyncio.create_task(call(caller)) for caller in range(CALLERS)]
        await asyncio.sleep(BEFORE * long)
        await stage.server.kill()
        await asyncio.sleep(DOWN * long)
        await stage.server.start()
        back_at = loop.time()
        await asyncio.sleep(AFTER)
        over = True
        hung = await finished(tasks, BUDGET + 1)
    with stage.admin() as admin:
        # A later write may have landed without an answer: what counts is that none went back.
        missing = sum(int(admin.get(key) or -1) < int(value) for key, value in acknowledged.items())
    return {
        "failed": failed + hung,
        "back": max(first_after.values()) if len(first_after) == CALLERS else None,
        "missing": missing,
        "calls": calls,
    }
