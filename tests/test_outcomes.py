"""Every row of the table "When a command may be repeated", and what errors say about a write.

Writes carry names of their own (``RPUSH log <name>``), so that the server tells afterwards which
of them took effect, and how often.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest
import redis
from redis.exceptions import WatchError

from redisutils import (
    CommandTimeout,
    Outcome,
    PoolClosed,
    Redis,
    RedisPool,
    outcome_of,
)
from redisutils.connection.embedded import free_port
from redisutils.connection.packing import pack
from redisutils.errors import AuthenticationFailed, ConnectFailed, ConnectionLost
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import piped, pool_at, until

Mode = Literal["safe", "never", "always"]
MODES: tuple[Mode, ...] = ("safe", "never", "always")

QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}


def calls(admin: redis.Redis, command: str) -> int:
    """How often the server has executed a command since ``config_resetstat``."""
    stats: dict[str, Any] = admin.info("commandstats")
    return int(stats.get(f"cmdstat_{command}", {}).get("calls", 0))


async def outcome_after(awaitable: Awaitable[Any]) -> Outcome | None:
    """None when it succeeded."""
    result: object = (await asyncio.gather(awaitable, return_exceptions=True))[0]
    if not isinstance(result, redis.RedisError | UnicodeError):
        assert not isinstance(result, BaseException), f"{result!r} is no error of a command"
        return None
    outcome = outcome_of(result)
    assert outcome is not None, f"{result!r} says nothing about its command"
    return outcome


async def lose_replies(
    proxy: FaultProxy, done: asyncio.Event, progress: Callable[[], int], seed: int
) -> None:
    """Until ``done``: swallow replies, reset connections, refuse new ones, in random order, and
    each time let some commands succeed first."""
    dice = random.Random(seed)
    while True:
        wanted = progress() + dice.randrange(5, 30)
        await until(lambda: done.is_set() or progress() >= wanted, "progress")  # noqa: B023  # of this turn
        if done.is_set():
            return
        fault = dice.randrange(4)
        swallowed = proxy.swallowed
        if fault <= 1:
            proxy.swallow_replies(1, lambda data: b"log" in data, ("close", "reset")[fault])
            for _ in range(20):
                await asyncio.sleep(0.001)
                if proxy.swallowed > swallowed or done.is_set():
                    break
        elif fault == 2:
            proxy.reset()
        else:
            proxy.refuse()
            proxy.close_all()
            await asyncio.sleep(dice.random() * 0.03)
        proxy.restore()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("command", ["RPUSH", "INCR"])
async def test_writes_under_faults_are_what_their_outcomes_say(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis, command: str, mode: Mode
) -> None:
    outcomes: dict[str, Outcome | None] = {}
    settings = QUICK | {"command_timeout": 0.25, "max_retries": 3, "retry": mode}
    async with pool_at(server, proxy, **settings) as pool:

        async def write(task: int) -> None:
            for number in range(25):
                name = f"{task}.{number}"
                if command == "RPUSH":
                    outcomes[name] = await outcome_after(pool.client.rpush("log", name))
                else:
                    outcomes[name] = await outcome_after(pool.client.incr(f"log:{name}"))
                await asyncio.sleep(0)

        done = asyncio.Event()
        trouble = asyncio.create_task(
            lose_replies(proxy, done, lambda: list(outcomes.values()).count(None), seed=1)
        )
        await asyncio.gather(*(write(task) for task in range(16)))
        done.set()
        await trouble
        proxy.restore()
        # What is still under way lands before what is asked on the same connection.
        await pool.client.with_timeout(5).ping()
    if command == "RPUSH":
        landed = Counter(admin.lrange("log", 0, -1))
    else:
        landed = Counter(
            {key.removeprefix("log:"): int(admin.get(key) or 0) for key in admin.scan_iter()}
        )

    assert len(outcomes) == 16 * 25
    seen = Counter(outcomes.values())
    assert seen[None] > 50
    assert seen[Outcome.REJECTED] == seen[Outcome.EXECUTED] == 0
    for name, outcome in outcomes.items():
        if outcome is None:
            assert landed[name] >= 1, f"{name} was acknowledged and is not there"
        elif outcome is Outcome.NOT_SENT:
            assert landed[name] == 0, f"{name} was not sent and is there"
    doubled = [name for name, count in landed.items() if count > 1]
    if mode == "always":
        assert doubled, "retry='always' repeats what was lost"
    else:
        assert not doubled
        assert seen[Outcome.UNKNOWN] > 0, "the faults were to hit something"


async def test_reads_and_idempotent_writes_are_sent_again(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    settings = QUICK | {"command_timeout": 5, "max_retries": 100}
    async with pool_at(server, proxy, **settings) as pool:
        client = pool.client
        rounds = 0

        async def work(task: int) -> None:
            nonlocal rounds
            for number in range(20):
                rounds += 1
                await client.set(f"log:{task}", number)
                assert await client.get(f"log:{task}") == str(number).encode()
                await client.set(f"log:x:{task}", number, ex=1000)
                assert await client.strlen(f"log:x:{task}") == len(str(number))
                one, two = f"log:t:{task}", f"log:p:{task}"
                pipe = piped(client, True, ("SET", one, number), ("GET", one))
                assert await pipe.execute() == [True, str(number).encode()]
                pipe = piped(client, False, ("MSET", two, number), ("MGET", one, two))
                assert await pipe.execute() == [True, [str(number).encode()] * 2]

        done = asyncio.Event()
        trouble = asyncio.create_task(lose_replies(proxy, done, lambda: rounds, seed=2))
        await asyncio.gather(*(work(task) for task in range(8)))
        done.set()
        await trouble
        assert pool.metrics().retries["lost"] > 0
    assert {admin.get(f"log:{task}") for task in range(8)} == {"19"}


@pytest.mark.parametrize(
    ("command", "mode", "expected", "executed"),
    [
        ("GET", "safe", None, 2),
        ("GET", "never", Outcome.UNKNOWN, 1),
        ("GET", "always", None, 2),
        ("SET", "safe", None, 2),
        ("SET", "never", Outcome.UNKNOWN, 1),
        ("INCR", "safe", Outcome.UNKNOWN, 1),
        ("INCR", "never", Outcome.UNKNOWN, 1),
        ("INCR", "always", None, 2),
    ],
)
async def test_a_lost_reply(
    proxy: FaultProxy,
    server: EmbeddedServer,
    admin: redis.Redis,
    command: str,
    mode: Mode,
    expected: Outcome | None,
    executed: int,
) -> None:
    arguments = ("log", "7") if command == "SET" else ("log",)
    async with pool_at(server, proxy, retry=mode, **QUICK) as pool:
        await pool.client.ping()
        admin.config_resetstat()
        proxy.swallow_replies(1, lambda data: b"log" in data, "reset")
        assert await outcome_after(pool.client.execute_command(command, *arguments)) is expected
        assert calls(admin, command.lower()) == executed
        lost = executed - 1
        assert pool.metrics().retries == ({"lost": lost} if lost else {})


@pytest.mark.parametrize("mode", MODES)
async def test_a_command_that_was_never_written_is_sent_when_it_can_be(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis, mode: Mode
) -> None:
    proxy.refuse()
    settings = QUICK | {"max_retries": 100, "retry": mode}
    async with pool_at(server, proxy, **settings) as pool:
        waiting = asyncio.create_task(outcome_after(pool.client.incr("log")))
        await until(lambda: pool.metrics().errors.get("ConnectFailed", 0) > 0)
        proxy.restore()
        if mode == "never":
            assert await waiting is Outcome.NOT_SENT
            assert admin.get("log") is None
            assert pool.metrics().retries == {}
        else:
            assert await waiting is None
            assert admin.get("log") == "1"
            assert pool.metrics().retries["connect"] >= 1


async def test_one_who_gives_up_while_connecting_fails_takes_nobody_along(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    proxy.refuse()
    async with pool_at(server, proxy, **QUICK, max_retries=1000) as pool:
        waiting = [asyncio.ensure_future(pool.client.rpush("log", n)) for n in range(3)]
        await until(lambda: pool.metrics().retries.get("connect", 0) > 0)
        waiting[0].cancel()
        failures = pool.metrics().errors["ConnectFailed"]
        await until(lambda: pool.metrics().errors["ConnectFailed"] > failures + 1)
        proxy.restore()
        assert await asyncio.gather(*waiting[1:]) == [1, 2]
    assert admin.lrange("log", 0, -1) == ["1", "2"]


@pytest.mark.parametrize("mode", MODES)
async def test_what_was_issued_and_not_written_when_the_connection_died(
    clean_server: EmbeddedServer, admin: redis.Redis, mode: Mode
) -> None:
    """Of two commands of a turn the first has left at once; the second is still with us."""
    async with pool_at(clean_server, retry=mode, **QUICK) as pool:
        await pool.client.ping()
        await asyncio.sleep(0)  # whoever is woken by a reply writes when the read callback ends
        lane = standalone(pool).lane()
        written = lane.submit(pack(("INCR", "written")), False, 5.0)
        unwritten = lane.submit(pack(("INCR", "unwritten")), False, 5.0)
        assert lane.connection is not None
        lane.connection.close()
        assert await outcome_after(written) is (None if mode == "always" else Outcome.UNKNOWN)
        assert await outcome_after(unwritten) is (Outcome.NOT_SENT if mode == "never" else None)
    assert admin.get("unwritten") == (None if mode == "never" else "1")


@pytest.mark.parametrize("mode", MODES)
async def test_any_other_error_of_the_server_is_final(
    clean_server: EmbeddedServer, admin: redis.Redis, mode: Mode
) -> None:
    admin.rpush("list", "x")
    async with pool_at(clean_server, retry=mode, **QUICK) as pool:
        await pool.client.ping()
        before = pool.metrics().errors.get("ResponseError", 0)
        with pytest.raises(redis.ResponseError, match="WRONGTYPE") as caught:
            await pool.client.get("list")
        assert outcome_of(caught.value) is Outcome.REJECTED
        assert await outcome_after(pool.client.execute_command("NOSUCH")) is Outcome.REJECTED
        metrics = pool.metrics()
        assert metrics.retries == {}
        assert metrics.errors["ResponseError"] == before + 2


async def test_no_connection_free_is_not_sent(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    settings = QUICK | {"pool_max_size": 1, "command_timeout": 0.1}
    async with pool_at(clean_server, **settings) as pool:
        async with pool.get():
            assert await outcome_after(pool.client.incr("log")) is Outcome.NOT_SENT
        assert await pool.client.incr("log") == 1
    assert admin.get("log") == "1"


async def test_what_was_sent_once_stays_unknown_whatever_happens_next(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    """It took effect, was to be sent again, and could not be: NOT_SENT would be a lie."""

    async def lose_and_lock_out(pool: RedisPool) -> asyncio.Task[Outcome | None]:
        await pool.client.ping()
        admin.delete("log")
        proxy.refuse()
        proxy.swallow_replies(1, lambda data: b"log" in data, "reset")
        task = asyncio.create_task(outcome_after(pool.client.set("log", "1")))
        failures = pool.metrics().errors.get("ConnectFailed", 0)
        await until(lambda: pool.metrics().errors.get("ConnectFailed", 0) > failures)
        assert admin.get("log") == "1"
        return task

    settings = QUICK | {"command_timeout": 0.3, "max_retries": 1000}
    async with pool_at(server, proxy, **settings) as pool:
        task = await lose_and_lock_out(pool)
        assert await task is Outcome.UNKNOWN  # its budget ran out while it waited
        proxy.restore()
    async with pool_at(server, proxy, **QUICK, max_retries=2) as pool:
        task = await lose_and_lock_out(pool)
        assert await task is Outcome.UNKNOWN  # it has been tried often enough
        proxy.restore()
    async with pool_at(server, proxy, **QUICK, max_retries=1000) as pool:
        task = await lose_and_lock_out(pool)
        admin.config_set("maxmemory", "1")
        try:
            proxy.restore()
            assert await task is Outcome.UNKNOWN  # the server refuses it now
        finally:
            admin.config_set("maxmemory", "0")
        task = await lose_and_lock_out(pool)
        standalone(pool).pool.close()
        proxy.restore()
        assert await task is Outcome.UNKNOWN  # the pool was closed to new connections
    async with pool_at(server, proxy, **QUICK, max_retries=1000) as pool:
        task = await lose_and_lock_out(pool)
        await pool.close()
        assert await task is Outcome.UNKNOWN
        proxy.restore()


async def test_closing_tells_each_caller_what_became_of_its_command(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy) as pool:
        await pool.client.ping()
        proxy.swallow_replies(None, lambda data: b"log" in data)
        written = asyncio.create_task(outcome_after(pool.client.incr("log")))
        await until(lambda: admin.get("log") == "1")
        await pool.close()
        assert await written is Outcome.UNKNOWN
    proxy.refuse()
    async with pool_at(server, proxy) as pool:
        waiting = asyncio.create_task(outcome_after(pool.client.incr("log")))
        await asyncio.sleep(0)
        await pool.close()
        assert await waiting is Outcome.NOT_SENT
    assert admin.get("log") == "1"


async def test_closing_tells_everyone_who_waits(proxy: FaultProxy, server: EmbeddedServer) -> None:
    proxy.blackhole()
    async with pool_at(server, proxy) as pool:
        waiting = [asyncio.create_task(outcome_after(pool.client.incr("log"))) for _ in range(5)]
        await until(lambda: standalone(pool).lane().depth == 5)
        await pool.close()
        assert await asyncio.gather(*waiting) == [Outcome.NOT_SENT] * 5


async def test_every_error_says_what_became_of_its_command(
    clean_server: EmbeddedServer, admin: redis.Redis, proxy: FaultProxy
) -> None:
    admin.set("bytes", b"\xff\xfe")
    async with pool_at(clean_server, proxy, **QUICK, pool_max_size=3) as pool:
        text = pool.make_client(decode_responses=True)
        client = pool.client
        strange: Any = object()
        assert await outcome_after(client.set("k", strange)) is Outcome.NOT_SENT
        assert await outcome_after(client.set("k", "\ud800")) is Outcome.NOT_SENT
        assert await outcome_after(client.execute_command("SELECT", 1)) is Outcome.NOT_SENT
        assert await outcome_after(text.get("bytes")) is Outcome.EXECUTED
        assert await outcome_after(client.lpush("bytes", "x")) is Outcome.REJECTED
        assert await outcome_after(client.evalsha("0" * 40, 0)) is Outcome.REJECTED
        for transaction in (False, True):
            pipe = piped(client, transaction, ("SET", "k", "v"), ("LPUSH", "bytes", "x"))
            assert await outcome_after(pipe.execute()) is Outcome.REJECTED
        pipe = piped(client, True)
        await pipe.watch("k")
        admin.set("k", "other")
        pipe.multi()
        pipe.set("k", "mine")
        with pytest.raises(WatchError) as caught:
            await pipe.execute()
        assert outcome_of(caught.value) is Outcome.REJECTED

        def broken(response: Any, **options: Any) -> Any:
            return 1 // 0

        client.set_response_callback("ECHO", broken)
        with pytest.raises(ZeroDivisionError) as division:
            await client.execute_command("ECHO", "x")
        assert outcome_of(division.value) is Outcome.EXECUTED

        proxy.swallow_replies(1, lambda data: b"PUBLISH" in data, "close")
        with pytest.raises(ConnectionLost) as lost:
            await client.publish("channel", "x")
        assert lost.value.outcome is Outcome.UNKNOWN
        proxy.swallow_replies(1, lambda data: b"PUBLISH" in data)
        with pytest.raises(CommandTimeout) as late:
            await client.with_timeout(0.05).publish("channel", "x")
        assert late.value.outcome is Outcome.UNKNOWN
        proxy.restore()
        async with pool.get() as conn:
            proxy.close_all()
            await until(lambda: "closed" in repr(conn))
            assert await outcome_after(conn.execute("SET", "k", "v")) is Outcome.NOT_SENT
        assert await outcome_after(conn.execute("SET", "k", "v")) is Outcome.NOT_SENT
    with pytest.raises(PoolClosed) as closed:
        await client.get("k")
    assert closed.value.outcome is Outcome.NOT_SENT
    async with Redis(host="127.0.0.1", port=clean_server.port, password="wrong") as wrong:
        with pytest.raises(AuthenticationFailed) as refused:
            await wrong.get("k")
        assert refused.value.outcome is Outcome.NOT_SENT


async def _command(client: Redis) -> None:
    await client.incr("log")


async def _blocking(client: Redis) -> None:
    await client.blpop("log", timeout=1)


async def _pipeline(client: Redis) -> None:
    await piped(client, True, ("INCR", "log")).execute()


@pytest.mark.parametrize("use", [_command, _blocking, _pipeline])
async def test_an_absent_server_is_named_with_how_often_and_how_long(
    use: Callable[[Redis], Awaitable[None]],
) -> None:
    port = free_port()
    settings = {"retry_delay_ms": 20, "retry_max_delay_ms": 20, "max_retries": 2}
    async with pool_for_port(port, **settings) as pool:
        with pytest.raises(ConnectFailed) as caught:
            await use(pool.client)
    text = str(caught.value)
    assert f"127.0.0.1:{port}" in text
    assert "tried 3 times" in text
    assert re.search(r"in [\d.e-]+ s", text)
    assert isinstance(caught.value, redis.ConnectionError)
    assert caught.value.outcome is Outcome.NOT_SENT


async def test_an_absent_server_when_the_budget_ends_first() -> None:
    port = free_port()
    settings = {"retry_delay_ms": 5, "retry_max_delay_ms": 5, "max_retries": 1000}
    async with pool_for_port(port, command_timeout=0.1, **settings) as pool:
        with pytest.raises(CommandTimeout) as caught:
            await pool.client.get("k")
    assert re.search(rf"waited 0\.\d+ s for 127\.0\.0\.1:{port}", str(caught.value))
    assert re.search(r"refused.*tried \d+ times", str(caught.value))
    assert caught.value.outcome is Outcome.NOT_SENT


def pool_for_port(port: int, **settings: Any) -> RedisPool:
    """A pool for a server that is not there."""
    from redisutils import create_redis_pool

    return create_redis_pool(host="127.0.0.1", port=port, **settings)
