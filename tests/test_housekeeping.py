"""The health task: it PINGs what is idle, replaces what is dead, keeps spares, closes what is old;
and whatever goes wrong in it, it goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Iterable
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import create_redis_pool
from redisutils.connection.protocol import Connection
from redisutils.errors import PoolTimeout
from redisutils.pool.pool import Usage
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .conftest import StartServer
from .ours import client_at, clients_named, until
from .peers import Peer
from .things import Refused, pool_at

NAME = "kept"
OFTEN = 0.04
"""An interval of health checks that a test can wait for, s."""


def _ids(admin: redis.Redis, name: str = NAME) -> set[str]:
    return {client["id"] for client in clients_named(admin, name)}


def _kill(admin: redis.Redis, ids: Iterable[str]) -> None:
    for each in ids:
        admin.client_kill_filter(_id=each)


def _pings(admin: redis.Redis) -> int:
    return int(admin.info("commandstats").get("cmdstat_ping", {"calls": 0})["calls"])


async def _fill(pool: Any, count: int) -> list[Connection]:
    """That many idle connections."""
    held = [await pool.get() for _ in range(count)]
    inner = [connection._lease.item for connection in held]
    for connection in held:
        connection.release()
    return inner


def _pool_of(**settings: Any) -> Any:
    return create_redis_pool(retry_delay_ms=5, **settings)


# -- PING --


async def test_idle_connections_and_lanes_are_pinged(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, client_name=NAME, health_check_interval=OFTEN) as pool:
        await pool.client.echo("so that the lane is there")
        await pool.lane("orders").echo("and another")
        await _fill(pool, 2)
        before = _pings(admin)
        await until(lambda: _pings(admin) - before >= 8, "8 PINGs")
        assert {client["cmd"] for client in clients_named(admin, NAME)} == {"ping"}
        assert pool.status().size == 4
        assert pool.metrics().background_errors == 0


async def test_connections_in_use_are_left_alone(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A PING between a holder's MULTI and EXEC would be in his answer, and one behind his BLPOP
    would be taken for a dead connection."""
    async with pool_at(
        clean_server, client_name=NAME, health_check_interval=OFTEN, command_timeout=0.1
    ) as pool:
        await _fill(pool, 3)
        blocking = asyncio.create_task(pool.client.blpop(["list"], timeout=0))
        async with pool.get() as connection:
            await connection.execute("MULTI")
            await connection.execute("INCR", "n")
            before = _pings(admin)
            await until(lambda: _pings(admin) - before >= 4)  # of the third one
            assert await connection.execute("EXEC") == [1]
        assert not blocking.done()
        await pool.client.rpush("list", "item")
        assert await blocking == (b"list", b"item")
        assert pool.metrics().background_errors == 0


async def test_a_holder_who_begins_a_transaction_as_a_round_begins_finds_no_ping_in_it(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=1, health_check_interval=3600) as pool:
        await _fill(pool, 1)
        housekeeper: Any = pool.server._housekeeper
        housekeeper._is_due = lambda connection: True
        for turns in range(6):
            round_ = asyncio.create_task(housekeeper.round())
            for _ in range(turns):
                await asyncio.sleep(0)
            async with pool.get() as connection:
                by_hand = (("MULTI",), ("INCR", "n"), ("EXEC",))
                answers = await asyncio.gather(*(connection.execute(*each) for each in by_hand))
                assert answers[-1] == [turns + 1]
            await round_


async def test_what_answers_with_an_error_is_alive(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    admin.acl_setuser(
        "noping", enabled=True, passwords=["+pw"], keys=["*"], commands=["+@all", "-ping"]
    )
    try:
        async with pool_at(
            clean_server,
            client_name=NAME,
            username="noping",
            password="pw",
            health_check_interval=OFTEN,
        ) as pool:
            await _fill(pool, 2)
            await pool.client.get("k")
            before = _ids(admin)

            def refused() -> int:
                stats = admin.info("commandstats").get("cmdstat_ping", {})
                return int(stats.get("rejected_calls", 0))

            then = refused()
            await until(lambda: refused() - then >= 6)
            assert _ids(admin) == before
            assert pool.metrics().background_errors == 0
    finally:
        admin.acl_deluser("noping")


# -- what is dead --


async def test_dead_idle_connections_are_replaced_before_anybody_meets_them(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(
        clean_server, client_name=NAME, pool_min_idle=3, health_check_interval=OFTEN
    ) as pool:
        await until(lambda: len(_ids(admin)) == 3)
        before = _ids(admin)
        _kill(admin, before)
        await until(lambda: len(_ids(admin)) == 3 and not _ids(admin) & before)
        for _ in range(3):
            async with pool.get() as connection:
                assert await connection.ping()


async def test_a_dead_lane_connects_again_before_anybody_needs_it(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, client_name=NAME, health_check_interval=OFTEN) as pool:
        await pool.client.ping()
        await pool.lane("orders").ping()
        before = _ids(admin)
        assert len(before) == 2
        _kill(admin, before)
        await until(lambda: len(_ids(admin)) == 2 and not _ids(admin) & before)
        await until(lambda: pool.status().size == 2)
        assert pool.status().waiting == 0


async def test_a_lane_that_nobody_has_used_is_not_opened(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, client_name=NAME, health_check_interval=OFTEN) as pool:
        assert pool.lane("orders") is pool.lane("orders")
        standalone(pool).lane("orders")
        await _fill(pool, 1)
        before = _pings(admin)
        await until(lambda: _pings(admin) - before >= 3)
        assert len(_ids(admin)) == 1


async def test_silent_connections_are_found_and_replaced(
    clean_server: EmbeddedServer,
    admin: redis.Redis,
    proxy: FaultProxy,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Half-open ones, of which the kernel says nothing."""
    async with pool_at(
        clean_server,
        proxy,
        client_name=NAME,
        pool_min_idle=2,
        health_check_interval=OFTEN,
        command_timeout=0.1,
    ) as pool:
        await until(lambda: pool.status().available == 2)
        old = [connection for connection, _ in standalone(pool).pool.idle()]
        proxy.blackhole()
        proxy.restore()
        await until(lambda: all(connection.closed for connection in old))
        await until(lambda: pool.status().available == 2)
        assert pool.metrics().background_errors == 2
        assert caplog.text.count("health check: <Connection") == 2
        async with pool.get() as connection:
            assert await connection.execute("PING")


async def test_a_silent_lane_is_found_while_nobody_uses_it(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(
        clean_server, proxy, health_check_interval=OFTEN, command_timeout=0.1
    ) as pool:
        await pool.client.ping()
        old = standalone(pool).lane().connection
        assert old is not None
        proxy.blackhole()
        proxy.restore()
        await until(lambda: old.closed)
        await until(lambda: standalone(pool).lane().connection is not None)
        assert await pool.client.ping()


# -- spares --


async def test_min_idle_is_made_at_once_and_kept(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(
        clean_server,
        client_name=NAME,
        pool_min_idle=2,
        pool_max_size=4,
        health_check_interval=OFTEN,
    ) as pool:
        await until(lambda: pool.status().available == 2)
        held = [await pool.get() for _ in range(2)]
        assert [connection.recycle_count for connection in held] == [1, 1]
        await until(lambda: pool.status().available == 2)
        assert pool.status().size == 4
        held.append(await pool.get())
        held.append(await pool.get(timeout=0))
        with pytest.raises(PoolTimeout):
            await pool.get(timeout=0)  # never more than allowed
        for connection in held:
            connection.release()
        assert len(_ids(admin)) == 4


async def test_spares_never_stand_in_the_way_of_callers(clean_server: EmbeddedServer) -> None:
    async with pool_at(
        clean_server, pool_min_idle=2, pool_max_size=2, health_check_interval=OFTEN
    ) as pool:
        held = [await pool.get(timeout=1) for _ in range(2)]
        waiting = asyncio.ensure_future(_ask(pool))
        await asyncio.sleep(OFTEN * 2)  # rounds go by in which there is nothing to be done
        assert pool.status().size == 2
        held[0].release()
        (await waiting).release()
        held[1].release()
        assert pool.metrics().background_errors == 0


async def _ask(pool: Any) -> Any:
    return await pool.get()


# -- age --


async def test_idle_connections_are_closed_in_time_though_they_are_pinged(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A PING is no use: with health checks more frequent than ``max_idle`` nothing would ever be
    closed."""
    async with pool_at(
        clean_server, client_name=NAME, pool_max_idle_seconds=0.3, health_check_interval=OFTEN
    ) as pool:
        await pool.client.ping()
        await _fill(pool, 3)
        started = monotonic()
        before = _pings(admin)
        await until(lambda: len(_ids(admin)) == 1)
        assert monotonic() - started >= 0.25
        assert _pings(admin) > before
        assert await pool.client.ping()  # lanes are in use by definition
        assert pool.status().size == 1
        assert pool.metrics().background_errors == 0
        assert not pool.metrics().errors


async def test_what_is_used_often_is_not_idle(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_idle_seconds=0.1, health_check_interval=0) as pool:
        for _ in range(30):
            async with pool.get() as connection:
                await connection.ping()
            await asyncio.sleep(0.01)
        assert pool.metrics().connections_created == 1


async def test_spares_are_renewed_when_they_have_idled_too_long(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(
        clean_server,
        client_name=NAME,
        pool_min_idle=2,
        pool_max_idle_seconds=0.1,
        health_check_interval=0,
    ) as pool:
        await until(lambda: pool.status().available == 2)
        before = _ids(admin)
        await until(lambda: len(_ids(admin)) == 2 and not _ids(admin) & before)


async def test_max_lifetime_ends_used_and_unused_ones_at_different_times(
    clean_server: EmbeddedServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter([0.0, 0.5, 1.0, 0.25, 0.75] * 20)
    monkeypatch.setattr(random, "random", lambda: next(draws))
    async with pool_at(
        clean_server, client_name=NAME, pool_max_lifetime_seconds=100, health_check_interval=0
    ) as pool:
        connections = await _fill(pool, 5)
        lives = [connection.retire_at - connection.last_heard for connection in connections]
        # Up to a tenth earlier, so that those which were opened together do not end together.
        assert sorted(lives) == pytest.approx([90, 92.5, 95, 97.5, 100], abs=0.5)
        assert len({round(life) for life in lives}) >= 4


async def test_max_lifetime_closes_idle_ones_and_is_no_error(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(
        clean_server, client_name=NAME, pool_max_lifetime_seconds=0.2, health_check_interval=0
    ) as pool:
        await _fill(pool, 3)
        async with pool.get() as connection:
            number = await connection.execute("CLIENT", "ID")
            await until(lambda: _ids(admin) == {str(number)})
            await asyncio.sleep(0.1)  # past its own end by now
            assert await connection.ping()  # what is checked out goes on working
        async with pool.get() as connection:
            assert await connection.execute("CLIENT", "ID") != number
        assert not pool.metrics().errors
        assert pool.metrics().background_errors == 0


# -- what goes wrong in it --


async def test_errors_are_counted_and_logged_and_never_fatal(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    server = await start_server()
    async with pool_at(
        server, pool_min_idle=1, health_check_interval=OFTEN, command_timeout=0.2, max_retries=0
    ) as pool:
        await until(lambda: pool.status().available == 1)
        await pool.client.ping()
        await server.kill()
        await until(lambda: pool.metrics().background_errors >= 3)
        assert "health check" in caplog.text
        assert "refused" in caplog.text
        assert "Traceback" not in caplog.text  # a server that is down is no surprise
        assert pool.status().size == 0
        await server.start()
        await until(lambda: pool.status().available == 1, patience=10)
        assert await pool.client.ping()


async def test_errors_that_nobody_expects_are_logged_with_where_they_come_from(
    clean_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(
        clean_server, pool_min_idle=1, health_check_interval=OFTEN, pool_max_size=2
    ) as pool:

        def hook(connection: Connection, usage: Usage) -> None:
            raise Refused("a hook of the user's")

        pool.post_create.append(hook)
        await until(lambda: pool.metrics().background_errors >= 2)
        assert "a hook of the user's" in caplog.text
        assert "Traceback" in caplog.text
        assert pool.status().size == 0
        pool.post_create.clear()
        await until(lambda: pool.status().available == 1)


async def test_a_round_that_is_broken_altogether_does_not_end_the_rounds(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_at(clean_server, health_check_interval=OFTEN) as pool:
        housekeeper: Any = pool.server._housekeeper
        whole = housekeeper.round
        done = []

        async def broken() -> None:
            done.append("broken")
            if len(done) < 3:
                raise RuntimeError("a bug of ours")
            await whole()

        monkeypatch.setattr(housekeeper, "round", broken)
        await until(lambda: len(done) >= 4)
        assert pool.metrics().background_errors == 2


# -- when there is nothing to do --


async def test_no_task_runs_when_there_is_nothing_to_look_after(
    clean_server: EmbeddedServer,
) -> None:
    before = asyncio.all_tasks()
    async with pool_at(clean_server, health_check_interval=0) as pool:
        assert asyncio.all_tasks() == before
        async with pool.get() as connection:
            assert await connection.ping()


async def test_closing_ends_the_task_also_in_the_middle_of_a_round(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    before = asyncio.all_tasks()
    async with pool_at(clean_server, proxy, health_check_interval=OFTEN) as pool:
        connections = await _fill(pool, 2)
        proxy.stall()
        await until(lambda: any(connection.in_flight for connection in connections))
    await until(lambda: not {t for t in asyncio.all_tasks() - before if "Housekeeper" in repr(t)})
    assert all(connection.closed for connection in connections)
    assert pool.metrics().background_errors == 0
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


# -- a pool that gets stuck and does not recover, as peers' do --


async def test_a_pool_recovers_by_itself_from_a_server_that_went_away(
    start_server: StartServer,
) -> None:
    server = await start_server()
    async with pool_at(
        server,
        pool_max_size=4,
        pool_timeout=5,
        health_check_interval=OFTEN,
        retry_delay_ms=5,
        retry_max_delay_ms=20,
    ) as pool:
        await pool.client.ping()
        held = [await pool.get() for _ in range(2)]
        await _fill(pool, 1)
        await server.kill()
        for connection in held:
            with pytest.raises(redis.ConnectionError):
                await connection.execute("PING")
            connection.release()
        for _ in range(10):
            with pytest.raises(redis.ConnectionError):
                await pool.get()
        assert pool.status().waiting <= 1  # the lane, which tries again
        await server.start()
        leases = [await pool.get(timeout=1) for _ in range(3)]
        for connection in leases:
            assert await connection.execute("PING")
            connection.release()
        assert await pool.client.ping()
        assert pool.status().size <= 4


async def test_max_lifetime_renews_lanes_too_and_no_command_notices(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(
        clean_server, client_name=NAME, pool_max_lifetime_seconds=0.2, health_check_interval=0
    ) as pool:
        await pool.client.ping()
        before = _ids(admin)
        calls = 0

        async def call() -> None:
            nonlocal calls
            while _ids(admin) & before:
                await pool.client.incr("n")
                calls += 1
                await asyncio.sleep(0.002)

        async with asyncio.timeout(3):
            await call()
        assert await pool.client.incr("n") == calls + 1
        assert not pool.metrics().errors


@pytest.mark.parametrize("answer", [b"-LOADING soon\r\n", None], ids=["refused", "hung up"])
async def test_a_lane_that_is_mended_by_housekeeping_and_the_server_is_not_well(
    answer: bytes | None,
) -> None:
    """A refusal is an answer; a connection that is lost again is counted."""

    def answers(command: list[bytes]) -> bytes | None:
        return answer if command[0] == b"PING" else b":1\r\n"

    async with Peer(answers) as peer, _pool_of(url=peer.url, max_retries=0) as pool:
        assert await pool.client.incr("n") == 1
        _hang_up(peer)
        await until(lambda: standalone(pool).lane().lost)
        await pool.server._housekeeper.round()
        assert peer.heard[-1] == [b"PING"]
        assert pool.metrics().background_errors == (answer is None)
        assert await pool.client.incr("n") == 1


async def test_a_lane_that_somebody_uses_as_a_round_begins_needs_no_mending() -> None:
    async with Peer(lambda _: b":1\r\n") as peer, _pool_of(url=peer.url) as pool:
        assert await pool.client.incr("n") == 1
        _hang_up(peer)
        await until(lambda: standalone(pool).lane().lost)
        round_ = asyncio.ensure_future(pool.server._housekeeper.round())
        assert await pool.client.incr("n") == 1
        await round_
        assert [command[0] for command in peer.heard] == [b"INCRBY"] * 2


def _hang_up(peer: Peer) -> None:
    for transport in list(peer.open):
        transport.abort()


async def test_a_client_that_is_dropped_ends_its_housekeeping(clean_server: EmbeddedServer) -> None:
    clients: Any = [client_at(clean_server, health_check_interval=OFTEN)]
    assert await clients[0].ping()
    before = len(asyncio.all_tasks())
    with pytest.warns(ResourceWarning, match="never closed"):
        clients.clear()
    await until(lambda: len(asyncio.all_tasks()) == before - 1, "the end of the task")
