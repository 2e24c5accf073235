"""What it takes to open one connection, apart from where the values came from."""

from __future__ import annotations

import ssl
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from redisutils.address import Address

__all__ = ["ConnectOptions", "Credentials", "Dialect"]

Credentials = Callable[[], Awaitable[tuple[str, ...]]]
"""Asked at each connect: ``()`` for none, ``(password,)`` or ``(username, password)``."""


T = TypeVar("T")


class Dialect:
    """Which RESP version a server that was asked for RESP3 turned out to speak, told to those
    who shape its replies before the first of them comes."""

    __slots__ = ("_listeners", "spoken", "version")

    def __init__(self) -> None:
        self.version = 3
        self.spoken = False
        """Whether it has ever been spoken: then the server is one, and speaks TLS or plain as it
        was spoken to."""
        # Methods are kept apart from their objects, which they would keep alive.
        self._listeners: weakref.WeakKeyDictionary[Any, Callable[[Any, int], None]] = (
            weakref.WeakKeyDictionary()
        )

    def listen(self, listener: T, hear: Callable[[T, int], None]) -> None:
        """Call ``hear(listener, version)`` at each change, for as long as ``listener`` lives; and
        now if there has been one."""
        self._listeners[listener] = hear
        if self.version != 3:
            hear(listener, self.version)

    def heard(self, version: int) -> None:
        """A connection was set up in this version."""
        if version != self.version:
            self.version = version
            for listener, hear in list(self._listeners.items()):
                hear(listener, version)


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Everything :func:`redisutils.connection.dial.dial` needs. Never shows a secret."""

    host: str = "localhost"
    port: int = 6379
    at: str | None = None
    """The address in figures to connect to instead of what the host resolves to. In TLS the
    certificate must be the host's all the same."""
    path: str | None = None
    """A Unix socket instead of host and port."""
    database: int = 0
    credentials: Credentials = field(kw_only=True, repr=False)
    client_name: str | None = None
    timeout: float = 30.0
    """Connect, TLS and handshake together, in seconds."""
    tls: Callable[[], ssl.SSLContext] | None = field(default=None, repr=False)
    """Asked at each connect, so that renewed certificates are seen. None: no TLS."""
    protocol: int = 3
    """The RESP version to ask for. 3 falls back to 2 by itself."""
    dialect: Dialect = field(default_factory=Dialect, repr=False, compare=False)
    """What it came to, when 3 was asked for."""
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    keepalive: bool = True
    keepalive_options: Mapping[int, int | bytes] | None = None
    """Socket options of TCP level; None for ours: idle 30 s, every 5 s, 3 times."""
    one_of_many: bool = False
    """Whether other servers are spoken to at the same time: see ``Connection.one_of_many``."""
    library: tuple[str, str] | None = ("redisutils", "")
    """Name and version for CLIENT SETINFO; None sends none."""
    name: str | None = None
    """What stands there, for messages, beside its place: ``mymaster``. Without a host, alone."""
    settings: str = "REDIS"
    """With what the settings of user name and password begin, for messages."""

    readonly: bool = False
    """Whether to say that replicas of a cluster are to answer what only reads
    (https://valkey.io/commands/readonly/)."""

    @property
    def address(self) -> Address:
        """Host and port, also of one that is reached by a socket's path."""
        return Address(self.host, self.port)

    @property
    def peer(self) -> str:
        """The server's name for messages."""
        if self.name is None:
            return self._place
        return f"{self.name} ({self._place})" if self.host or self.path else self.name

    @property
    def _place(self) -> str:
        if self.path is not None:  # which may have bytes that are no text, and no log would take
            return self.path.encode(errors="backslashreplace").decode()
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
