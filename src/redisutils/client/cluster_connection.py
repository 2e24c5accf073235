"""redis-py's connection interface on a cluster's subscriptions: PubSub works on it unchanged."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from redis._parsers import Encoder
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisClusterException, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redisutils.address import Address
from redisutils.client.confirmations import KINDS
from redisutils.client.source import Source
from redisutils.client.subscriptions import Subscriptions
from redisutils.client.vigil import Vigil
from redisutils.errors import (
    ConnectFailed,
    ConnectionLost,
    LeaseReleased,
    Outcome,
    PoolTimeout,
    with_outcome,
)
from redisutils.topology.cluster.cluster import Cluster

__all__ = ["ClusterConnection"]


class _Handling(Protocol):
    """redis-py's parser, as far as PubSub looks at it: who handles push messages."""

    def set_pubsub_push_handler(self, handler: Callable[[Any], Any]) -> None: ...

    def handle(self, message: Any) -> Any: ...


class ClusterConnection:
    """Stands for a connection to each node that something is subscribed to at.

    What is lost comes back by itself, wherever it belongs by then. A node that stays unreachable
    is told to the reader.

    Args:
        source: gives the cluster.
        encoder: how strings are encoded and replies decoded.
        parser: handles push messages.
        home: the node for all that is no shard channel; None for any.
    """

    credential_provider = None
    client_name = None
    # The nodes are seen to while somebody reads: redis-py's PubSub need not.
    health_check_interval = 0.0
    next_health_check = 0.0

    def __init__(
        self, source: Source, encoder: Encoder, parser: _Handling, home: Address | None = None
    ) -> None:
        self._source = source
        self._home = home
        self.encoder = encoder
        self._parser = parser
        options, settings = source.options, source.settings
        self.host, self.port, self.db = options.host, options.port, options.database
        self.protocol = options.protocol
        self.socket_timeout = settings.command_timeout
        backoff = settings.retry.backoff
        self.retry = Retry(
            ExponentialWithJitterBackoff(base=backoff.base, cap=backoff.cap),
            settings.retry.max_retries,
            (ConnectFailed, ConnectionLost, PoolTimeout, RedisTimeoutError),
        )
        self._callbacks: list[weakref.WeakMethod[Callable[..., Any]]] = []
        self._subscriptions: Subscriptions | None = None
        self._retired = False

    def __repr__(self) -> str:
        subscriptions = self._subscriptions
        state = "not connected" if subscriptions is None else repr(subscriptions)
        return f"<ClusterConnection {state}>"

    def __del__(self) -> None:
        subscriptions = self._subscriptions
        if subscriptions is not None and not subscriptions.closed:
            loop = subscriptions.loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(subscriptions.close)

    @property
    def is_connected(self) -> bool:
        return self._subscriptions is not None

    def register_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference not in self._callbacks:
            self._callbacks.append(reference)

    def deregister_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference in self._callbacks:
            self._callbacks.remove(reference)

    async def connect(self) -> None:
        """Know who is there. Connections are made when they are needed."""
        if self._subscriptions is not None:
            return
        cluster = self._source.server()
        assert isinstance(cluster, Cluster)
        await cluster.mapped(self.socket_timeout)
        if self._home is not None and cluster.member_at(self._home) is None:
            error = RedisClusterException(f"node {self._home} is not in {cluster.name}")
            raise with_outcome(error, Outcome.NOT_SENT)
        # Nobody who is kept by the connections may keep us: see __del__.
        interval = self._source.settings.health_check_interval
        patience = self._source.settings.command_timeout
        self._retired = False
        self._subscriptions = Subscriptions(
            cluster,
            decode=bool(self.encoder.decode_responses),
            fixed=self._home,
            vigil=lambda: Vigil(interval, patience),
            patience=self.socket_timeout,
        )
        for reference in list(self._callbacks):
            callback = reference()
            if callback is not None:
                result = callback(self)
                if inspect.isawaitable(result):
                    await result

    async def send_command(self, *args: Any, **_: Any) -> None:
        """Subscribe, unsubscribe, or say something at the home."""
        if self._subscriptions is None:
            await self.connect()
        assert self._subscriptions is not None
        verb = str(args[0]).lower()
        kind = verb.replace("unsubscribe", "subscribe")
        if kind not in KINDS:
            await self._subscriptions.say(*args)
            return
        encode: Callable[[Any], bytes] = self.encoder.encode
        names = [bytes(encode(name)) for name in args[1:]]
        if verb == kind:
            await self._subscriptions.subscribe(kind, names)
        else:
            self._subscriptions.unsubscribe(kind, names)

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """The next thing that came from any node.

        Args:
            timeout: seconds; None for the command timeout, ``inf`` for ever. When a
                timeout was given and nothing came, the answer is None.
        """
        bound = self.socket_timeout if timeout is None else timeout
        while True:
            subscriptions = self._subscriptions
            if subscriptions is None:
                raise ConnectionLost("not connected: subscribe first, or connect()")
            try:
                value, is_push = await self._next(subscriptions, bound)
            except TimeoutError:
                if timeout is not None:
                    return None
                raise RedisTimeoutError(f"nothing came within {bound} s") from None
            except ConnectionLost:
                if self._retired:
                    told = "the subscription was closed while it was read"
                    raise LeaseReleased(told) from None
                raise
            if is_push:
                value = self._parser.handle(value)
                if inspect.isawaitable(value):
                    value = await value
                if not push_request:
                    continue
            if isinstance(value, RedisError | UnicodeDecodeError):
                raise value
            return value

    @staticmethod
    async def _next(subscriptions: Subscriptions, bound: float) -> tuple[Any, bool]:
        """The next item. While none comes, see to it that the nodes live."""
        end = monotonic() + bound
        while True:
            wait = max(0.0, end - monotonic())
            try:
                return await subscriptions.get(min(wait, subscriptions.left()))
            except TimeoutError:
                subscriptions.look()
                if monotonic() >= end:
                    raise

    async def can_read(self) -> bool:
        return bool(self._subscriptions)

    async def disconnect(self, nowait: bool = False, error: Any = None, **_: Any) -> None:
        """Close the connections. Not for an ``error``: what was lost comes back by itself."""
        if error is None:
            self._end()

    def _end(self) -> None:
        subscriptions, self._subscriptions = self._subscriptions, None
        if subscriptions is not None:
            subscriptions.close()
            subscriptions.end(ConnectionLost("the connections were given back"))

    def retire(self) -> None:
        """Give them back for good: whoever reads is told so."""
        self._retired = True
        self._end()

    def getpeername(self) -> str:
        return self.host

    def get_protocol(self) -> int:
        return self.protocol
