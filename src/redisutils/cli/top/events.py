"""Server-sent events over HTTP/1.1, read with what Python brings.

What the server sends is not trusted: every line, header and event has a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from redisutils.errors import ConfigError
from redisutils.secret import Secret
from redisutils.url import masked
from redisutils.version import VERSION

__all__ = ["MAX_EVENT", "Address", "EventsFailed", "read_events"]

MAX_EVENT: Final = 8_000_000
"""Bytes of an event: five minutes of frames have about a million."""

_MAX_HEAD: Final = 32_768
_CHUNK: Final = 65_536

CONNECTING: Final = 5.0
"""Seconds for connecting, TLS and the answer's head, each."""

SILENCE: Final = 20.0
"""Seconds without a byte after which nobody is there: a comment comes every ten."""


class EventsFailed(Exception):
    """There are no events, or no more. ``final``: trying again will not help."""

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


@dataclass(frozen=True, slots=True)
class Address:
    """Where the events are."""

    secure: bool
    host: str
    port: int
    path: str
    shown: str
    """What it is called."""

    @classmethod
    def of(cls, url: str) -> Address:
        """Of a dashboard: its address, with or without ``events`` at its end.

        Raises:
            ConfigError: it is none.
        """
        right = "right is http://127.0.0.1:9121/, https://host/path/ or redis://host:6379/0"
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise ConfigError(f"{_without_secrets(url)!r}: {error}; {right}") from None
        plain = all(" " < character < "\x7f" for character in url)
        if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
            raise ConfigError(f"{masked(url)!r} is no address of a dashboard or server; {right}")
        if "@" in parts.netloc:
            raise ConfigError(
                f"{_without_secrets(url)!r}: a user or password has no place in it; the token "
                "comes from REDISUTILS_TOKEN or --token-file"
            )
        secure = parts.scheme == "https"
        path = parts.path if parts.path.endswith("/events") else f"{parts.path.rstrip('/')}/events"
        return cls(secure, parts.hostname, port or (443 if secure else 80), path, _shown(parts))


def _shown(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix('/events').rstrip('/')}/"


def _without_secrets(url: str) -> str:
    scheme, slashes, rest = url.partition("://")
    return f"{scheme}{slashes}{rest.rpartition('@')[2]}"


async def read_events(address: Address, token: Secret | None) -> AsyncIterator[tuple[str, bytes]]:
    """Connect, and yield each event's name and data until the server ends.

    Raises:
        EventsFailed: there is nobody, it answers with something else, or it goes silent.
    """
    where = address.shown
    try:
        async with asyncio.timeout(CONNECTING):
            reader, writer = await asyncio.open_connection(
                address.host,
                address.port,
                ssl=ssl.create_default_context() if address.secure else None,
                limit=_MAX_HEAD,
            )
    except TimeoutError:
        raise EventsFailed(f"{where} does not answer: no connection in {CONNECTING:g} s") from None
    except ssl.SSLError as error:
        raise EventsFailed(f"{where}: TLS failed: {error.reason or error}") from None
    except OSError as error:
        raise EventsFailed(f"{where} cannot be reached: {error.strerror or error}") from None
    try:
        writer.write(_request(address, token))
        async with asyncio.timeout(CONNECTING):
            chunked = _check_head(where, await reader.readuntil(b"\r\n\r\n"), token)
        pieces = _chunks(reader) if chunked else _pieces(reader)
        async for event in _events(where, pieces):
            yield event
    except TimeoutError:
        raise EventsFailed(f"{where} has gone silent") from None
    except asyncio.IncompleteReadError:
        return
    except (asyncio.LimitOverrunError, ValueError):
        raise EventsFailed(f"{where}: what it sends is not HTTP") from None
    except OSError as error:
        raise EventsFailed(f"{where} was lost: {error.strerror or error}") from None
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            # A TLS peer that has gone shall not keep us waiting for its farewell.
            writer.transport.abort()
            await writer.wait_closed()


def _request(address: Address, token: Secret | None) -> bytes:
    name = f"[{address.host}]" if ":" in address.host else address.host
    lines = [
        f"GET {address.path} HTTP/1.1",
        f"Host: {name}:{address.port}",
        "Accept: text/event-stream",
        f"User-Agent: redisutils-top/{VERSION}",
    ]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode()


def _check_head(where: str, head: bytes, token: Secret | None) -> bool:
    """Whether the body comes in chunks.

    Raises:
        EventsFailed: it is no stream of events.
        ValueError: it is no HTTP.
    """
    status, *lines = head.decode("latin-1").split("\r\n")
    version, code = status.split(" ")[:2]
    if not version.startswith("HTTP/1.") or not code.isdigit():
        raise ValueError(status)
    headers = {
        name.strip().lower(): value.strip().lower()
        for name, _, value in (line.partition(":") for line in lines)
    }
    if code in ("401", "403"):
        what = "refuses this token" if token is not None else "wants a token"
        raise EventsFailed(
            f"{where} {what}: set REDISUTILS_TOKEN, or name a file with --token-file", final=True
        )
    if code == "503":
        raise EventsFailed(f"{where} has no room for another viewer, or is about to stop")
    kind = headers.get("content-type", "")
    if code != "200" or not kind.startswith("text/event-stream"):
        raise EventsFailed(
            f"{where} is no dashboard of redisutils: its events answer {code} {kind}".rstrip(),
            final=True,
        )
    return headers.get("transfer-encoding") == "chunked"


async def _pieces(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(SILENCE):
            piece = await reader.read(_CHUNK)
        if not piece:
            return
        yield piece


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        async with asyncio.timeout(SILENCE):
            line = await reader.readuntil(b"\r\n")
        left = int(line.split(b";")[0], 16)
        if left < 0:
            raise ValueError(line)
        if not left:
            return
        while left:
            async with asyncio.timeout(SILENCE):
                piece = await reader.read(min(left, _CHUNK))
            if not piece:
                return
            left -= len(piece)
            yield piece
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError(line)


async def _events(where: str, pieces: AsyncIterator[bytes]) -> AsyncIterator[tuple[str, bytes]]:
    name, data, buffer = "message", bytearray(), bytearray()
    async for piece in pieces:
        buffer += piece
        *lines, rest = buffer.split(b"\n")
        buffer = rest
        for line in lines:
            field, _, value = line.rstrip(b"\r").partition(b":")
            value = value.removeprefix(b" ")
            if field == b"event":
                name = value.decode(errors="replace")
            elif field == b"data":
                data += value
            elif not line.rstrip(b"\r"):
                if data:
                    yield name, bytes(data)
                name, data = "message", bytearray()
        if len(buffer) + len(data) > MAX_EVENT:
            raise EventsFailed(f"{where} sends an event of more than {MAX_EVENT:,} bytes")
