"""What stands behind ``client.connection_pool``: redis-py's pool interface on ours.

redis-py's own ``PubSub`` and ``Monitor`` work on it unchanged, and so does code that reads
``connection_pool.connection_kwargs`` or asks for an encoder.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, Protocol, Self

import redis.asyncio
from redis._parsers import Encoder
from redis.event import EventDispatcher
from redis.himport import HImportRegistry

from redisutils.address import Address
from redisutils.client.adapter_connection import AdapterConnection
from redisutils.client.arguments import connect_options, driver_info, pool_settings, refuse_unknown
from redisutils.client.plans import plan_from
from redisutils.client.source import LazySource, Source
from redisutils.secret import hide

if TYPE_CHECKING:
    from redisutils.client.cluster_connection import ClusterConnection

__all__ = ["AdapterPool"]

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
            return AdapterConnection(self.source, self.get_encoder(), self.connection_kwargs)
        # Imported by those who have one.
        from redisutils.client.cluster_connection import ClusterConnection

        return ClusterConnection(self.source, self.get_encoder(), home)

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
