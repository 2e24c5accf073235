"""Sentinel under load: its primary is replaced over and over, in every way."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from time import monotonic

from redisutils.testing import EmbeddedSentinels
from tests.ours import our_tasks
from tests.servers import client_of
from tests.watched import Load, elected, pool_for

from .run import Record

__all__ = ["failovers"]

SLOWEST = 3.0
"""Seconds from an election to the first command that succeeds; on a machine that does much else."""


async def failovers(
    seconds: float, seed: int, server: str, say: Callable[[str], None] = lambda _: None
) -> Record:
    """Four tasks append numbers, each to a list of its own, while the primary is killed, hangs, or
    is replaced by choice, with and without a sentinel that hangs.

    Nothing may be doubled, out of order, or answered to somebody else; what was acknowledged may be
    missing only if the primary that acknowledged it has died; a failover by choice may cost no
    command; and commands succeed soon after each election. At the end nothing is left.

    Args:
        seconds: how long, one round at least, which takes about 8.
        seed: of what happens when.
        server: which kind.
        say: told a line after each round.
    """
    record, dice, tasks = Record("sentinel"), random.Random(f"{seed} sentinel"), our_tasks()
    began = monotonic()
    async with EmbeddedSentinels(binary=server) as group:
        pool = pool_for(group, command_timeout=20.0, circuit_breaker_seconds=0)
        async with pool, Load(pool.client) as load:
            lost: dict[str, set[int]] = {key: set() for key in load.acknowledged}
            while not record.rounds or (monotonic() - began < seconds and not record.complaints):
                record.rounds += 1
                fault = dice.choice((_killed, _hanging, _by_choice, _without_a_sentinel))
                try:
                    took = await _round(group, load, lost, fault)
                    note = f"first success {took:.3f} s after the election"
                except Exception as error:  # noqa: BLE001  # a round that fails ends the scenario
                    record.complaints.append(f"round {record.rounds}: {error!r}")
                    note = "failed"
                say(f"sentinel {record.rounds}, {fault.__name__[1:]}: {note}")
        record.turns = len(load.successes)
        record.outcomes["UNKNOWN"] = len(load.unknown)
        record.outcomes.update(type(error).__name__ for error in load.refused)
    if our_tasks() != tasks:
        record.complaints.append("tasks are left")
    record.seconds = monotonic() - began
    return record


async def _round(
    group: EmbeddedSentinels,
    load: Load,
    lost: dict[str, set[int]],
    fault: Callable[[EmbeddedSentinels], Awaitable[Callable[[], Awaitable[object]]]],
) -> float:
    """One failover. Returns the seconds from the election to the first success."""
    unknown, refused = len(load.unknown), len(load.refused)
    electing = asyncio.create_task(asyncio.to_thread(elected, group.replicas))
    mend = await fault(group)
    before = {key: len(numbers) for key, numbers in load.acknowledged.items()}
    election = await electing
    await load.more(100)
    took = next(when for when in load.successes if when > election) - election
    assert took < SLOWEST, f"the first success came {took:.3f} s after the election"
    primary = await group.wait_for_primary()
    await mend()
    await group.wait_in_sync(30.0)
    assert len(load.refused) == refused, load.refused[-1]
    gentle = fault in (_by_choice, _without_a_sentinel)
    assert len(load.unknown) - unknown <= (0 if gentle else len(lost)), "more than was in flight"
    numbers = {key: list(each) for key, each in load.acknowledged.items()}
    with client_of(primary.url) as admin:
        missing = load.lost(admin, numbers)
    for key, each in missing.items():
        new = set(each) - lost[key]
        assert not (gentle and new), f"{len(new)} acknowledged writes are lost"
        assert new <= set(numbers[key][: before[key]]), "a write to the new primary is lost"
        lost[key] |= new
    return took


async def _killed(group: EmbeddedSentinels) -> Callable[[], Awaitable[object]]:
    primary = group.primary
    await primary.kill()
    return primary.start


async def _hanging(group: EmbeddedSentinels) -> Callable[[], Awaitable[object]]:
    primary = group.primary
    await primary.pause()
    return primary.resume


async def _by_choice(group: EmbeddedSentinels) -> Callable[[], Awaitable[object]]:
    await group.failover()
    return group.wait_for_primary


async def _without_a_sentinel(group: EmbeddedSentinels) -> Callable[[], Awaitable[object]]:
    """By choice, while one of them hangs."""
    hanging = group.sentinels[-1]
    await hanging.pause()
    try:
        await group.failover()
    finally:
        await hanging.resume()
    return group.wait_for_primary
