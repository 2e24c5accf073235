"""Who answers at a port, whatever was expected there. No secret is sent, and no key touched."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from typing import Final, Literal

from redisutils.connection.diagnosis import speaks_tls
from redisutils.connection.options import ConnectOptions

__all__ = ["Peer", "meet"]

PATIENCE: Final = 1.0
"""Seconds for its first word, at least; a quarter of the step's if that is more."""

_TLS_ALERT: Final = b"\x15\x03"
"""How the record begins by which a TLS server refuses plain text (RFC 8446, 5.1)."""


@dataclass(frozen=True, slots=True)
class Peer:
    """What the other side turned out to be."""

    kind: Literal["redis", "http", "tls", "other", "silent", "closed"]
    """``closed``: it hangs up without a word."""
    said: str = ""
    """Its first words, printable."""

    @property
    def obeys(self) -> bool:
        """Whether it obeyed though nobody had said a password."""
        return self.said.startswith("+PONG")


async def meet(options: ConnectOptions, address: str, patience: float | None = None) -> Peer:
    """Say PING in plain, in a way that a web server takes for a whole request.

    Args:
        options: where.
        address: which of its addresses.
        patience: seconds for its first word; a share of the step's time when not given.
    """
    patience = patience or min(max(PATIENCE, options.timeout / 4), options.timeout)
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(address, options.port)
            try:
                writer.write(b"PING\r\n\r\n")
                answer = await reader.read(256)
            finally:
                writer.transport.abort()
    except TimeoutError:
        return Peer("silent")
    except OSError:
        answer = b""
    if not answer:
        return Peer("tls" if await speaks_tls(options) else "closed")
    if answer.startswith(_TLS_ALERT):
        return Peer("tls")
    first = answer.splitlines()[0][:60].decode("ascii", "replace")
    said = re.sub(r"[^ -~]", "·", first)
    if answer.startswith((b"HTTP/", b"<")):
        return Peer("http", said)
    if answer.startswith((b"+PONG", b"-")):
        return Peer("redis", said)
    return Peer("other", said)
