"""``Redis``: redis-py's client on shared, multiplexed connections.

It *is a* ``redis.asyncio.Redis``: commands, response callbacks, scripts, locks and
pub/sub are redis-py's own. What differs is the road a command takes: see
:mod:`redisutils.client.road`.

Blocking commands take a connection of their own by themselves. Commands that change a
connection's state are refused, since the connection is everybody's.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any, Final, Self

from redis.exceptions import ResponseError

from redisutils.client.adapter import AdapterPool
from redisutils.client.arguments import kwargs_from_url, positive
from redisutils.client.pipeline import OwnConnection, Pipeline
from redisutils.client.road import Road
from redisutils.client.source import DeferredLane, LaneLike, LazySource
from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import pack
from redisutils.secret import hidden, hide
from redisutils.topology.server import DEFAULT_LANE

__all__ = ["Redis"]

_HELLO: Final = pack(("HELLO",))
"""Changes nothing by itself, and is allowed to every user."""


class Redis(Road):
    """redis-py's asyncio client at many times its speed. Safe to use from any number of tasks.

    ``Redis(host=…, port=…, …)`` and ``Redis.from_url(…)`` take what redis-py's take and
    open a pool of their own at first use, which ``aclose()`` closes. ``pool.client``,
    ``pool.lane()`` and ``pool.make_client()`` give clients of a pool that is open.

    Args:
        connection_pool: another client's ``connection_pool``, or one of redis-py's pools,
            whose arguments are taken over.
        single_connection_client: a connection for this client alone, on which commands
            that change its state are allowed.
        auto_close_connection_pool: whether ``aclose()`` closes the pool; by default it does
            unless ``connection_pool`` is another client's.
        event_dispatcher: redis-py's.
        ssl_context: beyond redis-py: a context of your own instead of the ``ssl_…`` arguments.
        retry_mode: beyond redis-py: ``"safe"``, ``"never"`` or ``"always"``; see
            :mod:`redisutils.retry`.
        circuit_breaker_seconds: beyond redis-py: after how many seconds without a sign of life
            calls that need a connection fail at once, default 5; None for never. See
            :mod:`redisutils.pool.breaker`.
        **kwargs: redis-py's. ``socket_timeout`` is the budget of a command as a whole,
            connecting and retrying included; ``max_connections`` bounds the pool.

    Raises:
        ConfigError: an argument that cannot be honoured, or has a wrong value.
        TypeError: an argument that nobody knows.
    """

    def __init__(
        self,
        *,
        connection_pool: Any = None,
        single_connection_client: bool = False,
        auto_close_connection_pool: bool | None = None,
        event_dispatcher: Any = None,
        **kwargs: Any,
    ) -> None:
        if auto_close_connection_pool is not None:
            warnings.warn(
                "auto_close_connection_pool is deprecated, as it is in redis-py: a client closes "
                "the pool that it opened, and from_pool() gives it one to close",
                DeprecationWarning,
                stacklevel=2,
            )
        kwargs = hide(kwargs)
        adapter = AdapterPool.of(connection_pool, kwargs)
        ours = connection_pool is None
        pool: Any = adapter  # redis-py's face, another class
        super().__init__(
            connection_pool=pool,
            single_connection_client=single_connection_client,
            event_dispatcher=event_dispatcher,
        )
        self.auto_close_connection_pool = ours and auto_close_connection_pool is not False
        self._private = None
        self._origin = None
        self._settle(adapter.source, DEFAULT_LANE)

    @classmethod
    def from_url(
        cls,
        url: str,
        single_connection_client: bool = False,
        auto_close_connection_pool: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A client for a URL, as redis-py's ``from_url``; ``valkey://`` and ``valkeys://`` too.

        Arguments in the URL's query win over ``kwargs``.
        """
        url = hidden(url)
        kwargs = hide(kwargs) | kwargs_from_url(url)
        return cls(
            single_connection_client=single_connection_client,
            auto_close_connection_pool=auto_close_connection_pool,
            **kwargs,
        )

    def __repr__(self) -> str:
        # There is none yet in the traceback of arguments that were refused.
        pool = getattr(self, "connection_pool", None)
        return f"<{type(self).__module__}.{type(self).__name__}({pool!r})>"

    # -- views -----------------------------------------------------------------------

    def with_timeout(self, seconds: float) -> Self:
        """A view of this client whose commands have ``seconds`` as their whole budget. Cheap:
        it shares everything, and need not be closed.

        Raises:
            ConfigError: ``seconds`` is not a positive number.
        """
        view = copy.copy(self)
        view._timeout = min(positive("with_timeout", seconds), FOREVER)
        view.auto_close_connection_pool = False
        view._origin = self if self._origin is None else self._origin
        if self.single_connection_client or isinstance(self._source, LazySource):
            # This client may be closed and used again, on another lane, and the view with it.
            view._lane = DeferredLane(self._current_lane)
        elif isinstance(self._lane, DeferredLane):
            view.defer()
        return view

    def _current_lane(self) -> LaneLike:
        return self._lane

    # -- what takes a connection of its own ------------------------------------------------

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that leave in one write and are answered together.

        With ``transaction`` (the default) they are wrapped in MULTI and EXEC. ``watch()`` takes
        a connection of the pipeline's own until it is executed or reset.
        """
        return Pipeline(self, transaction, shard_hint)

    async def _own_connection(self, args: Sequence[Any]) -> OwnConnection:
        """A connection for a pipeline alone, until it releases it.

        Args:
            args: a command that it will be used for.
        """
        return await self._source.server().checkouts_for(args).patiently(self._timeout)

    def client(self) -> Self:
        """A client on a connection of its own, on the same pool."""
        return type(self)(connection_pool=self.connection_pool, single_connection_client=True)

    # -- life ----------------------------------------------------------------------------

    async def initialize(self) -> Self:
        """Connect a single-connection client. Others connect at their first command."""
        if self.single_connection_client and not self._private_lane().connect_at_once():
            try:
                await self._private_lane().unwatched(_HELLO, False, self._timeout)
            except ResponseError:
                pass  # a server that does not know it: it is connected all the same
        return self

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give back what this client holds, and close its pool if it is its own."""
        private, self._private = self._private, None
        if private is not None:
            private.close()
        if close_connection_pool or (
            close_connection_pool is None and self.auto_close_connection_pool
        ):
            await self.connection_pool.aclose()
        self.defer()
