"""A calm: the weather is fair, all users stand still, and everything is counted.

What lasts stays: the lanes, the subscriptions and their tasks. Idle connections are closed, and
each lane asked for a PING, so that what is left is the same each time, to the last descriptor.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

from redis.exceptions import RedisError

from .owners import Subscriber
from .samples import Sample, descriptors, resident
from .weather import Spell
from .world import BUDGET, CHECKOUT, CONNECT, User, World

__all__ = ["Baseline", "Calm"]

_PATIENCE: Final = 10.0
"""For what must come about by itself, s."""
_RECOVERY: Final = 1.0
"""Within which everything works again when the faults have ended, s."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is there when nothing goes on."""

    descriptors: int
    tasks: int
    clients: int


@dataclass(frozen=True, slots=True)
class Calm:
    """What was found at one."""

    at: float
    """Seconds since the beginning."""
    found: Baseline
    memory: int
    """Resident, bytes, after a full collection."""
    objects: int
    """That Python's collector follows, after a full collection, without what a run remembers."""
    recovery: float
    """Seconds from the last fault's end until every lane had answered."""

    @classmethod
    async def await_(
        cls, world: World, users: Sequence[User], began: float, wanted: Baseline | None
    ) -> Calm:
        """Wait until all stand still, audit everything, and compare with ``wanted``. The gate is
        shut afterwards, and for the caller to open."""
        await _reach(world)
        recovery = await _recover(world)
        await world.gate.shut(patience=3 * BUDGET + 2 * CHECKOUT)
        await _listen(world, users)
        world.pool.resize(world.pool.status().max_size)
        found = await _settle(world, wanted)
        if wanted is not None and found != wanted:
            world.complain(f"at rest there is {found} and not {wanted}")
        for user in users:
            await user.audit()
        world.calls.latencies.clear()
        gc.collect()
        _trim()
        return cls(
            at=monotonic() - began,
            found=found,
            memory=resident(),
            objects=sum(type(one) not in _OURS for one in gc.get_objects()),
            recovery=recovery,
        )


_OURS: Final = (Baseline, Calm, Sample, Spell)


def _trim() -> None:
    """Have glibc give back what is free: pages that it only holds for later are no leak."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


async def _reach(world: World) -> None:
    """Let the connection that looks at the server be a live one: it, too, dies with the server."""
    while True:
        try:
            await world.admin.ping()
            return
        except RedisError:
            await asyncio.sleep(0.01)


async def _recover(world: World) -> float:
    """Until every lane answers; complains when that takes too long."""
    began, lost = monotonic(), world.pulse.lost()
    clients: list[Any] = [world.pool.client, world.pool.lane("orders"), world.strict.client]
    for client in clients:
        while True:
            try:
                await client.with_timeout(BUDGET).ping()
                break
            except RedisError as error:
                if monotonic() - began > _PATIENCE:
                    world.complain(f"no recovery within {_PATIENCE} s: {error!r}")
                    break
                await asyncio.sleep(0.01)
    took = monotonic() - began - (world.pulse.lost() - lost)
    if took > _RECOVERY:
        world.complain(f"recovery took {took:.2f} s")
    return took


async def _listen(world: World, users: Sequence[User]) -> None:
    """Every subscriber has to hear us."""
    listeners = [user for user in users if isinstance(user, Subscriber)]
    beacon = f"beacon {monotonic()}"

    def deaf() -> list[str]:
        return [listener.id for listener in listeners if listener.beacon != beacon]

    deadline = monotonic() + _PATIENCE
    while deaf() and monotonic() < deadline:
        await world.admin.publish("news", beacon)
        await asyncio.sleep(0.05)
    if deaf():
        world.complain(f"{', '.join(deaf())} hear nothing any more")


async def _settle(world: World, wanted: Baseline | None) -> Baseline:
    """What is there, as soon as it is what is wanted, or no longer changes."""
    deadline = monotonic() + _PATIENCE
    before: Baseline | None = None
    since = monotonic()
    while True:
        # Again and again: a connection that nobody waits for any more may only just be made.
        world.pool.retain(lambda conn, usage: False)
        world.strict.retain(lambda conn, usage: False)
        found = Baseline(
            descriptors=descriptors(),
            tasks=len(asyncio.all_tasks()),
            clients=int((await world.admin.info("clients"))["connected_clients"]),
        )
        if found != before:
            before, since = found, monotonic()
        if found == wanted or monotonic() > deadline:
            return found
        if wanted is None and monotonic() - since > CONNECT:
            return found
        await asyncio.sleep(0.02)
