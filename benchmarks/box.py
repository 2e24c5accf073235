"""A stretch of time in which tasks work, and how much they got done."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Any


class Box:
    """Tells its workers when to stop. Good for one run."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.over = False
        self.elapsed = 0.0
        """How long it really took, s, once it has run."""

    async def run(self, workers: Sequence[Worker]) -> float:
        """Run ``workers`` at once until the time is up; operations per second of all.

        What was begun within the box is finished and counted, and so is its time.
        The first worker to raise stops the others; its exception comes in a group.
        """
        gc.collect()
        started = perf_counter()
        asyncio.get_running_loop().call_later(self.seconds, self._end)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(worker(self)) for worker in workers]
        self.elapsed = perf_counter() - started
        return sum(task.result() for task in tasks) / self.elapsed

    def _end(self) -> None:
        self.over = True


Worker = Callable[[Box], Coroutine[Any, Any, int]]
"""Works until ``box.over``, once at least; returns how many operations it did."""
