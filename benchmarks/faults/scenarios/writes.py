"""Writes whose replies get lost."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

from benchmarks.faults.clients.base import Fate
from benchmarks.faults.stage import Figures, Stage

WRITES = 20_000
CALLERS = 20
STRIKES = 200
"""How often the network strikes, about, if no write is sent twice."""
BUDGET = 5.0

_LISTING = 1000
"""Keys that are looked up at once in the end."""


class _Spaced:
    """Strikes after so many INCRs, whoever sends them: as often for a client that puts many in
    one packet as for one that sends each by itself."""

    def __init__(self, rng: random.Random, mean: int) -> None:
        self._rng = rng
        self._most = 2 * mean - 1
        self._left = self._rng.randint(1, self._most)
        self.strikes = 0

    def __call__(self, data: bytes) -> bool:
        self._left -= data.count(b"INCR")
        if self._left > 0:
            return False
        self._left = self._rng.randint(1, self._most)
        self.strikes += 1
        return True


async def swallowed(stage: Stage) -> Figures:
    """INCRs, each of a key of its own, while replies are swallowed and connections reset."""
    total = stage.count(WRITES)
    spaced = _Spaced(stage.random, max(10, total // STRIKES))
    acknowledged: set[int] = set()
    failed: dict[int, Fate | None] = {}
    numbers = iter(range(total))
    async with stage.client(BUDGET) as client:
        await client.incr("warm")
        await stage.network.apply(
            lambda proxy: proxy.swallow_replies(predicate=spaced, then="reset")
        )

        async def call() -> None:
            for number in numbers:
                try:
                    await client.incr(_key(number))
                except Exception as error:
                    failed[number] = client.fate(error)
                else:
                    acknowledged.add(number)

        await asyncio.gather(*(call() for _ in range(CALLERS)))
        await stage.network.apply(lambda proxy: proxy.restore())
    counts = await asyncio.to_thread(_counts, stage, total)
    return {
        "doubled": sum(count > 1 for count in counts),
        "missing": sum(counts[number] == 0 for number in acknowledged),
        "failed": len(failed),
        "untold": sum(not told(fate, counts[number]) for number, fate in failed.items()),
        "strikes": spaced.strikes,
        "extra": sum(count - 1 for count in counts if count),
        "landed": sum(counts[number] > 0 for number in failed),
    }


def _key(number: int) -> str:
    return f"order:{number}"


def _counts(stage: Stage, total: int) -> Sequence[int]:
    """How often each write was applied."""
    counts: list[int] = []
    with stage.admin() as admin:
        for first in range(0, total, _LISTING):
            keys = [_key(number) for number in range(first, min(first + _LISTING, total))]
            counts += [int(value or 0) for value in admin.mget(keys)]
    return counts


def told(fate: Fate | None, count: int) -> bool:
    """Whether an error said whether the write happened, or that nobody knows, and was right."""
    if fate == "no effect":
        return count == 0
    if fate == "done":
        return count == 1
    return fate == "unknown"
