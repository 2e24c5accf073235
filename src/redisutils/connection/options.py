"""What it takes to open one connection, apart from where the values came from."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

__all__ = ["ConnectOptions", "Credentials"]

Credentials = Callable[[], Awaitable[tuple[str, ...]]]
"""Asked at each connect: ``()`` for none, ``(password,)`` or ``(username, password)``."""


async def no_credentials() -> tuple[str, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """Everything :func:`redisutils.connection.dial.dial` needs. Never shows a secret."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    """A Unix socket instead of host and port."""
    database: int = 0
    credentials: Credentials = field(default=no_credentials, repr=False)
    client_name: str | None = None
    timeout: float = 30.0
    """Connect, TLS and handshake together, in seconds."""
    tls: Callable[[], ssl.SSLContext] | None = field(default=None, repr=False)
    """Asked at each connect, so that renewed certificates are seen. None: no TLS."""
    protocol: int = 3
    """The RESP version to ask for. 3 falls back to 2 by itself."""
    encoding: str = "utf-8"
    encoding_errors: str = "strict"
    keepalive: bool = True
    keepalive_options: Mapping[int, int | bytes] | None = None
    """Socket options of TCP level; None for ours: idle 30 s, every 5 s, 3 times."""
    library: tuple[str, str] | None = ("redisutils", "")
    """Name and version for CLIENT SETINFO; None sends none."""

    @property
    def peer(self) -> str:
        """The server's name for messages."""
        if self.path is not None:
            return self.path
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
