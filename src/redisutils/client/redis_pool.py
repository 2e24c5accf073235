"""``create_redis_pool()``: from a configuration to an open pool, its clients and its figures."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from math import inf
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, get_args

from redisutils.client.adapter import AdapterPool
from redisutils.client.arguments import LIBRARY, redis_py_kwargs
from redisutils.client.configured import connect_options, plan, pool_settings
from redisutils.client.lease import Checkout
from redisutils.client.redis import Redis
from redisutils.client.source import OpenSource
from redisutils.connection.protocol import Connection
from redisutils.errors import ConfigError, PoolClosed
from redisutils.pool.pool import Hook, PoolStatus, QueueMode, Timeouts, Usage
from redisutils.secret import hide
from redisutils.topology.opening import open_server
from redisutils.topology.plan import ClusterPlan, ReadFrom
from redisutils.topology.server import DEFAULT_LANE, Server

if TYPE_CHECKING:
    import ssl

    from redisutils.config import ConfigArgs, RedisConfig
    from redisutils.connection.embedded import ServerProcess
    from redisutils.metrics.snapshot import MetricsSnapshot
    from redisutils.topology.health import HealthReport

__all__ = ["RedisPool", "RetainResult", "create_redis_pool"]


@dataclass(frozen=True, slots=True)
class RetainResult:
    """What ``pool.retain()`` kept and closed."""

    retained: int
    removed: int


def create_redis_pool(
    config: RedisConfig | None = None,
    *,
    timeouts: Timeouts | None = None,
    queue_mode: QueueMode = "fifo",
    ssl_context: ssl.SSLContext | None = None,
    **overrides: Unpack[ConfigArgs],
) -> RedisPool:
    """A pool for one server, to be awaited or entered with ``async with``.

    Args:
        config: the settings; without it, from the environment and ``.env``.
        timeouts: seconds for waiting, creating and recycling of a checkout, in place of
            ``pool_timeout``, ``connection_timeout`` and ``command_timeout``.
        queue_mode: ``"fifo"`` hands out the connection that was idle longest, ``"lifo"`` the
            one returned last, so that the others can age out.
        ssl_context: a TLS context of your own instead of the ``tls_…`` files.
        **overrides: settings that win over ``config``.

    Raises:
        ConfigError: naming every setting that is wrong.
    """
    from redisutils.config import RedisConfig  # pydantic takes a quarter of a second to import

    overrides = hide(overrides)
    if config is None:
        config = RedisConfig(**overrides)
    elif overrides:
        config = config.replace(**overrides)
    return RedisPool(config, timeouts=timeouts, queue_mode=queue_mode, ssl_context=ssl_context)


class RedisPool:
    """Connections to one server: shared ones for every day, and some of your own when needed.

    Made by :func:`create_redis_pool`. It belongs to the event loop in which it is opened.

    Args:
        config, timeouts, queue_mode, ssl_context: as :func:`create_redis_pool` has them.
        library: name and version that CLIENT SETINFO tells the server; None says nothing.
    """

    def __init__(
        self,
        config: RedisConfig,
        *,
        timeouts: Timeouts | None = None,
        queue_mode: QueueMode = "fifo",
        ssl_context: ssl.SSLContext | None = None,
        library: tuple[str, str] | None = LIBRARY,
    ) -> None:
        self.config = config
        self._options = connect_options(config, ssl_context, library)
        self._settings = pool_settings(config, timeouts, queue_mode)
        self._plan = plan(config, self._options)
        self._many = isinstance(self._plan, ClusterPlan)
        self._server: Server | None = None
        self._embedded: ServerProcess | None = None
        self._client: Redis | None = None
        self._lanes: dict[tuple[str, ReadFrom | None], Redis] = {}
        self._opening = asyncio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        state = repr(self._server) if self._server is not None else "not open"
        return f"<RedisPool {self.config.endpoint}: {state}>"

    # -- life ----------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _open(self) -> Self:
        if self._closed:
            raise PoolClosed(f"the pool of {self.config.endpoint} is closed: make another")
        async with self._opening:  # two tasks that open one pool shall not start two servers
            if self._closed:
                raise PoolClosed(f"the pool of {self.config.endpoint} is closed: make another")
            if self._server is None:
                if self.config.embedded:
                    await self._start_embedded()
                self._server = open_server(self._options, self._settings, self._plan)
        return self

    async def _start_embedded(self) -> None:
        from redisutils.connection.embedded import start_embedded

        process = self._embedded = await start_embedded(database=self.config.database)

        async def credentials() -> tuple[str, ...]:
            return (process.password,) if process.password else ()

        self._options = replace(
            self._options, path=process.unix_socket, credentials=credentials, tls=None
        )

    async def close(self, drain: float = 0.0) -> None:
        """Close the pool. A second call does nothing.

        Commands in flight, blocking ones and subscriptions end with ConnectionLost. Only what was
        checked out by :meth:`get` goes on working, and is closed when it comes back.

        Args:
            drain: seconds to let commands in flight and checkouts finish first. New checkouts
                are refused at once.
        """
        if self._closed:
            return
        if self._server is not None:
            self._server.check_closable()
        self._closed = True
        async with self._opening:  # what is being opened can be closed when it is open
            try:
                if self._server is not None:
                    await self._server.aclose(drain)
            finally:
                if self._embedded is not None:
                    await self._embedded.stop()

    aclose = close

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def server(self) -> Server:
        """What the pool stands on.

        Raises:
            PoolClosed: it is not open.
        """
        if self._server is None:
            raise PoolClosed(
                f"the pool of {self.config.endpoint} is not open: await it, or enter it with "
                "`async with`"
            )
        return self._server

    # -- clients -------------------------------------------------------------------------

    @property
    def client(self) -> Redis:
        """The shared client: the default way, safe to use from any number of tasks."""
        if self._client is None:
            self._client = self.make_client()
        return self._client

    def make_client(
        self,
        *,
        decode_responses: bool = False,
        protocol: Literal[2, 3] | None = None,
        legacy_responses: bool = True,
        lane: str = DEFAULT_LANE,
        read_from: ReadFrom | None = None,
    ) -> Redis:
        """Another client of this pool.

        Args:
            decode_responses: replies as str rather than bytes.
            protocol, legacy_responses: the shapes of replies, as redis-py has them; the wire
                is the same.
            lane: which shared connection it uses.
            read_from: where its reads go, ``"primary"``, ``"replica"``, ``"prefer-replica"`` or
                ``"nearest"``; without it, where ``REDIS_READ_FROM`` says. Accepted of one server,
                too, where it means nothing: the same program runs on either. How far behind a
                replica may be and the like is told by the pool's ``REDIS_READ_…`` settings.

        Raises:
            ConfigError: ``read_from`` is none of these.
        """
        if read_from is not None and read_from not in get_args(ReadFrom):
            raise ConfigError(
                f"read_from={read_from!r} must be one of {', '.join(get_args(ReadFrom))}"
            )
        source = OpenSource(self.server)
        kwargs = redis_py_kwargs(self._options, self._settings) | {
            "decode_responses": decode_responses,
            # RESP2's shapes on RESP3's wire are what redis-py gives for no protocol at all.
            "protocol": None if protocol == 2 else protocol,
            "legacy_responses": legacy_responses,
        }
        client = _client_class(source)(connection_pool=AdapterPool(source, kwargs))
        client._settle(source, lane, read_from)
        return client

    def lane(self, name: str, *, read_from: ReadFrom | None = None) -> Redis:
        """The client of a shared connection of its own, made when first asked for: what goes over
        it never queues behind what goes over another. It counts as one connection of the pool.

        Args:
            name: which; with another ``read_from`` it is another lane of that name.
            read_from: as :meth:`make_client` has it: ``pool.lane("reports", read_from="replica")``
                leaves the primary to those who trade.
        """
        client = self._lanes.get((name, read_from))
        if client is None:
            client = self.make_client(lane=name, read_from=read_from)
            self._lanes[name, read_from] = client
        return client

    def get(self, timeout: float | None = None, *, key: Any = None, node: Any = None) -> Checkout:
        """A connection of your own: ``async with pool.get() as conn`` or ``await pool.get()``.

        In a cluster it goes by itself to the owner of a command's key, as long as it holds no state
        (see :mod:`redisutils.client.roaming`).

        Args:
            timeout: seconds for all of it: waiting, looking at an idle one, connecting; without
                it each has its own bound, ``timeouts``. 0 waits for nobody, and takes an idle
                or a new one.
            key: begin at the owner of this key's slot. For one server it changes nothing.
            node: be at this server and stay there, a replica too: ``"host:port"``,
                ``(host, port)``, or what ``client.get_nodes()`` gives.

        Raises:
            ConfigError: ``timeout`` is no number of seconds, or ``node`` no server of this pool.

        Raises (when awaited or entered):
            PoolTimeout, ConnectFailed, PoolClosed, WrongLoop
        """
        if timeout is not None:
            given: Any = timeout
            if not (isinstance(given, int | float) and given >= 0):
                raise ConfigError(f"timeout={timeout!r} must be a number of seconds, 0 or more")
        if self._many or key is not None or node is not None:
            return self._get_placed(timeout, key, node)
        return Checkout(self, timeout)

    def _get_placed(self, timeout: float | None, key: Any, node: Any) -> Checkout:
        # Imported by those who have many servers.
        from redisutils.client.cluster_nodes import address_in
        from redisutils.client.roaming import PlacedCheckout

        if key is not None and node is not None:
            raise ConfigError(f"get(key={key!r}, node={node!r}): say one of them")
        return PlacedCheckout(self, timeout, key, None if node is None else address_in(node))

    # -- figures -------------------------------------------------------------------------

    def status(self) -> PoolStatus:
        """The pool at this moment."""
        return self.server.status()

    def metrics(self) -> MetricsSnapshot:
        """Counts and latencies since the pool was opened. Reads only what is in memory.

        To be called in the pool's event loop, or when that stands still. In another thread use
        :mod:`redisutils.monitor.prometheus`, which asks the loop.
        """
        return self.server.snapshot()

    async def health(self, timeout: float = 1.0) -> HealthReport:
        """Look at the server, the way to it and the pool. Never raises for an unhealthy server.

        One round trip on the pool's own lane, for PING, TIME and INFO; cheap enough for every
        second, and asked for at once by many it is done once. A user who may not INFO or TIME
        learns less, which stands in ``notes``.

        Args:
            timeout: seconds for all of it.

        Raises:
            ConfigError: ``timeout`` is no number of seconds above 0.
            PoolClosed: the pool was never opened; one that was closed is unhealthy.
            WrongLoop
        """
        given: Any = timeout
        if not (isinstance(given, int | float) and 0 < given < inf):
            raise ConfigError(f"timeout={timeout!r} must be a number of seconds, more than 0")
        return await self.server.health(timeout)

    # -- deadpool's controls ---------------------------------------------------------------

    @property
    def post_create(self) -> list[Hook[Connection]]:
        """Hooks called with a new connection and its usage; raising refuses it."""
        return self.server.post_create

    @property
    def pre_recycle(self) -> list[Hook[Connection]]:
        """Hooks called before an idle connection is checked for reuse; raising discards it."""
        return self.server.pre_recycle

    @property
    def post_recycle(self) -> list[Hook[Connection]]:
        """Hooks called after it was found fit; raising discards it."""
        return self.server.post_recycle

    @property
    def timeouts(self) -> Timeouts:
        """Seconds for waiting, creating and recycling. May be replaced."""
        return self.server.timeouts

    @timeouts.setter
    def timeouts(self, timeouts: Timeouts) -> None:
        self.server.timeouts = timeouts

    def resize(self, max_size: int) -> None:
        """Change how many connections there may be, 1 to 10,000. Smaller: idle ones are closed
        now, checked-out ones when they come back.

        Raises:
            ConfigError
        """
        given: Any = max_size
        if type(given) is not int or not 1 <= given <= 10_000:
            raise ConfigError(f"resize({max_size!r}): must be a whole number from 1 to 10,000")
        self.server.resize(max_size)

    def retain(self, predicate: Callable[[Connection, Usage], bool]) -> RetainResult:
        """Close the idle connections for which ``predicate(connection, usage)`` is false."""
        result = self.server.retain(predicate)
        return RetainResult(result.retained, len(result.removed))


def _client_class(source: OpenSource) -> type[Redis]:
    if source.clustered:
        # Imported by those who have one.
        from redisutils.client.cluster import RedisCluster

        return RedisCluster
    return Redis
