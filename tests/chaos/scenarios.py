"""What happens to a cluster within one round. Each leaves it whole."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final, NamedTuple

from redisutils.testing import (
    ClusterProxies,
    EmbeddedCluster,
    Latency,
    Outage,
    Reset,
    Stall,
    Swallow,
    Timeline,
)
from tests.cluster_load import Load
from tests.clusters import slots_of, told
from tests.ours import until

__all__ = ["SCENARIOS", "Arena", "Played", "Scenario"]

_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Arena:
    """Where a round takes place."""

    cluster: EmbeddedCluster
    network: ClusterProxies | None
    load: Load
    dice: random.Random


class Played(NamedTuple):
    """What is to be known of a round."""

    note: str = ""
    lost_before: float = 0.0
    """What was acknowledged before that moment, the servers may have lost."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """Something that can happen."""

    about: str
    play: Callable[[Arena], Awaitable[Played]]
    replicas: int = 0
    """For each primary."""
    quiet: bool = True
    """Whether no caller may see an error."""
    proxied: bool = False
    """Whether callers reach the nodes by faulty networks."""


async def resharding(arena: Arena) -> Played:
    """A third of one node's slots goes to another, and back."""
    source, target = arena.dice.sample(arena.cluster.primaries, 2)
    own = slots_of(arena.cluster, source)
    slots = arena.dice.sample(own, len(own) // 3)
    await arena.cluster.move_slots(slots, target)
    await arena.cluster.move_slots(slots, source)
    return Played(f"{len(slots)} slots, there and back")


async def half_way(arena: Arena) -> Played:
    """Slots that stay half-way for a while, with some of their keys."""
    source, target = arena.dice.sample(arena.cluster.primaries, 2)
    keys = [key for worker in arena.load.workers for key in worker.keys]
    own = [key for key in keys if arena.cluster.node_for(key) is source]
    key = arena.dice.choice(own)
    async with arena.cluster.migrating(arena.cluster.slot_of(key), target) as migration:
        await arena.load.goes_on(3)
        await migration.move_keys(key)
        await arena.load.goes_on(3)
    await arena.cluster.move_slot(arena.cluster.slot_of(key), source)
    return Played(f"{key} waited half-way")


async def growing(arena: Arena) -> Played:
    """From three primaries to six, each with its share, and back."""
    cluster = arena.cluster
    for old, new in zip(list(cluster.primaries), await cluster.add_primaries(3), strict=True):
        own = slots_of(cluster, old)
        await cluster.move_slots(own[: len(own) // 2], new)
    await arena.load.goes_on(5)
    most = len(cluster.primaries)
    for node in cluster.nodes[-3:]:
        await cluster.remove(node)
    return Played(f"{most} primaries at most")


async def failover(arena: Arena) -> Played:
    """A replica takes over on request."""
    replica = arena.dice.choice(arena.cluster.replicas)
    await arena.cluster.failover(replica)
    return Played(f"port {replica.port} has taken over")


async def killing(arena: Arena) -> Played:
    """A primary is killed, replaced, and comes back as a replica."""
    cluster, load = arena.cluster, arena.load
    dead = arena.dice.choice(cluster.primaries)
    (heir,) = cluster.replicas_of(dead)
    await cluster.wait_in_sync()
    keys = [key for worker in load.workers for key in worker.keys if cluster.node_for(key) is dead]
    await dead.kill()
    killed = monotonic()
    await until(
        lambda: told(heir, "INFO", "replication")["role"] == "master", "the election", _PATIENCE
    )
    elected = monotonic()
    await load.goes_on(3)
    back = monotonic()
    await dead.start()
    await cluster.wait_until_ok(_PATIENCE)
    await cluster.wait_in_sync()
    return Played(
        f"elected after {elected - killed:.2f} s, all {len(keys)} keys of it work within "
        f"{back - elected:.2f} s more",
        elected,
    )


async def isolation(arena: Arena) -> Played:
    """A primary that its peers do not hear, and callers do."""
    cluster = arena.cluster
    alone = arena.dice.choice(cluster.primaries)
    (heir,) = cluster.replicas_of(alone)
    async with cluster.isolated(alone):
        await until(
            lambda: told(heir, "INFO", "replication")["role"] == "master", "the election", _PATIENCE
        )
        elected = monotonic()
        await until(
            lambda: "cluster_state:fail" in told(alone, "CLUSTER", "INFO"), "retreat", _PATIENCE
        )
        retreat = monotonic()
        await arena.load.goes_on(5)
    await cluster.wait_in_sync()
    return Played(f"two primaries for {retreat - elected:.2f} s", retreat)


async def addresses(arena: Arena) -> Played:
    """A node goes to another port."""
    node = arena.dice.choice(arena.cluster.primaries)
    old = node.port
    await arena.cluster.readdress(node)
    return Played(f"port {old} is {node.port} now")


async def network(arena: Arena) -> Played:
    """Faults between callers and one node after the other, from a seed."""
    assert arena.network is not None
    timelines = {
        proxy: Timeline.random(
            seed=arena.dice.randrange(2**32),
            duration=3.0,
            every=(0.1, 0.6),
            lasting=(0.05, 0.4),
            faults=[
                Latency(0.005, jitter=0.01),
                Stall(),
                Outage(),
                Reset(),
                Swallow(1, then="reset"),
            ],
        )
        for proxy in arena.network.proxies.values()
    }
    faults = 0

    async def blow(proxy: object) -> None:
        nonlocal faults
        target = next(one for one in timelines if one is proxy)
        async with timelines[target].on(target) as playing:
            await playing.wait()
        faults += len(playing.log)

    await asyncio.gather(*map(blow, timelines))
    arena.network.restore()
    await arena.load.goes_on(3)
    return Played(f"{faults} faults")


SCENARIOS: Final = {
    "resharding": Scenario("slots move back and forth", resharding),
    "half-way": Scenario("slots stay half-way", half_way),
    "growing": Scenario("three primaries become six, and three again", growing),
    "failover": Scenario("replicas take over on request", failover, replicas=1),
    "killing": Scenario("primaries are killed", killing, replicas=1, quiet=False),
    "isolation": Scenario("primaries lose their peers", isolation, replicas=1, quiet=False),
    "addresses": Scenario("nodes change their address", addresses, quiet=False),
    "network": Scenario("the network fails", network, quiet=False, proxied=True),
}
"""By the name that ``--only`` takes."""
