"""``Redis``: redis-py's client on shared, multiplexed connections.

It *is a* ``redis.asyncio.Redis``: commands, response callbacks, scripts, locks and
pub/sub are redis-py's own. What differs is the road a command takes: it is packed,
handed to a lane (one connection for all tasks) and its reply awaited. There is no
checkout, no lock and no timer per command.

Blocking commands take a connection of their own by themselves. Commands that change a
connection's state are refused, since the connection is everybody's.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable
from typing import Any, Self

import redis.asyncio
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import ResponseError

from redisutils.client.adapter import AdapterPool
from redisutils.client.arguments import kwargs_from_url
from redisutils.client.pipeline import Pipeline
from redisutils.client.source import DeferredLane, LaneLike, Source
from redisutils.commands import Command, block_timeout, is_blocking, is_repeatable, lookup
from redisutils.connection.packing import pack
from redisutils.connection.protocol import FOREVER
from redisutils.errors import ConfigError, NotSharable, Outcome, with_outcome
from redisutils.pool.lane import Lane
from redisutils.topology.standalone import DEFAULT_LANE

__all__ = ["Redis"]


class Redis(redis.asyncio.Redis):
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
            unless ``connection_pool`` was given.
        event_dispatcher: redis-py's.
        ssl_context: beyond redis-py: a context of your own instead of the ``ssl_…`` arguments.
        retry_mode: beyond redis-py: ``"safe"``, ``"never"`` or ``"always"``; see
            :mod:`redisutils.retry`.
        **kwargs: redis-py's. ``socket_timeout`` is the budget of a command as a whole,
            connecting and retrying included; ``max_connections`` bounds the pool.

    Raises:
        ConfigError: an argument that cannot be honoured, or has a wrong value.
        TypeError: an argument that nobody knows.
    """

    connection_pool: AdapterPool  # type: ignore[assignment]  # the same face, another class

    def __init__(
        self,
        *,
        connection_pool: Any = None,
        single_connection_client: bool = False,
        auto_close_connection_pool: bool | None = None,
        event_dispatcher: Any = None,
        **kwargs: Any,
    ) -> None:
        ours = connection_pool is None
        adapter = AdapterPool.of(connection_pool, kwargs)
        super().__init__(
            connection_pool=adapter,  # type: ignore[arg-type]
            single_connection_client=single_connection_client,
            event_dispatcher=event_dispatcher,
        )
        self.auto_close_connection_pool = (
            ours if auto_close_connection_pool is None else auto_close_connection_pool
        )
        self._private: Lane | None = None
        self._settle(adapter.source, DEFAULT_LANE)

    def _settle(self, source: Source, lane_name: str) -> None:
        """What the road of a command needs, looked up once."""
        encoder = self.connection_pool.get_encoder()
        self._source = source
        self._lane_name = lane_name
        self._decode = bool(encoder.decode_responses)
        self._encoding = (encoder.encoding, encoder.encoding_errors)
        self._timeout = min(source.settings.command_timeout, FOREVER)
        # dict's own get: the subclass's upper-cases in Python, for every command.
        self._callback: Callable[[Any], Any] = functools.partial(dict.get, self.response_callbacks)
        self._defer()

    def _defer(self) -> None:
        """Open the lane at the next command."""
        self._lane: LaneLike = DeferredLane(self._source, self._opened, self._lane_name)

    def _opened(self, lane: LaneLike) -> None:
        self._lane = lane

    @classmethod
    def from_url(  # type: ignore[override]
        cls,
        url: str,
        single_connection_client: bool = False,
        auto_close_connection_pool: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """A client for a URL, as redis-py's ``from_url``; ``valkey://`` and ``valkeys://`` too.

        Arguments in the URL's query win over ``kwargs``.
        """
        return cls(
            single_connection_client=single_connection_client,
            auto_close_connection_pool=auto_close_connection_pool,
            **(kwargs | kwargs_from_url(url)),
        )

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__name__}({self.connection_pool!r})>"

    # -- views -----------------------------------------------------------------------

    def with_timeout(self, seconds: float) -> Self:
        """A view of this client whose commands have ``seconds`` as their whole budget. Cheap:
        it shares everything, and need not be closed.

        Raises:
            ConfigError: ``seconds`` is not a positive number.
        """
        if not (isinstance(seconds, int | float) and seconds > 0):
            raise ConfigError(f"with_timeout({seconds!r}): must be a number of seconds above 0")
        view = copy.copy(self)
        view._timeout = min(float(seconds), FOREVER)
        view.auto_close_connection_pool = False
        return view

    # -- the road of a command -----------------------------------------------------------

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Issue a command by name and return its reply as redis-py shapes it.

        Raises:
            redis.ResponseError and its kin: the server's refusal.
            CommandTimeout, ConnectionLost, ConnectFailed: as ``outcome`` says.
            NotSharable: the command needs a connection of its own.
            redis.DataError: an argument cannot be encoded.
        """
        command = lookup(args)
        if command.stateful or command.blocking:
            return await self._execute_apart(command, args, options)
        payload = pack(args, *self._encoding)
        reply = self._lane.submit(
            payload,
            self._decode and NEVER_DECODE not in options,
            command.repeatable or is_repeatable(command, args),
            self._timeout,
        )
        try:
            response = await reply
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        shaped = self._shape(response, args[0], options)
        return await shaped if hasattr(shaped, "__await__") else shaped

    async def _execute_apart(
        self, command: Command, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """A command that blocks or changes its connection's state, or that might."""
        payload = pack(args, *self._encoding)
        timeout = self._timeout
        blocking = is_blocking(command, args)
        if blocking:
            waits = block_timeout(command, args)
            timeout = FOREVER if waits is None else min(FOREVER, timeout + waits)
        lease = None
        lane = self._lane
        if self.single_connection_client:
            if command.stateful:
                self._private_lane().taint()
        elif command.stateful:
            raise NotSharable(
                f"{command.name} changes the state of its connection, and this client's is "
                f"shared by all tasks: {command.advice}"
            )
        elif blocking:
            lease = await self._source.server().checkout_patiently(self._timeout)
            lane = lease.item
        try:
            response = await lane.submit(
                payload,
                self._decode and NEVER_DECODE not in options,
                not blocking and is_repeatable(command, args),
                timeout,
            )
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        finally:
            # A caller that goes away leaves the answer owed: such a connection is not reused
            # but closed, and the server stops waiting on its behalf.
            if lease is not None:
                lease.release()
        shaped = self._shape(response, args[0], options)
        return await shaped if hasattr(shaped, "__await__") else shaped

    def _shape(self, response: Any, name: Any, options: dict[str, Any]) -> Any:
        """The reply as redis-py shapes it for this command: a value, or an awaitable of it."""
        callback = self._callback(name)
        if callback is None:
            if type(name) is not str or name.isupper():
                return response
            callback = self._callback(name.upper())
            if callback is None:
                return response
        if options:
            options.pop("keys", None)  # for client-side caching only
            options.pop(NEVER_DECODE, None)
            options.pop(EMPTY_RESPONSE, None)
        try:
            return callback(response, **options)
        except Exception as error:
            raise with_outcome(error, Outcome.EXECUTED)

    # -- what takes a connection of its own ------------------------------------------------

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        """Commands that leave in one write and are answered together.

        With ``transaction`` (the default) they are wrapped in MULTI and EXEC. ``watch()`` takes
        a connection of the pipeline's own until it is executed or reset.
        """
        return Pipeline(self, transaction, shard_hint)

    def client(self) -> Self:
        """A client on a connection of its own, on the same pool."""
        return type(self)(connection_pool=self.connection_pool, single_connection_client=True)

    # -- life ----------------------------------------------------------------------------

    async def initialize(self) -> Self:
        """Nothing is opened before the first command; a single connection is reserved here."""
        if self.single_connection_client:
            self._private_lane()
        return self

    def _private_lane(self) -> Lane:
        if self._private is None or self._private.closed:
            self._private = self._source.server().private_lane("single connection")
            self._lane = self._private
        return self._private

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give back what this client holds, and close its pool if it is its own."""
        private, self._private = self._private, None
        if private is not None:
            private.close()
        if close_connection_pool or (
            close_connection_pool is None and self.auto_close_connection_pool
        ):
            await self.connection_pool.aclose()
        self._defer()
