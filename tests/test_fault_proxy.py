"""The fault proxy does what it says, between a plain socket and a real server."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Self

import pytest
import redis

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


@pytest.fixture
async def connect(proxy: FaultProxy, server: EmbeddedServer) -> AsyncIterator[Connect]:
    """Opens connections through the proxy that the server knows."""
    clients: list[RawClient] = []

    async def connect() -> RawClient:
        client = RawClient(proxy.port)
        clients.append(client)
        return await client.connect(server.password)

    yield connect
    for client in clients:
        client.close()


async def test_without_faults_it_is_not_there(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    client = await connect()
    value = b"x" * 3_000_000
    await client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (len(value), value))
    assert await client.receive(5) == b"+OK\r\n"
    assert await client.ask(b"GET k\r\n", len(value) + 12) == b"$3000000\r\n%s\r\n" % value
    assert admin.strlen("k") == len(value)


async def test_counters_and_waiting(proxy: FaultProxy, connect: Connect) -> None:
    waiting = asyncio.create_task(proxy.wait_accepted(2))
    first = await connect()
    assert (proxy.accepted, proxy.active) == (1, 1)
    assert not waiting.done()
    await connect()
    await waiting
    assert (proxy.accepted, proxy.active) == (2, 2)
    sent, received = proxy.to_server.forwarded, proxy.to_client.forwarded
    assert await first.ask(PING, 7) == PONG
    assert proxy.to_server.forwarded == sent + len(PING)
    assert proxy.to_client.forwarded == received + len(PONG)
    first.close()
    await proxy.wait_active(1)
    with pytest.raises(TimeoutError, match="active=1"):
        await proxy.wait_until(lambda proxy: proxy.active == 7, timeout=0.01)


async def test_latency_is_a_delay_and_not_a_brake(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    loop = asyncio.get_running_loop()
    proxy.to_client.latency = proxy.to_server.latency = 0.05
    start = loop.time()
    for _ in range(10):
        await client.send(PING)
    assert await client.receive(70) == PONG * 10
    assert 0.1 <= loop.time() - start < 0.5
    proxy.restore()
    assert await client.ask(PING, 7) == PONG


@pytest.mark.parametrize("size", [1, 3])
async def test_fragments_arrive_one_by_one(proxy: FaultProxy, connect: Connect, size: int) -> None:
    client = await connect()
    proxy.to_client.fragment = proxy.to_server.fragment = size
    await client.send(b"ECHO 0123456789\r\n")
    pieces: list[bytes] = []
    while sum(map(len, pieces)) < 17:
        pieces.append(await client.receive_piece())
    assert b"".join(pieces) == b"$10\r\n0123456789\r\n"
    assert all(len(piece) == size for piece in pieces[:-1])


@pytest.mark.parametrize("count", range(8))
async def test_a_reply_is_cut_after_so_many_bytes(
    proxy: FaultProxy, connect: Connect, count: int
) -> None:
    client, other = await connect(), await connect()
    proxy.to_client.cut_after(count)
    assert await client.ask(PING, 100) == PONG[:count]
    await proxy.wait_active(1)
    assert await other.ask(PING, 7) == PONG, "it happens once"


async def test_a_request_is_cut_before_the_server_has_it_all(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    client = await connect()
    proxy.to_server.cut_after(len(b"INCR k\r"), "reset")
    await client.send(b"INCR k\r\n")
    with pytest.raises(ConnectionResetError):
        await client.receive(1)
    await proxy.wait_active(0)
    assert admin.get("k") is None


async def test_cut_bytes_are_counted_over_pieces(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_client.cut_after(10)
    assert await client.ask(PING, 7) == PONG
    assert await client.ask(PING, 100) == PONG[:3]


async def test_swallowed_replies_belong_to_executed_commands(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    client = await connect()
    proxy.swallow_replies(1, lambda request: b"INCR" in request)
    assert await client.ask(PING, 7) == PONG
    await client.send(b"INCR k\r\n")
    await proxy.wait_until(lambda proxy: proxy.to_client.discarded == len(b":1\r\n"))
    assert proxy.swallowed == 1
    assert admin.get("k") == "1"
    proxy.restore()
    await client.send(b"INCR k\r\n")
    await proxy.wait_until(lambda proxy: proxy.to_client.discarded == 2 * len(b":1\r\n"))
    assert client.nothing_to_read(), "a stream with a hole in it is never continued"
    other = await connect()
    assert await other.ask(b"INCR k\r\n", 4) == b":3\r\n"


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_swallowed_reply_then_the_connection_ends(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis, then: str
) -> None:
    client = await connect()
    proxy.swallow_replies(1, then="close" if then == "close" else "reset")
    await client.send(b"INCR k\r\n" * 1000)
    if then == "close":
        assert await client.receive_piece() == b""
    else:
        with pytest.raises(ConnectionResetError):
            await client.receive_piece()
    await proxy.wait_active(0)
    assert admin.get("k") == "1000", "the server executes all that it was sent"
    assert await (await connect()).ask(b"INCR k\r\n", 7) == b":1001\r\n"
    assert proxy.swallowed == 1


async def test_replies_are_swallowed_until_restored(proxy: FaultProxy, connect: Connect) -> None:
    clients = [await connect() for _ in range(3)]
    proxy.swallow_replies()
    for client in clients:
        await client.send(PING)
    await proxy.wait_until(lambda proxy: proxy.to_client.discarded == 3 * len(PONG))
    assert all(client.nothing_to_read() for client in clients)
    proxy.restore()
    assert await (await connect()).ask(PING, 7) == PONG


async def test_a_black_hole_accepts_and_never_answers(
    proxy: FaultProxy, connect: Connect, server: EmbeddedServer, admin: redis.Redis
) -> None:
    before = await connect()
    proxy.blackhole()
    await before.send(b"SET k v\r\n")
    during = await RawClient(proxy.port).connect()
    await during.send(PING)
    await proxy.wait_until(lambda proxy: proxy.to_server.discarded == 9 + len(PING))
    assert before.nothing_to_read()
    assert during.nothing_to_read()
    assert admin.get("k") is None
    proxy.restore()
    await before.send(PING)
    await proxy.wait_until(lambda proxy: proxy.to_server.discarded == 9 + 2 * len(PING))
    assert before.nothing_to_read()
    assert await (await connect()).ask(PING, 7) == PONG
    before.close()
    during.close()
    await proxy.wait_active(1)


async def test_a_stalled_connection_goes_on_where_it_stopped(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    forwarded = proxy.to_server.forwarded
    proxy.stall()
    await client.send(PING * 2)
    with pytest.raises(TimeoutError):
        await proxy.wait_until(lambda proxy: proxy.to_server.forwarded > forwarded, timeout=0.05)
    assert client.nothing_to_read()
    proxy.restore()
    assert await client.receive(14) == PONG * 2


async def test_who_sends_into_a_stall_is_held_up_at_last(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    proxy.stall()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.send(bytes(100_000_000)), timeout=0.2)


async def test_reset_and_close_of_open_connections(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.reset()
    with pytest.raises(ConnectionResetError):
        await client.receive(1)
    client = await connect()
    proxy.close_all()
    assert await client.receive(1) == b""
    await proxy.wait_active(0)
    assert await (await connect()).ask(PING, 7) == PONG


async def test_refusing_leaves_open_connections_alone(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    port = proxy.port
    proxy.refuse()
    proxy.refuse()
    stranger = RawClient(port)
    with pytest.raises(ConnectionRefusedError):
        await stranger.connect()
    stranger.close()
    assert await client.ask(PING, 7) == PONG
    proxy.restore()
    assert proxy.port == port
    assert await (await connect()).ask(PING, 7) == PONG


async def test_half_closed_toward_the_client(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    client = await connect()
    proxy.half_close()
    assert await client.receive(1) == b""
    await client.send(b"SET k v\r\n")
    await proxy.wait_until(lambda proxy: proxy.to_client.discarded == len(b"+OK\r\n"))
    assert admin.get("k") == "v"


async def test_half_closed_toward_the_server(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.half_close("server")
    assert await client.receive(1) == b"", "the server hangs up, and that is passed on"


async def test_a_client_that_finishes_writing_still_gets_its_replies(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    await client.send(PING * 100)
    client.socket.shutdown(socket.SHUT_WR)
    assert await client.receive(10_000) == PONG * 100
    await proxy.wait_active(0)


async def test_a_server_that_is_not_there_resets_the_client(proxy: FaultProxy) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound, and nobody listens
        proxy.target_port = unused.getsockname()[1]
        client = await RawClient(proxy.port).connect()
        with pytest.raises(ConnectionResetError):
            await client.receive(1)
        client.close()


async def test_a_predicate_that_raises_is_heard_of(clean_server: EmbeddedServer) -> None:
    proxy = FaultProxy(clean_server.host, clean_server.port)
    await proxy.__aenter__()
    proxy.swallow_replies(predicate=lambda request: 1 / 0 > 0)
    client = await RawClient(proxy.port).connect()
    await client.send(PING)
    assert await client.receive(1) == b""
    client.close()
    with pytest.raises(ZeroDivisionError):
        await proxy.__aexit__(None, None, None)


async def test_leaving_ends_connections_tasks_and_listening(clean_server: EmbeddedServer) -> None:
    tasks = asyncio.all_tasks()
    async with FaultProxy(clean_server.host, clean_server.port) as proxy:
        client = await RawClient(proxy.port).connect(clean_server.password)
        port = proxy.port
    assert asyncio.all_tasks() == tasks
    assert await client.receive(1) == b""
    client.close()
    client = RawClient(port)
    with pytest.raises(ConnectionRefusedError):
        await client.connect()
    client.close()
