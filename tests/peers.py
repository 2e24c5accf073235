"""The other end of a socket, played by a test: for what no real server would ever send.

``Wire`` is one connection of ours on a socket pair, without a handshake, whose far end the test
writes byte by byte. ``Peer`` listens on 127.0.0.1, shakes hands and answers as the test says.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Self

import hiredis

from redisutils.connection.packing import pack, unpack
from redisutils.connection.protocol import Connection
from redisutils.metrics import PoolMetrics

DEADLINE = 10.0
"""How long anything may take that is waited for, s: for a machine at its limits."""


async def until(condition: Callable[[], Any], what: str = "") -> None:
    """Let the loop turn until ``condition()`` holds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + DEADLINE
    while not condition():
        assert loop.time() < end, f"waited {DEADLINE} s in vain {what}"
        # A turn without sleeping: select() is asked, and does not wait.
        await asyncio.sleep(0)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Recorder:
    """A transport that remembers what is written through it, write by write."""

    def __init__(self, connection: Connection) -> None:
        self.writes: list[bytes] = []
        self._inner = connection._transport
        connection._transport = self  # type: ignore[assignment]  # all else is passed on
        connection._write = self.write

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))
        self._inner.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commands(self) -> list[list[bytes]]:
        return [command for write in self.writes for command in unpack(write)]


class Wire:
    """A connection of ours whose far end is in the test's hand."""

    def __init__(self) -> None:
        self.connection: Connection
        self.metrics = PoolMetrics()
        self._far: socket.socket
        self._sent = 0

    async def __aenter__(self) -> Self:
        near, self._far = socket.socketpair()
        near.setblocking(False)
        self._far.setblocking(False)
        _, self.connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection("the-peer:1", self.metrics), sock=near
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.connection.close()
        for _ in range(3):  # until the transport has let go of the socket
            await asyncio.sleep(0)
        self._far.close()

    def ask(
        self, *args: Any, decode: bool = False, timeout: float = DEADLINE
    ) -> asyncio.Future[Any]:
        """Issue a command."""
        return self.connection.submit(pack(args or ("PING",)), decode, timeout)

    def ask_many(self, size: int, *, decode: bool = False) -> asyncio.Future[Any]:
        """Issue so many commands as one batch."""
        return self.connection.submit_many(pack(("PING",)) * size, size, decode, DEADLINE)

    async def say(self, data: bytes) -> None:
        """Let the connection read ``data``, in one piece unless it is long, and wait until it
        has. What has been issued is written before that."""
        await turns(2)
        await asyncio.get_running_loop().sock_sendall(self._far, data)
        self._sent += len(data)
        await until(lambda: self.metrics.bytes_in >= self._sent or self.connection.closed)

    async def heard(self, count: int) -> list[list[bytes]]:
        """The next ``count`` commands that the connection has sent."""
        data = b""
        reader = hiredis.Reader()
        commands: list[list[bytes]] = []
        while len(commands) < count:
            async with asyncio.timeout(DEADLINE):
                data = await asyncio.get_running_loop().sock_recv(self._far, 65536)
            reader.feed(data)
            while (command := reader.gets()) is not False:
                commands.append(command)
        return commands

    def hang_up(self) -> None:
        self._far.shutdown(socket.SHUT_RDWR)


Answer = Callable[[list[bytes]], bytes | None]


class Peer:
    """Listens on 127.0.0.1 and answers each command with the bytes that ``answer`` gives for it:
    ``b""`` for silence, None to hang up.

    Args:
        answer: asked for each command, in the order of arrival.
        polite: shake hands as a server does; otherwise ``answer`` is asked for HELLO too.
        banner: sent to whoever connects, before he says anything.
    """

    def __init__(self, answer: Answer, *, polite: bool = True, banner: bytes = b"") -> None:
        self.answer = answer
        self.polite = polite
        self.banner = banner
        self.accepted = 0
        self.heard: list[list[bytes]] = []
        """What was asked, but for handshakes."""
        self.open: set[asyncio.Transport] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(
            lambda: _Session(self), "127.0.0.1", 0
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for transport in list(self.open):
            transport.abort()
        await until(lambda: not self.open)

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def say(self, data: bytes) -> None:
        """To everyone who is connected."""
        for transport in self.open:
            transport.write(data)


_HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"


class _Session(asyncio.Protocol):
    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        # What is no RESP is no command, and nothing more is read from whoever sends it.
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]  # uvloop's is no subclass of it
        self._peer.accepted += 1
        self._peer.open.add(self._transport)
        if self._peer.banner:
            self._transport.write(self._peer.banner)

    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (command := self._reader.gets()) is not False:
            answer = self._answer(command)
            if answer is None:
                self._transport.close()
                return
            if answer:
                self._transport.write(answer)

    def _answer(self, command: list[bytes]) -> bytes | None:
        if self._peer.polite:
            if command[0] == b"HELLO":
                return _HELLO
            if command[:2] == [b"CLIENT", b"SETINFO"]:
                return b"+OK\r\n"
        self._peer.heard.append(command)
        return self._peer.answer(command)
