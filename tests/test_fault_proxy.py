"""The fault proxy does what it says, between a plain socket and a real server."""

from __future__ import annotations

import asyncio
import re
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from redisutils.errors import ConfigError
from redisutils.testing import EmbeddedServer, FaultProxy

from .raw import PING, PONG, Connect, RawClient, connections


@pytest.fixture
async def connect(proxy: FaultProxy, server: EmbeddedServer) -> AsyncIterator[Connect]:
    async with connections(proxy, server) as connect:
        yield connect


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


WRONG: dict[str, Callable[[FaultProxy], object]] = {
    "latency=-0.1 must be a number of seconds, 0 or more": lambda proxy: assign(
        proxy, "latency", -0.1
    ),
    "latency='1' must be": lambda proxy: assign(proxy, "latency", "1"),
    "latency=inf must be": lambda proxy: assign(proxy, "latency", float("inf")),
    "jitter=None must be": lambda proxy: assign(proxy, "jitter", None),
    "bandwidth=0 must be a number of bytes per second greater than 0, or None": lambda proxy: (
        assign(proxy, "bandwidth", 0)
    ),
    "bandwidth=True must be": lambda proxy: assign(proxy, "bandwidth", True),
    "fragment=0 must be a whole number, 1 or more, or None": lambda proxy: assign(
        proxy, "fragment", 0
    ),
    "fragment=1.5 must be": lambda proxy: assign(proxy, "fragment", 1.5),
    "count=-1 must be a whole number, 0 or more": lambda proxy: proxy.to_client.cut_after(-1),
    "ending='bang' must be one of close, reset": lambda proxy: proxy.to_client.cut_after(
        1, untyped("bang")
    ),
    "count=-2 must be": lambda proxy: proxy.swallow_replies(-2),
    "then='bang' must be one of silence, close, reset": lambda proxy: proxy.swallow_replies(
        then=untyped("bang")
    ),
    "predicate=b'x' must be a function": lambda proxy: proxy.swallow_replies(1, untyped(b"x")),
    "toward='both' must be one of client, server": lambda proxy: proxy.half_close(untyped("both")),
    "kind='latency' must be one of stall, blackhole, swallow, refuse": lambda proxy: proxy.restore(
        untyped("latency")
    ),
    "seed=-1 must be a whole number, 0 or more": lambda proxy: FaultProxy("h", 1, seed=-1),
}


def assign(proxy: FaultProxy, name: str, value: object) -> None:
    setattr(proxy.to_client, name, value)


def untyped(value: object) -> Any:
    """What a type checker would have refused."""
    return value


@pytest.mark.parametrize("message", WRONG)
def test_a_setting_that_makes_no_sense_is_refused(message: str) -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        WRONG[message](proxy)
    assert proxy.to_client.latency == proxy.to_client.jitter == 0
    assert proxy.to_client.bandwidth is proxy.to_client.fragment is None


async def test_one_kind_of_fault_is_taken_off(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_client.fragment = 1
    proxy.refuse()
    proxy.stall()
    await client.send(PING)
    proxy.restore("stall")
    assert await client.receive(7) == PONG
    with pytest.raises(ConnectionRefusedError):
        await connect()
    proxy.swallow_replies()
    proxy.restore("refuse", "swallow")
    assert await (await connect()).ask(PING, 7) == PONG
    proxy.blackhole()
    proxy.restore("blackhole")
    assert await (await connect()).ask(PING, 7) == PONG
    assert proxy.to_client.fragment == 1


async def test_a_cut_can_be_taken_back(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_client.cut_after(3)
    proxy.to_client.cut_after(None)
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


async def test_nobody_else_gets_the_port_while_it_refuses(proxy: FaultProxy) -> None:
    proxy.refuse()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind((proxy.host, proxy.port))


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


async def test_a_connection_that_cannot_be_accepted_is_heard_of() -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    await proxy.__aenter__()
    client = RawClient(proxy.port)
    client.socket.setblocking(True)
    client.socket.connect((proxy.host, proxy.port))  # The system accepts it, the proxy not yet.
    client.socket.setblocking(False)
    with no_more_files(), pytest.raises(ConnectionResetError):
        await client.receive(1)
    client.close()
    another = RawClient(proxy.port)
    with pytest.raises(ConnectionRefusedError):
        await another.connect()
    another.close()
    proxy.restore()
    again = await RawClient(proxy.port).connect()
    await proxy.wait_accepted(1)
    again.close()
    with pytest.raises(OSError, match="Too many open files"):
        await proxy.__aexit__(None, None, None)


@contextmanager
def no_more_files() -> Iterator[None]:
    """No file and no socket can be opened; the first number that is free is over the limit."""
    with socket.socket() as lowest:
        limit = lowest.fileno()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_on_another_loop_than_its_own_it_says_so() -> None:
    async def knock(proxy: FaultProxy) -> None:
        for deed in (lambda: proxy.port, proxy.refuse):
            with pytest.raises(RuntimeError, match="another event loop"):
                deed()
        with pytest.raises(RuntimeError, match="another event loop"):
            await proxy.wait_accepted(1)

    proxy = FaultProxy("127.0.0.1", 1)
    with asyncio.Runner() as home, asyncio.Runner() as abroad:
        home.run(proxy.__aenter__())
        assert proxy.port > 0  # where no loop runs, one may ask
        abroad.run(knock(proxy))
        home.run(proxy.__aexit__(None, None, None))


async def test_clients_may_be_on_another_loop_while_its_own_runs(proxy: FaultProxy) -> None:
    async def port() -> int:
        return proxy.port

    assert await asyncio.to_thread(asyncio.run, port()) == proxy.port


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
