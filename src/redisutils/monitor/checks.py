"""The feed's health checks: one at a time, waited for a while, never for longer."""

from __future__ import annotations

import asyncio
from contextvars import Context
from time import monotonic
from typing import TYPE_CHECKING, Final

from redisutils.monitor.frame import HealthFrame, ServerFrame
from redisutils.monitor.framing import SENTENCE, brief, server_frame
from redisutils.monitor.members import servers_together

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool
    from redisutils.topology.health import EndpointHealth

__all__ = ["Checks"]

PATIENCE: Final = 0.5
"""Seconds that whoever waits for a check has; the check itself has a little less."""

HOPELESS: Final = 1.0
"""Seconds after which a check that has not ended is as bad as one that failed."""

_REASONS: Final = 20
"""Reasons that are told at most."""


class Checks:
    """Asks a pool for its health, and its server for its facts, and keeps what was found last."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool
        self._task: asyncio.Task[None] | None = None
        self._began = 0.0
        self._found: HealthFrame = {"status": "healthy", "reasons": [], "round_trip": None}
        self._overdue: float | None = None
        self.server: ServerFrame | None = None
        """What the server says of itself, or all primaries together; None while nobody answers."""
        self.endpoints: tuple[EndpointHealth, ...] = ()
        """What is known of each server."""

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
        report = await self._pool.health(PATIENCE * 0.9)
        self._found = {
            "status": report.status,
            "reasons": [brief(str(reason), SENTENCE) for reason in report.reasons[:_REASONS]],
            "round_trip": report.round_trip,
        }
        self.endpoints = report.endpoints
        told = [each.server for each in report.endpoints[:1] if each.server is not None]
        if len(report.endpoints) > 1:
            own = [each for each in report.endpoints if each.role == "primary"]
            told = [each.server for each in own if each.server is not None]
        self.server = servers_together([server_frame(facts) for facts in told])
