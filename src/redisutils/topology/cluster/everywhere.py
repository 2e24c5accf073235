"""Commands without a key: asked of one node, of each primary, or of every node, as the server's own
policies say (https://valkey.io/topics/command-tips/)."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from redisutils.commands import lookup, may_write
from redisutils.connection.packing import PlacedPayload, unpack
from redisutils.connection.reply import Reply
from redisutils.topology.cluster.gathered import Gathered, part
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
        if where(command) is Where.ANY or not self._cluster.primaries:
            return lane.target(None).submit(payload, decode, timeout)

        def issue(node: Node, payload: bytes) -> Future[Any]:
            return lane.lane_of(node).submit(payload, decode, timeout)

        if may_write(words):  # FLUSHALL
            held = lane.fences.behind_all(payload, decode, timeout)
            if held is not None:
                return held
        return self._ask(lane, words, payload, issue)

    def reissue(self, lane: LaneOver, reply: Reply) -> None:
        """Issue what was held because nobody was known, or withdrawn from a node that has gone."""
        (words,) = unpack(reply.payload)
        if where(lookup(words)) is Where.ANY:
            lane.hand_over(reply, partial(lane.target, None))
            return

        def issue(node: Node, payload: bytes) -> Future[Any]:
            one = Reply(Future(loop=lane.loop), payload, reply.decode, reply.issued, reply.timeout)
            lane.hand_over(one, partial(lane.lane_of, node))
            return one.future

        together = self._ask(lane, words, reply.payload, issue)
        together.add_done_callback(partial(_answer, reply))
        reply.future.add_done_callback(partial(_give_up, together))

    def _ask(
        self,
        lane: LaneOver,
        words: Sequence[bytes],
        payload: bytes,
        issue: Callable[[Node, bytes], Future[Any]],
    ) -> Future[Any]:
        command = lookup(words)
        nodes = self.nodes(where(command))
        placed = PlacedPayload(payload)
        futures: list[Future[Any]] = []
        for node in nodes:
            futures.append(part(lane.loop, futures, issue, node, placed))
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


def _answer(reply: Reply, together: Future[Any]) -> None:
    error = None if together.cancelled() else together.exception()
    if reply.done():
        return
    if together.cancelled():  # by a loop that ends
        reply.future.cancel()
    elif error is not None:
        reply.future.set_exception(error)  # what it is about has been counted
    else:
        reply.future.set_result(together.result())


def _give_up(together: Future[Any], awaited: Future[Any]) -> None:
    if awaited.cancelled():
        together.cancel()
