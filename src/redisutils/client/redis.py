"""``Redis``: redis-py's client on shared, multiplexed connections.

It *is a* ``redis.asyncio.Redis``: commands, response callbacks, scripts, locks and
pub/sub are redis-py's own. What differs is the road a command takes: it is packed,
handed to a lane (one connection for all tasks) and its reply awaited. There is no
checkout, no lock and no timer per command.

Blocking commands take a connection of their own by themselves. Commands that change a
connection's state are refused, since the connection is everybody's.
"""

from __future__ import annotations

import asyncio
import copy
import warnings
import weakref
from collections.abc import Sequence
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Self

import redis.asyncio
from hiredis import pack_command
from redis._parsers.response_callbacks import get_response_callbacks
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

from redisutils.client.adapter import AdapterPool
from redisutils.client.arguments import kwargs_from_url, positive
from redisutils.client.callbacks import ResponseCallbacks, settled, shape
from redisutils.client.pipeline import OwnConnection, Pipeline
from redisutils.client.refusals import refuse_shared, refuse_unanswered
from redisutils.client.source import DeferredLane, LaneLike, LazySource, Source, lane_of
from redisutils.commands import (
    Command,
    block_timeout,
    is_blocking,
    is_container,
    lookup,
    may_write,
)
from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import OwnPayload, pack
from redisutils.errors import CommandTimeout, ConfigError, code_of
from redisutils.secret import hidden, hide
from redisutils.topology.plan import ReadFrom
from redisutils.topology.server import DEFAULT_LANE, PrivateLane, Redirected

__all__ = ["Redis"]


_MOST_REDIRECTS: Final = 16
"""How often a blocking command is sent on from server to server."""

_UNKNOWN: Final = object()

_HELLO: Final = pack(("HELLO",))
"""Changes nothing by itself, and is allowed to every user."""

_GET: Final = [f"*2\r\n$3\r\nGET\r\n${length}\r\n" for length in range(256)]
"""How a GET begins on the wire, by the length of its key: a number is slow to turn into text."""


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
        super().__init__(
            connection_pool=adapter,  # type: ignore[arg-type]
            single_connection_client=single_connection_client,
            event_dispatcher=event_dispatcher,
        )
        self.auto_close_connection_pool = ours and auto_close_connection_pool is not False
        self._private: PrivateLane | None = None
        self._origin: Redis | None = None  # of a view: whose
        self._settle(adapter.source, DEFAULT_LANE)

    def _settle(self, source: Source, lane_name: str, read_from: ReadFrom | None = None) -> None:
        """What the road of a command needs, looked up once."""
        encoder = self.connection_pool.get_encoder()
        self._source = source
        self._lane_name = lane_name
        self._read_from = read_from
        self._decode = bool(encoder.decode_responses)
        self._encoding = (encoder.encoding, encoder.encoding_errors)
        self._timeout = min(source.settings.command_timeout, FOREVER)
        # The response callback, or None, of each ordinary command that was issued: see _learn.
        self._roads: dict[Any, Any] = {}
        self._shapes = ResponseCallbacks(self.response_callbacks, self._roads.clear)
        self.response_callbacks = self._shapes
        source.options.dialect.listen(self, Redis._speak)
        self.connection_pool.clients.add(self)
        self.defer()

    def _speak(self, version: int) -> None:
        """The server speaks another RESP version than it was asked for, or does so again: replies
        keep the shapes that were asked for, as far as RESP2 can tell them."""
        kwargs = self.connection_pool.connection_kwargs
        self._shapes.exchange(
            *(
                get_response_callbacks(
                    kwargs.get("protocol") if spoken == 3 else 2,
                    bool(kwargs.get("legacy_responses", True)),
                )
                for spoken in (5 - version, version)
            )
        )

    def defer(self) -> None:
        """Look for the lane anew at the next command."""
        self._lane: LaneLike = DeferredLane(self._open_lane)

    def _open_lane(self) -> LaneLike:
        """The lane that commands use from now on."""
        if self.single_connection_client:
            return self._private_lane()
        lane = self._lane = self._source.server().lane_for(self._lane_name, self._read_from)
        return lane

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

    # -- the road of a command -----------------------------------------------------------

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Issue a command by name and return its reply as redis-py shapes it.

        Raises:
            redis.ResponseError and its kin: the server's refusal.
            CommandTimeout, ConnectionLost, ConnectFailed: as ``outcome`` says.
            NotSharable: the command needs a connection of its own.
            redis.DataError: an argument cannot be encoded.
        """
        if options and "target_nodes" in options:
            return await self._execute_at(args, options)
        name = args[0]
        callback = self._roads.get(name, _UNKNOWN) if type(name) is str else _UNKNOWN
        if callback is _UNKNOWN:
            return await self._execute_carefully(args, options)
        try:
            payload = pack_command(args)
        except (TypeError, UnicodeEncodeError):
            payload = pack(args)  # it takes more, and says what is wrong
        try:
            submit = self._lane.submit  # a slot that holds a function: load it, then call it
            response = await submit(
                payload, self._decode and NEVER_DECODE not in options, self._timeout
            )
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        if callback is None:
            return response
        shaped = shape(callback, response, options)
        return await settled(shaped) if hasattr(shaped, "__await__") else shaped

    async def _execute_at(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Issue a command at certain nodes. See :class:`redisutils.RedisCluster`."""
        targets = options.pop("target_nodes")
        if not targets:
            return await self.execute_command(*args, **options)
        raise ConfigError(
            f"target_nodes={targets!r}: only the client of a cluster (RedisCluster, or a pool's "
            "client with REDIS_MODE=cluster) can choose between nodes"
        )

    async def get(self, name: Any) -> Any:
        """redis-py's ``get``, on a shorter path: the command that is issued most."""
        if self._roads.get("GET", _UNKNOWN) is not None:  # unknown yet, or it has a callback
            return await self.execute_command("GET", name, keys=[name])
        if type(name) is str and (length := len(name)) < 256 and name.isascii():
            payload = f"{_GET[length]}{name}\r\n".encode()
        else:
            payload = pack(("GET", name))
        submit = self._lane.submit  # a slot that holds a function: load it, then call it
        return await submit(payload, self._decode, self._timeout)

    if not TYPE_CHECKING:  # which is to see redis-py's own signature

        @wraps(redis.asyncio.Redis.set)
        def set(self, name, value, ex=None, *args, **options):
            # A shorter path when there is no option but a whole number of seconds.
            if args or options or (ex is not None and type(ex) is not int):
                return super().set(name, value, ex, *args, **options)
            if ex is None:
                return self.execute_command("SET", name, value)
            return self.execute_command("SET", name, value, "EX", ex)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """A subclass with an ``execute_command`` of its own sees every command go through it."""
        super().__init_subclass__(**kwargs)
        if cls.execute_command is not Redis.execute_command and cls.get is Redis.get:
            # redis-py's is overloaded for its blocking client too, which ours is not.
            cls.get = redis.asyncio.Redis.get  # type: ignore[method-assign, assignment]

    def _learn(self, command: Command, name: Any) -> None:
        """Let the next command of this name take the short path, if the name says all there is
        to know: it is no container's, does not block, and changes no state."""
        if (
            type(name) is str
            and self._encoding == ("utf-8", "strict")
            and command.known
            and not (command.stateful or command.blocking)
            and command.name == name.upper()
            and not is_container(name)
            and " " not in name
        ):
            self._roads[name] = self.response_callbacks.get(name)

    async def _execute_carefully(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Any command, with all that there is to find out about it."""
        command = lookup(args)
        self._learn(command, args[0])
        refuse_unanswered(command)
        timeout = self._budget(command, args)
        blocking = is_blocking(command, args)
        if self.single_connection_client:
            lane = self._private_lane()
            if command.stateful:
                lane.taint()
            try:
                return await self._ask(lane, args, options, timeout)
            except (asyncio.CancelledError, CommandTimeout):
                if blocking:
                    lane.abandon()  # nobody waits for it any more, and it holds up the next
                raise
        refuse_shared(command)
        if not blocking:
            return await self._ask(self._lane, args, options, timeout)
        return await self._execute_blocking(args, options, timeout)

    async def _execute_blocking(
        self, args: tuple[Any, ...], options: dict[str, Any], timeout: float
    ) -> Any:
        """A command that blocks, on a connection of its own."""
        pack(args, *self._encoding)  # bad arguments are told before a connection is taken
        server = self._source.server()
        policy = server.settings.retry
        redirected: Redirected | None = None
        started = monotonic()
        attempts = redirects = 0
        while True:
            spent = monotonic() - started
            checkouts = server.checkouts_for(args) if redirected is None else redirected.checkouts
            lease = await checkouts.patiently(self._timeout - spent)
            try:
                spent = monotonic() - started
                lane = lane_of(lease.item)
                if redirected is not None:
                    lane = redirected.lane_over(lane)
                return await self._ask(lane, args, options, timeout - spent, OwnPayload)
            except RedisError as error:
                redirected = server.redirected(error) if redirects < _MOST_REDIRECTS else None
                if redirected is not None:
                    server.metrics.retried(code_of(error))
                    redirects += 1
                    started = monotonic()  # it may have waited long where it was
                    continue
                attempts += 1
                delay = policy.backoff.delay(attempts)
                repeated = policy.may_repeat_rejected(code_of(error))
                in_time = monotonic() - started + delay < self._timeout
                if not repeated or attempts > policy.max_retries or not in_time:
                    if isinstance(error, CommandTimeout):
                        server.metrics.ran_out(error)
                    server.metrics.failed(error, may_write=lambda: may_write(args))
                    raise
                server.metrics.retried(code_of(error))
            finally:
                # A caller that goes away leaves the answer owed: such a connection is not reused
                # but closed, and the server stops waiting on its behalf.
                lease.release()
            await asyncio.sleep(delay)

    def _budget(self, command: Command, args: tuple[Any, ...]) -> float:
        """The seconds that a command has: for one that blocks, on top of what it asks for."""
        if not is_blocking(command, args):
            return self._timeout
        waits = block_timeout(command, args)
        return FOREVER if waits is None else min(FOREVER, self._timeout + waits)

    async def _ask(
        self,
        lane: LaneLike,
        args: tuple[Any, ...],
        options: dict[str, Any],
        timeout: float,
        kind: type[bytes] = bytes,
    ) -> Any:
        """Issue a command on ``lane`` and shape its reply.

        Args:
            kind: ``OwnPayload`` for one attempt of several, of which only the last is told.
        """
        payload = kind(pack(args, *self._encoding))
        try:
            response = await lane.submit(
                payload, self._decode and NEVER_DECODE not in options, timeout
            )
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        shaped = self._shape(response, args[0], options)
        return await settled(shaped) if hasattr(shaped, "__await__") else shaped

    def _shape(self, response: Any, name: Any, options: dict[str, Any]) -> Any:
        """The reply as redis-py shapes it for this command: a value, or an awaitable of it."""
        callback = self.response_callbacks.get(name) if isinstance(name, str) else None
        return response if callback is None else shape(callback, response, options)

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

    def _private_lane(self) -> PrivateLane:
        if self._origin is not None:
            return self._origin._private_lane()
        if self._private is None or self._private.closed:
            self._private = self._source.server().private_lane("single connection")
            self._lane = self._private
            # Should the client be dropped without aclose(): the connection knows its lane, and the
            # loop the connection, so that nobody else would ever close it.
            weakref.finalize(self, _close_dropped, self._private)
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
        self.defer()


def _close_dropped(lane: PrivateLane) -> None:
    """Its client was collected."""
    if lane.closed or lane.loop.is_closed():
        return
    warnings.warn("a single-connection client was never closed", ResourceWarning, stacklevel=2)
    lane.loop.call_soon_threadsafe(lane.close)
