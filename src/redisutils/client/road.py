"""The road of a command: it is packed, handed to a lane (one connection for all tasks), and its
reply is awaited.

There is no checkout, no lock and no timer per command. What there is to know of a command is found
out when it is issued for the first time; of most, the name says it all from then on.
"""

from __future__ import annotations

import asyncio
import warnings
import weakref
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import redis.asyncio
from hiredis import pack_command
from redis._parsers.response_callbacks import get_response_callbacks
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import RedisError, ResponseError

from redisutils.client.adapter import AdapterPool
from redisutils.client.callbacks import ResponseCallbacks, settled, shape
from redisutils.client.refusals import refuse_shared, refuse_unanswered
from redisutils.client.source import DeferredLane, LaneLike, Source, lane_of
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
from redisutils.topology.plan import ReadFrom
from redisutils.topology.server import PrivateLane, Redirected

__all__ = ["Road"]

_MOST_REDIRECTS: Final = 16
"""How often a blocking command is sent on from server to server."""

_UNKNOWN: Final = object()

_GET: Final = [f"*2\r\n$3\r\nGET\r\n${length}\r\n" for length in range(256)]
"""How a GET begins on the wire, by the length of its key: a number is slow to turn into text."""


class Road(redis.asyncio.Redis):
    """The part of our client that issues commands. See :class:`~redisutils.client.redis.Redis`."""

    connection_pool: AdapterPool  # type: ignore[assignment]  # redis-py's face, another class
    _private: PrivateLane | None
    """Of a client on a connection of its own."""
    _origin: Road | None
    """Of a view: whose."""

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
        source.options.dialect.listen(self, Road._speak)
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
        if cls.execute_command is not Road.execute_command and cls.get is Road.get:
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


def _close_dropped(lane: PrivateLane) -> None:
    """Its client was collected."""
    if lane.closed or lane.loop.is_closed():
        return
    warnings.warn("a single-connection client was never closed", ResourceWarning, stacklevel=2)
    lane.loop.call_soon_threadsafe(lane.close)
