"""The cluster, the one server beside it, and what is done to them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis

from benchmarks import reference
from benchmarks.cluster.keys import MOVING_SLOTS, keys_of_slot, moving, tag
from benchmarks.cluster.workloads import MOVING, OUTAGE
from benchmarks.contenders import OURS, REFERENCE, STANDALONE
from benchmarks.hosting import admin, describe, members, seed
from benchmarks.machine import Cores, pinned
from benchmarks.server import KEYS, Node, Server, key_name, small_value
from benchmarks.suite import Stage
from benchmarks.workloads import Workload
from redisutils.connection.directives import Directives
from redisutils.testing import EmbeddedCluster, EmbeddedServer

PRIMARIES = 3

_SLOTS = 16384

_HALF_WAY = 0.05
"""Seconds for which half of a slot's keys are at its new place and half at its old."""

_NO_DISK: Directives = {"save": "", "maxclients": 4000}


class ClusterStage(Stage):
    """Three primaries without replicas, and one server of the same kind."""

    def __init__(self, cluster: EmbeddedCluster, alone: EmbeddedServer, cpu: int | None) -> None:
        self._cluster = cluster
        self._alone = alone
        self._cpu = cpu
        self._filled = False
        """Whether redis-benchmark's keys, of which there are many, are there."""

    def server_for(self, contender: str) -> Server:
        """The one server for ours without a cluster, else the cluster."""
        if contender == REFERENCE and not self._filled:
            self._filled = True
            reference.fill(self.server_for(OURS))
        if contender == STANDALONE:
            return Server(self._alone.host, self._alone.port, None, self._alone.password)
        nodes = tuple(
            Node(
                node.host,
                node.port,
                node.pid,
                _SLOTS * number // PRIMARIES,
                _SLOTS * (number + 1) // PRIMARIES - 1,
            )
            for number, node in enumerate(self._cluster.nodes)
        )
        return Server(nodes[0].host, nodes[0].port, None, self._cluster.password, nodes)

    def describe(self) -> str:
        """Their number, name and version."""
        version = describe(self.server_for(STANDALONE))
        return f"{version}, {PRIMARIES} primaries"

    @contextmanager
    def around(self, workload: Workload[Any]) -> Iterator[None]:
        """Slots move while they are read; a node that was killed comes back afterwards."""
        if workload.key == MOVING:
            with self._moving():
                yield
            return
        try:
            yield
        finally:
            if workload.key == OUTAGE:
                asyncio.run(self._revive())

    def fill(self) -> None:
        """Set all keys, but for redis-benchmark's."""
        with admin(self.server_for(STANDALONE)) as client:
            seed(client)
        cluster = self.server_for(OURS)
        pairs = [(key_name(number), small_value(number)) for number in range(KEYS)] + moving()
        with ExitStack() as stack:
            clients = {place.port: stack.enter_context(admin(place)) for place in members(cluster)}
            pipes = {port: client.pipeline(transaction=False) for port, client in clients.items()}
            for key, value in pairs:
                pipes[self._cluster.node_for(key).port].set(key, value)
            for pipe in pipes.values():
                pipe.execute()

    async def _revive(self) -> None:
        """Start the nodes that are dead, which come back empty, and fill them."""
        for node in self._cluster.nodes:
            if not node.running:
                self._filled = False
                await node.kill()  # was killed by a worker: what is left of it goes, too
                with pinned(self._cpu):
                    await node.start()
        await self._cluster.wait_until_ok()
        await asyncio.to_thread(self.fill)

    @contextmanager
    def _moving(self) -> Iterator[None]:
        """Move slots to the next node and back, one at a time. All are at home in the end."""
        over = threading.Event()
        failures: list[Exception] = []

        def move() -> None:
            try:
                # With the servers: the client keeps its core.
                with pinned(self._cpu):
                    asyncio.run(self._move(over))
            except (redis.RedisError, OSError) as error:
                failures.append(error)

        mover = threading.Thread(target=move)
        mover.start()
        try:
            yield
        finally:
            over.set()
            mover.join()
        if failures:
            raise RuntimeError(f"slots could not be moved: {failures[0]}")

    async def _move(self, over: threading.Event) -> None:
        while True:
            for number in range(MOVING_SLOTS):
                slot = self._cluster.slot_of(tag(number))
                keys = keys_of_slot(number)
                home = self._cluster.owner_of(slot)
                nodes = self._cluster.nodes
                abroad = nodes[(nodes.index(home) + 1) % len(nodes)]
                for target in (abroad, home):
                    async with self._cluster.migrating(slot, target) as migration:
                        await migration.move_keys(*keys[::2])
                        await asyncio.sleep(_HALF_WAY)
                if over.is_set():
                    return


@contextmanager
def stage(_url: str | None, cores: Cores) -> Iterator[ClusterStage]:
    """All servers on one core, with their keys."""
    with ExitStack() as stack:
        with pinned(cores.server):
            cluster = stack.enter_context(
                EmbeddedCluster(PRIMARIES, require_full_coverage=False, config=_NO_DISK)
            )
            alone = stack.enter_context(EmbeddedServer(config=_NO_DISK))
        ready = ClusterStage(cluster, alone, cores.server)
        ready.fill()
        yield ready
