"""A pool of things that live in memory, for what a pool promises whatever it is a pool of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from redisutils.errors import PoolTimeout
from redisutils.metrics import PoolMetrics
from redisutils.pool.pool import Lease, Pool, PoolStatus, Usage
from redisutils.testing import EmbeddedServer

from . import ours

PHASES = ("create", "post_create", "pre_recycle", "recycle", "post_recycle")
"""Where a checkout may await something, but for a connection that is free."""


def pool_at(server: EmbeddedServer, at: ours.Place | None = None, **settings: Any) -> Any:
    """A pool of ``server``, not open yet. Of no type, since redis-py's methods answer with a value
    or an awaitable, as far as their types tell."""
    return ours.pool_at(server, at, **settings)


class Thing:
    def __init__(self, number: int) -> None:
        self.number = number
        self.fit = True
        self.fresh = False
        """Whether it may be handed out again without recycling."""
        self.closings = 0

    def __repr__(self) -> str:
        return f"Thing({self.number})"


class Refused(Exception):
    """What a phase of ``Things`` fails with when it is told to."""


class Things:
    """Makes things, numbered from 0. Each phase does nothing, unless a test gives it a part."""

    def __init__(self) -> None:
        self.made: list[Thing] = []
        self.detached: set[Thing] = set()
        self.parts: dict[str, Callable[[Thing | None], Awaitable[None] | None]] = {}
        self.doubted: list[Thing] = []
        self.log: list[str] = []
        """The phases gone through, in order."""

    @property
    def alive(self) -> int:
        return sum(not thing.closings and thing not in self.detached for thing in self.made)

    def play(self, phase: str, thing: Thing | None = None) -> Awaitable[None] | None:
        self.log.append(phase)
        part = self.parts.get(phase)
        return None if part is None else part(thing)

    def hook(self, phase: str) -> Callable[[Thing, Usage], Awaitable[None] | None]:
        return lambda thing, _: self.play(phase, thing)

    # -- the pool's manager --

    async def create(self) -> Thing:
        wait = self.play("create")
        if wait is not None:
            await wait
        self.made.append(Thing(len(self.made)))
        return self.made[-1]

    def fit(self, item: Thing, usage: Usage) -> bool:
        assert not item.closings
        return item.fresh

    async def recycle(self, item: Thing, usage: Usage) -> None:
        assert not item.closings
        wait = self.play("recycle", item)
        if wait is not None:
            await wait

    def discard(self, item: Thing) -> None:
        item.closings += 1

    def doubt(self, items: Sequence[Thing]) -> None:
        self.doubted += items

    def reusable(self, item: Thing) -> bool:
        return item.fit


def pool_of(things: Things, max_size: int, *, hooks: bool = False, **options: Any) -> Pool[Thing]:
    pool = Pool(things, max_size, metrics=PoolMetrics(), name="things", **options)
    if hooks:
        pool.post_create.append(things.hook("post_create"))
        pool.pre_recycle.append(things.hook("pre_recycle"))
        pool.post_recycle.append(things.hook("post_recycle"))
    return pool


class Gate:
    """A part that lasts until the test opens the gate, or that fails when the test says so."""

    def __init__(self) -> None:
        self.entered = 0
        self._opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def __call__(self, thing: Thing | None) -> None:
        self.entered += 1
        await asyncio.shield(self._opened)

    def open(self) -> None:
        self._opened.set_result(None)

    def fail(self, error: BaseException) -> None:
        self._opened.set_exception(error)


def refuse(thing: Thing | None) -> None:
    raise Refused("told to")


async def turns(count: int = 12) -> None:
    """Let everything run that can, without waiting for a clock."""
    for _ in range(count):
        await asyncio.sleep(0)


def status(pool: Pool[Any]) -> tuple[int, int, int]:
    """Size, available, waiting."""
    s: PoolStatus = pool.status()
    return s.size, s.available, s.waiting


async def assert_whole(pool: Pool[Thing], things: Things) -> None:
    """Nothing is lent, and the pool has all of its room: it gives ``max_size`` things at once, and
    not one more."""
    assert pool.in_use == 0
    assert pool.status().size == pool.status().available == things.alive == len(pool.idle())
    things.parts.clear()
    leases: list[Lease[Thing]] = [await pool.get(wait=0) for _ in range(pool.status().max_size)]
    assert len({lease.item for lease in leases}) == pool.status().max_size == things.alive
    with pytest.raises(PoolTimeout):
        await pool.get(wait=0)
    for lease in leases:
        assert not lease.item.closings
        lease.release()
    assert status(pool) == (len(leases), len(leases), 0)
