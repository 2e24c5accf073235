"""A TLS terminator before a plain server, for servers that are built without TLS.

It works on plain streams: those of asyncio would end a handshake that fails without the alert
that real servers send.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

__all__ = ["Terminator"]


class Terminator:
    """Speaks TLS on a port of 127.0.0.1 and passes the plain text on. For ``async with``.

    Args:
        target_host, target_port: the plain server.
        context: how it speaks TLS. Another one counts from the next connection on.
    """

    host = "127.0.0.1"

    def __init__(self, target_host: str, target_port: int, context: ssl.SSLContext) -> None:
        self.context = context
        self.accepted = 0
        """Connections since the start."""
        self.port = 0
        self._target = target_host, target_port
        self._listener: asyncio.Server | None = None
        self._relays: set[asyncio.Task[None]] = set()

    async def drop_all(self) -> None:
        """End all open connections."""
        for relay in self._relays:
            relay.cancel()
        await asyncio.gather(*self._relays, return_exceptions=True)

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._accept, self.host, 0)
        self.port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._listener is not None
        self._listener.close()
        await self.drop_all()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        relay = asyncio.ensure_future(self._serve(reader, writer))
        self._relays.add(relay)
        relay.add_done_callback(self._relays.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = _Client(self.context, reader, writer)
        try:
            # A client that has gone, or an alert, which has been sent.
            with contextlib.suppress(OSError):
                await client.step(client.tls.do_handshake)
                answers, server = await asyncio.open_connection(*self._target)
                try:
                    await _first_of(_pump(client.read, server.write), _back(answers, client))
                finally:
                    server.transport.abort()
        finally:
            with contextlib.suppress(OSError):
                writer.close()  # what has been written, an alert above all, still goes out
                await writer.wait_closed()


class _Client:
    """The TLS side of a connection."""

    def __init__(
        self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader, self._writer = reader, writer
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def step(self, do: Callable[[], object]) -> object:
        """Do something that may have to read first. Raises OSError, SSLError among them."""
        while True:
            try:
                return do()
            except ssl.SSLWantReadError:
                self.flush()
                data = await self._reader.read(65_536)
                if not data:
                    raise ConnectionResetError from None
                self._incoming.write(data)
            finally:
                self.flush()

    async def read(self) -> bytes:
        data = await self.step(lambda: self.tls.read(65_536))
        assert isinstance(data, bytes)
        return data

    def write(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        if self._outgoing.pending:
            self._writer.write(self._outgoing.read())


async def _pump(read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):
        while data := await read():
            write(data)


async def _back(answers: asyncio.StreamReader, client: _Client) -> None:
    await _pump(lambda: answers.read(65_536), client.write)


async def _first_of(*ways: Awaitable[None]) -> None:
    """Wait for one of them, and end the others."""
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
