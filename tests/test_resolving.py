"""A name server that does not answer costs a caller its budget, and the program nothing else."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import ConnectFailed, Outcome, create_redis_pool, outcome_of
from redisutils.connection import reach
from redisutils.connection.embedded import free_port
from redisutils.connection.reach import addresses
from redisutils.testing import EmbeddedServer

from .ours import pool_at, until

NAME = "redis.example"
QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20, "max_retries": 1000}


class Resolver:
    """The system's resolver, for one name: it does not answer until it is told to."""

    def __init__(self, ask: Callable[..., Any]) -> None:
        self._ask = ask
        self._mended = threading.Event()
        self.asked = 0
        self.answer = "127.0.0.1"

    def __call__(self, host: str, port: int, **more: Any) -> Any:
        if host != NAME or more.get("flags"):
            return self._ask(host, port, **more)
        self.asked += 1
        assert self._mended.wait(60)
        return self._ask(self.answer, port, **more)

    def mend(self) -> None:
        self._mended.set()

    def fail_again(self) -> None:
        self._mended.clear()


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    resolver = Resolver(socket.getaddrinfo)
    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    yield resolver
    resolver.mend()


def lookups() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("redisutils-resolve")]


async def test_a_name_server_that_hangs(clean_server: EmbeddedServer, resolver: Resolver) -> None:
    async with pool_at(clean_server, host=NAME, **QUICK, command_timeout=0.2) as pool:
        for _ in range(3):
            started = monotonic()
            errors = await asyncio.gather(
                pool.client.incr("k"), pool.client.get("k"), return_exceptions=True
            )
            assert monotonic() - started < 0.2 + 0.5
            assert [type(e).__mro__[0].__name__ for e in errors] == ["CommandTimeout"] * 2
            assert {outcome_of(e) for e in errors if isinstance(e, Exception)} == {Outcome.NOT_SENT}
        # Nothing of the loop's executor, which is the program's, is occupied.
        crowd = [asyncio.to_thread(threading.get_ident) for _ in range(40)]
        async with asyncio.timeout(10):
            await asyncio.gather(*crowd)
        assert resolver.asked == len(lookups()) <= 3
        resolver.mend()
        assert await pool.client.with_timeout(5).incr("k") == 1
    await until(lambda: not lookups())


async def test_many_connections_ask_once(clean_server: EmbeddedServer, resolver: Resolver) -> None:
    async with pool_at(clean_server, host=NAME, pool_max_size=20) as pool:
        opening = [asyncio.ensure_future(pool.get()) for _ in range(20)]
        await until(lambda: resolver.asked)
        resolver.mend()
        leases = await asyncio.gather(*opening)
        assert pool.status().size == 20
        assert resolver.asked < 20
        for lease in leases:
            lease.release()


async def test_one_who_gives_up_takes_the_answer_from_nobody(resolver: Resolver) -> None:
    first, second = (asyncio.create_task(addresses(NAME, 1)) for _ in range(2))
    await until(lambda: resolver.asked)
    first.cancel()
    await asyncio.wait([first])
    third = asyncio.create_task(addresses(NAME, 1))
    await asyncio.sleep(0)
    resolver.mend()
    assert await second == await third == ["127.0.0.1"]
    assert resolver.asked == 1
    await until(lambda: not lookups())


async def test_a_query_that_was_lost_is_asked_anew(
    clean_server: EmbeddedServer, resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one hangs for good. Those who wait for it have the second one's answer."""
    monkeypatch.setattr(reach, "ASK_AGAIN", 0.02)
    lost = resolver._mended
    async with pool_at(clean_server, host=NAME, command_timeout=30) as pool:
        first = asyncio.ensure_future(pool.client.get("k"))
        await until(lambda: resolver.asked)
        resolver._mended = threading.Event()
        resolver.mend()
        await asyncio.sleep(0.02)
        async with asyncio.timeout(10), pool.get() as connection:
            assert await connection.ping() is True
            assert await first is None
        assert resolver.asked >= 2
    lost.set()
    await until(lambda: not lookups())


async def test_a_name_server_that_is_gone_is_asked_ever_more_rarely(
    resolver: Resolver, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(reach, "monotonic", lambda: now)
    waiting = []
    asked = []
    for _ in range(400):  # once in a quarter of a second
        waiting.append(asyncio.create_task(addresses(NAME, 1)))
        await asyncio.sleep(0)
        asked.append(len(lookups()))
        now += 0.25
    assert [asked.index(count) * 0.25 for count in range(1, 9)] == [
        0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5
    ]  # fmt: skip
    assert max(asked) == 8
    resolver.mend()
    assert await asyncio.gather(*waiting) == [["127.0.0.1"]] * 400
    await until(lambda: not lookups())


async def test_a_name_that_moves_is_found_again(
    clean_server: EmbeddedServer, resolver: Resolver, admin: redis.Redis
) -> None:
    """Nothing is remembered of a name."""
    resolver.mend()
    resolver.answer = "127.0.0.2"  # where nobody listens
    async with pool_at(clean_server, host=NAME, **QUICK | {"max_retries": 1}) as pool:
        with pytest.raises(ConnectFailed, match=r"redis\.example:\d+: connection refused"):
            await pool.client.get("k")
        resolver.answer = "127.0.0.1"
        assert await pool.client.get("k") is None


async def test_each_address_of_a_name_is_tried(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one refuses, the second one accepts."""
    ask = socket.getaddrinfo

    def two(host: str, port: int, **more: Any) -> Any:
        if host != NAME or more.get("flags"):
            return ask(host, port, **more)
        return ask("127.0.0.2", port, **more) + ask("127.0.0.1", port, **more)

    monkeypatch.setattr(socket, "getaddrinfo", two)
    async with pool_at(clean_server, host=NAME, **QUICK | {"max_retries": 0}) as pool:
        assert await pool.client.ping() is True


@pytest.mark.parametrize(
    ("found", "words"),
    [(["127.0.0.2", "127.0.0.3"], ": connection refused"), ([], "the name has no address")],
)
async def test_why_none_of_the_addresses_of_a_name_accepts(
    monkeypatch: pytest.MonkeyPatch, found: list[str], words: str
) -> None:
    """Once, if all fail alike."""
    port = free_port()
    ask = socket.getaddrinfo

    def several(host: str, port: int, *args: Any, **more: Any) -> Any:
        if host != NAME:
            return ask(host, port, *args, **more)
        if more.get("flags"):
            raise socket.gaierror(socket.EAI_NONAME, "no address in figures")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in found]

    monkeypatch.setattr(socket, "getaddrinfo", several)
    async with create_redis_pool(host=NAME, port=port, max_retries=0) as pool:
        with pytest.raises(ConnectFailed, match=words) as caught:
            await pool.client.get("k")
    assert "; 127" not in str(caught.value)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".example", "bad..name"])
async def test_a_name_that_cannot_be(host: str) -> None:
    async with create_redis_pool(host=host, port=1, max_retries=0) as pool:
        with pytest.raises(ConnectFailed, match="name") as caught:
            await pool.client.get("k")
        assert caught.value.outcome is Outcome.NOT_SENT


_PROGRAM = """
import asyncio, socket, threading
ask = socket.getaddrinfo
def hang(host, port, **more):
    if host != "redis.example" or more.get("flags"):
        return ask(host, port, **more)
    threading.Event().wait()
socket.getaddrinfo = hang
from redisutils import CommandTimeout, create_redis_pool

async def main():
    async with create_redis_pool(host="redis.example", command_timeout=0.1) as pool:
        try:
            await pool.client.get("k")
        except CommandTimeout:
            print("told in time")
RUN
"""


@pytest.mark.parametrize("run", ["asyncio.run(main())", "import uvloop; uvloop.run(main())"])
def test_a_program_ends_while_a_name_server_hangs(run: str) -> None:
    program = _PROGRAM.replace("RUN", run)
    ended = subprocess.run(
        [sys.executable, "-c", program], timeout=30, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout.strip(), ended.stderr) == (0, "told in time", "")


async def test_addresses_that_fail_in_different_ways_are_all_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second is one to which nobody can connect."""
    ask = socket.getaddrinfo

    def two(host: str, port: int, **more: Any) -> Any:
        if host != NAME or more.get("flags"):
            return ask(host, port, **more)
        return [*ask("127.0.0.1", 1, **more), *ask("255.255.255.255", 1, **more)]

    monkeypatch.setattr(socket, "getaddrinfo", two)
    async with create_redis_pool(host=NAME, max_retries=0) as pool:
        with pytest.raises(ConnectFailed, match=r"127.*: Connection refused; 255.*: "):
            await pool.client.get("k")


async def test_an_address_that_cannot_be_reached_is_not_one_that_refuses() -> None:
    async with create_redis_pool(host="255.255.255.255", max_retries=0) as pool:
        with pytest.raises(ConnectFailed, match=r"unreachable|ermission denied") as failure:
            await pool.client.get("k")
        assert "refused" not in str(failure.value)


async def test_no_thread_is_to_be_had_for_a_lookup(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("redisutils-resolve"):
            raise RuntimeError("can't start new thread")
        start(thread)

    settings: dict[str, Any] = {
        "host": "localhost",
        "port": server.port,
        "password": server.password,
    }
    async with create_redis_pool(**settings) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            with pytest.raises(
                ConnectFailed, match="cannot be looked up: can't start new thread"
            ) as why:
                await pool.client.get("k")
        assert why.value.outcome is Outcome.NOT_SENT
        assert await pool.client.ping()
