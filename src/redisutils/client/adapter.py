"""What stands behind ``client.connection_pool``: redis-py's pool interface on ours.

redis-py's own ``PubSub`` and ``Monitor`` work on it unchanged, and so does code that reads
``connection_pool.connection_kwargs`` or asks for an encoder.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol, Self

import redis.asyncio
from redis._parsers import Encoder
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.event import EventDispatcher
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.himport import HImportRegistry

from redisutils.address import Address
from redisutils.client.arguments import connect_options, driver_info, pool_settings, refuse_unknown
from redisutils.client.inbox import Inbox
from redisutils.client.plans import plan_from
from redisutils.client.source import LazySource, Source
from redisutils.client.vigil import Vigil
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectFailed, ConnectionLost, LeaseReleased, PoolTimeout
from redisutils.pool.pool import Lease
from redisutils.secret import hide

if TYPE_CHECKING:
    from redisutils.client.cluster_connection import ClusterConnection

__all__ = ["AdapterConnection", "AdapterPool"]

_SECRETS = frozenset(
    """password username ssl_password credential_provider sentinel_username
    sentinel_password""".split()
)


class _Client(Protocol):
    def defer(self) -> None: ...


class AdapterPool:
    """redis-py's ``ConnectionPool``, as far as clients and libraries look at it.

    Args:
        source: gives the server.
        connection_kwargs: redis-py's arguments, for those who read them.
    """

    connection_class = redis.asyncio.Connection

    def __init__(self, source: Source, connection_kwargs: dict[str, Any]) -> None:
        self.source = source
        self.connection_kwargs = connection_kwargs
        self.max_connections = source.settings.max_size
        self.himport_registry = HImportRegistry()
        self._event_dispatcher = connection_kwargs.get("event_dispatcher") or EventDispatcher()
        self._lent: weakref.WeakSet[AdapterConnection | ClusterConnection] = weakref.WeakSet()
        self.clients: weakref.WeakSet[_Client] = weakref.WeakSet()
        """Who must look for their lanes anew after the source was closed."""

    @classmethod
    def of(cls, given: Any, kwargs: dict[str, Any]) -> AdapterPool:
        """From a client's arguments: another adapter, one of redis-py's pools, or keywords.

        Raises:
            ConfigError, TypeError: see :mod:`redisutils.client.arguments`.
        """
        if isinstance(given, AdapterPool):
            return given
        if given is not None:
            shared = _TAKEN_OVER.get(given)
            if shared is not None and not kwargs:
                return shared
            kwargs = {
                **hide(given.connection_kwargs),
                "max_connections": given.max_connections,
                "connection_class": given.connection_class,
                **kwargs,
            }
            if hasattr(given, "timeout"):
                kwargs["timeout"] = given.timeout
            # A redis-py pool writes defaults of its own into its arguments.
            kwargs.pop("retry_on_error", None)
            kwargs.pop("maint_notifications_config", None)
            kwargs.pop("maint_notifications_pool_handler", None)
            kwargs.pop("orig_host_address", None)
            kwargs.pop("orig_socket_timeout", None)
            kwargs.pop("orig_socket_connect_timeout", None)
        refuse_unknown(kwargs)
        place = (
            {}
            if kwargs.get("path") or kwargs.get("unix_socket_path")
            else {"host": "localhost", "port": 6379}
        )
        if kwargs.keys() & {"driver_info", "lib_name", "lib_version"}:
            kwargs["driver_info"] = driver_info(kwargs)
        options = connect_options(kwargs)
        adapter = cls(
            LazySource(options, pool_settings(kwargs), plan_from(kwargs, options)),
            place | {"db": 0, "protocol": None} | kwargs,
        )
        if given is not None:
            _TAKEN_OVER[given] = adapter
        return adapter

    def __repr__(self) -> str:
        shown = ",".join(
            f"{name}={'<REDACTED>' if name in _SECRETS else value}"
            for name, value in self.connection_kwargs.items()
        )
        return f"<{type(self).__module__}.{type(self).__name__}({shown})>"

    def get_encoder(self) -> Encoder:
        """How strings are encoded and whether replies are decoded."""
        kwargs = self.connection_kwargs
        kind = kwargs.get("encoder_class", Encoder)
        encoder: Encoder = kind(
            kwargs.get("encoding", "utf-8"),
            kwargs.get("encoding_errors", "strict"),
            kwargs.get("decode_responses", False),
        )
        return encoder

    def get_protocol(self) -> Any:
        return self.connection_kwargs.get("protocol")

    def make_connection(self, home: Address | None = None) -> AdapterConnection | ClusterConnection:
        """A connection that is not connected yet.

        Args:
            home: of a cluster: see ``ClusterConnection``.
        """
        if not self.source.clustered:
            return AdapterConnection(self)
        # Imported by those who have one.
        from redisutils.client.cluster_connection import ClusterConnection

        return ClusterConnection(self.source, self.get_encoder(), _Pushes(), home)

    async def get_connection(
        self,
        command_name: Any = None,
        *keys: Any,
        home: Address | None = None,
        **options: Any,
    ) -> AdapterConnection | ClusterConnection:
        """A connection of the caller's own, connected. Raises as ``pool.get`` does."""
        connection = self.make_connection(home)
        await connection.connect()
        self._lent.add(connection)
        return connection

    async def release(self, connection: AdapterConnection | ClusterConnection) -> None:
        """Take it back."""
        self._lent.discard(connection)
        connection.retire()

    async def disconnect(self, inuse_connections: bool = True) -> None:
        """Close the connections; those that are needed again are opened again.

        Those of an open ``RedisPool`` belong to it: of them, only what is lent is closed.
        """
        if inuse_connections:
            for connection in list(self._lent):
                await connection.disconnect()
        await self._close_source()

    async def aclose(self) -> None:
        """Close what belongs to the client."""
        for connection in list(self._lent):
            connection.retire()
        await self._close_source()

    async def _close_source(self) -> None:
        await self.source.aclose()
        for client in list(self.clients):
            client.defer()

    def reset(self) -> None:
        """redis-py forgets its connections here; ours belong to their loop and mend themselves."""

    def can_get_connection(self) -> bool:
        return len(self._lent) < self.max_connections

    def get_connection_count(self) -> list[tuple[int, dict[str, str]]]:
        """For redis-py's observability."""
        return [(len(self._lent), {"db.client.connection.state": "used"})]

    def set_retry(self, retry: Any) -> None:
        """Repeat from now on as redis-py's ``retry`` says, within what is safe.

        Raises:
            ConfigError: the pool belongs to a ``RedisPool``, whose clients share its policy.
        """
        self.connection_kwargs["retry"] = retry
        self.source.set_policy(pool_settings(self.connection_kwargs).retry)

    async def re_auth_callback(self, token: Any) -> None:
        """New connections ask the credential provider by themselves."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


_TAKEN_OVER: weakref.WeakKeyDictionary[Any, AdapterPool] = weakref.WeakKeyDictionary()
"""redis-py's pools that clients were made from. Clients of one pool share one of ours, which goes
when that pool is collected: its own ``aclose`` does not know of it."""


class AdapterConnection:
    """redis-py's connection interface on one of our connections: send, and read what comes.

    For PubSub and MONITOR, where replies are no answers. It reconnects when told to
    (``connect``) and then calls its connect callbacks, by which PubSub subscribes anew.
    """

    def __init__(self, pool: AdapterPool) -> None:
        self._pool = pool
        kwargs = pool.connection_kwargs
        options, settings = pool.source.options, pool.source.settings
        self.host, self.port, self.db = options.host, options.port, options.database
        self.protocol = options.protocol
        self.encoder = pool.get_encoder()
        self.socket_timeout = settings.command_timeout
        backoff = settings.retry.backoff
        # Subscribing twice does no harm, so pub/sub may always try again.
        self.retry = Retry(
            ExponentialWithJitterBackoff(base=backoff.base, cap=backoff.cap),
            settings.retry.max_retries,
            # Of what redis-py repeats, not what was closed on purpose: that stays closed.
            (ConnectFailed, ConnectionLost, PoolTimeout, RedisTimeoutError),
        )
        interval = settings.health_check_interval
        self.health_check_interval = 0.0 if interval == inf else interval
        self.next_health_check = 0.0
        self._vigil = Vigil(interval, self.socket_timeout)
        self.client_name = kwargs.get("client_name")
        self.credential_provider = kwargs.get("credential_provider")
        self._parser = _Pushes()
        self._callbacks: list[weakref.WeakMethod[Callable[..., Any]]] = []
        self._lease: Lease[Connection] | None = None
        self._inbox: Inbox | None = None
        self._retired = False

    def __repr__(self) -> str:
        state = repr(self._lease.item) if self._lease is not None else "not connected"
        return f"<AdapterConnection {state}>"

    @property
    def is_connected(self) -> bool:
        return self._lease is not None and not self._lease.item.closed

    def register_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference not in self._callbacks:
            self._callbacks.append(reference)

    def deregister_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference in self._callbacks:
            self._callbacks.remove(reference)

    async def connect(self) -> None:
        """Take a connection from the pool if there is none, and call the connect callbacks."""
        if self.is_connected:
            return
        self.give_back()
        server = self._pool.source.server()
        lease = await server.checkouts_for(()).patiently(self.socket_timeout)
        self._lease = lease
        self._vigil.begin()
        self._retired = False
        # What this connection will be used for cannot be undone by recycling.
        lease.item.tainted = True
        self._inbox = Inbox(lease.item, decode=bool(self.encoder.decode_responses))
        self._postpone_health_check()
        for reference in list(self._callbacks):
            callback = reference()
            if callback is not None:
                result = callback(self)
                if inspect.isawaitable(result):
                    await result

    async def send_command(self, *args: Any, **_: Any) -> None:
        """Write a command; its answers come by :meth:`read_response`."""
        await self.send_packed_command(
            pack(args, self.encoder.encoding, self.encoder.encoding_errors)
        )

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()
        assert self._lease is not None
        payload = command if isinstance(command, bytes) else b"".join(command)
        self._lease.item.write(payload)

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """The next thing that the server sent.

        Args:
            timeout: seconds; None for the command timeout, ``inf`` for ever. When a
                timeout was given and nothing came, the answer is None.
        """
        inbox = self._inbox
        if inbox is None or not (self.is_connected or inbox):
            raise ConnectionLost("not connected: subscribe first, or connect()")
        bound = self.socket_timeout if timeout is None else timeout
        while True:
            try:
                value, is_push = await self._next(inbox, bound)
            except TimeoutError:
                if timeout is not None:
                    return None
                if disconnect_on_error:
                    await self.disconnect()
                raise RedisTimeoutError(f"nothing came from {self.host} within {bound} s") from None
            except BaseException as error:
                if disconnect_on_error:
                    await self.disconnect()
                if self._retired and isinstance(error, ConnectionLost):
                    raise LeaseReleased("the subscription was closed while it was read") from None
                raise
            if is_push and self._inbox is inbox:
                value = self._parser.handle(value)
                if inspect.isawaitable(value):
                    value = await value
                if not push_request:
                    continue
            break
        self._postpone_health_check()
        if isinstance(value, ResponseError | UnicodeDecodeError):
            raise value
        return value

    async def _next(self, inbox: Inbox, bound: float) -> tuple[Any, bool]:
        """The next item. While none comes to a subscription, see to it that its server lives."""
        if not self._callbacks or self._lease is None:  # MONITOR's; or what is left of a lost one
            return await inbox.get(bound)
        connection = self._lease.item
        end = monotonic() + bound
        while True:
            wait = max(0.0, end - monotonic())
            try:
                item = await inbox.get(min(wait, self._vigil.left(connection)))
            except TimeoutError:
                self._vigil.look(connection)
                if monotonic() >= end:
                    raise
            else:
                if not self._vigil.is_answer(item[0]):
                    return item

    async def can_read(self) -> bool:
        return bool(self._inbox) or not self.is_connected

    async def disconnect(self, nowait: bool = False, **_: Any) -> None:
        """Close the connection."""
        self.give_back()

    def give_back(self) -> None:
        """Let the pool close the connection: its state cannot be undone."""
        lease, self._lease = self._lease, None
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            inbox.detach()
        if lease is not None:
            lease.release(discard=True)

    def retire(self) -> None:
        """Give it back for good: whoever reads from it is told so, and does not reconnect."""
        self._retired = True
        self.give_back()

    def getpeername(self) -> str:
        return self.host

    def get_protocol(self) -> int:
        return self.protocol

    def _postpone_health_check(self) -> None:
        if self.health_check_interval:
            self.next_health_check = monotonic() + self.health_check_interval


class _Pushes:
    """redis-py's parser, as far as PubSub looks at it: who handles push messages."""

    def __init__(self) -> None:
        self._handler: Callable[[Any], Any] | None = None

    def set_pubsub_push_handler(self, handler: Callable[[Any], Awaitable[Any] | Any]) -> None:
        self._handler = handler

    def handle(self, message: Any) -> Any:
        return message if self._handler is None else self._handler(message)
