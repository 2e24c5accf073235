"""Thousands of cycles of connect, use, cancel and fail, by all kinds of users, leave nothing: no
descriptor, no task, no client at the server, no memory.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import random
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from redisutils import RedisPool
from redisutils.connection import diagnosis
from redisutils.connection.dial import dial
from redisutils.connection.embedded import free_port
from redisutils.connection.options import ConnectOptions
from redisutils.metrics import PoolMetrics
from redisutils.testing import EmbeddedServer
from tests.ours import standalone

from .ours import client_at, fill_the_figures, pool_at, until

pytestmark = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")

CYCLES = {"asyncio": 10, "uvloop": 60}
"""Of each user, on each server. asyncio's loop is slow in debug mode."""

AT_ONCE = 10

NAME = "cyclist"


class Scene:
    """What the users have at hand."""

    def __init__(self, server: EmbeddedServer, pool: RedisPool, dumb: int, rude: int) -> None:
        self.server = server
        self.pool = pool
        self.client: Any = pool.client
        self.dumb = dumb
        """The port of one who listens, and never says a word."""
        self.rude = rude
        """That of one who hangs up in the middle of the handshake."""
        self.nobody = free_port()
        """Where nobody listens."""
        self.tls = ssl.create_default_context()
        self.dice = random.Random(NAME)

    def stranger(self, **options: Any) -> Any:
        """A client that is not to be reused."""
        return client_at(self.server, **{"retry_on_timeout": False, "client_name": NAME, **options})

    async def cancelled(self, awaitable: Awaitable[Any], turns: int) -> None:
        """Cancel it somewhere within so many turns of the loop."""
        task = asyncio.ensure_future(awaitable)
        for _ in range(self.dice.randrange(turns)):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError, redis.RedisError):
            await task


Cycle = Callable[[Scene], Awaitable[None]]


async def a_client(scene: Scene) -> None:
    async with scene.stranger() as client:
        await client.set("k", "v")
        assert await client.get("k") == b"v"


async def a_client_cancelled_while_it_connects(scene: Scene) -> None:
    async with scene.stranger() as client:
        await scene.cancelled(client.get("k"), 12)


async def a_client_of_one_connection(scene: Scene) -> None:
    async with scene.stranger(single_connection_client=True) as client:
        await scene.cancelled(client.get("k"), 12)
        await client.get("k")


async def a_pool_with_a_lane(scene: Scene) -> None:
    async with pool_at(scene.server, client_name=NAME, health_check_interval=1) as pool:
        await asyncio.gather(pool.client.get("k"), pool.lane("orders").get("k"))


async def a_pool_closed_while_it_is_used(scene: Scene) -> None:
    async with pool_at(scene.server, client_name=NAME) as pool:
        work = [asyncio.ensure_future(pool.client.get("k")) for _ in range(3)]
        waiting = asyncio.ensure_future(pool.client.blpop(["none"], 5))
        for _ in range(scene.dice.randrange(12)):
            await asyncio.sleep(0)
    await asyncio.gather(*work, waiting, return_exceptions=True)


async def a_lease(scene: Scene) -> None:
    async with scene.pool.get() as conn:
        await conn.execute("GET", "k")
        conn._lease.item.tainted = scene.dice.random() < 0.5


async def a_lease_cancelled(scene: Scene) -> None:
    async def borrow() -> None:
        async with scene.pool.get() as conn:
            await conn.execute("GET", "k")

    scene.pool.retain(lambda conn, usage: scene.dice.random() < 0.5)
    await scene.cancelled(borrow(), 12)


async def a_lease_that_is_taken(scene: Scene) -> None:
    conn = await scene.pool.get()
    taken: Any = conn.take()
    await taken.execute("GET", "k")
    await taken.aclose()


async def a_watch(scene: Scene) -> None:
    async def watch() -> None:
        async with scene.client.pipeline() as pipe:
            await pipe.watch("k")
            await pipe.get("k")
            pipe.multi()
            pipe.set("other", "v")
            await pipe.execute()

    await scene.cancelled(watch(), 25)


async def a_subscription(scene: Scene) -> None:
    async with scene.client.pubsub() as pubsub:

        async def listen() -> None:
            await pubsub.subscribe("news")
            while True:
                await pubsub.get_message(timeout=1)

        await scene.cancelled(listen(), 25)


async def a_blocking_read(scene: Scene) -> None:
    await scene.cancelled(scene.client.blpop(["none"], 5), 20)


async def a_monitor(scene: Scene) -> None:
    async with scene.client.monitor() as monitor:
        await scene.cancelled(monitor.next_command(), 12)


async def a_refusal(scene: Scene) -> None:
    async with scene.stranger(port=scene.nobody, retry=None) as client:
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await client.with_timeout(0.001).get("k")


async def a_wrong_password(scene: Scene) -> None:
    async with scene.stranger(password="wrong") as client:
        with pytest.raises(redis.AuthenticationError):
            await client.get("k")


async def a_handshake_without_an_answer(scene: Scene) -> None:
    async with scene.stranger(port=scene.dumb) as client:
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await client.with_timeout(0.002).get("k")


async def a_handshake_that_is_cut(scene: Scene) -> None:
    async with scene.stranger(port=scene.rude) as client:
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await client.with_timeout(0.01).get("k")


async def a_tls_handshake_that_fails(scene: Scene) -> None:
    async with pool_at(scene.server, ssl_context=scene.tls, client_name=NAME) as pool:
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
            await pool.client.with_timeout(0.02).get("k")


async def a_tls_handshake_that_is_cancelled(scene: Scene) -> None:
    port = scene.dice.choice((scene.dumb, scene.rude, scene.server.port))
    settings: dict[str, Any] = {"port": port, "ssl_context": scene.tls, "client_name": NAME}
    async with pool_at(scene.server, **settings) as pool:
        await scene.cancelled(pool.client.get("k"), 20)


USERS: list[Cycle] = [
    a_client,
    a_client_cancelled_while_it_connects,
    a_client_of_one_connection,
    a_pool_with_a_lane,
    a_pool_closed_while_it_is_used,
    a_lease,
    a_lease_cancelled,
    a_lease_that_is_taken,
    a_watch,
    a_subscription,
    a_blocking_read,
    a_monitor,
    a_refusal,
    a_wrong_password,
    a_handshake_without_an_answer,
    a_handshake_that_is_cut,
    a_tls_handshake_that_fails,
    a_tls_handshake_that_is_cancelled,
]


async def go_round(user: Cycle, scene: Scene, cycles: int) -> None:
    async def some() -> None:
        for _ in range(cycles // AT_ONCE):
            await user(scene)

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class Rude(asyncio.Protocol):
    """Hangs up when it is spoken to."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.close()


@pytest.fixture
async def rude() -> AsyncIterator[int]:
    server = await asyncio.get_running_loop().create_server(Rude, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()


@pytest.fixture
def dumb() -> Iterator[int]:
    """The kernel accepts, and nobody ever comes to look."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(4096)
        yield listener.getsockname()[1]


@pytest.mark.parametrize("how", ["connect", "diagnosis"])
@pytest.mark.parametrize("who", ["dumb", "rude"])
async def test_a_tls_handshake_that_was_cut_off_is_soon_forgotten(
    how: str, who: str, dumb: int, rude: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uvloop would keep what belonged to it for a minute."""

    def bios() -> int:
        gc.collect()
        return sum(type(thing) is ssl.MemoryBIO for thing in gc.get_objects())

    async def look() -> None:
        async with asyncio.timeout(dice.random() * 0.01):
            if how == "connect":
                await dial(options, PoolMetrics())
            else:
                await diagnosis.speaks_tls(options)

    monkeypatch.setattr(diagnosis, "PATIENCE", 0.1)
    dice = random.Random(who)
    context = ssl.create_default_context()
    port = dumb if who == "dumb" else rude

    async def nobody() -> tuple[str, ...]:
        return ()

    options = ConnectOptions(
        host="127.0.0.1", port=port, timeout=0.1, tls=lambda: context, credentials=nobody
    )
    before = bios()
    await asyncio.gather(*(look() for _ in range(20)), return_exceptions=True)
    await until(lambda: bios() <= before, "the end of all handshakes")


async def test_nothing_is_left(
    clean_server: EmbeddedServer,
    admin: redis.Redis,
    dumb: int,
    rude: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)  # pytest would keep the records
    said: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda loop, context: said.append(context))
    cycles = CYCLES["asyncio" if isinstance(loop, asyncio.SelectorEventLoop) else "uvloop"]
    async with pool_at(clean_server, client_name=NAME, pool_max_size=2 * AT_ONCE) as pool:
        scene = Scene(clean_server, pool, dumb, rude)

        def at_rest() -> tuple[int, int, int]:
            pool.retain(lambda conn, usage: False)
            clients = int(admin.info("clients")["connected_clients"])
            return descriptors(), len(asyncio.all_tasks()), clients

        def blocks() -> int:
            gc.collect()
            return sys.getallocatedblocks()

        await pool.client.ping()
        fill_the_figures(pool)
        await until(lambda: at_rest()[2] == 2, "rest")
        before = at_rest()
        for user in USERS:
            name = user.__name__
            await go_round(user, scene, AT_ONCE)  # caches fill
            await until(lambda: at_rest() == before, f"{before} again after {name}")
            start = blocks()
            await go_round(user, scene, cycles)
            await until(lambda: at_rest() == before, f"{before} again after {name}")
            await until(
                lambda: blocks() - start < 3 * cycles + 200,  # noqa: B023  # of this turn
                f"the end of the memory of {name}",
            )
            assert standalone(pool).pool.in_use == 1, name
            assert pool.status().waiting == 0, name
            assert not said, name
