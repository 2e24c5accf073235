"""How often the map of a cluster is asked for when all pods lose the same primary at once.

Each primary that is left answers one look after the other; a look costs it processor time, and
commands wait behind it. Networks are quick and lose nothing.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from benchmarks.simulation.server_costs import COSTS
from redisutils.topology.cluster.refreshing import GAP_OF_SUSPICION, gap_of_suspicion

_NOTICE = 0.002
"""Seconds within which all pods hear of a primary's death: its host resets their connections."""


class Asking(Enum):
    """Who asks for the map, and when."""

    CALLS = "every failing call looks each 100 ms"
    STEP = "a process looks every 200 ms"
    JITTER = "redisutils: a process looks every 150 to 250 ms"


OURS = Asking.JITTER
"""What redisutils does."""


@dataclass(frozen=True)
class Looks:
    """What the nodes that are left had to do."""

    total: int
    peak: int
    """At one node in 10 ms, at most."""
    stall: float
    """Seconds that a command may have waited behind looks."""
    later_stall: float
    """The same, once a second has passed since the primary's death."""
    processor: float
    """Share of a node's processor, over the outage."""
    timeline: list[float]
    """Looks at all nodes in each 10 ms."""


def simulate(
    asking: Asking, *, pods: int, tasks: int, nodes: int, outage: float, seed: int
) -> Looks:
    """``pods`` processes with ``tasks`` callers of the dead node each, until it has a successor."""
    chance = random.Random(seed)
    moments = sorted(
        moment for _ in range(pods) for moment in _process(asking, tasks, outage, chance)
    )
    bins = int((outage + 2 * GAP_OF_SUSPICION) * 100)
    timeline = [0.0] * bins
    per_node = [[0] * bins for _ in range(nodes)]
    free = [0.0] * nodes
    stall = later = 0.0
    for moment in moments:
        node = chance.randrange(nodes)
        timeline[int(moment * 100)] += 1
        per_node[node][int(moment * 100)] += 1
        free[node] = max(free[node], moment) + COSTS.look
        stall = max(stall, free[node] - moment)
        if moment > 1:
            later = max(later, free[node] - moment)
    return Looks(
        total=len(moments),
        peak=max(map(max, per_node)),
        stall=stall,
        later_stall=later,
        processor=len(moments) * COSTS.look / nodes / outage,
        timeline=timeline,
    )


def _process(asking: Asking, tasks: int, outage: float, chance: random.Random) -> Iterator[float]:
    """When one process asks. The last look finds the successor."""
    if asking is Asking.CALLS:
        for _ in range(tasks):
            moment = chance.random() * _NOTICE
            while moment < outage:
                yield moment
                moment += 0.1
        return
    moment = chance.random() * _NOTICE
    yield moment
    while moment < outage:
        moment += GAP_OF_SUSPICION if asking is Asking.STEP else gap_of_suspicion(chance.random)
        yield moment
