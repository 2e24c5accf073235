"""The pool's health for those who ask over HTTP: however many ask, one check at a time."""

from __future__ import annotations

import asyncio
import enum
import math
from collections.abc import Mapping, Set
from contextvars import Context
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from redisutils.client.redis_pool import HealthReport, RedisPool

__all__ = ["Probe", "plain"]

PATIENCE: Final = 0.5
"""Seconds for a PING. Kubernetes gives a probe one second unless told otherwise."""


class Probe:
    """Asks ``pool`` for its health."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool
        self._task: asyncio.Task[HealthReport] | None = None

    async def report(self) -> HealthReport:
        """The report of a check that has ended just now.

        Raises:
            PoolClosed: the pool is closed, or not open yet.
        """
        if self._task is None or self._task.done():
            coroutine = self._pool.health(PATIENCE)
            self._task = asyncio.get_running_loop().create_task(coroutine, context=Context())
            self._task.add_done_callback(_noticed)
        # Whoever gives up does so for himself alone.
        return await asyncio.shield(self._task)


def _noticed(task: asyncio.Task[HealthReport]) -> None:
    # Whoever asked may have gone meanwhile.
    if not task.cancelled():
        task.exception()


def plain(value: Any) -> Any:
    """``value`` as JSON can say it: dataclasses by their fields, infinite numbers as None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
