"""Commands without a key: asked of one node, of each primary, or of every node, as the server's own
policies say (https://valkey.io/topics/command-tips/)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from typing import Any

from redisutils.commands import Command, lookup
from redisutils.topology.cluster.gathered import Gathered
from redisutils.topology.cluster.gathering import Where, gather, where
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known, LaneOver
from redisutils.topology.cluster.walk import scan

__all__ = ["Everywhere"]


class Everywhere:
    """See the module's docstring.

    Args:
        cluster: whose nodes.
    """

    __slots__ = ("_cluster",)

    def __init__(self, cluster: Known) -> None:
        self._cluster = cluster

    def submit(
        self,
        lane: LaneOver,
        words: Sequence[bytes],
        payload: bytes,
        decode: bool,
        timeout: float,
    ) -> Future[Any]:
        """Issue a command that names no key. The future's result is the answer of all."""
        command = lookup(words)
        if command.name == "SCAN":
            return lane.loop.create_task(scan(self._cluster, lane, words, decode, timeout))
        which = where(command)
        if which is Where.ANY:
            return lane.target(None).submit(payload, decode, timeout)
        if self._cluster.primaries:
            return self._ask(lane, command, words, payload, decode, timeout)
        return lane.loop.create_task(self._later(lane, command, words, payload, decode, timeout))

    async def _later(self, *asked: Any) -> Any:
        """Ask when it is known whom."""
        await self._cluster.mapped(asked[-1])
        return await self._ask(*asked)

    def _ask(
        self,
        lane: LaneOver,
        command: Command,
        words: Sequence[bytes],
        payload: bytes,
        decode: bool,
        timeout: float,
    ) -> Future[Any]:
        nodes = self.nodes(where(command))
        futures = [lane.lane_of(node).submit(payload, decode, timeout) for node in nodes]
        names = [str(node.address) for node in nodes]
        replicas = [str(node.address) for node in nodes if node.primary is not None]

        def merged(answers: list[Any]) -> Any:
            return gather(command, words, list(zip(names, answers, strict=True)), replicas)

        return Gathered.of(lane.loop, futures, merged)

    def nodes(self, which: Where) -> Sequence[Node]:
        """Those to be asked."""
        cluster = self._cluster
        if which is Where.NODES:
            return [node for node in cluster.nodes.values() if node.member is not None]
        return cluster.primaries
