"""One look at a server or a cluster for all who want one at the same time."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from asyncio import Task
from contextvars import Context
from typing import Protocol

from redisutils.errors import PoolClosed
from redisutils.pool.model import PoolStatus
from redisutils.topology.health import HealthReport
from redisutils.topology.reasons import Reason

__all__ = ["Looking"]


class LookedAt(Protocol):
    """What is looked at."""

    def check_usable(self) -> None:
        """Raises WrongLoop or PoolClosed."""

    def status(self) -> PoolStatus: ...


class Looking(ABC):
    """See the module's docstring. Looks of different lengths do not wait for each other.

    Args:
        whole: what is looked at.
    """

    def __init__(self, whole: LookedAt) -> None:
        self._whole = whole
        self._looking: dict[float, Task[HealthReport]] = {}

    async def look(self, timeout: float) -> HealthReport:
        """Look, or wait for one that is looking.

        Args:
            timeout: seconds for all of it.

        Raises:
            WrongLoop
        """
        try:
            self._whole.check_usable()
        except PoolClosed as error:
            return self._closed(error)
        task = self._looking.get(timeout)
        if task is None:
            # Nobody's context: others may wait for it as well.
            loop = asyncio.get_running_loop()
            task = self._looking[timeout] = loop.create_task(self._look(timeout), context=Context())
            task.add_done_callback(lambda _: self._looking.pop(timeout, None))
        return await asyncio.shield(task)

    async def ended(self) -> None:
        """Wait for the end of looks under way, after all connections were closed."""
        if self._looking:
            await asyncio.wait(list(self._looking.values()))

    @abstractmethod
    async def _look(self, timeout: float) -> HealthReport: ...

    def _closed(self, error: PoolClosed) -> HealthReport:
        return self._useless(Reason(error.message, "closed", "unhealthy"))

    def _useless(self, why: Reason) -> HealthReport:
        """Nothing can be asked."""
        return HealthReport("unhealthy", (why,), None, self._whole.status())
