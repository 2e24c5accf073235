"""A primary's death, as those see it who were there: who is elected, and when.

It is the servers that are asked, each by a connection of its own: what our pool believes is what is
to be shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final

from redisutils import Redis
from redisutils.cli.demo.failover.book import DYING, FAILURES
from redisutils.testing import EmbeddedServer

__all__ = ["Killing"]

LOOK: Final = 0.01
"""Seconds between two looks at those of whom one will be elected."""


class Killing:
    """Kills ``victim``, and watches.

    Args:
        victim: a primary.
        successors: those of which one takes over.
    """

    def __init__(self, victim: EmbeddedServer, successors: Sequence[EmbeddedServer]) -> None:
        self.victim = victim
        self.successors = successors
        self.killed_at: float | None = None
        """When (``time.perf_counter``)."""
        self.elected_at: float | None = None
        self.elected: EmbeddedServer | None = None
        self.returned_at: float | None = None

    @property
    def lost_until(self) -> float | None:
        """Until when the victim may have acknowledged writes that died with it."""
        return None if self.killed_at is None else self.killed_at + DYING

    async def kill(self, on_kill: Callable[[float], None]) -> None:
        """SIGKILL, and wait until another is elected.

        Args:
            on_kill: called with the time, just before.
        """
        clients = [
            Redis(host=one.host, port=one.port, password=one.password, socket_timeout=1.0)
            for one in self.successors
        ]
        try:
            # Whoever has to be connected to first is seen late.
            await asyncio.gather(*(client.ping() for client in clients))
            self.killed_at = perf_counter()
            on_kill(self.killed_at)
            await self.victim.kill()
            while self.elected_at is None:
                roles = await asyncio.gather(*map(_role, clients))
                for one, role in zip(self.successors, roles, strict=True):
                    if role == "master":
                        self.elected, self.elected_at = one, perf_counter()
                await asyncio.sleep(LOOK)
        finally:
            for client in clients:
                await client.aclose()

    async def bring_back(self) -> None:
        """Start it again: it will be told to follow who took over."""
        await self.victim.start()
        self.returned_at = perf_counter()


async def _role(client: Redis) -> str:
    try:
        role = (await client.execute_command("ROLE"))[0]
    except FAILURES:
        return ""
    return role.decode() if isinstance(role, bytes) else str(role)
