"""Looking at the nodes of a cluster side by side: what is behind ``pool.health()``.

A look at one node costs about a millisecond (:mod:`redisutils.topology.examining`). So each look at
the cluster is one at ``TOGETHER`` nodes: those that are new or were not well, and then those that
were looked at longest ago. Of the others it is only asked what they think of the cluster, and not
even that if callers have heard of them since.

Primaries are asked, and replicas that are read from; what is told of the other replicas is what
their primaries and the map say. What it all comes to: :mod:`redisutils.topology.cluster.judging`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import groupby
from math import inf
from time import monotonic
from typing import Final, Protocol

from redis.exceptions import RedisError

from redisutils.address import AddressMap
from redisutils.connection.packing import OwnPayload, pack
from redisutils.errors import ConnectFailed, PoolClosed, RedisUtilsError, code_of
from redisutils.pool.model import PoolStatus
from redisutils.topology.cluster.judging import Asked, MapState, View, judge
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known, Wanting
from redisutils.topology.health import HealthReport
from redisutils.topology.looking import Looking
from redisutils.topology.reasons import Reason

__all__ = ["ClusterExaminer", "Examined", "ranges_of"]

TOGETHER: Final = 5
"""Nodes that are looked at as a whole in one look, unless there is a reason to look at more."""

LONGEST: Final = 30.0
"""Seconds after which a node is looked at in any case."""

_REFUSED_FOR: Final = 60.0
"""Seconds for which CLUSTER INFO is not asked again of a node whose user may not."""


class Keeping(Wanting, Protocol):
    """Keeps the map. See ``Refresher``."""

    rounds: int
    last: float
    epoch: int
    error: ConnectFailed | None


class Examined(Known, Protocol):
    """A cluster."""

    @property
    def refresher(self) -> Keeping: ...

    def status(self) -> PoolStatus: ...


@dataclass(slots=True)
class _Known:
    """What is known of a node from the looks before."""

    report: HealthReport | None = None
    at: float = -inf
    """When it was looked at as a whole (``time.monotonic``)."""
    heard: int = -1
    """Bytes that had come from it."""
    info: dict[str, str] = field(default_factory=dict)
    """Its CLUSTER INFO."""
    refused: float = -inf
    """When it refused that."""
    commands: list[tuple[float, int]] = field(default_factory=list)
    """When, and how many commands it had answered: at the last two looks."""


class ClusterExaminer(Looking):
    """Looks at a cluster.

    Args:
        cluster: it.
        addresses: where announced addresses are reached from here.
    """

    def __init__(self, cluster: Examined, addresses: AddressMap) -> None:
        super().__init__(cluster)
        self._cluster = cluster
        self._addresses = addresses
        self._known: dict[Node, _Known] = {}
        self._ranges: tuple[int, dict[Node, tuple[tuple[int, int], ...]]] = (-1, {})

    async def _look(self, timeout: float) -> HealthReport:
        end = monotonic() + timeout
        cluster = self._cluster
        try:
            await cluster.mapped(timeout)
        except PoolClosed as error:
            return self._closed(error)
        except (RedisError, RedisUtilsError) as error:
            told = error.message if isinstance(error, RedisUtilsError) else str(error)
            return self._useless(Reason(told, "no-map", "unhealthy"))
        nodes = list(cluster.nodes.values())
        read_from = [node for node in nodes if node.primary is not None and node.connected]
        asked = [*cluster.primaries, *read_from]
        self._known = {node: self._known.get(node) or _Known() for node in asked}
        whole = self._due(asked)
        await asyncio.gather(
            *(self._ask_whole(node, end) for node in whole),
            *(self._ask_about(node, end) for node in asked if node in whole or self._silent(node)),
        )
        try:
            cluster.check_usable()
        except PoolClosed as error:
            return self._closed(error)
        return judge(self._view(asked))

    # -- whom ----------------------------------------------------------------------------

    def _due(self, asked: Iterable[Node]) -> set[Node]:
        """Those to look at as a whole."""
        now = monotonic()
        due, others = set(), []
        for node in asked:
            known = self._known[node]
            report = known.report
            unwell = report is None or report.status != "healthy" or node.suspect
            if unwell or not node.connected or now - known.at > LONGEST:
                due.add(node)
            else:
                others.append(node)
        others.sort(key=lambda node: self._known[node].at)
        due.update(others[: max(0, TOGETHER - len(due))])
        return due

    def _silent(self, node: Node) -> bool:
        """Whether nothing has come from it since the last look."""
        server = node.opened
        heard = 0 if server is None else server.metrics.bytes_in
        known = self._known[node]
        silent, known.heard = heard == known.heard, heard
        return silent

    # -- asking --------------------------------------------------------------------------

    async def _ask_whole(self, node: Node, end: float) -> None:
        known = self._known[node]
        if self._has_left(node):
            return
        report = await node.server.health(max(end - monotonic(), 0.001))
        known.report, known.at = report, monotonic()
        if not all(endpoint.reachable for endpoint in report.endpoints):
            self._cluster.suspect(node)  # nobody may issue anything that would find it out

    async def _ask_about(self, node: Node, end: float) -> None:
        """What it thinks of the cluster. One that does not answer is looked at as a whole in the
        next look, or is in this."""
        known = self._known[node]
        if monotonic() - known.refused < _REFUSED_FOR or self._has_left(node):
            return
        left = max(end - monotonic(), 0.001)
        try:
            async with asyncio.timeout(left):
                payload = OwnPayload(pack(("CLUSTER", "INFO")))
                told = await node.server.lane().unwatched(payload, True, left)
        except (RedisError, RedisUtilsError, OSError) as error:
            known.info = {}
            if code_of(error) == "NOPERM":
                known.refused = monotonic()
            elif known.report is not None:
                known.at = -inf
        else:
            known.info = dict(line.split(":", 1) for line in str(told).splitlines() if ":" in line)

    def _has_left(self, node: Node) -> bool:
        """Whether it is not in the cluster any more: nothing is opened there again."""
        return self._cluster.nodes.get(node.address) is not node

    # -- what is known now -----------------------------------------------------------------

    def _view(self, asked: list[Node]) -> View:
        cluster, now = self._cluster, monotonic()
        keeper = cluster.refresher
        ranges = self._slots()
        found = {
            node: Asked(known.report, known.info, self._rate(node, known, now))
            for node in asked
            if (known := self._known.get(node)) is not None and known.report is not None
        }
        return View(
            name=cluster.name,
            primaries=tuple(cluster.primaries),
            replicas=tuple(node for node in cluster.nodes.values() if node.primary is not None),
            ranges=ranges,
            uncovered=ranges.get(cluster.nowhere, ()),
            asked=found,
            addresses=self._addresses,
            map=MapState(
                age=now - keeper.last,
                rounds=keeper.rounds,
                epoch=keeper.epoch,
                error=None if keeper.error is None else keeper.error.message,
            ),
            pool=cluster.status(),
        )

    def _rate(self, node: Node, known: _Known, now: float) -> float:
        """Commands a second since the look before, or the one before that."""
        commands = 0 if node.opened is None else node.opened.metrics.commands
        stands = known.commands
        rate = 0.0
        if stands:
            at, count = stands[0]
            rate = max(0, commands - count) / max(now - at, 1e-3)
        stands.append((now, commands))
        del stands[:-2]
        return rate

    def _slots(self) -> dict[Node, tuple[tuple[int, int], ...]]:
        """Who owns which. O(slots) when that has changed."""
        version, ranges = self._ranges
        if version != self._cluster.version:
            ranges = ranges_of(self._cluster.owners)
            self._ranges = (self._cluster.version, ranges)
        return ranges


def ranges_of(owners: Iterable[Node]) -> dict[Node, tuple[tuple[int, int], ...]]:
    """The slots of each owner, as ranges: first and last of each."""
    found: dict[Node, list[tuple[int, int]]] = {}
    first = 0
    for node, run in groupby(owners):
        last = first + sum(1 for _ in run) - 1
        found.setdefault(node, []).append((first, last))
        first = last + 1
    return {node: tuple(each) for node, each in found.items()}
