"""Commands of one caller to one key run in the order in which they were issued.

The caller issues in bursts (``gather``), whose answers are held against a model: what each command
must have seen if they ran in their order, with one whose fate is unknown either done or not.

One freedom is left: a read that is sent again because its answer was lost may see what came after
it in its burst, which may have run before the connection died.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from redisutils import Outcome, Redis, RedisPool, outcome_of
from redisutils.connection import protocol
from redisutils.connection.embedded import free_port
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import piped, pool_at, until

QUICK: dict[str, Any] = {
    "command_timeout": 5,
    "retry_delay_ms": 5,
    "retry_max_delay_ms": 20,
    "max_retries": 1000,
}
KEYS = ("a", "b", "c")
World = tuple[str, ...]  # what stands at KEYS


Step = tuple[Any, ...]


def burst(dice: random.Random, serial: Iterator[int]) -> list[Step]:
    """Commands to be issued at once. Each writes a value of its own."""
    return [_step(dice, str(next(serial))) for _ in range(dice.randrange(2, 40))]


def _step(dice: random.Random, value: str) -> Step:
    kind = dice.choice(("GET", "GET", "SET", "SET", "APPEND", "MSET", "MGET"))
    if kind in {"MSET", "MGET"}:
        one, other = dice.sample(KEYS, 2)
        return (kind, one, value, other, value) if kind == "MSET" else (kind, one, other)
    key = dice.choice(KEYS)
    return (kind, key) if kind == "GET" else (kind, key, value + ",")


async def issue(client: Redis, steps: list[Step]) -> list[Any]:
    return await asyncio.gather(
        *(client.execute_command(*step) for step in steps), return_exceptions=True
    )


def check(
    worlds: set[World], steps: list[Step], answers: list[Any], *, fresher_reads: bool
) -> set[World]:
    """The worlds that there may be after the steps, from those that there may be before.

    Args:
        fresher_reads: whether a read may have seen what came later.
    """
    told = list(zip(steps, answers, strict=True))
    unexplained: set[tuple[str, bytes]] = set()
    for step, answer in told:
        reads = step[0] in {"GET", "MGET"}
        if isinstance(answer, BaseException):
            outcome = outcome_of(answer)
            assert outcome is not None, repr(answer)
            if outcome is Outcome.UNKNOWN and not reads:
                worlds = worlds | {_run(world, step)[0] for world in worlds}
        elif reads and fresher_reads:
            seen = answer if step[0] == "MGET" else [answer]
            unexplained.update(zip(step[1:], seen, strict=True))
        else:
            runs = [_run(world, step) for world in worlds]
            worlds = {after for after, seen in runs if seen == answer}
            assert worlds, f"{step} answered {answer!r} in {told}"
        there = {
            (key, value.encode())
            for world in worlds
            for key, value in zip(KEYS, world, strict=True)
        }
        unexplained -= there
    assert not unexplained, f"{unexplained} in {told}"
    return worlds


def _run(world: World, step: Step) -> tuple[World, Any]:
    """One command in the model: the world after it and its answer."""
    state = dict(zip(KEYS, world, strict=True))
    kind, *rest = step
    answer: Any
    if kind == "GET":
        answer = state[rest[0]].encode()
    elif kind == "MGET":
        answer = [state[key].encode() for key in rest]
    elif kind == "SET":
        state[rest[0]] = rest[1]
        answer = True
    elif kind == "MSET":
        state[rest[0]], state[rest[2]] = rest[1], rest[3]
        answer = True
    else:
        state[rest[0]] += rest[1]
        answer = len(state[rest[0]])
    return tuple(state[key] for key in KEYS), answer


async def some_refusals(pool: RedisPool, count: int, tasks: list[asyncio.Task[Any]]) -> None:
    """Wait until so many more commands are to be repeated, or all have their answers."""
    wanted = pool.metrics().retries.get("READONLY", 0) + count
    await until(
        lambda: (
            pool.metrics().retries.get("READONLY", 0) >= wanted
            or all(task.done() for task in tasks)
        )
    )


@pytest.fixture
def empty_values(clean_server: EmbeddedServer, admin: redis.Redis) -> set[World]:
    admin.mset(dict.fromkeys(KEYS, ""))
    return {("",) * len(KEYS)}


@pytest.mark.parametrize("seed", range(2))
async def test_through_reconnects(
    proxy: FaultProxy,
    server: EmbeddedServer,
    admin: redis.Redis,
    empty_values: set[World],
    seed: int,
) -> None:
    dice = random.Random(seed)
    serial = iter(range(1_000_000))
    worlds = empty_values
    async with pool_at(server, proxy, **QUICK) as pool:
        for _ in range(10):
            fault = dice.randrange(5)
            if fault == 0:
                proxy.to_client.cut_after(dice.randrange(1, 200), "reset")
            elif fault == 1:
                proxy.to_server.cut_after(dice.randrange(1, 1500), "close")
            elif fault == 2:
                proxy.swallow_replies(1, lambda data: b"SET" in data, "reset")
            elif fault == 3:
                proxy.to_server.fragment = dice.randrange(20, 200)
            steps = burst(dice, serial)
            issued = asyncio.create_task(issue(pool.client, steps))
            if fault == 3:
                for _ in range(dice.randrange(1, 40)):
                    await asyncio.sleep(0)
                proxy.reset()
            answers = await issued
            proxy.restore()
            worlds = check(worlds, steps, answers, fresher_reads=True)
        assert pool.metrics().retries["lost"] > 0
    assert tuple(admin.get(key) for key in KEYS) in worlds


@pytest.mark.parametrize(("seed", "bound"), [(0, 8192), (1, 8192), (2, 8)])
async def test_through_refusals(
    proxy: FaultProxy,
    server: EmbeddedServer,
    admin: redis.Redis,
    empty_values: set[World],
    monkeypatch: pytest.MonkeyPatch,
    seed: int,
    bound: int,
) -> None:
    """The server becomes a replica and a primary again, at any moment of a burst."""
    monkeypatch.setattr(protocol, "MAX_IN_FLIGHT", bound)
    monkeypatch.setattr(protocol, "FLUSH_AT_MOST", min(bound, protocol.FLUSH_AT_MOST))
    dice = random.Random(seed)
    serial = iter(range(1_000_000))
    worlds = empty_values
    nobody = free_port()
    try:
        async with pool_at(server, proxy, **QUICK) as pool:
            for _ in range(10):
                if dice.random() < 0.7:
                    admin.replicaof("127.0.0.1", nobody)
                proxy.to_server.fragment = dice.choice((None, 50, 200))
                bursts = []
                for _ in range(dice.randrange(1, 4)):
                    steps = burst(dice, serial)
                    bursts.append((steps, asyncio.create_task(issue(pool.client, steps))))
                    for _ in range(dice.randrange(60)):
                        await asyncio.sleep(0)
                if dice.random() < 0.5:
                    await some_refusals(pool, dice.randrange(1, 10), [task for _, task in bursts])
                lost = dice.random() < 0.2
                if lost:
                    proxy.reset()
                admin.replicaof("NO", "ONE")
                answers = [answer for _, task in bursts for answer in await task]
                steps = [step for steps, _ in bursts for step in steps]
                worlds = check(worlds, steps, answers, fresher_reads=lost)
            assert pool.metrics().retries["READONLY"] > 0
    finally:
        admin.replicaof("NO", "ONE")
    assert tuple(admin.get(key) for key in KEYS) in worlds


async def test_while_callers_are_held_back_at_the_bound(
    clean_server: EmbeddedServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than may be in flight at once: what waits leaves in its order, and so does what is
    issued as there is room again."""
    monkeypatch.setattr(protocol, "MAX_IN_FLIGHT", 64)
    monkeypatch.setattr(protocol, "FLUSH_AT_MOST", 16)
    async with pool_at(clean_server) as pool:
        count = 1_000
        tasks = [asyncio.ensure_future(pool.client.rpush("list", i)) for i in range(count)]
        first = asyncio.gather(*tasks)
        await tasks[100]
        lane = standalone(pool).lane()
        assert lane.connection is not None
        assert lane.connection.in_flight <= 64 + 16 < lane.depth
        second = asyncio.gather(*(pool.client.rpush("list", count + i) for i in range(100)))
        assert await first == list(range(1, count + 1))
        assert await second == list(range(count + 1, count + 101))
    assert admin.lrange("list", 0, -1) == [str(i) for i in range(count + 100)]


async def test_what_was_issued_before_the_first_connection(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    proxy.refuse()
    async with pool_at(server, proxy, **QUICK) as pool:
        first = asyncio.gather(*(pool.client.rpush("list", i) for i in range(100)))
        await until(lambda: pool.metrics().errors.get("ConnectFailed", 0) > 1)
        second = asyncio.gather(
            *(piped(pool.client, True, ("RPUSH", "list", 100 + i)).execute() for i in range(20))
        )
        await asyncio.sleep(0)
        proxy.restore()
        await asyncio.gather(first, second)
    assert admin.lrange("list", 0, -1) == [str(i) for i in range(120)]


async def test_a_refused_command_that_was_overtaken_is_not_repeated(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """The first SET reaches a replica, the second a primary: to repeat the first would undo it.
    A read that was refused may still be repeated: it undoes nothing."""
    admin.config_set("replica-serve-stale-data", "no")
    admin.replicaof("127.0.0.1", free_port())
    try:
        async with pool_at(server, proxy, **QUICK) as pool:
            await pool.client.execute_command("ECHO", "x")
            admin.config_resetstat()
            proxy.to_client.latency = 0.1
            refused = [
                asyncio.ensure_future(pool.client.set("k", "first")),
                asyncio.ensure_future(pool.client.set("free", "x")),
                asyncio.ensure_future(pool.client.get("read")),
            ]
            await until(lambda: _refused(admin, "set") == 2 and _refused(admin, "get") == 1)
            admin.replicaof("NO", "ONE")
            second = asyncio.gather(pool.client.set("k", "second"), pool.client.get("read"))
            assert list(await second) == [True, None]
            with pytest.raises(redis.RedisError) as caught:
                await refused[0]
            assert outcome_of(caught.value) is Outcome.REJECTED
            assert await refused[1] is True
            assert await refused[2] is None
        assert admin.get("k") == "second"
    finally:
        admin.config_set("replica-serve-stale-data", "yes")
        admin.replicaof("NO", "ONE")


def _refused(admin: redis.Redis, command: str) -> int:
    """How often the server has refused the command."""
    stats: dict[str, Any] = admin.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("rejected_calls", 0))
