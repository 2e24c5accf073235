"""What a server refuses for the moment is repeated, within the budget and ``max_retries``; what it
refuses for good is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
import redis.asyncio

from redisutils import CommandTimeout, Outcome, PoolClosed, RedisPool, outcome_of
from redisutils.connection.embedded import free_port
from redisutils.errors import AuthenticationFailed
from redisutils.testing import EmbeddedServer, FaultProxy

from .conftest import StartServer
from .ours import piped, pool_at, until
from .peers import turns
from .servers import client_of

QUICK: dict[str, Any] = {"retry_delay_ms": 10, "retry_max_delay_ms": 40, "max_retries": 1000}


@pytest.fixture
def replica(clean_server: EmbeddedServer, admin: redis.Redis) -> Any:
    """Makes the session's server a replica of nobody, and a primary again at the end."""
    port = free_port()
    yield lambda: admin.replicaof("127.0.0.1", port)
    admin.config_set("replica-serve-stale-data", "yes")
    admin.replicaof("NO", "ONE")


async def repeats(pool: RedisPool, code: str, count: int = 1) -> None:
    """Wait until commands have been repeated so often for this reason."""
    await until(lambda: pool.metrics().retries.get(code, 0) >= count, f"{count} × {code}")


# --- each of the codes, from its cause ---


async def test_READONLY(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        writing = asyncio.ensure_future(pool.client.set("k", "v"))
        await repeats(pool, "READONLY", 2)
        assert await pool.client.get("other") is None  # reads of other keys pass meanwhile
        reading = asyncio.ensure_future(pool.client.get("k"))
        await repeats(pool, "READONLY", 5)
        admin.replicaof("NO", "ONE")
        assert await writing is True
        assert await reading == b"v"
        assert set(pool.metrics().retries) == {"READONLY"}
    assert admin.get("k") == "v"


async def test_MASTERDOWN(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    admin.set("k", "v")
    admin.config_set("replica-serve-stale-data", "no")
    replica()
    async with pool_at(clean_server, **QUICK) as pool:
        reading = asyncio.ensure_future(pool.client.get("k"))
        await repeats(pool, "MASTERDOWN")
        admin.replicaof("NO", "ONE")
        assert await reading == b"v"
        assert set(pool.metrics().retries) == {"MASTERDOWN"}


@asynccontextmanager
async def loading(server: EmbeddedServer, admin: redis.Redis) -> AsyncIterator[None]:
    """The server loads its data for a while, and answers LOADING."""
    admin.config_set("key-load-delay", "400")
    admin.config_set("loading-process-events-interval-bytes", "1024")
    with admin.pipeline() as pipe:
        for number in range(1000):
            pipe.set(f"filling:{number}", "x" * 50)
        pipe.execute()
    other: Any
    async with redis.asyncio.Redis.from_url(server.url) as other:
        reload = asyncio.ensure_future(other.execute_command("DEBUG", "RELOAD"))
        yield
        await reload
    admin.config_set("key-load-delay", "0")


async def test_LOADING(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    admin.set("counter", "41")
    async with pool_at(clean_server, **QUICK) as pool:
        await pool.client.ping()
        async with loading(clean_server, admin):
            while not pool.metrics().retries:
                await pool.client.get("counter")
            answers = await asyncio.gather(
                *(pool.client.incr("counter") for _ in range(50)), pool.client.get("filling:999")
            )
        assert sorted(answers[:-1]) == list(range(42, 92))
        assert answers[-1] == b"x" * 50
        assert set(pool.metrics().retries) == {"LOADING"}


async def test_LOADING_for_a_command_that_blocks(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """It has a connection of its own, and is repeated by itself as any other."""
    admin.rpush("list", "item")
    async with (
        pool_at(clean_server, **QUICK) as pool,
        pool_at(clean_server, retry="never") as never,
    ):
        await asyncio.gather(
            pool.client.blpop(["none"], 0.001), never.client.blpop(["none"], 0.001)
        )
        async with loading(clean_server, admin):
            while not never.metrics().errors:
                await asyncio.gather(never.client.get("k"), return_exceptions=True)
            with pytest.raises(redis.exceptions.BusyLoadingError) as caught:
                await never.client.blpop(["list"], timeout=10)
            assert outcome_of(caught.value) is Outcome.REJECTED
            started = monotonic()
            with pytest.raises(redis.exceptions.BusyLoadingError):
                await pool.client.with_timeout(0.01).blpop(["list"], timeout=10)
            assert monotonic() - started < 5, "what it waits for is no time to be repeated in"
            assert await pool.client.blpop(["list"], timeout=10) == (b"list", b"item")
        assert pool.metrics().retries["LOADING"] > 0
        assert pool.status().available == pool.status().size
        assert "LOADING" not in never.metrics().retries


async def test_a_connection_made_while_the_server_loads(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with (
        pool_at(clean_server, **QUICK) as pool,
        pool_at(clean_server, **QUICK) as first,
        loading(clean_server, admin),
    ):
        while not first.metrics().retries:
            await first.client.get("filling:1")
        assert await pool.client.get("filling:1") == b"x" * 50


@asynccontextmanager
async def busy(server: EmbeddedServer, admin: redis.Redis) -> AsyncIterator[None]:
    """A script of somebody else runs for ever, until it is killed here or before."""
    before = str(admin.config_get("lua-time-limit")["lua-time-limit"])
    admin.config_set("lua-time-limit", "20")
    async with redis.asyncio.Redis.from_url(server.url) as other:
        script = asyncio.ensure_future(other.eval("while true do end", 0))
        try:
            await until(lambda: _is_busy(admin))
            yield
        finally:
            with suppress(redis.ResponseError):
                admin.script_kill()
            with suppress(redis.ResponseError):
                await script
            admin.config_set("lua-time-limit", before)


def _is_busy(admin: redis.Redis) -> bool:
    try:
        admin.ping()
    except redis.ResponseError:
        return True
    return False


async def test_BUSY(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        await pool.client.ping()
        async with busy(clean_server, admin):
            writing = asyncio.ensure_future(pool.client.incr("counter"))
            await repeats(pool, "BUSY", 2)
            admin.script_kill()
            assert await writing == 1
        assert set(pool.metrics().retries) == {"BUSY"}


async def test_CLUSTERDOWN(start_server: StartServer) -> None:
    server = await start_server(role="cluster")
    async with pool_at(server, **{**QUICK, "max_retries": 3}) as pool:
        with pytest.raises(redis.RedisError, match=r"(?i)slot not served|is down") as caught:
            await pool.client.get("k")
        assert outcome_of(caught.value) is Outcome.REJECTED
        assert pool.metrics().retries == {"CLUSTERDOWN": 3}
        assert f"(CLUSTERDOWN, says {server.host}:{server.port}" in str(caught.value)
        assert "pool.health()" in str(caught.value)


# --- the bounds ---


async def test_no_more_than_max_retries(
    clean_server: EmbeddedServer, replica: Callable[[], object]
) -> None:
    replica()
    async with pool_at(clean_server, **{**QUICK, "max_retries": 3}) as pool:
        before = pool.metrics().commands
        with pytest.raises(redis.ReadOnlyError) as caught:
            await pool.client.set("k", "v")
        assert outcome_of(caught.value) is Outcome.REJECTED
        metrics = pool.metrics()
        assert metrics.retries == {"READONLY": 3}
        assert metrics.errors["ReadOnlyError"] == 4
        assert metrics.commands - before >= 4


async def test_no_longer_than_the_budget(
    clean_server: EmbeddedServer, replica: Callable[[], object]
) -> None:
    replica()
    async with pool_at(clean_server, **QUICK) as pool:
        started = monotonic()
        # What was refused last or, should it wait for its next try or for an answer just then, a
        # CommandTimeout.
        with pytest.raises(redis.RedisError, match=r"read only replica|no answer") as caught:
            await pool.client.with_timeout(0.2).set("k", "v")
        assert monotonic() - started < 0.2 + 0.3
        in_flight = "no answer" in str(caught.value)
        assert outcome_of(caught.value) is (Outcome.UNKNOWN if in_flight else Outcome.REJECTED)
        assert pool.metrics().retries["READONLY"] >= 2


@pytest.mark.parametrize("transaction", [False, True])
async def test_one_who_waits_behind_what_was_refused_is_told_of_the_refusal(
    clean_server: EmbeddedServer,
    admin: redis.Redis,
    replica: Callable[[], object],
    transaction: bool,
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        refused = (
            piped(pool.client, True, ("SET", "k", "v")).execute()
            if transaction
            else pool.client.set("k", "v")
        )
        writing = asyncio.ensure_future(refused)
        await repeats(pool, "READONLY", 2)
        with pytest.raises(CommandTimeout, match="read only replica") as caught:
            await pool.client.with_timeout(0.02).get("k")
        assert caught.value.outcome is Outcome.NOT_SENT
        admin.replicaof("NO", "ONE")
        assert await writing == ([True] if transaction else True)


async def test_a_draining_close_repeats_what_was_refused_and_takes_nothing_new(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    pool = await pool_at(clean_server, **QUICK)
    await pool.client.ping()
    replica()
    writing = asyncio.ensure_future(pool.client.set("k", "v"))
    await repeats(pool, "READONLY")
    closing = asyncio.create_task(pool.close(drain=5))
    await turns(5)  # it has begun
    for count in range(2, 6):
        await repeats(pool, "READONLY", count)
        with pytest.raises(PoolClosed):
            await pool.client.get("other")
    admin.replicaof("NO", "ONE")
    assert await writing is True
    await closing


async def test_not_at_all_when_never(
    clean_server: EmbeddedServer, replica: Callable[[], object]
) -> None:
    replica()
    async with pool_at(clean_server, **QUICK, retry="never") as pool:
        with pytest.raises(redis.ReadOnlyError):
            await pool.client.set("k", "v")
        assert pool.metrics().retries == {}


async def test_a_script_that_says_BUSY_itself_has_run_and_is_not_repeated(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    script = "redis.call('INCR', 'n') return redis.error_reply('BUSY come back')"
    async with pool_at(clean_server, **QUICK) as pool:
        with pytest.raises(redis.ResponseError, match="come back"):
            await pool.client.eval(script, 0)
        with pytest.raises(redis.ResponseError, match="come back"):
            await piped(pool.client, False, ("EVAL", script, 0)).execute()
        assert pool.metrics().retries == {}
    assert admin.get("n") == "2"


# --- many at once ---


async def test_many_callers_of_one_key(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    """All are refused together and repeated together: none is lost, doubled or told to give up."""
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        writing = asyncio.gather(*(pool.client.incr("counter") for _ in range(200)))
        await repeats(pool, "READONLY", 205)
        more = asyncio.gather(*(pool.client.incr("counter") for _ in range(50)))
        admin.replicaof("NO", "ONE")
        assert await writing == list(range(1, 201))
        assert await more == list(range(201, 251))


async def test_readers_are_not_held_up_by_refused_writers(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    admin.set("read", "1")
    settings = {**QUICK, "retry_delay_ms": 3_600_000, "retry_max_delay_ms": 3_600_000}
    async with pool_at(clean_server, **settings, command_timeout=3600) as pool:
        replica()
        writing = asyncio.ensure_future(pool.client.set("written", "1"))
        await repeats(pool, "READONLY")
        async with asyncio.timeout(5):
            for _ in range(15):
                answers = await asyncio.gather(*(pool.client.get("read") for _ in range(100)))
                assert answers == [b"1"] * 100
        writing.cancel()


async def test_pipelines_that_were_refused_as_a_whole(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        transaction = asyncio.ensure_future(
            piped(pool.client, True, ("INCR", "a"), ("GET", "a")).execute()
        )
        plain = asyncio.create_task(
            piped(pool.client, False, ("INCR", "b"), ("INCR", "b")).execute()
        )
        await repeats(pool, "READONLY", 4)
        admin.replicaof("NO", "ONE")
        assert await transaction == [1, b"1"]
        assert await plain == [1, 2]


async def test_a_pipeline_that_was_refused_in_part_is_not_repeated(
    clean_server: EmbeddedServer, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        pipe = piped(pool.client, False, ("GET", "a"), ("INCR", "b"))
        answers = await pipe.execute(raise_on_error=False)
        assert answers[0] is None
        assert isinstance(answers[1], redis.ReadOnlyError)
        assert pool.metrics().retries == {}


async def test_abandoned_while_it_waits_to_be_repeated(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        writing = [asyncio.ensure_future(pool.client.incr("counter")) for _ in range(10)]
        await repeats(pool, "READONLY", 10)
        for task in writing[::2]:
            task.cancel()
        await asyncio.wait(writing[::2])
        # What was in flight when it was cancelled may still be refused, or still land.
        admin.replicaof("NO", "ONE")
        kept = await asyncio.gather(*writing[1::2])
        assert sorted(kept) == kept
        assert 5 <= int(admin.get("counter") or 0) <= 10


async def test_the_connection_dies_while_commands_wait_to_be_repeated(
    proxy: FaultProxy, server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        replica()
        writing = asyncio.gather(*(pool.client.incr("counter") for _ in range(20)))
        await repeats(pool, "READONLY", 20)
        proxy.refuse()
        proxy.reset()
        await until(lambda: pool.metrics().errors.get("ConnectFailed", 0) > 0)
        admin.replicaof("NO", "ONE")
        proxy.restore()
        # Those that were in flight as the connection died are UNKNOWN; refused ones are not.
        results = await asyncio.gather(writing, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                assert outcome_of(result) is Outcome.UNKNOWN
            else:
                assert result == list(range(1, 21))


# --- what is final ---


async def final(pool: RedisPool, command: Awaitable[Any], words: str) -> None:
    with pytest.raises(redis.RedisError, match=words) as caught:
        await command
    assert outcome_of(caught.value) is Outcome.REJECTED
    assert pool.metrics().retries == {}


async def test_OOM_is_final(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    admin.config_set("maxmemory", "1")
    try:
        async with pool_at(clean_server, **QUICK) as pool:
            await final(pool, pool.client.set("k", "v"), "used memory")
    finally:
        admin.config_set("maxmemory", "0")


async def test_MISCONF_is_final(start_server: StartServer) -> None:
    server = await start_server(config={"save": "3600 1000000"})
    with client_of(server.url) as own:
        # A directory in the place of the file: the snapshot cannot be put there, even by root.
        place = Path(own.config_get("dir")["dir"]) / own.config_get("dbfilename")["dbfilename"]
        (place / "in the way").mkdir(parents=True)
        with suppress(redis.ResponseError):
            own.bgsave()
        await until(lambda: own.info("persistence")["rdb_last_bgsave_status"] == "err")
        async with pool_at(server, **QUICK) as pool:
            await final(pool, pool.client.set("k", "v"), "(?i)snapshot")
        own.config_set("save", "")  # or it would not end before it has saved


async def test_NOPERM_is_final(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    admin.acl_setuser("reader", enabled=True, passwords=["+secret"], commands=["+get"], keys=["*"])
    try:
        async with pool_at(clean_server, **QUICK, username="reader", password="secret") as pool:
            await final(pool, pool.client.set("k", "v"), "no permissions")
    finally:
        admin.acl_deluser("reader")


async def test_NOAUTH_is_final(proxy: FaultProxy, server: EmbeddedServer) -> None:
    async with pool_at(server, proxy, **QUICK, password=None) as pool:
        with pytest.raises(AuthenticationFailed, match="wants a password"):
            await pool.client.set("k", "v")
        assert pool.metrics().retries == {}
        assert proxy.accepted == 1
