"""Callers who give up, and callers who are too many."""

from __future__ import annotations

import asyncio

from benchmarks.faults.stage import Figures, Stage, count_clients, finished

CALLS = 10_000
CALLERS = 50
KEYS = 1_000
GIVING_UP = 0.3
"""Share of the calls that are cancelled or time out."""
WITHIN = 0.003
"""Seconds within which they do."""
FRAGMENT = 7
"""Bytes that arrive at once, at most."""
BUDGET = 5.0
HANGING = 8.0
"""Seconds after which a call is not waited for any more."""

CROWD = 1_000
POOL = 10
CROWD_SECONDS = 3.0
CROWD_BUDGET = 2.0
_BREATH = 0.01
"""Seconds that a caller pauses after a failure."""
_SAMPLING = 0.02


class _Tally:
    def __init__(self) -> None:
        self.wrong = self.hung = self.failed = self.gave_up = 0


async def cancelled(stage: Stage) -> Figures:
    """GETs of unique values in small fragments, of which a third is cancelled or times out."""
    tally = _Tally()
    numbers = iter(range(stage.count(CALLS)))
    with stage.admin() as admin:
        admin.mset({f"key:{number}": f"value of {number:06d}" for number in range(KEYS)})
    before = await stage.network.apply(lambda proxy: proxy.accepted)
    async with stage.client(BUDGET) as client:
        await client.get("key:0")
        await stage.network.apply(lambda proxy: setattr(proxy.to_client, "fragment", FRAGMENT))

        async def right(number: int) -> bool:
            return await client.get(f"key:{number}") == b"value of %06d" % number

        async def timed(number: int, seconds: float) -> bool:
            async with asyncio.timeout(seconds):
                return await right(number)

        async def call() -> None:
            for _ in numbers:
                number = stage.random.randrange(KEYS)
                impatient = stage.random.random() < GIVING_UP
                patience = stage.random.random() * WITHIN
                by_timeout = impatient and stage.random.random() < 0.5
                task = asyncio.create_task(timed(number, patience) if by_timeout else right(number))
                if impatient and not by_timeout:
                    await asyncio.sleep(patience)
                    task.cancel()
                await asyncio.wait({task}, timeout=HANGING)
                _judge(task, tally, impatient=impatient)
                if not task.done():
                    task.cancel()
                    return

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        after = await stage.network.apply(lambda proxy: proxy.accepted)
    return {
        "wrong": tally.wrong,
        "hung": tally.hung,
        "failed": tally.failed,
        "connections": after - before,
        "gave_up": tally.gave_up,
    }


def _judge(task: asyncio.Task[bool], tally: _Tally, *, impatient: bool) -> None:
    if not task.done():
        tally.hung += 1
    elif task.cancelled():
        tally.gave_up += 1
    elif (error := task.exception()) is not None:
        if impatient and isinstance(error, TimeoutError):
            tally.gave_up += 1
        else:
            tally.failed += 1
    elif not task.result():
        tally.wrong += 1


async def crowded(stage: Stage) -> Figures:
    """Many callers who each take a connection of a small pool, over and over."""
    crowd = max(2 * POOL, stage.count(CROWD))
    seconds = max(0.3, CROWD_SECONDS * min(1.0, stage.scale))
    turns = [0] * crowd
    loop = asyncio.get_running_loop()
    failed = most_sockets = 0
    with stage.admin() as admin:
        admin.set("key", "value")
        others = count_clients(admin, "connected")
        async with stage.client(CROWD_BUDGET, port=stage.server.port, pool=POOL) as client:
            await client.checked_out_get("key")
            end = loop.time() + seconds

            async def call(caller: int) -> None:
                nonlocal failed
                while loop.time() < end:
                    try:
                        await client.checked_out_get("key")
                    except Exception:
                        failed += 1
                        await asyncio.sleep(_BREATH)
                    else:
                        turns[caller] += loop.time() < end

            tasks = [asyncio.create_task(call(caller)) for caller in range(crowd)]
            while loop.time() < end:
                most_sockets = max(most_sockets, count_clients(admin, "connected") - others)
                await asyncio.sleep(_SAMPLING)
            hung = await finished(tasks, CROWD_BUDGET + 2)
    return {
        "failed": failed + hung,
        "sockets": most_sockets,
        "turnless": sum(count == 0 for count in turns),
        "spread": max(turns) * crowd / max(1, sum(turns)),
        "turns": sum(turns),
        "fewest": min(turns),
        "most": max(turns),
    }
