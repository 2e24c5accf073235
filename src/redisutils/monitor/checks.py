"""The feed's health checks: one at a time, waited for a while, never for longer."""

from __future__ import annotations

import asyncio
from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Final

from redisutils.monitor.facts import Lookups, ask_server, facts_of
from redisutils.monitor.frame import HealthFrame, ServerFrame

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool

__all__ = ["Checks"]

PATIENCE: Final = 0.5
"""Seconds that a PING, ``INFO``, and whoever waits for a check have."""

HOPELESS: Final = 1.0
"""Seconds after which a check that has not ended is as bad as one that failed."""


class Checks:
    """Asks a pool for its health, and its server for its facts, and keeps what was found last."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool
        self._lookups: Lookups | None = None
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._found: HealthFrame = {"status": "healthy", "reasons": [], "round_trip": None}
        self._overdue: float | None = None
        self.server: ServerFrame | None = None
        """The facts; None while nobody answers."""

    @property
    def health(self) -> HealthFrame:
        """What the last check has found, and that it is the last, if another has not ended."""
        if self._pool.closed:
            return {"status": "unhealthy", "reasons": ["the pool is closed"], "round_trip": None}
        if self._overdue is None:
            return self._found
        known = self._found["status"]
        hopeless = self._overdue > HOPELESS or known == "unhealthy"
        return {
            "status": "unhealthy" if hopeless else "degraded",
            "reasons": [
                f"the health check has not ended in {self._overdue:.1f} s",
                *self._found["reasons"],
            ],
            "round_trip": None,
        }

    async def look(self) -> None:
        """Begin a check unless one is under way, and wait for it, for ``PATIENCE`` at most."""
        if self._task is None:
            self._began = monotonic()
            self._task = asyncio.get_running_loop().create_task(self._ask(), context=Context())
        done, _ = await asyncio.wait({self._task}, timeout=PATIENCE)
        if not done:
            self._overdue = monotonic() - self._began
            return
        ended, self._task = self._task, None
        self._overdue = None
        ended.result()  # it may have failed

    async def stop(self) -> None:
        """End the check that is under way."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # nobody asks for it any more

    async def _ask(self) -> None:
        # Together they have less than PATIENCE: the frame does not wait for longer.
        report = await self._pool.health(PATIENCE * 0.9)
        self._found = {
            "status": report.status,
            "reasons": list(report.reasons),
            "round_trip": report.round_trip,
        }
        if report.round_trip is None:
            self.server = None
            return
        info = await ask_server(self._pool, PATIENCE)
        if info is None:
            self.server, self._lookups = None, None
        else:
            self.server, self._lookups = facts_of(info, self._lookups)
