"""A server that moves: the primary that sentinels name, behind one pool that stays.

The fence
---------
============================ ==================================================================
what is known                what becomes of connections to the primary
============================ ==================================================================
it may be deposed (the watch all are **held**: nothing is written, what is issued is kept; answers
is suspicious)               are still read; nobody connects
it was not                   what was kept is written, in its order
another is the primary       aborted at once: what was kept was never sent, and lanes send it to the
                             new one; what the old one owes is UNKNOWN, even if it would have
                             answered; attempts to connect to it are ended
it refuses writes (READONLY) that connection is held, and dropped when it owes nothing more
a connection to it has died  sentinels are asked before it is connected to again
============================ ==================================================================

This concerns all connections, lanes' as well as those that are checked out, that block or that
subscribe. A connection is handed out only after its server has said that it is a primary, and if
it is still the one that sentinels name then.

Pool, lanes, breaker and metrics have the name of the primary, wherever it is.
"""

from __future__ import annotations

import asyncio
import weakref
from asyncio import Future
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from redisutils.address import Address
from redisutils.connection.alarm import FOREVER
from redisutils.connection.dial import dial
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, ConnectFailed, ConnectionLost
from redisutils.metrics.merging import merged
from redisutils.metrics.observer import Observer
from redisutils.metrics.snapshot import MetricsSnapshot
from redisutils.pool.lane import Lane
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.cluster.keys import written_in
from redisutils.topology.plan import ReadFrom, SentinelPlan
from redisutils.topology.reading.writes import Writes
from redisutils.topology.sentinel.answers import Replica
from redisutils.topology.sentinel.role import prove_primary
from redisutils.topology.sentinel.watch import Watch
from redisutils.topology.server import LaneLike
from redisutils.topology.standalone import Standalone

if TYPE_CHECKING:
    from redisutils.topology.health import HealthReport
    from redisutils.topology.sentinel.copies import Copies
    from redisutils.topology.sentinel.reading_lane import ReadingLane

__all__ = ["SentinelServer"]

_DEPOSED: Final = frozenset({"READONLY", "MASTERDOWN"})
"""Codes with which a server answers that is a replica now."""

_LAST_ANSWERS: Final = 0.5
"""Seconds that a server which is deposed has for the answers it owes."""

_LOOK_AGAIN: Final = 0.005


class SentinelServer(Standalone):
    """See the module's docstring. Made inside a running event loop, and bound to it.

    Args:
        options: how to connect to the primary, but for its place.
        settings: the pool's figures.
        plan: who knows where it is.
    """

    def __init__(self, options: ConnectOptions, settings: PoolSettings, plan: SentinelPlan) -> None:
        self._reach = replace(options, name=plan.master, path=None)
        self._led: weakref.WeakKeyDictionary[Connection, Address] = weakref.WeakKeyDictionary()
        self._attempts: dict[asyncio.Task[Connection], Address] = {}
        super().__init__(replace(self._reach, host="", port=0), settings, self._dial)
        self.watch = Watch(plan, self.metrics)
        self.watch.suspicion.on_begun = self._hold
        self.watch.suspicion.on_over = self._let_go
        self.watch.on_moved = self._move
        self._reading = plan.reading
        self._by_others = Writes(plan.reading.own_writes)
        if plan.reading.own_writes > 0:
            self.checkouts.note = self._note_written
        self.copies: Copies | None = None
        self._reading_lanes: dict[str, ReadingLane] = {}

    @property
    def place(self) -> Address | None:
        """Where the primary is, if that is known."""
        present = self.watch.present
        return None if present is None else present.address

    # -- lanes -----------------------------------------------------------------------

    def lane_for(self, name: str, read_from: ReadFrom | None) -> LaneLike:
        """The lane of this name; one that reads from replicas where that is wanted."""
        source = read_from or self._reading.source
        # What is written has to be known, whoever reads it later.
        if source == "primary" and not self._reading.own_writes:
            return self.lane(name)
        self.check_usable()
        if source != self._reading.source:
            name = f"{name}, reading from {source}"
        lane = self._reading_lanes.get(name)
        if lane is None:
            # Imported by those who read from replicas.
            from redisutils.topology.sentinel.copies import Copies
            from redisutils.topology.sentinel.reading_lane import ReadingLane

            if self.copies is None:
                known, others = self._replicas, self._by_others
                self.copies = Copies(self, self._reach, known, self._reading, others)
            lane = ReadingLane(name, self.copies, replace(self._reading, source=source))
            self._reading_lanes[name] = lane
            self.copies.lanes.add(lane)
        return lane

    def private_lane(self, name: str) -> Lane:
        """See ``Standalone.private_lane``."""
        lane = super().private_lane(name)
        if self._reading.own_writes > 0:
            lane.tell(self._note_written)
        return lane

    def _note_written(self, payload: bytes, answer: Future[Any]) -> None:
        """Issued by who has a connection for himself."""
        if slots := written_in(payload):
            self._by_others.note_of_others(slots, answer)

    def _replicas(self) -> Sequence[Replica]:
        self.watch.start()
        return self.watch.replicas

    # -- connecting ------------------------------------------------------------------

    async def _dial(self) -> Connection:
        """A connection to the primary. Raises as ``dial`` and ``Watch.primary`` do."""
        while True:
            address = await self.watch.primary()
            connection = await self._dial_to(address)
            if connection is None:
                continue
            # From here on the fence finds it: nothing may be awaited before it is in these books.
            if self._is_primary(address):
                self._led[connection] = address
                self._manager.open.add(connection)
                connection.witness = self
                self.watch.trust()
                return connection
            connection.close()

    def _is_primary(self, address: Address) -> bool:
        present = self.watch.present
        return present is not None and present.address == address and not self.watch.suspicion

    async def _dial_to(self, address: Address) -> Connection | None:
        """A connection to this address; None if the primary has moved meanwhile."""
        options = replace(self._reach, host=address.host, port=address.port)
        loop = asyncio.get_running_loop()
        attempt = loop.create_task(
            dial(options, self.metrics, silence=self.settings.silence, prove=self._prove)
        )
        self._attempts[attempt] = address
        try:
            await asyncio.wait([attempt])
        except asyncio.CancelledError:
            attempt.cancel()
            await asyncio.wait([attempt])
            if not attempt.cancelled() and attempt.exception() is None:
                attempt.result().close()
            raise
        finally:
            del self._attempts[attempt]
        if attempt.cancelled():
            return None
        try:
            return attempt.result()
        except ConnectFailed as error:
            error.elsewhere = not (error.fatal or error.own)
            if not error.own:
                self.watch.doubt()
            raise

    async def _prove(self, connection: Connection) -> None:
        try:
            await prove_primary(connection, FOREVER)  # dial bounds it
        except CommandTimeout as error:
            raise ConnectFailed(
                f"{connection.peer} does not tell its role: {error.message}"
            ) from error

    # -- the fence -------------------------------------------------------------------

    def _hold(self, why: str) -> None:
        for connection in self._open():
            connection.hold()

    def _let_go(self) -> None:
        for connection in self._open():
            connection.let_go()

    def _move(self, old: Address, new: Address) -> None:
        for attempt, address in list(self._attempts.items()):
            if address != new:
                attempt.cancel()
        for connection in self._open():
            if self._led.get(connection) != new:
                connection.abort(
                    ConnectionLost(
                        f"{connection.peer} is not the primary any more: {self.watch.name} has "
                        f"moved to {new}"
                    )
                )
        for removed in self.pool.retain(lambda connection, _: not connection.closed).removed:
            self.pool.discard(removed)
        self.breaker.renew()
        for lane in self._lanes:
            lane.hurry()

    def _open(self) -> list[Connection]:
        return [connection for connection in self._manager.open if not connection.closed]

    # -- what connections tell: Witness ------------------------------------------------

    def refused(self, connection: Connection, codes: Sequence[str]) -> None:
        if not _DEPOSED.isdisjoint(codes) and not connection.held:
            connection.hold()
            self.watch.doubt()
            # Not now: its owner is about to hear of this refusal.
            end = self._loop.time() + _LAST_ANSWERS
            self._loop.call_soon(self._drop, connection, end)

    def lost(self, connection: Connection) -> None:
        self.watch.doubt()

    def _drop(self, connection: Connection, end: float) -> None:
        """Close it when it owes nothing more."""
        if connection.closed:
            return
        if connection.awaited and self._loop.time() < end:
            self._loop.call_later(_LOOK_AGAIN, self._drop, connection, end)
            return
        connection.abort(
            ConnectionLost(f"{connection.peer} refuses writes: it is not the primary any more")
        )

    # -- what is going on ------------------------------------------------------------

    def observe(self, observer: Observer | None) -> None:
        """As of one server, and of the replicas."""
        super().observe(observer)
        if self.copies is not None:
            self.copies.observe(observer)

    def set_policy(self, policy: RetryPolicy) -> None:
        """As of one server, and of the replicas."""
        super().set_policy(policy)
        for replica in self.copies.opened if self.copies is not None else ():
            replica.set_policy(policy)

    def snapshot(self) -> MetricsSnapshot:
        """Of the primary, wherever it is; and of the replicas that are read from."""
        if self.copies is None:
            return super().snapshot()
        replicas = [
            (replica.metrics, replica.gauges()._replace(role="replica"))
            for replica in self.copies.counted
        ]
        own = self.gauges()._replace(role="primary")
        whole = merged((self.metrics, own), replicas)
        return replace(whole, nodes=(self.metrics.node(own), *whole.nodes))

    async def health(self, timeout: float) -> HealthReport:
        """As of one server, and of the sentinels as far as is known: they are not asked for it."""
        from redisutils.topology.sentinel.judging import with_sentinels

        held = bool(self.watch.suspicion)
        report = await super().health(timeout)
        if self.closed:
            return report
        held = held or bool(self.watch.suspicion)
        return with_sentinels(report, self.watch.name, self.watch.survey(), held)

    # -- the end -----------------------------------------------------------------------

    async def aclose(self, drain: float = 0.0) -> None:
        """As of one server, and of the replicas."""
        self.check_closable()
        ours = not (self.forked or self._loop.is_closed())
        if ours and self.copies is not None:
            for lane in self._reading_lanes.values():
                lane.close()
            await self.copies.aclose(drain)
        await super().aclose(drain)
        if not (self.forked or self._loop.is_closed()):
            await self.watch.aclose()

    def abandon(self) -> None:
        """As of one server, and of the replicas."""
        super().abandon()
        if not self.forked:
            for lane in self._reading_lanes.values():
                lane.close()
            if self.copies is not None:
                self.copies.abandon()
            self.watch.abandon()
