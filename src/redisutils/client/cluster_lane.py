"""Commands at a node that somebody has chosen, past what a lane over a cluster would choose."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any

from redisutils.commands import keys_of, lookup
from redisutils.connection.packing import unpack
from redisutils.topology.cluster.gathering import Where, where
from redisutils.topology.cluster.lane import ClusterLane
from redisutils.topology.cluster.node import Node

__all__ = ["WithDefault", "submit_at"]


def submit_at(
    lane: ClusterLane, node: Node, payload: bytes, decode: bool, timeout: float
) -> Future[Any]:
    """Issue one packed command at ``node``. What it writes is noted here, where own writes are:
    ``lane`` notes what it sends itself."""
    answer = lane.lane_of(node).submit(payload, decode, timeout)
    note = node.server.checkouts.note
    if note is not None:
        note(payload, answer)
    return answer


class WithDefault:
    """A lane over a cluster for a client that has a default node: sends what any node could answer
    to one of them.

    Args:
        lane: takes all else.
        default: which; None for any.
    """

    __slots__ = ("_default", "_lane")

    def __init__(self, lane: ClusterLane, default: Callable[[], Node | None]) -> None:
        self._lane = lane
        self._default = default

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command."""
        (words,) = unpack(payload)
        command = lookup(words)
        if not keys_of(words) and where(command) is Where.ANY and command.name != "SCAN":
            node = self._default()
            if node is not None:
                return submit_at(self._lane, node, payload, decode, timeout)
        return self._lane.submit(payload, decode, timeout)

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue several."""
        return self._lane.submit_many(payload, size, decode, timeout)
