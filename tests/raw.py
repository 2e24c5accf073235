"""Sockets without a client, to see what comes and goes byte by byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Self

from redisutils.testing import EmbeddedServer, FaultProxy

PONG = b"+PONG\r\n"
PING = b"PING\r\n"


class RawClient:
    """A socket on the event loop, which has shown its password."""

    def __init__(self, port: int) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self._port = port
        self._loop = asyncio.get_running_loop()

    async def connect(self, password: str | None = None) -> Self:
        await self._loop.sock_connect(self.socket, ("127.0.0.1", self._port))
        if password is not None:
            await self.send(f"AUTH {password}\r\n".encode())
            assert await self.receive(5) == b"+OK\r\n"
        return self

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self.socket, data)

    async def receive_piece(self) -> bytes:
        """What has come, empty at the end; fails rather than wait for ever."""
        async with asyncio.timeout(10):
            return await self._loop.sock_recv(self.socket, 65536)

    async def receive(self, size: int) -> bytes:
        """So many bytes, or fewer at the end."""
        received = b""
        while len(received) < size:
            piece = await self.receive_piece()
            if not piece:
                break
            received += piece
        return received

    async def ask(self, request: bytes, size: int) -> bytes:
        await self.send(request)
        return await self.receive(size)

    def nothing_to_read(self) -> bool:
        try:
            self.socket.recv(1)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self.socket.close()


Connect = Callable[[], Awaitable[RawClient]]


@asynccontextmanager
async def connections(proxy: FaultProxy, server: EmbeddedServer) -> AsyncIterator[Connect]:
    """Opens connections through the proxy that the server knows, and closes them."""
    clients: list[RawClient] = []

    async def connect() -> RawClient:
        client = RawClient(proxy.port)
        clients.append(client)
        return await client.connect(server.password)

    try:
        yield connect
    finally:
        for client in clients:
            client.close()
