"""One connection through the fault proxy.

A connection has two pumps, one for each way. A pump is a reader, which takes bytes from one
socket and puts them on a queue with the moment at which they are due, and a writer, which takes
them off, waits, applies the faults of its ``Direction`` (``_direction.py``) and sends. Faults are
looked at when bytes are forwarded, so that they can be switched while traffic flows.

All of it works on plain non-blocking sockets, not on asyncio's transports: only so can a
connection be reset, half closed or cut after exactly so many bytes, on every event loop.

A connection of which bytes have been lost is lost for good: it never speaks again, for a stream
with a hole in it is nothing that TCP would ever deliver.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from random import Random
from typing import Literal, TypeAlias

from ._direction import Direction, Ending

__all__ = ["Connection", "Faults", "SwallowOrder", "Then"]

Then: TypeAlias = Literal["silence", "close", "reset"]

_CHUNK = 65536
_QUEUED_CHUNKS = 64  # 4 MiB a direction: then the sender feels that nobody reads
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, for no time


class SwallowOrder:
    """An order to keep replies from clients, and how often it is still to be carried out."""

    def __init__(
        self, count: int | None, predicate: Callable[[bytes], bool] | None, then: Then
    ) -> None:
        self.then = then
        self._left = count
        self._predicate = predicate

    @property
    def carried_out(self) -> bool:
        """Whether it will never strike again."""
        return self._left == 0

    def strikes(self, request: bytes) -> bool:
        """Whether the reply to these bytes is to be swallowed."""
        if self._left == 0 or not (self._predicate is None or self._predicate(request)):
            return False
        if self._left is not None:
            self._left -= 1
        return True


class Faults:
    """What is wrong at present, for all connections of a proxy.

    :param changed: called after each change of a counter.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.to_server = Direction()
        self.to_client = Direction()
        self.flowing = asyncio.Event()
        self.flowing.set()
        self.swallow: SwallowOrder | None = None
        self.swallowed = 0

    def strikes(self, request: bytes) -> Then | None:
        """Whether the reply to these bytes is to be swallowed, and what then."""
        if self.swallow is None or not self.swallow.strikes(request):
            return None
        self.swallowed += 1
        return self.swallow.then


class Connection:
    """A client's connection and, unless it is silent from the start, one to the server."""

    def __init__(
        self, faults: Faults, client: socket.socket, *, silent: bool, seed: object
    ) -> None:
        self.silent = silent
        """Set it to lose every byte from now on, both ways."""
        self._faults = faults
        self._seed = seed
        self._client = client
        self._server: socket.socket | None = None
        self._deaf: Then | None = None
        self._drain_server = False
        self._shut: set[socket.socket] = set()
        self._loop = asyncio.get_running_loop()
        self._ending: Ending = "close"
        self._ended: asyncio.Future[None] = self._loop.create_future()

    def end(self, ending: Ending) -> None:
        """Forward nothing more, and end both connections."""
        if not self._ended.done():
            self._ending = ending
            self._ended.set_result(None)

    def half_close(self, toward: Literal["client", "server"]) -> None:
        """Send FIN to one side; what would be sent there later is lost."""
        sink = self._client if toward == "client" else self._server
        if sink is not None:
            self._shut.add(sink)
            _finish_writing(sink)

    async def run(self, host: str, port: int) -> None:
        """Serve the connection until both sides have finished, or it is ended or cancelled."""
        _prepare(self._client)
        try:
            if not self.silent:
                await self._connect(host, port)
            await self._pump()
        finally:
            _close(self._client, self._ending)
            if self._server is not None:
                try:
                    if self._drain_server:
                        await self._hear_out(self._server)
                finally:
                    _close(self._server, self._ending)

    async def _connect(self, host: str, port: int) -> None:
        try:
            family, kind, protocol, _, address = (
                await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            )[0]
            self._server = socket.socket(family, kind, protocol)
            _prepare(self._server)
            await self._loop.sock_connect(self._server, address)
        except OSError:
            self.end("reset")

    async def _pump(self) -> None:
        faults, client, server = self._faults, self._client, self._server
        outward = _Pipe(faults.to_server, Random(f"{self._seed} to_server"))
        work = [self._read(client, outward), self._write(outward, server)]
        if server is not None:
            inward = _Pipe(faults.to_client, Random(f"{self._seed} to_client"))
            work += [self._read(server, inward), self._write(inward, client)]
        pumps: set[asyncio.Future[None]] = {asyncio.ensure_future(pump) for pump in work}
        pending = set(pumps)
        try:
            while pending and not self._ended.done():
                done, _ = await asyncio.wait(
                    {*pending, self._ended}, return_when=asyncio.FIRST_COMPLETED
                )
                for finished in done & pumps:
                    finished.result()  # a predicate that raises must be heard of
                pending -= done
        finally:
            for pump in pumps:
                pump.cancel()
            # A socket may only be closed when nobody waits for it on the loop any more.
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _read(self, source: socket.socket, pipe: _Pipe) -> None:
        received = b"some"
        while received:
            await pipe.room()
            await self._faults.flowing.wait()
            try:
                received = await self._loop.sock_recv(source, _CHUNK)
            except OSError:
                self.end("reset")
                return
            await pipe.put(received, self._loop.time())

    async def _write(self, pipe: _Pipe, sink: socket.socket | None) -> None:
        direction = pipe.direction
        outward = direction is self._faults.to_server
        while True:
            due, data = await pipe.queue.get()
            delay = due - self._loop.time()
            if delay > 0:
                await asyncio.sleep(delay)
            await self._faults.flowing.wait()
            if not data:
                break
            if outward and not self.silent:
                self._deaf = self._faults.strikes(data) or self._deaf
            if not await self._forward(pipe, data, sink):
                return
        if sink is not None and not self._loses(direction, sink):
            _finish_writing(sink)
        elif outward:
            self.end("close")  # The client has left a connection that nobody else hears of.

    async def _forward(self, pipe: _Pipe, data: bytes, sink: socket.socket | None) -> bool:
        """Send or lose ``data``; whether the connection goes on."""
        direction = pipe.direction
        while data and not self._ended.done():
            if sink is None or self._loses(direction, sink):
                pipe.took(len(data))
                return self._lose(direction, len(data))
            carried = await direction.turn(len(data))
            await self._faults.flowing.wait()
            if self._ended.done() or self._loses(direction, sink):
                continue  # It has happened while the bytes were on the line.
            size = direction.allowance(carried)
            try:
                await self._loop.sock_sendall(sink, data[:size])
            except OSError:
                self.end("reset")
                return False
            data = data[size:]
            pipe.took(size)
            ending = direction.account(size)
            if ending is not None:
                self.end(ending)
            self._faults.changed()
            if data:
                # Two turns: a reader on this loop is woken in the first and reads in the second.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
        return not self._ended.done()

    def _loses(self, direction: Direction, sink: socket.socket) -> bool:
        deaf = self._deaf is not None and direction is self._faults.to_client
        return self.silent or deaf or sink in self._shut

    def _lose(self, direction: Direction, size: int) -> bool:
        direction.discarded += size
        then = self._deaf
        if direction is self._faults.to_client and then is not None and then != "silence":
            self._drain_server = True
            self.end(then)
        self._faults.changed()
        return not self._ended.done()

    async def _hear_out(self, server: socket.socket) -> None:
        """Let the server execute all that it was sent: it hangs up after that."""
        _finish_writing(server)
        try:
            while await self._loop.sock_recv(server, _CHUNK):
                pass
        except OSError:
            pass


class _Pipe:
    """What has been read of one connection one way, and is not sent yet.

    :param random: decides about jitter. Each way of each connection has its own, so that the
        traffic of others changes nothing.
    """

    def __init__(self, direction: Direction, random: Random) -> None:
        self.direction = direction
        self.queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_CHUNKS)
        self._random = random
        self._size = 0
        self._taken = asyncio.Event()

    async def room(self) -> None:
        """Wait until more may be read: at once, but for a slow line that is full."""
        while self._size > 0 and self._size >= self.direction.capacity():
            self._taken.clear()
            await self._taken.wait()

    async def put(self, data: bytes, now: float) -> None:
        """Add what has been read at ``now``."""
        self._size += len(data)
        await self.queue.put((now + self.direction.lateness(self._random), data))

    def took(self, size: int) -> None:
        """So many bytes have been sent or lost."""
        self._size -= size
        self._taken.set()


def _prepare(connection: socket.socket) -> None:
    connection.setblocking(False)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _finish_writing(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # The other side has gone.


def _close(connection: socket.socket, ending: Ending) -> None:
    if ending == "reset":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
    else:
        # The system turns a close into a reset when anything is left to read.
        _finish_writing(connection)
        try:
            while connection.recv(_CHUNK):
                pass
        except OSError:
            pass
    connection.close()
