"""A primary that moves and its replicas, as those who have the same data."""

from __future__ import annotations

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable, Sequence
from contextvars import Context
from dataclasses import replace
from functools import partial
from typing import Any, Final, Protocol
from weakref import WeakSet

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.errors import ConnectionLost, Outcome
from redisutils.metrics.events import HARMLESS
from redisutils.metrics.observer import Observer
from redisutils.pool.lane import Lane
from redisutils.pool.settings import PoolSettings
from redisutils.topology.plan import Reading
from redisutils.topology.reading.figures import Figures
from redisutils.topology.reading.hedging import Budget
from redisutils.topology.reading.watching import Watching
from redisutils.topology.reading.writes import Writes
from redisutils.topology.sentinel.answers import Replica
from redisutils.topology.standalone import Standalone

__all__ = ["Copies", "Member"]

logger = logging.getLogger("redisutils.sentinel")

LEAVE_WITHIN: Final = 5.0
"""Seconds that a replica which is none any more may take to answer what it owes."""


class Member:
    """One server that has the data, and our pool for it."""

    __slots__ = ("__weakref__", "figures", "name", "server")

    def __init__(self, name: str, server: Standalone) -> None:
        self.name = name
        self.server = server
        self.figures = Figures()

    def __repr__(self) -> str:
        return f"<Member {self.name}>"


class ReadingFrom(Protocol):
    """A lane that reads from replicas. Must be weakly referable."""

    closed: bool

    def lane_of(self, member: Member) -> Lane: ...

    def on_changed(self) -> None:
        """Who may be read from has changed."""

    def forget(self, member: Member) -> None:
        """It is none of them any more."""

    def leave(self, member: Member) -> None:
        """Reads that wait to be sent to it are to be asked of another."""


class Copies:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        primary: our pool for whoever is the primary.
        reach: how to connect to a replica, but for its place.
        known: asked for the replicas, as sentinels tell.
        reading: what the plan says.
        by_others: what is written on no lane of ``lanes``.
    """

    def __init__(
        self,
        primary: Standalone,
        reach: ConnectOptions,
        known: Callable[[], Sequence[Replica]],
        reading: Reading,
        by_others: Writes,
    ) -> None:
        self.reading = reading
        self.primary = Member(reach.name or "the primary", primary)
        self.counts = primary.metrics.reads
        self.budget = Budget(reading.hedge)
        self.by_others = by_others
        self.writes = [by_others]
        self.lanes: WeakSet[ReadingFrom] = WeakSet()
        self._reach = reach
        self._known = known
        self._told: Sequence[Replica] = ()
        self._members: dict[Address, Member] = {}
        self._replicas: list[Member] = []
        self._leaving: dict[asyncio.Task[None], Standalone] = {}
        self.watching: Watching[Member] = Watching(
            reading, self.replicas_of, self._ask, self._zone_of, self.changed, roles=True
        )

    @property
    def opened(self) -> list[Standalone]:
        """Our pools for replicas."""
        return [member.server for member in self._members.values()]

    @property
    def counted(self) -> list[Standalone]:
        """The same, with those that are being closed and whose counts nobody has taken over yet."""
        return [*self._leaving.values(), *self.opened]

    def replicas_of(self, _: Member) -> Sequence[Member]:
        """Those of which sentinels know. What these say of links is some ten seconds old: our own
        looks tell who answers, and is a replica. Asked some times a second as long as there are
        reads."""
        told = self._known()
        if told is not self._told:
            self._told = told
            self._adopt([replica.address for replica in told])
        return self._replicas

    def written(self, bucket: int) -> bool:
        """Whether a lane has written to this part of the keys so lately that it is to be read from
        the primary. O(lanes)."""
        return any(writes.recent(bucket) for writes in self.writes)

    def changed(self) -> None:
        """Somebody may be read from who might not before, or not any more."""
        for lane in list(self.lanes):
            lane.on_changed()

    def away(self, member: Member, why: str) -> None:
        """It was lost, is silent or refuses to be read from."""
        self.watching.away(member, why)

    def observe(self, observer: Observer | None) -> None:
        """See ``Standalone.observe``."""
        for server in self.opened:
            server.observe(observer)

    # -- who is there ------------------------------------------------------------------

    def _adopt(self, addresses: Sequence[Address]) -> None:
        self._replicas = [self._member(address) for address in addresses]
        for address in self._members.keys() - set(addresses):
            member = self._members.pop(address)
            for lane in list(self.lanes):
                lane.forget(member)
            loop = asyncio.get_running_loop()
            task = loop.create_task(_left(member.server), context=Context())
            self._leaving[task] = member.server
            task.add_done_callback(partial(self._has_left, member))

    def _has_left(self, member: Member, task: asyncio.Task[None]) -> None:
        """What was counted of it stays counted."""
        metrics = self.primary.server.metrics
        metrics.adopt(self._leaving.pop(task).metrics)
        if not task.cancelled() and (error := task.exception()) is not None:
            metrics.background_errors += 1
            with HARMLESS:
                logger.error("closing the pool of %s failed", member.name, exc_info=error)

    def _member(self, address: Address) -> Member:
        member = self._members.get(address)
        if member is None:
            primary = self.primary.server
            options = replace(self._reach, host=address.host, port=address.port)
            server = Standalone(options, _without_idle(primary.settings), whole=primary.metrics)
            server.pool.timeouts = primary.timeouts
            server.observe(primary.metrics.observer)
            member = self._members[address] = Member(options.peer, server)
            server.breaker.on_failed = lambda: self._unreachable(address)
        return member

    def _unreachable(self, address: Address) -> None:
        member = self._members.get(address)
        if member is not None:
            self.watching.away(member, "it cannot be connected to")
            for lane in list(self.lanes):
                lane.leave(member)

    def _ask(self, member: Member, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue a command of ours, on a connection on which reads go."""
        if member.server.closed:
            raise ConnectionLost(f"{member.name} has gone", outcome=Outcome.NOT_SENT)
        lanes = [lane.lane_of(member) for lane in self.lanes if not lane.closed]
        connected = [lane for lane in lanes if lane.connection is not None]
        asking = (connected or lanes or [member.server.lane()])[0]
        return asking.unwatched(payload, decode, timeout)

    def _zone_of(self, member: Member) -> str | None:
        """As it has told when we connected to it (https://valkey.io/commands/hello/)."""
        for each in self.lanes:
            lane = None if each.closed else each.lane_of(member)
            if lane is not None and lane.connection is not None:
                return str(lane.connection.server.get("availability_zone") or "") or None
        return None

    # -- the end -----------------------------------------------------------------------

    async def aclose(self, drain: float) -> None:
        """Close our pools for replicas."""
        self.watching.stop()
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*(server.aclose(drain) for server in self.opened))
        await self.watching.stopped()
        if self._leaving:
            await asyncio.wait(self._leaving)

    def abandon(self) -> None:
        """The same, at once."""
        self.watching.stop()
        for task in self._leaving:
            task.cancel()
        for server in self.opened:
            server.abandon()


async def _left(server: Standalone) -> None:
    """Let it answer what it owes, then close our pool for it."""
    try:
        await server.aclose(LEAVE_WITHIN)
    except asyncio.CancelledError:
        server.abandon()
        raise


def _without_idle(settings: PoolSettings) -> PoolSettings:
    """For a server from which lanes alone read: nobody checks connections out."""
    return replace(settings, min_idle=0)
