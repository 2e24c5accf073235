"""redis-py's connection interface, as far as those use it who listen: PubSub and MONITOR.

They send, and read what comes; what comes is no answer to what was sent.
"""

from __future__ import annotations

import asyncio
import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from math import inf
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from redis._parsers import Encoder
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redisutils.client.inbox import Mail
from redisutils.client.source import Source
from redisutils.errors import ConnectFailed, ConnectionLost, LeaseReleased, PoolTimeout

__all__ = ["Listening"]

M = TypeVar("M", bound=Mail)

_REPEATED: Final = (ConnectFailed, ConnectionLost, PoolTimeout, RedisTimeoutError)
"""Of what redis-py repeats, not what was closed on purpose: that stays closed."""


class Listening(ABC, Generic[M]):
    """Takes what it reads from as ``connect()`` is called, and calls its connect callbacks then,
    by which PubSub subscribes anew.

    Args:
        source: gives the server, or the servers.
        encoder: how strings are encoded and replies decoded.
    """

    credential_provider: Any = None
    client_name: str | None = None
    health_check_interval = 0.0
    next_health_check = 0.0

    def __init__(self, source: Source, encoder: Encoder) -> None:
        self._source = source
        self.encoder = encoder
        options, settings = source.options, source.settings
        self.host, self.port, self.db = options.host, options.port, options.database
        self.protocol = options.protocol
        self.socket_timeout = settings.command_timeout
        backoff = settings.retry.backoff
        # Subscribing twice does no harm, so pub/sub may always try again.
        self.retry = Retry(
            ExponentialWithJitterBackoff(base=backoff.base, cap=backoff.cap),
            settings.retry.max_retries,
            _REPEATED,
        )
        self._parser = _Pushes()
        self._callbacks: list[weakref.WeakMethod[Callable[..., Any]]] = []
        self._mail: M | None = None
        self._opening = asyncio.Lock()
        self._retired = False

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """Whether there is something to read from that lives."""

    @abstractmethod
    async def _open(self) -> M:
        """Have something to read from."""

    @abstractmethod
    def give_back(self) -> None:
        """Let it go, and end it: a reader that waits is told."""

    @abstractmethod
    async def send_command(self, *args: Any, **_: Any) -> None:
        """Write a command; its answers come by :meth:`read_response`."""

    def register_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference not in self._callbacks:
            self._callbacks.append(reference)

    def deregister_connect_callback(self, callback: Callable[..., Any]) -> None:
        reference = weakref.WeakMethod(callback)
        if reference in self._callbacks:
            self._callbacks.remove(reference)

    async def connect(self) -> None:
        """Have something to read from if there is nothing, and call the connect callbacks."""
        async with self._opening:  # for all who notice a loss at the same time
            if self.is_connected:
                return
            self._mail = await self._open()
            self._retired = False
        for reference in list(self._callbacks):
            callback = reference()
            if callback is not None:
                result = callback(self)
                if inspect.isawaitable(result):
                    await result

    async def read_response(
        self,
        disable_decoding: bool = False,
        timeout: float | None = None,
        *,
        disconnect_on_error: bool = True,
        push_request: bool | None = False,
    ) -> Any:
        """The next thing that came.

        Args:
            timeout: seconds; None for the command timeout, ``inf`` for ever. When a
                timeout was given and nothing came, the answer is None.
        """
        mail = self._mail
        if mail is None or not (self.is_connected or mail):
            raise ConnectionLost("not connected: subscribe first, or connect()")
        bound = self.socket_timeout if timeout is None else timeout
        while True:
            try:
                value, is_push = await self._next(mail, bound)
            except TimeoutError:
                if timeout is not None:
                    return None
                late = RedisTimeoutError(f"nothing came within {bound} s to {self!r}")
                if disconnect_on_error:
                    await self.disconnect(error=late)
                raise late from None
            except BaseException as error:
                # Of a reader that was cancelled, too, the connection is given back: what he had
                # asked for would be taken for the next one's answer.
                if disconnect_on_error:
                    await self.disconnect(error=error)
                if self._retired and isinstance(error, ConnectionLost):
                    raise LeaseReleased("the subscription was closed while it was read") from None
                raise
            if is_push and self._mail is mail:
                value = self._parser.handle(value)
                if inspect.isawaitable(value):
                    value = await value
                if not push_request:
                    continue
            if isinstance(value, RedisError | UnicodeDecodeError):
                raise value
            return value

    async def _next(self, mail: M, bound: float) -> tuple[Any, bool]:
        """The next item. While none comes to a subscription, see to it that its server lives:
        MONITOR, which has no callbacks, is told of losses only."""
        end = monotonic() + bound
        while True:
            wait = max(0.0, end - monotonic())
            try:
                return await mail.get(min(wait, mail.left() if self._callbacks else inf))
            except TimeoutError:
                if self._callbacks:
                    mail.look()
                if monotonic() >= end:
                    raise

    async def can_read(self) -> bool:
        """Whether a read would not have to wait."""
        return bool(self._mail) or not self.is_connected

    async def disconnect(
        self, nowait: bool = False, error: BaseException | None = None, **_: Any
    ) -> None:
        """Close what there is.

        Args:
            error: why, if it is not that it is not wanted any more.
        """
        self.give_back()

    def retire(self) -> None:
        """Give it back for good: whoever reads from it is told so, and does not reconnect."""
        self._retired = True
        self.give_back()

    def getpeername(self) -> str:
        return self.host

    def get_protocol(self) -> int:
        return self.protocol


class _Pushes:
    """redis-py's parser, as far as PubSub looks at it: who handles push messages."""

    def __init__(self) -> None:
        self._handler: Callable[[Any], Any] | None = None

    def set_pubsub_push_handler(self, handler: Callable[[Any], Awaitable[Any] | Any]) -> None:
        self._handler = handler

    def handle(self, message: Any) -> Any:
        return message if self._handler is None else self._handler(message)
