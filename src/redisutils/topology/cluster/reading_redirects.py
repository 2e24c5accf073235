"""What becomes of a read that the server that was asked does not answer.

============================== ===============================================================
the server                     the read
============================== ===============================================================
was lost, or is silent         goes on at another that may be asked
says LOADING, MASTERDOWN, …    the same; it is not asked again before it has answered a look
a replica: says MOVED          goes on at the primary (``replica``: waits for the next map). What
                               a replica knows of slots may be old: the map does not learn it
a replica: has not the script  goes on at the primary: scripts are not replicated
============================== ===============================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, Final, Protocol

from redisutils.connection.reply import Reply
from redisutils.retry import TRANSIENT
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.reading import Copies
from redisutils.topology.cluster.redirects import AT_ONCE, Redirects
from redisutils.topology.cluster.roles import Known, LaneOver

__all__ = ["ReadingRedirects"]

SHORTEST_PAUSE: Final = 0.3
"""Seconds before a read is issued again that was refused over and over: until a primary that has
died is replaced, its replicas refuse for some seconds (CLUSTERDOWN)."""


class ReadingLaneOver(LaneOver, Protocol):
    """A lane that reads from replicas."""

    def only_reads(self, reply: Reply) -> bool:
        """Whether another server may answer it instead."""

    def read_at_primary(self, reply: Reply) -> None:
        """Let the primary answer it, if that may be asked."""

    def issue_refused(
        self, reply: Reply, code: str, pause: float, issue: Callable[[Reply], None]
    ) -> None:
        """A server has refused a read: ``issue`` it again, after so many seconds."""

    def give_up(self, node: Node) -> None:
        """Reads that ``node`` does not answer are asked of another, if there is one."""

    def listen(self, node: Node) -> None:
        """Tell ``node`` that this lane reads from it though it is a replica."""


class ReadingRedirects(Redirects):
    """See the module's docstring, and ``Redirects``.

    Args:
        copies: told of who is not to be read from.
    """

    __slots__ = ("_copies", "_over")

    def __init__(self, lane: ReadingLaneOver, node: Node, cluster: Known, copies: Copies) -> None:
        super().__init__(lane, node, cluster)
        self._over = lane
        self._copies = copies

    def on_refused(self, reply: Reply, value: Any, code: str) -> bool:
        if code == "NOSCRIPT" and self._is_replica() and self._over.only_reads(reply):
            return self._at_primary(reply, code)
        return super().on_refused(reply, value, code)

    def on_lost(self, again: Sequence[Reply]) -> list[Reply]:
        self._copies.away(self._node, "the connection to it was lost")
        reads = [reply for reply in again if self._over.only_reads(reply)]
        for reply in reads:
            self._over.reroute(reply)
            self._over.fences.passed(reply)
        self._copies.counts.moved_on += len(reads)
        moved = set(reads)
        return super().on_lost([reply for reply in again if reply not in moved])

    def on_silent(self) -> None:
        super().on_silent()
        self._copies.away(self._node, "it is silent")
        self._over.give_up(self._node)

    def _is_replica(self) -> bool:
        return self._node.primary is not None

    def _follow(self, reply: Reply, refusal: Any, code: str) -> bool:
        if code == "MOVED" and self._is_replica() and self._over.only_reads(reply):
            self._cluster.refresher.want()
            self._over.listen(self._node)
            return self._at_primary(reply, code)
        return super()._follow(reply, refusal, code)

    def _elsewhere(self, reply: Reply, code: str) -> bool:
        if code not in TRANSIENT or not self._is_replica() or not self._over.only_reads(reply):
            return super()._elsewhere(reply, code)
        self._cluster.refresher.want()
        self._copies.away(self._node, f"it answers {code}")
        return self._again(reply, code, self._over.reroute)

    def _at_primary(self, reply: Reply, code: str) -> bool:
        return self._again(reply, code, self._over.read_at_primary)

    def _again(self, reply: Reply, code: str, issue: Callable[[Reply], None]) -> bool:
        """Issue it again, after a pause if that has been done before."""
        if self._too_often(reply) or monotonic() >= reply.deadline:
            return False
        pause = 0.0
        paused = reply.redirects + 1 - AT_ONCE
        if paused > 0:
            backoff = self._cluster.settings.retry.backoff
            pause = max(SHORTEST_PAUSE, backoff.delay(paused))
        self._over.issue_refused(reply, code, pause, issue)
        self._over.fences.passed(reply)
        return True
