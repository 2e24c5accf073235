"""Where a client's server comes from: a pool that is open, or one to open at first use."""

from __future__ import annotations

import asyncio
import warnings
from asyncio import Future
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from redisutils.connection.noting import Note, noted
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.errors import ConfigError
from redisutils.metrics.observer import Observer, Submit, SubmitMany
from redisutils.pool.settings import PoolSettings
from redisutils.retry import RetryPolicy
from redisutils.topology.opening import open_server
from redisutils.topology.plan import ClusterPlan, Plan
from redisutils.topology.server import LaneLike, Server

__all__ = ["DeferredLane", "LaneLike", "LazySource", "OpenSource", "Source", "lane_of"]


def lane_of(connection: Connection) -> LaneLike:
    """What the holder of ``connection`` issues commands through: itself, unless it is watched, or
    somebody keeps what is written."""
    observer, note = connection.metrics.observer, connection.note
    if observer is None and note is None:
        return connection
    return _Attended(connection, observer, note)


class _Attended:
    """A connection of one's own, watched, or of which it is noted what is written. (A lane sees to
    that itself.)"""

    __slots__ = ("submit", "submit_many")

    def __init__(
        self, connection: Connection, observer: Observer | None, note: Note | None
    ) -> None:
        ways: tuple[Submit, SubmitMany] = connection.submit, connection.submit_many
        if observer is not None:
            ways = observer.watch(*ways, lambda: connection.address)
        if note is not None:
            ways = noted(*ways, note)
        self.submit, self.submit_many = ways


class Source(Protocol):
    """Gives the server when it is needed."""

    options: ConnectOptions
    settings: PoolSettings

    def server(self) -> Server:
        """The open server.

        Raises:
            WrongLoop, PoolClosed
        """

    @property
    def clustered(self) -> bool:
        """Whether the server is a cluster."""

    def set_policy(self, policy: RetryPolicy) -> None:
        """Repeat commands by ``policy`` from now on."""

    async def aclose(self) -> None:
        """The client that owns this source is closed."""


class OpenSource:
    """A server that somebody else opened and will close."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.options = server.options
        self.settings = server.settings

    def server(self) -> Server:
        self._server.check_usable()
        return self._server

    @property
    def clustered(self) -> bool:
        return self._server.clustered

    def set_policy(self, policy: RetryPolicy) -> None:
        raise ConfigError(
            "set_retry() on a client of a RedisPool would change the policy of all its clients: "
            "set REDIS_RETRY and REDIS_MAX_RETRIES"
        )

    async def aclose(self) -> None:
        """Not ours to close."""


class LazySource:
    """Opens a server at first use, and again at the first use after ``aclose``: a client made by
    ``Redis(…)`` goes on working after it, as redis-py's does."""

    def __init__(
        self, options: ConnectOptions, settings: PoolSettings, plan: Plan | None = None
    ) -> None:
        self.options = options
        self.settings = settings
        self._plan = plan
        self._server: Server | None = None

    def server(self) -> Server:
        server = self._server
        if server is None:
            # Before anything is made: clear words when there is no loop at all.
            asyncio.get_running_loop()
            server = self._server = open_server(self.options, self.settings, self._plan)
        server.check_usable()
        return server

    @property
    def clustered(self) -> bool:
        return isinstance(self._plan, ClusterPlan)

    def set_policy(self, policy: RetryPolicy) -> None:
        self.settings = replace(self.settings, retry=policy)
        if self._server is not None:
            self._server.set_policy(policy)

    async def aclose(self) -> None:
        if self._server is not None:
            self._server.check_closable()
        server, self._server = self._server, None
        if server is not None:
            await server.aclose()

    def __del__(self) -> None:
        server = getattr(self, "_server", None)
        if server is None or server.closed or server.loop.is_closed():
            return
        warnings.warn(
            f"a client of {self.options.peer} was never closed: await client.aclose()",
            ResourceWarning,
            stacklevel=2,
            source=self,
        )
        server.loop.call_soon_threadsafe(server.abandon)


class DeferredLane:
    """A lane's face for a client that has not issued anything yet.

    Args:
        open_lane: gives the lane at the first command, and sees to it that the client uses it
            directly from then on.
    """

    def __init__(self, open_lane: Callable[[], LaneLike]) -> None:
        self._lane = open_lane

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        return self._lane().submit(payload, decode, timeout)

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        return self._lane().submit_many(payload, size, decode, timeout)
