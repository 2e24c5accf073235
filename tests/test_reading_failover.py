"""Reading from replicas of a cluster in which slots move and a primary dies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from redisutils import RedisPool
from redisutils.testing import EmbeddedCluster, find_servers

from .clusters import cluster_pool, slots_of
from .ours import until

MAIN, *_ = find_servers()  # Valkey tells replicas which slots are being moved; Redis does not

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

KEYS = 500


@pytest.fixture(scope="module")
def cluster() -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, MAIN) as cluster:
        yield cluster


class Readers:
    """Read all keys, over and over, and note what is wrong."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool
        self._stopped = False
        self.rounds = 0
        self.wrong: list[Any] = []

    async def run(self) -> None:
        while not self._stopped:
            numbers = range(KEYS)
            answers = await asyncio.gather(
                *(self._pool.client.get(f"k{number}") for number in numbers),
                return_exceptions=True,
            )
            for number, answer in zip(numbers, answers, strict=True):
                if answer != str(number).encode():
                    self.wrong.append((number, answer))
            self.rounds += 1

    def stop(self) -> None:
        self._stopped = True


@asynccontextmanager
async def reading(cluster: EmbeddedCluster, source: str) -> AsyncIterator[tuple[Any, Readers]]:
    async with cluster_pool(cluster, read_from=source) as pool:
        await asyncio.gather(*(pool.client.set(f"k{number}", number) for number in range(KEYS)))
        await cluster.wait_in_sync()
        readers = Readers(pool)
        task = asyncio.ensure_future(readers.run())
        await until(lambda: readers.rounds > 2)
        yield pool, readers
        rounds = readers.rounds
        await until(lambda: readers.rounds > rounds + 1, patience=15.0)
        readers.stop()
        await task
        assert readers.wrong == []
        assert pool.metrics().reads.from_replicas > 0


@pytest.mark.parametrize("source", ["replica", "nearest"])
async def test_no_read_is_wrong_while_slots_move_there_and_back(
    cluster: EmbeddedCluster, source: str
) -> None:
    one, other, _ = cluster.primaries
    moving = slots_of(cluster, one)[:300]
    async with reading(cluster, source):
        await cluster.move_slots(moving, other)
        await cluster.move_slots(moving, one)


async def test_no_read_fails_while_a_primary_dies_and_its_replica_takes_over(
    cluster: EmbeddedCluster,
) -> None:
    victim = cluster.primaries[0]
    async with reading(cluster, "prefer-replica") as (pool, _):
        await victim.kill()
        await cluster.wait_until_ok()
        assert await pool.client.set("k0", 0)
    await victim.start()
    await cluster.wait_until_ok()
