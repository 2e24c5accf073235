"""When two things happen to a lane at once: a refusal, a bound, a renewal, a loss. Nothing is lost,
doubled, or changes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from time import sleep
from typing import Any

import pytest
import redis

from redisutils import CommandTimeout, Outcome, PoolClosed, create_redis_pool, outcome_of
from redisutils.connection import protocol
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import client_at, clients_named, piped
from .peers import Peer, until
from .things import pool_at

QUICK: dict[str, Any] = {"retry_delay_ms": 10, "retry_max_delay_ms": 40, "max_retries": 1000}


@pytest.fixture
def replica(clean_server: EmbeddedServer, admin: redis.Redis) -> Iterator[Callable[[], object]]:
    """Makes the session's server refuse writes, until the end of the test at the latest."""
    yield lambda: admin.replicaof("127.0.0.1", 1)
    admin.replicaof("NO", "ONE")


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> int:
    """Few commands may be in flight."""
    monkeypatch.setattr(protocol, "MAX_IN_FLIGHT", 8)
    monkeypatch.setattr(protocol, "FLUSH_AT_MOST", 8)
    return 8


def retries(pool: Any, code: str) -> int:
    return int(pool.metrics().retries.get(code, 0))


# -- refused -------------------------------------------------------------------------------------


async def test_refused_at_the_bound(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object], bound: int
) -> None:
    """Most of the commands have not been sent when the first is refused."""
    async with pool_at(clean_server, **QUICK) as pool:
        await pool.client.ping()
        replica()
        counting = asyncio.gather(*(pool.client.incr("n") for _ in range(10 * bound)))
        reading = asyncio.gather(*(pool.client.get(f"k{i}") for i in range(10 * bound)))
        await until(lambda: retries(pool, "READONLY") > 2 * bound)
        admin.replicaof("NO", "ONE")
        assert await counting == list(range(1, 10 * bound + 1))
        assert await reading == [None] * 10 * bound
    assert admin.get("n") == str(10 * bound)


async def test_pipelines_that_are_issued_while_others_wait_to_be_repeated(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    """Those on the same key wait too, whether or not they would be refused; others pass."""
    async with pool_at(clean_server, **QUICK) as pool:
        replica()
        writing = asyncio.ensure_future(pool.client.set("k", "v"))
        await until(lambda: retries(pool, "READONLY") > 2)
        other = piped(pool.client, False, ("GET", "other"), ("GET", "another"))
        assert await other.execute() == [None, None]
        same = piped(pool.client, True, ("GET", "k"), ("GET", "other")).execute()
        reading = asyncio.ensure_future(same)
        await until(lambda: retries(pool, "READONLY") > 5)
        assert not reading.done()
        admin.replicaof("NO", "ONE")
        assert await reading == [b"v", None]
        assert await writing is True


async def test_without_retries_a_refusal_is_final_at_once(
    clean_server: EmbeddedServer, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **{**QUICK, "max_retries": 0}) as pool:
        replica()
        with pytest.raises(redis.ReadOnlyError) as failure:
            await pool.client.set("k", "v")
        assert outcome_of(failure.value) is Outcome.REJECTED
        assert pool.metrics().retries == {}


async def test_a_script_that_says_what_a_busy_server_says_is_not_repeated(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    script = "redis.call('INCR', KEYS[1]) return redis.error_reply('LOADING or so')"
    async with pool_at(clean_server, **QUICK) as pool:
        with pytest.raises(redis.BusyLoadingError, match="or so"):
            await pool.client.eval(script, 1, "n")
    assert admin.get("n") == "1"


async def test_a_refused_transaction_that_a_later_write_has_overtaken_is_not_repeated() -> None:
    answers = [b"+OK\r\n", b"-READONLY no\r\n", b"-EXECABORT no\r\n", b"+OK\r\n"]
    async with (
        Peer(lambda _: answers.pop(0) if answers else b":1\r\n") as peer,
        create_redis_pool(url=peer.url, **QUICK) as pool,
    ):
        transaction = asyncio.ensure_future(piped(pool.client, True, ("INCR", "k")).execute())
        later = asyncio.ensure_future(pool.client.set("k", "5"))
        with pytest.raises(redis.ReadOnlyError) as failure:
            await transaction
        assert outcome_of(failure.value) is Outcome.REJECTED
        assert await later is True
        assert [words[0] for words in peer.heard].count(b"INCR") == 1


async def test_a_refused_command_is_not_repeated_after_a_later_one_whose_caller_has_gone() -> None:
    """That one may have run."""
    silent = True
    async with (
        Peer(lambda _: b"" if silent else b":1\r\n") as peer,
        create_redis_pool(url=peer.url, **QUICK) as pool,
    ):
        counting = asyncio.ensure_future(pool.client.incr("k"))
        later = asyncio.ensure_future(pool.client.set("k", "5"))
        await until(lambda: len(peer.heard) == 2)
        later.cancel()
        await asyncio.wait([later])
        silent = False
        peer.say(b"-READONLY no\r\n+OK\r\n")
        with pytest.raises(redis.ReadOnlyError) as failure:
            await counting
        assert outcome_of(failure.value) is Outcome.REJECTED
        assert len(peer.heard) == 2


# -- lost ----------------------------------------------------------------------------------------


@pytest.mark.asyncio(loop_factories=["asyncio"])  # which looks at its sockets before its timers
async def test_lost_when_the_budget_is_over_already() -> None:
    """Nobody has noticed yet, since the program held up the loop. It is not sent again."""

    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"PING":
            return b"+PONG\r\n"
        sleep(0.1)
        return b"what is this?\r\n"

    async with Peer(answer) as peer, create_redis_pool(url=peer.url, **QUICK) as pool:
        client: Any = pool.client
        await client.ping()
        with pytest.raises(CommandTimeout) as failure:
            await client.with_timeout(0.05).get("k")
        assert failure.value.outcome is Outcome.UNKNOWN
        await client.ping()
        assert [words[0] for words in peer.heard] == [b"PING", b"GET", b"PING"]
        assert pool.metrics().retries == {}


# -- renewed -------------------------------------------------------------------------------------


def renew(pool: Any) -> None:
    """As housekeeping does when it finds that a lane's connection has lived long enough."""
    standalone(pool).lane().renew()


async def test_renewed_at_the_bound(clean_server: EmbeddedServer, bound: int) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        before = await pool.client.client_id()
        counting = asyncio.gather(*(pool.client.incr("n") for _ in range(3 * bound)))
        await asyncio.sleep(0)
        lane = standalone(pool).lane()
        assert lane.connection is not None
        assert lane.connection.blocked
        renew(pool)
        assert await counting == list(range(1, 3 * bound + 1))
        assert await pool.client.client_id() == before, "another time"
        renew(pool)
        assert await pool.client.client_id() != before
        assert pool.status().size == 1


async def test_renewed_while_commands_wait_to_be_repeated(
    clean_server: EmbeddedServer, admin: redis.Redis, replica: Callable[[], object]
) -> None:
    async with pool_at(clean_server, **QUICK) as pool:
        before = await pool.client.client_id()
        replica()
        counting = asyncio.gather(*(pool.client.incr("n") for _ in range(5)))
        await until(lambda: retries(pool, "READONLY") > 5)
        renew(pool)
        admin.replicaof("NO", "ONE")
        assert await counting == [1, 2, 3, 4, 5]
        assert await pool.client.client_id() == before, "another time"
        renew(pool)
        assert await pool.client.client_id() != before


async def test_renewed_while_answers_are_owed(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """What is issued meanwhile waits for the new connection."""
    async with pool_at(clean_server, **QUICK) as pool:
        before = await pool.client.client_id()
        admin.client_pause(100, all=True)
        first = asyncio.ensure_future(pool.client.incr("n"))
        await asyncio.sleep(0)
        renew(pool)
        later = asyncio.gather(*(pool.client.incr("n") for _ in range(3)), pool.client.client_id())
        assert await first == 1
        *counts, after = await later
        assert counts == [2, 3, 4]
        assert after != before
        assert pool.status().size == 1


async def test_renewed_while_answers_are_owed_to_those_who_have_gone() -> None:
    silent = True
    async with (
        Peer(lambda _: b"" if silent else b":1\r\n") as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        given_up = asyncio.ensure_future(pool.client.incr("n"))
        await until(lambda: peer.heard)
        given_up.cancel()
        await asyncio.wait([given_up])
        renew(pool)
        silent = False
        later = asyncio.ensure_future(pool.client.incr("n"))
        await until(lambda: len(peer.heard) == 2)
        peer.say(b":7\r\n")
        assert await later in {1, 7}
        assert peer.accepted == 1, "another time"


async def test_lost_while_it_is_to_be_renewed() -> None:
    silent = True
    async with (
        Peer(lambda _: b"" if silent else b":1\r\n") as peer,
        create_redis_pool(url=peer.url, **QUICK) as pool,
    ):
        reading = asyncio.ensure_future(pool.client.get("n"))
        await until(lambda: peer.heard)
        renew(pool)
        later = asyncio.ensure_future(pool.client.incr("n"))
        silent = False
        for transport in list(peer.open):
            transport.abort()
        assert await reading == 1
        assert await later == 1
        assert peer.accepted == 2
        assert pool.status().size == 1


async def test_a_connection_with_a_state_of_its_own_is_not_renewed(
    clean_server: EmbeddedServer,
) -> None:
    async with client_at(clean_server, single_connection_client=True) as client:
        before = await client.client_id()
        await client.select(3)
        await client.set("k", "v")
        server: Any = client._source.server()
        for lane in server._lanes:
            lane.renew()
        assert await client.get("k") == b"v"
        assert await client.client_id() == before


# -- full ----------------------------------------------------------------------------------------


async def test_large_values_that_waited_for_a_connection(clean_server: EmbeddedServer) -> None:
    values = [bytes([number]) * 100_000 for number in range(5)]
    async with pool_at(clean_server) as pool:
        await asyncio.gather(*(pool.client.set(f"k{i}", value) for i, value in enumerate(values)))
        assert await pool.client.mget(*(f"k{i}" for i in range(5))) == values


async def test_a_checkout_beyond_the_bound_on_a_network_that_takes_nothing(
    proxy: FaultProxy, server: EmbeddedServer, bound: int
) -> None:
    """Nobody holds back whoever has a connection of his own; nothing of it is lost."""
    async with pool_at(server, proxy) as pool, pool.get() as conn:
        await conn.ping()
        proxy.stall()
        counting = [asyncio.ensure_future(conn.incr("n")) for _ in range(2 * bound)]
        await asyncio.sleep(0)
        big = asyncio.ensure_future(conn.set("big", b"x" * 8_000_000))
        await until(lambda: conn._lease.item.unwritten)
        proxy.restore()
        assert await asyncio.gather(*counting) == list(range(1, 2 * bound + 1))
        assert await big is True


# -- a client's single connection ----------------------------------------------------------------


async def test_a_single_connection_is_opened_once(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server, single_connection_client=True, client_name="one") as client:
        assert await client.initialize() is client
        assert await client.initialize() is client
        assert len(clients_named(admin, "one")) == 1


async def test_a_blocking_command_that_is_given_up_holds_up_nobody(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server, single_connection_client=True) as client:
        popping = asyncio.ensure_future(client.blpop(["list"], timeout=0))
        await until(lambda: int(admin.info("clients")["blocked_clients"]) == 1)
        popping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await popping
        assert await client.rpush("list", "x") == 1
        assert await client.lrange("list", 0, -1) == [b"x"]


async def test_a_single_connection_that_was_never_closed(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, client_name="one") as pool:
        clients = [pool.make_client().client()]
        assert await clients[0].ping()
        assert len(clients_named(admin, "one")) == 1
        with pytest.warns(ResourceWarning, match="never closed"):
            clients.clear()
        await until(lambda: standalone(pool).pool.in_use == 0)


# -- the end -------------------------------------------------------------------------------------


async def test_draining_waits_for_what_is_held_back(
    proxy: FaultProxy, server: EmbeddedServer, bound: int
) -> None:
    pool = await pool_at(server, proxy)
    _ = standalone(pool).lane("never used")
    await pool.client.ping()
    proxy.stall()
    counting = [asyncio.ensure_future(pool.client.incr("n")) for _ in range(3 * bound)]
    await asyncio.sleep(0)
    closing = asyncio.ensure_future(pool.close(drain=5))
    await asyncio.sleep(0)
    proxy.restore()
    await closing
    assert await asyncio.gather(*counting) == list(range(1, 3 * bound + 1))
    await proxy.wait_active(0)


async def test_draining_does_not_wait_for_a_connection(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    pool = await pool_at(server, proxy)
    proxy.stall()
    waiting = asyncio.ensure_future(pool.client.incr("n"))
    await proxy.wait_accepted(1)
    closing = asyncio.ensure_future(pool.close(drain=5))
    await asyncio.sleep(0)
    proxy.restore()
    await closing
    with pytest.raises(PoolClosed) as failure:
        await waiting
    assert failure.value.outcome is Outcome.NOT_SENT
