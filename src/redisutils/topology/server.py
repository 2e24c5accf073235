"""What a client needs of what it speaks to, be it one server or many."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from redis.typing import EncodableT

from redisutils.address import Address
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.observer import Observer, Submit, SubmitMany
from redisutils.pool.model import Hook, PoolStatus, Retained, Timeouts, Usage
from redisutils.pool.pool import Lease
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.plan import ReadFrom

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import MetricsSnapshot
    from redisutils.topology.health import HealthReport

__all__ = ["DEFAULT_LANE", "LaneLike", "Leasing", "PrivateLane", "Redirected", "Server"]

DEFAULT_LANE = "default"
"""The lane of all who name none."""


class LaneLike(Protocol):
    """What a client issues commands through: a lane, or a connection of its own."""

    @property
    def submit(self) -> Submit:
        """Issue one packed command: (payload, decode, timeout)."""

    @property
    def submit_many(self) -> SubmitMany:
        """Issue several, answered together: (payload, size, decode, timeout)."""


class PrivateLane(LaneLike, Protocol):
    """What one client alone issues commands through, and closes."""

    @property
    def unwatched(self) -> Submit:
        """``submit`` for what is nobody's to watch."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def closed(self) -> bool: ...

    def taint(self) -> None:
        """The state of its connection is about to change. See ``Lane.taint``."""

    def abandon(self) -> None:
        """A blocking command has lost its caller."""

    def connect_at_once(self) -> bool:
        """Have a connection now if one stands ready."""

    def close(self) -> None:
        """Give back what it holds; what waits or is in flight fails."""


class Leasing(Protocol):
    """The ways to a connection of one's own: see ``topology.checkouts.Checkouts``."""

    def at_once(self) -> Lease[Connection] | None:
        """A connection if one is idle and fit; else None."""

    async def get(self, wait: float | None = None) -> Lease[Connection]:
        """A connection, within ``wait`` seconds."""

    async def patiently(self, budget: float) -> Lease[Connection]:
        """A connection, tried for again and again within ``budget`` seconds."""


class Redirected(NamedTuple):
    """Another server is to be asked."""

    checkouts: Leasing
    """Where a connection to it is had."""
    lane_over: Callable[[LaneLike], LaneLike]
    """What commands are issued through on that connection: they may need a word before them."""


class Server(Protocol):
    """One server or many, bound to the event loop in which it was made."""

    options: ConnectOptions
    settings: PoolSettings
    metrics: PoolMetrics
    """Where is counted what cannot be told of one server alone."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    @property
    def closed(self) -> bool: ...

    @property
    def clustered(self) -> bool:
        """Whether it is a :class:`~redisutils.topology.cluster.cluster.Cluster`."""

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process in which it was made."""

    @property
    def post_create(self) -> list[Hook[Connection]]: ...

    @property
    def pre_recycle(self) -> list[Hook[Connection]]: ...

    @property
    def post_recycle(self) -> list[Hook[Connection]]: ...

    @property
    def timeouts(self) -> Timeouts: ...

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None: ...

    def check_usable(self) -> None:
        """Raises WrongLoop or PoolClosed."""

    def check_closable(self) -> None:
        """Raises WrongLoop."""

    def lane(self, name: str = DEFAULT_LANE) -> LaneLike:
        """The shared lane of this name, made when first asked for."""

    def lane_for(self, name: str, read_from: ReadFrom | None) -> LaneLike:
        """What clients issue commands through: the lane of this name, or one that reads elsewhere.

        Args:
            read_from: where its reads go; None for where the plan says. One server has no choice.
        """

    def private_lane(self, name: str) -> PrivateLane:
        """A lane for one client alone, which closes it."""

    def checkouts_for(self, args: Sequence[EncodableT]) -> Leasing:
        """Where a connection is had on which this command can be executed; for one without keys,
        any."""

    def checkouts_at(self, address: Address) -> Leasing:
        """Where a connection to the server at this address is had.

        Raises, here or there:
            ConfigError: there is none.
        """

    def redirected(self, error: Exception) -> Redirected | None:
        """Where a command is to be sent that a server refused with ``error``, since another one
        is to be asked; None if it is not."""

    def resize(self, max_size: int) -> None:
        """Change how many connections there may be to each server."""

    def retain(self, predicate: Callable[[Connection, Usage], bool]) -> Retained[Connection]:
        """Keep the idle connections for which ``predicate`` says so, and close the others."""

    def observe(self, observer: Observer | None) -> None:
        """Let ``observer`` watch what callers issue from now on; None ends it."""

    def set_policy(self, policy: RetryPolicy) -> None:
        """Repeat commands by ``policy`` from now on."""

    def snapshot(self) -> MetricsSnapshot: ...

    def status(self) -> PoolStatus: ...

    async def health(self, timeout: float) -> HealthReport: ...

    async def aclose(self, drain: float = 0.0) -> None:
        """Close everything. ``drain``: seconds to let what is in flight finish first."""

    def abandon(self) -> None:
        """Close everything now, for an owner that was dropped without a word."""
