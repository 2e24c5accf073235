"""The proxy's slow networks, late, unsteady or narrow, between a plain socket and a server."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from random import Random

import pytest
import redis

from redisutils.testing import Direction, EmbeddedServer, FaultProxy

from .raw import PING, PONG, Connect, RawClient, connections

# For tests in which time passes: what they are about is the same on every loop.
one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


@pytest.fixture
async def connect(proxy: FaultProxy, server: EmbeddedServer) -> AsyncIterator[Connect]:
    async with connections(proxy, server) as connect:
        yield connect


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


async def test_jitter_delays_and_keeps_the_order(
    proxy: FaultProxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = await connect()
    loop = asyncio.get_running_loop()
    proxy.to_client.jitter = proxy.to_server.jitter = 0.01
    lateness = lateness_of(monkeypatch)
    start = loop.time()
    for number in range(100, 120):
        assert await client.ask(b"ECHO %d\r\n" % number, 9) == b"$3\r\n%d\r\n" % number
    assert len(set(lateness)) == len(lateness) == 40
    assert 0 <= min(lateness) < 0.004
    assert 0.006 < max(lateness) < 0.01
    assert loop.time() - start >= sum(lateness) - 0.1
    requests = [b"ECHO %d\r\n" % number for number in range(100, 120)]
    for request in requests:
        await client.send(request)
        await asyncio.sleep(0)
    assert await client.receive(9 * 20) == b"".join(b"$3\r\n%s" % r[5:] for r in requests)


def lateness_of(patch: pytest.MonkeyPatch) -> list[float]:
    """Fills with what jitter decides from now on."""
    decided: list[float] = []
    decide = Direction.lateness

    def note(direction: Direction, random: Random) -> float:
        decided.append(decide(direction, random))
        return decided[-1]

    patch.setattr(Direction, "lateness", note)
    return decided


async def jitter_of_a_run(server: EmbeddedServer, seed: int, others: int) -> list[float]:
    """What it decides for the first connection, whatever others do meanwhile."""
    async with FaultProxy(server.host, server.port, seed=seed) as proxy:
        assert f" seed={seed} " in repr(proxy)
        client = await RawClient(proxy.port).connect(server.password)
        busy = [await RawClient(proxy.port).connect(server.password) for _ in range(others)]
        proxy.to_client.jitter = proxy.to_server.jitter = 0.0001
        for other in busy:
            await other.ask(PING, 7)
        with pytest.MonkeyPatch.context() as patch:
            lateness = lateness_of(patch)
            for _ in range(5):
                assert await client.ask(PING, 7) == PONG
        for each in (client, *busy):
            each.close()
        return lateness[:10]


async def test_jitter_comes_from_the_seed(clean_server: EmbeddedServer) -> None:
    first = await jitter_of_a_run(clean_server, seed=7, others=0)
    assert await jitter_of_a_run(clean_server, seed=7, others=2) == first
    assert await jitter_of_a_run(clean_server, seed=8, others=0) != first


async def test_each_connection_has_jitter_of_its_own(
    proxy: FaultProxy, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    clients = [await connect() for _ in range(2)]
    proxy.to_client.jitter = proxy.to_server.jitter = 0.0001
    lateness = lateness_of(monkeypatch)
    for client in clients:
        assert await client.ask(PING, 7) == PONG
    assert len(set(lateness)) == 4


async def test_a_proxy_without_a_seed_draws_one(server: EmbeddedServer) -> None:
    one, other = (FaultProxy(server.host, server.port) for _ in range(2))
    assert one.seed != other.seed


@one_loop
async def test_bandwidth_is_a_brake_each_way(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    client = await connect()
    loop = asyncio.get_running_loop()
    value = b"x" * 30_000
    proxy.to_server.bandwidth = 100_000
    start = loop.time()
    await client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n%s\r\n" % (len(value), value))
    assert await client.receive(5) == b"+OK\r\n"
    assert 0.28 <= loop.time() - start < 1.0
    proxy.to_server.bandwidth, proxy.to_client.bandwidth = None, 200_000
    start = loop.time()
    assert await client.ask(b"GET k\r\n", len(value) + 10) == b"$30000\r\n%s\r\n" % value
    assert 0.13 <= loop.time() - start < 1.0
    proxy.restore()
    start = loop.time()
    assert len(await client.ask(b"GET k\r\n" * 20, 20 * (len(value) + 10))) == 20 * 30_010
    assert loop.time() - start < 1.0, "at 200,000 bytes a second it would take three"


@one_loop
async def test_connections_share_a_slow_line_and_take_turns(
    proxy: FaultProxy, connect: Connect, admin: redis.Redis
) -> None:
    clients = [await connect() for _ in range(3)]
    loop = asyncio.get_running_loop()
    admin.set("k", b"x" * 15_000)
    got = [0, 0, 0]
    at_the_first_end: list[int] = []

    async def get(number: int) -> None:
        await clients[number].send(b"GET k\r\n")
        while got[number] < 15_010:
            got[number] += len(await clients[number].receive_piece())
        at_the_first_end.extend(() if at_the_first_end else got)

    proxy.to_client.bandwidth = 150_000
    start = loop.time()
    await asyncio.gather(*(get(number) for number in range(3)))
    assert loop.time() - start >= 0.28
    assert min(at_the_first_end) > 7_500


async def test_a_brake_can_be_taken_off_at_any_time(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_client.bandwidth = 0.1
    await client.send(PING * 10)
    await asyncio.sleep(0.02)
    assert client.nothing_to_read()
    proxy.to_client.bandwidth = 1_000_000
    async with asyncio.timeout(5):
        assert await client.receive(70) == PONG * 10
    proxy.to_client.bandwidth = 0.1
    await client.send(PING)
    await asyncio.sleep(0.02)
    proxy.restore()
    async with asyncio.timeout(5):
        assert await client.receive(7) == PONG


async def test_what_is_on_a_slow_line_is_lost_with_the_connection(
    proxy: FaultProxy, connect: Connect
) -> None:
    client = await connect()
    before = proxy.to_server.forwarded
    proxy.to_server.bandwidth = 20
    await client.send(b"x" * 100)
    await proxy.wait_until(lambda proxy: proxy.to_server.forwarded > before)
    await asyncio.sleep(0.01)  # The next byte is on the line for 50 ms.
    proxy.blackhole()
    passed = proxy.to_server.forwarded - before
    assert passed < 100
    await proxy.wait_until(lambda proxy: proxy.to_server.discarded > 0)
    assert proxy.to_server.forwarded - before == passed
    assert proxy.to_server.discarded == 100 - passed


def test_a_line_restored_has_no_fault() -> None:
    line = Direction()
    settings = {
        name: getattr(line, name) for name in ("latency", "jitter", "bandwidth", "fragment")
    }
    line.latency = line.jitter = line.bandwidth = line.fragment = 1
    line.restore()
    assert {name: getattr(line, name) for name in settings} == settings


@one_loop
async def test_a_slow_line_holds_up_who_sends(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_server.bandwidth = 50_000
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    await client.send(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000000\r\n")
    sent = 0

    async def send_on() -> None:
        nonlocal sent
        while True:
            await client.send(bytes(10_000))
            sent += 10_000

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(send_on(), 0.2)
    assert proxy.to_server.forwarded < 100_000
    assert sent < 2_000_000, "the kernel's buffers, and little in the proxy"


@one_loop
async def test_a_slow_line_costs_no_processor_time(proxy: FaultProxy, connect: Connect) -> None:
    client = await connect()
    proxy.to_client.bandwidth = 1000
    await client.send(PING * 1000)
    await client.receive(7)
    start, spent = time.monotonic(), time.process_time()
    await client.receive(200)
    assert time.process_time() - spent < 0.5 * (time.monotonic() - start)


@one_loop
async def test_latency_stays_on_a_slow_line(proxy: FaultProxy, connect: Connect) -> None:
    """What is late is under way, and takes none of the room of those after it."""
    client = await connect()
    loop = asyncio.get_running_loop()
    proxy.to_client.latency = 0.1
    proxy.to_client.bandwidth = 4_000_000
    start = loop.time()
    await client.send(b"ECHO %s\r\n" % (b"x" * 30_000) * 20)
    assert len(await client.receive(20 * 30_010)) == 600_200
    assert 0.23 <= loop.time() - start < 0.8, "latency once, not once for each piece"
