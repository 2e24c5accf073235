"""One server: its pool, its lanes, its housekeeping, bound to one event loop and process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any

from redis.typing import EncodableT

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.connection.packing import OwnPayload, pack
from redisutils.connection.protocol import Connection
from redisutils.errors import ConfigError, PoolTimeout, RedisUtilsError
from redisutils.metrics.counters import Gauges, PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.metrics.observer import Observer
from redisutils.pool.breaker import Breaker
from redisutils.pool.housekeeping import Housekeeper
from redisutils.pool.lane import Lane
from redisutils.pool.manager import ConnectionManager, Dial
from redisutils.pool.model import Hook, PoolStatus, Retained, Timeouts, Usage
from redisutils.pool.pool import Pool
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.bound import Bound
from redisutils.topology.checkouts import Checkouts
from redisutils.topology.lanes import Lanes
from redisutils.topology.plan import ReadFrom
from redisutils.topology.server import DEFAULT_LANE, LaneLike

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import MetricsSnapshot
    from redisutils.topology.examining import Examiner
    from redisutils.topology.health import HealthReport

__all__ = ["Standalone"]

logger = logging.getLogger("redisutils.pool")


class Standalone(Bound):
    """Made inside a running event loop, and bound to it.

    Args:
        options: how to connect.
        settings: the pool's figures.
        dial: makes a connection, where that takes more than ``options``.
        whole: of one server of many, what counts for all of them.
    """

    def __init__(
        self,
        options: ConnectOptions,
        settings: PoolSettings,
        dial: Dial | None = None,
        whole: PoolMetrics | None = None,
    ) -> None:
        super().__init__(f"pool of {options.peer}")
        self.options = options
        self.settings = settings
        self.metrics = PoolMetrics(self._loop, options.peer, whole)
        self.metrics.measures.slow.plain_keys = settings.plain_keys
        self.breaker = Breaker(options.peer, settings.circuit_breaker, self.metrics)
        self.breaker.on_open = self._refuse_waiting
        self.breaker.probe = self._find_again
        self.breaker.ready = lambda: self.pool.ready
        self._manager = ConnectionManager(
            options,
            self.metrics,
            self.breaker,
            silence=settings.silence,
            max_lifetime=settings.max_lifetime,
            max_idle=settings.max_idle,
            dial=dial,
        )
        self._manager.on_abandoned = self._unblock
        self.pool: Pool[Connection] = Pool(
            self._manager,
            settings.max_size,
            metrics=self.metrics,
            timeouts=settings.timeouts,
            queue_mode=settings.queue_mode,
            name=self._title,
        )
        self.pool.describe_users = self._describe_users
        self.checkouts = Checkouts(
            options.peer,
            self.pool,
            self.metrics,
            self.breaker,
            settings.retry,
            self.check_usable,
        )
        self._lanes: Lanes[Lane] = Lanes()
        self._housekeeper = Housekeeper(
            self.pool, self._manager, lambda: self._lanes, settings, self.metrics
        )
        self._housekeeper.start()
        self._examiner: Examiner | None = None

    def __repr__(self) -> str:
        kind, lanes = type(self).__name__, sorted(self._lanes.shared)
        return f"<{kind} {self.options.peer}: {self.pool!r}, lanes {lanes}>"

    clustered = False

    @property
    def closed(self) -> bool:
        return self.pool.closed

    # -- lanes ---------------------------------------------------------------------

    def lane(self, name: str = DEFAULT_LANE) -> Lane:
        """The shared lane of this name, made when first asked for; its first command connects."""
        self.check_usable()
        return self._lanes.named(name, partial(self._make_lane, name))

    def lane_for(self, name: str, read_from: ReadFrom | None) -> LaneLike:
        """The same: there is but one server to read from."""
        return self.lane(name)

    def private_lane(self, name: str) -> Lane:
        """A lane for one client alone, which closes it."""
        self.check_usable()
        return self._lanes.private(self._make_lane(name))

    # -- connections of one's own ----------------------------------------------------

    def checkouts_for(self, args: Sequence[EncodableT]) -> Checkouts:
        """Where a connection is had, whatever the command."""
        return self.checkouts

    def checkouts_at(self, address: Address) -> Checkouts:
        """Where a connection is had, if this is our server's address.

        Raises:
            ConfigError: it is another one's.
        """
        if address != self.place:
            there = "" if self.place is None else f" (at {self.place} now)"
            raise ConfigError(
                f"node={str(address)!r} is not what this pool connects to: that is "
                f"{self.options.peer}{there}; leave node= out"
            )
        return self.checkouts

    @property
    def place(self) -> Address | None:
        """Where the server is, if it has an address that is known."""
        options = self.options
        return None if options.path is not None else Address(options.host, options.port)

    def redirected(self, error: Exception) -> None:
        """There is no other server."""

    @property
    def post_create(self) -> list[Hook[Connection]]:
        return self.pool.post_create

    @property
    def pre_recycle(self) -> list[Hook[Connection]]:
        return self.pool.pre_recycle

    @property
    def post_recycle(self) -> list[Hook[Connection]]:
        return self.pool.post_recycle

    @property
    def timeouts(self) -> Timeouts:
        """Seconds for each phase of a checkout. May be replaced."""
        return self.pool.timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None:
        self.pool.timeouts = timeouts

    def resize(self, max_size: int) -> None:
        """Change how many connections there may be."""
        self.pool.resize(max_size)

    def retain(self, predicate: Callable[[Connection, Usage], bool]) -> Retained[Connection]:
        """Keep the idle connections for which ``predicate`` says so, and close the others."""
        result = self.pool.retain(predicate)
        for connection in result.removed:
            self.pool.discard(connection)
        return result

    # -- making lanes ----------------------------------------------------------------

    def _make_lane(self, name: str) -> Lane:
        return Lane(
            name,
            self.options.peer,
            self.pool,
            self.settings.retry,
            self.metrics,
            self.breaker,
            patience=self.settings.command_timeout,
        )

    def _refuse_waiting(self) -> None:
        """The breaker has opened."""
        for lane in self._lanes:
            lane.refuse_waiting()

    async def _find_again(self) -> None:
        """Connect, and keep the connection for whoever comes."""
        connection = await self._manager.connect()
        seconds = self.pool.timeouts.create
        bound = asyncio.timeout(None if seconds == inf else seconds)
        try:
            async with bound:
                await self.pool.take_in(connection)
        except TimeoutError:
            if not bound.expired():
                raise  # a hook's own
            raise PoolTimeout(
                f"{self.pool.name}: a post_create hook took longer than {seconds:.3g} s", "create"
            ) from None

    def _unblock(self, connection: Connection) -> None:
        """A connection is closed on which the server may be waiting on behalf of one who has gone.
        The server sees the end of it a moment later, and would give it what is pushed until
        then. So it is told, ahead of all that our lanes send from now on."""
        number = connection.server.get("id")
        if number is None or self.pool.closed:
            return
        payload = OwnPayload(pack(("CLIENT", "UNBLOCK", number)))
        for lane in self._lanes.shared.values():
            # Of another server behind the same name the number would be somebody else's.
            if lane.connection is not None and lane.connection.address == connection.address:
                reply = lane.unwatched(payload, False, self.settings.command_timeout)
                reply.add_done_callback(_forget)

    # -- what is going on ----------------------------------------------------------

    def observe(self, observer: Observer | None) -> None:
        """Let ``observer`` watch what callers issue from now on; None ends it. Connections that
        are checked out now are watched from their next checkout on.

        Raises:
            WrongLoop, PoolClosed
        """
        if observer is not None:
            self.check_usable()
        self.metrics.observer = observer
        for lane in self._lanes:
            lane.watch()

    def set_policy(self, policy: RetryPolicy) -> None:
        """Repeat commands by ``policy`` from now on."""
        self.settings = replace(self.settings, retry=policy)
        self.checkouts.policy = policy
        for lane in self._lanes:
            lane.policy = policy

    def snapshot(self) -> MetricsSnapshot:
        """What has been counted, and what is going on."""
        return self.metrics.snapshot(self.gauges())

    def gauges(self) -> Gauges:
        """What is going on."""
        status = self.pool.status()
        connections = [one for one in self._manager.open if not one.closed]
        return Gauges(
            endpoint=self.options.peer,
            max_size=status.max_size,
            size=status.size,
            in_use=self.pool.in_use,
            waiting=status.waiting,
            uncounted=sum(one.uncounted for one in connections),
            in_flight=sum(one.in_flight for one in connections),
            in_flight_bytes=sum(one.bytes_in_flight for one in connections),
            lanes=tuple(lane.metrics() for lane in self._lanes),
            breaker=self.breaker.status(),
        )

    def status(self) -> PoolStatus:
        """The pool at this moment."""
        return replace(self.pool.status(), breaker=self.breaker.status().state)

    async def health(self, timeout: float) -> HealthReport:
        """How the server and what uses it are. See :mod:`redisutils.topology.examining`.

        Args:
            timeout: seconds for all of it.

        Raises:
            WrongLoop
        """
        if self._examiner is None:
            # What it needs takes some milliseconds to import: only for those who ask.
            from redisutils.topology.examining import Examiner

            self._examiner = Examiner(self)
        return await self._examiner.look(timeout)

    def _describe_users(self) -> str:
        """For the message of a checkout that waited in vain."""
        lanes = [lane.name for lane in self._lanes if lane.connection is not None]
        if not lanes:
            return ""
        counted = ", ".join(
            f"{name!r}" + (f" ×{count}" if count > 1 else "")
            for name, count in sorted(Counter(lanes).items())
        )
        return f" ({len(lanes)} of them by lanes: {counted})"

    # -- the end -------------------------------------------------------------------

    def _shut(self) -> None:
        self.pool.close()

    async def _outlive_loop(self) -> None:
        self._refuse_all(self._is_closed)

    async def _wind_up(self, drain: float) -> None:
        await self._housekeeper.stop()
        if drain > 0:
            await self._drain(drain)
        await self.breaker.stop()
        self._lanes.close()
        self.checkouts.end_lent()
        # One turn, in which lanes stop connecting, and transports let go of their sockets; and
        # another, for those of the connections that were being made.
        await asyncio.sleep(0)
        if self._examiner is not None:
            await self._examiner.ended()
        await self._manager.scouted.ended()
        await asyncio.sleep(0)
        self.metrics.close()

    def _drop_all(self) -> None:
        self._housekeeper.abandon()
        self.breaker.abandon()
        self._lanes.close()
        self.metrics.close()

    async def _drain(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(lane.drain() for lane in self._lanes))
                for lane in self._lanes:
                    lane.close()
                await self.pool.drained()
        except TimeoutError:
            with HARMLESS:
                logger.warning(
                    "%s: %d connections still in use after draining for %.3g s",
                    self.pool.name,
                    self.pool.in_use,
                    seconds,
                )

    # -- fork ----------------------------------------------------------------------

    def _after_fork(self) -> None:
        """In the child: the sockets are the parent's, not one byte may go to them."""
        super()._after_fork()
        self._refuse_all(self._wrong_process)

    def _refuse_all(self, error: Callable[[], RedisUtilsError]) -> None:
        """Let every command on every lane fail with ``error()``."""

        def refuse(*_: Any) -> Any:
            raise error()

        for lane in self._lanes:
            lane.submit = lane.submit_many = lane.unwatched = refuse


def _forget(reply: asyncio.Future[Any]) -> None:
    """Nobody awaits it; an error (a user who may not UNBLOCK) is counted like any other."""
    if not reply.cancelled():
        reply.exception()
