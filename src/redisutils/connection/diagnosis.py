"""Looking closer at a server with which a connection failed, to say what is wrong.

TLS leaves some mistakes without a word: a Redis port in plain waits for ever for the end of
what it takes for a line, and a TLS port may reset the connection before its alert can be
read. One more connection tells. No secret is sent on it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from redisutils.connection.options import ConnectOptions
from redisutils.connection.reach import addresses

__all__ = ["speaks_plain", "speaks_tls", "tls_refusal"]

PATIENCE: Final = 1.0
"""Seconds for each look. Longer than a round trip round the world with TLS."""


async def speaks_plain(options: ConnectOptions) -> bool:
    """Whether the server answers PING without TLS."""
    try:
        return await _answers_ping(options)
    except OSError:
        return False


async def speaks_tls(options: ConnectOptions) -> bool:
    """Whether the server shakes hands in TLS, whoever it is.

    It is asked in plain first: a server without TLS answers at once, but to TLS not at all, and
    one with TLS does not stay silent.
    """
    try:
        if await _answers_ping(options):
            return False
    except TimeoutError:
        return False
    except OSError:
        pass
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with _connected(options, context):
            return True
    except OSError:
        return False


async def tls_refusal(options: ConnectOptions) -> ssl.SSLError | None:
    """The alert by which the server ends a TLS connection on which nothing was said, if it does."""
    assert options.tls is not None
    try:
        async with _connected(options, options.tls()) as (reader, _):
            await reader.read(1)
    except ssl.SSLError as alert:
        return alert
    except OSError:
        pass
    return None


async def _answers_ping(options: ConnectOptions) -> bool:
    async with _connected(options, None) as (reader, writer):
        writer.write(b"PING\r\n")
        return (await reader.read(64)).startswith((b"+PONG", b"-"))


@asynccontextmanager
async def _connected(
    options: ConnectOptions, context: ssl.SSLContext | None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection for a look; what goes wrong, patience included, is an OSError."""
    named: dict[str, Any] = {}
    if context is not None:
        # uvloop keeps what belonged to a handshake that was cut off until its own timeout is over.
        named = {"server_hostname": options.host, "ssl_handshake_timeout": PATIENCE}
    async with asyncio.timeout(min(PATIENCE, options.timeout)):
        found = await addresses(options.at or options.host, options.port)
        address = found[0] if found else options.host
        reader, writer = await asyncio.open_connection(address, options.port, ssl=context, **named)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
