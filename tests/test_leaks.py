"""Nothing is left behind: no task, no future, no socket, no memory."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from redisutils import RedisPool, create_redis_pool
from redisutils.connection.alarm import FOREVER
from redisutils.errors import ConnectionLost
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import clients_named, fill_the_figures, our_tasks, pool_at, until
from .peers import Wire

needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc here")


def sockets() -> int:
    """How many sockets this process has open."""
    count = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            count += os.readlink(descriptor).startswith("socket:")
        except OSError:
            continue  # the listing's own
    return count


def futures_alive() -> int:
    """A reply is one of them."""
    return sum(type(thing) is asyncio.Future for thing in gc.get_objects())


async def trouble(pool: RedisPool, proxy: FaultProxy) -> None:
    """Errors, cancellations, lost connections and retries, by every road there is."""
    client = pool.client
    await client.set("text", "x")

    async def cancelled(awaitable: Any) -> None:
        task = asyncio.ensure_future(awaitable)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    for number in range(20):
        pipe: Any = client.pipeline(transaction=bool(number % 2))
        pipe.lpush("text", 1).get("text")
        watching = client.pipeline()
        await asyncio.gather(
            client.lpush("text", 1),
            client.execute_command("SET", "k", None),
            pipe.execute(),
            cancelled(client.get("text")),
            cancelled(client.blpop("none", 1)),
            cancelled(pool.get()),
            cancelled(watching.watch("k")),
            client.with_timeout(1e-6).get("text"),
            return_exceptions=True,
        )
        await watching.reset()
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            await cancelled(pubsub.get_message(timeout=1))
        if number % 5 == 4:
            proxy.reset()
            assert await client.get("text") == b"x"


@needs_proc
async def test_no_task_future_or_socket_is_left(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    tasks, before = asyncio.all_tasks(), sockets()
    async with pool_at(clean_server, proxy, client_name="leaky", retry_delay_ms=1) as pool:
        await pool.client.ping()
        housekeeping, replies = our_tasks() - tasks, futures_alive()
        await trouble(pool, proxy)
        await until(lambda: our_tasks() - tasks <= housekeeping, "the end of the other tasks")
        status = pool.status()
        assert status.waiting == 0
        assert status.size - status.available == 1  # the lane
        assert standalone(pool).pool.in_use == 1
        connections = weakref.WeakSet(c for c, _ in standalone(pool).pool.idle())
        await until(
            lambda: gc.collect() >= 0 and futures_alive() <= replies, "the end of all replies"
        )
    await proxy.wait_active(0)
    await until(lambda: asyncio.all_tasks() <= tasks, "the end of all tasks")
    await until(lambda: sockets() <= before, "the end of all sockets")
    await until(lambda: not clients_named(admin, "leaky"), "the end of all connections")
    del pool, status
    gc.collect()
    assert not connections


async def test_no_cycle_keeps_a_reply_or_an_error(clean_server: EmbeddedServer) -> None:
    """What a command leaves is gone when its caller lets go, without a collector's help."""
    async with pool_at(clean_server) as pool:
        await pool.client.set("text", "x")
        gc.collect()
        gc.disable()
        before = futures_alive()
        try:
            last: Callable[[], object] = object
            for _ in range(50):
                await pool.client.get("text")
                try:
                    await pool.client.lpush("text", 1)
                except redis.ResponseError as error:
                    last = weakref.ref(error)
            await asyncio.sleep(0)  # out of the callback that has read the reply
            assert last() is None
            assert futures_alive() <= before
        finally:
            gc.enable()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_memory_does_not_grow_with_commands_and_errors(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        client = pool.client
        await client.set("text", "x")

        async def work(count: int) -> None:
            for number in range(count):
                match number % 4:
                    case 0:
                        await client.get(f"key:{number}")
                    case 1:
                        await client.set(f"key:{number % 10}", number)
                    case 2:
                        with pytest.raises(redis.ResponseError):
                            await client.lpush("text", 1)
                    case _:
                        pipe: Any = client.pipeline(transaction=False)
                        pipe.get("text")
                        await pipe.execute()

        async def round_of(total: int) -> int:
            await asyncio.gather(*(work(total // 20) for _ in range(20)))
            pool.metrics()
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        await round_of(2_000)  # caches fill
        fill_the_figures(pool)
        tracemalloc.start()
        try:
            first = await round_of(2_000)
            grown = await round_of(20_000) - first
        finally:
            tracemalloc.stop()
        assert grown < 100_000, f"{grown:,} bytes more after 20,000 commands"


async def test_opening_and_closing_pools_leaves_nothing(clean_server: EmbeddedServer) -> None:
    async def life() -> weakref.ref[RedisPool]:
        async with pool_at(clean_server) as pool:
            await pool.client.ping()
            async with pool.get() as conn:
                await conn.execute("PING")
            return weakref.ref(pool)

    kept = [await life() for _ in range(5)]
    await asyncio.sleep(0)
    gc.collect()
    assert [ref() for ref in kept] == [None] * 5


MANY = """
import asyncio, sys, uvloop
from redisutils import create_redis_pool

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))

async def main(url):
    async with create_redis_pool(url=url, pool_max_size=500) as pool:
        await pool.client.ping()
        before = resident()
        conns = await asyncio.gather(*(pool.get() for _ in range(499)))
        assert pool.status().size == 500
        print(before, resident())
        for conn in conns:
            conn.release()

uvloop.run(main(sys.argv[1]))
"""


@needs_proc
def test_five_hundred_connections_are_light(server: EmbeddedServer) -> None:
    """The figure to reach is 50 MB; the bound here leaves room for other platforms' Pythons."""
    done = subprocess.run(
        [sys.executable, "-c", MANY, server.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    before, after = (int(kib) / 1024 for kib in done.stdout.split())
    print(f"resident: {before:.1f} MiB with one connection, {after:.1f} MiB with 500")  # noqa: T201  # shown with -s
    assert after < 80


async def test_an_unused_pool_holds_nothing(clean_server: EmbeddedServer) -> None:
    """Made and never opened, or opened and never used: no task, no socket, no warning."""
    tasks = asyncio.all_tasks()
    assert not create_redis_pool(url=clean_server.url).closed
    pool = await create_redis_pool(url=clean_server.url, health_check_interval=0)
    assert asyncio.all_tasks() == tasks
    assert pool.status().size == 0
    await pool.close()


async def test_the_loop_keeps_no_closed_connection_for_what_comes_too_late() -> None:
    """A deadline of what is refused at once would hold it until then."""
    async with Wire() as wire:
        wire.connection.close()
        late = [wire.ask(timeout=FOREVER), wire.ask_many(2)]
        for error in await asyncio.gather(*late, return_exceptions=True):
            assert isinstance(error, ConnectionLost)
        closed = weakref.ref(wire.connection)
    del wire, late, error
    gc.collect()
    assert closed() is None
