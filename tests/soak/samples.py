"""One look a second at the process, the loop and the server."""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final

from redis.exceptions import RedisError

from .world import World

__all__ = ["Sample", "Sampler", "descriptors", "resident"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PATIENCE: Final = 0.3
"""How long the server may take to say how many clients it has, s: it may be frozen."""


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def descriptors() -> int:
    """Files and sockets that this process has open."""
    return len(os.listdir("/proc/self/fd")) - 1  # the listing's own


@dataclass(frozen=True, slots=True)
class Sample:
    """What was seen at one moment."""

    at: float
    """Seconds since the beginning."""
    memory: int
    """Resident, bytes."""
    objects: int
    """That Python's collector follows."""
    descriptors: int
    tasks: int
    clients: int | None
    """Connections that the server has; None when it did not say in time."""
    calls: float
    """That ended well, a second."""
    p99: float
    """Of those, s."""
    lag: float
    """The longest of the event loop since the sample before, s."""
    not_sent: int
    """Calls since the sample before that ended so."""
    unknown: int
    """The same."""


class Sampler:
    """Looks once a second, until cancelled.

    Args:
        world: at what.
        began: when the run did (``time.monotonic``).
    """

    def __init__(self, world: World, began: float) -> None:
        self.samples: list[Sample] = []
        self._world = world
        self._began = began
        self._before: Counter[str] = Counter()
        self._last = began

    async def watch(self, tell: asyncio.Event) -> None:
        """Sets ``tell`` after each look."""
        while True:
            await asyncio.sleep(1)
            self.samples.append(await self._look())
            tell.set()

    async def _look(self) -> Sample:
        world, calls = self._world, self._world.calls
        calls.look_for_hung()
        clients = await self._clients()
        now = monotonic()
        ended = Counter(calls.outcomes)
        since = ended - self._before
        latencies = sorted(calls.latencies)
        calls.latencies.clear()
        done = since.pop("done", 0)
        sample = Sample(
            at=now - self._began,
            memory=resident(),
            objects=len(gc.get_objects()),
            descriptors=descriptors(),
            tasks=len(asyncio.all_tasks()),
            clients=clients,
            calls=done / (now - self._last),
            p99=latencies[len(latencies) * 99 // 100] if latencies else 0.0,
            lag=world.pulse.worst,
            not_sent=since["NOT_SENT"],
            unknown=since["UNKNOWN"],
        )
        self._before, self._last, world.pulse.worst = ended, now, 0.0
        return sample

    async def _clients(self) -> int | None:
        try:
            async with asyncio.timeout(_PATIENCE):
                return int((await self._world.admin.info("clients"))["connected_clients"])
        except (RedisError, OSError, TimeoutError):
            return None
