"""Round after round of a scenario: callers work, something happens, and all is compared."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from time import monotonic
from typing import Final

from redis.exceptions import RedisError

from redisutils import Outcome, outcome_of
from redisutils.testing import EmbeddedCluster
from tests.cluster_load import Load
from tests.clusters import cluster_pool

from .scenarios import SCENARIOS, Arena, Scenario

__all__ = ["Record", "play"]

_CALLERS: Final = 30
_SHORT: Final = 5.0
_LONG: Final = 15.0
"""Budgets of a command, s. A server that is asked for a failover may pause for 5 s in vain (Redis
7.0 does when they follow closely): callers to whom nothing may happen outlast it."""
_SHOWN: Final = 20
"""Complaints that are kept of one scenario."""


@dataclass(slots=True)
class Record:
    """What came of one scenario."""

    name: str
    rounds: int = 0
    turns: int = 0
    """What callers did, without a failure."""
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    """Of the failures that they saw."""
    complaints: list[str] = field(default_factory=list)

    @property
    def well(self) -> bool:
        return self.rounds > 0 and not self.complaints


async def play(
    name: str, seconds: float, seed: int, server: str, say: Callable[[str], None]
) -> Record:
    """Play a scenario again and again for so many seconds, once at least.

    Args:
        say: told a line after each round.
    """
    scenario, record = SCENARIOS[name], Record(name)
    dice = random.Random(f"{seed} {name}")
    began = monotonic()
    async with AsyncExitStack() as stack:
        cluster = EmbeddedCluster(3, scenario.replicas, server, require_full_coverage=False)
        await stack.enter_async_context(cluster)
        network = None
        if scenario.proxied:
            network = await stack.enter_async_context(cluster.proxied(seed=seed))
        pool = await stack.enter_async_context(
            cluster_pool(
                cluster,
                network,
                command_timeout=_LONG if scenario.quiet else _SHORT,
                max_retries=100,
            )
        )
        while not record.rounds or (monotonic() - began < seconds and not record.complaints):
            record.rounds += 1
            names = [f"{name}:{record.rounds}:{number}" for number in range(_CALLERS)]
            lossy = scenario.replicas > 0 and not scenario.quiet
            load = Load(pool.client, names, pause=0.003, seed=dice.randrange(2**32), lossy=lossy)
            try:
                note = await _round(scenario, Arena(cluster, network, load, dice))
            except Exception as error:  # noqa: BLE001  # a round that fails ends the scenario
                record.complaints.append(f"round {record.rounds}: {error!r}")
                note = "failed"
            _add(record, scenario, load)
            say(f"{name} {record.rounds}: {load.done} turns, {len(load.errors)} errors; {note}")
    record.seconds = monotonic() - began
    return record


async def _round(scenario: Scenario, arena: Arena) -> str:
    async with arena.load as load:
        await load.goes_on(5)
        played = await scenario.play(arena)
        await load.goes_on(5)
    await load.audit(played.lost_before)
    return played.note


def _add(record: Record, scenario: Scenario, load: Load) -> None:
    record.turns += load.done
    failures = [error for worker in load.workers for _, error in worker.failures]
    record.outcomes.update(map(_outcome, failures))
    room = _SHOWN - len(record.complaints)
    found = list(load.complaints)
    if scenario.quiet:
        found += [f"a caller saw {type(error).__name__}: {error}"[:400] for error in failures]
    record.complaints += [f"round {record.rounds}: {one}" for one in found[:room]]


def _outcome(error: RedisError) -> str:
    outcome = outcome_of(error)
    return "none" if outcome is None else Outcome(outcome).name
