"""``pool.health()``: each trouble has a reason that says what to do, and none is made up."""

from __future__ import annotations

import asyncio
import pickle
import shutil
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from time import monotonic
from time import time as wall_clock
from typing import Any

import pytest
import redis

from redisutils import (
    AuthenticationFailed,
    ConfigError,
    HealthReport,
    Outcome,
    PoolClosed,
    PoolTimeout,
    RedisPool,
    WrongLoop,
    create_redis_pool,
    outcome_of,
)
from redisutils.connection.embedded import free_port
from redisutils.errors import CircuitOpen
from redisutils.metrics import LatencyHistogram, Rates
from redisutils.testing import EmbeddedReplication, EmbeddedServer, FaultProxy
from redisutils.topology import judging, reasons
from redisutils.topology.facts import Info
from redisutils.topology.reasons import Grown, Reason
from tests.ours import standalone

from .conftest import StartServer
from .ours import our_tasks, pool_at, until
from .peers import Peer

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


def codes(report: HealthReport) -> dict[str, str]:
    """What is wrong, and how bad it is."""
    return {reason.code: reason.severity for reason in report.reasons}


def told(report: HealthReport, code: str) -> str:
    return next(reason for reason in report.reasons if reason.code == code)


@asynccontextmanager
async def steered(server: EmbeddedServer, **settings: Any) -> AsyncIterator[tuple[RedisPool, Any]]:
    """A pool, and redis-py's blocking client beside it."""
    with redis.Redis.from_url(server.url, decode_responses=True) as admin:
        async with pool_at(server, **settings) as pool:
            await pool.client.ping()
            yield pool, admin


# -- what is well ------------------------------------------------------------------


async def test_a_server_that_is_well(clean_server: EmbeddedServer, server_kind: str) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.mset({"a": 1, "b": 2})
        await pool.health()
        await pool.client.mget("a", "b", "c", "d")
        report = await pool.health()
        assert (report.status, report.reasons, report.notes) == ("healthy", (), ())
        assert report.pool == pool.status()
        (endpoint,) = report.endpoints
        assert endpoint.endpoint == f"127.0.0.1:{clean_server.port}"
        assert endpoint.reachable
        assert report.round_trip is not None
        assert report.round_trip == endpoint.round_trip
        assert 0 < report.round_trip < 1
        assert endpoint.role == "primary"
        assert endpoint.replication_lag is None
        found = endpoint.server
        assert found is not None
        assert found.kind in server_kind
        assert found.version is not None
        assert found.version[0].isdigit()
        assert found.uptime is not None
        assert found.used_memory is not None
        assert found.used_memory > 100_000
        assert (found.maxmemory, found.eviction_policy) == (0, "noeviction")
        assert found.clients is not None
        assert found.clients >= 1
        assert found.maxclients == 10_000
        assert found.ops is not None
        assert found.hit_rate == 0.5
        assert (found.replicas, found.loading, found.keys) == (0, False, 2)
        assert found.persistence == "off"
        assert found.clock_skew is not None
        assert abs(found.clock_skew) < 1


def test_a_reason_is_text_with_a_name() -> None:
    reason = Reason("it is full", "memory", "unhealthy")
    assert reason == "it is full"
    assert f"{reason}!" == "it is full!"
    assert "; ".join([reason, reason]) == "it is full; it is full"
    again = pickle.loads(pickle.dumps(reason))
    assert (again, again.code, again.severity) == ("it is full", "memory", "unhealthy")


PONG, NOW = b"+PONG\r\n", b"*2\r\n$10\r\n%d\r\n$1\r\n0\r\n"


def answering(info: bytes, *, ahead: float = 0.0) -> Callable[[list[bytes]], bytes]:
    def answer(command: list[bytes]) -> bytes:
        if command[0] == b"PING":
            return PONG
        if command[0] == b"TIME":
            return NOW % int(wall_clock() + ahead)
        return info

    return answer


INFO = b"$34\r\nredis_version:7.2.4\r\nrole:master\r\n\r\n"


async def test_one_round_trip_however_many_ask() -> None:
    async with (
        Peer(answering(INFO)) as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        for _ in range(3):
            peer.heard.clear()
            found = await asyncio.gather(*(pool.health() for _ in range(50)))
            assert [command[0] for command in peer.heard] == [b"PING", b"TIME", b"INFO"]
            assert len(set(map(id, found))) == 1
        assert peer.accepted == 1
        facts = (await pool.health()).endpoints[0].server
        assert facts is not None
        assert (facts.version, facts.used_memory, facts.persistence) == ("7.2.4", None, None)


async def test_a_server_that_takes_one_section_is_asked_for_all() -> None:
    """Redis before 7."""

    def answer(command: list[bytes]) -> bytes:
        return b"-ERR syntax error\r\n" if len(command) > 2 else answering(INFO)(command)

    async with Peer(answer) as peer, create_redis_pool(url=peer.url) as pool:
        for _ in range(2):
            report = await pool.health()
            assert (report.status, report.notes) == ("healthy", ())
            assert report.endpoints[0].role == "primary"
        assert [len(command) for command in peer.heard if command[0] == b"INFO"] == [9, 1, 1]


@pytest.mark.parametrize("answer", [b":1\r\n", b"*1\r\n:1\r\n", b"+x\r\n", b"_\r\n", b"%0\r\n"])
async def test_an_odd_server_is_no_failure_of_ours(answer: bytes) -> None:
    async with Peer(lambda _: answer) as peer, create_redis_pool(url=peer.url) as pool:
        report = await pool.health()
        assert report.endpoints[0].reachable
        assert report.endpoints[0].role is None


async def test_who_may_not_ask_learns_less_and_is_not_degraded(server_kind: str) -> None:
    async with EmbeddedServer(server_kind) as server:
        with redis.Redis.from_url(server.url, decode_responses=True) as admin:
            admin.acl_setuser(
                "poor", enabled=True, passwords=["+pw"], commands=["+ping", "+hello", "+client"]
            )
            async with pool_at(server, username="poor", password="pw") as pool:
                for _ in range(5):
                    report = await pool.health()
                    assert (report.status, report.reasons) == ("healthy", ())
                    assert "refuses INFO" in " ".join(report.notes)
                    assert "grant +time" in " ".join(report.notes)
                    assert report.endpoints[0].server is None
                refused = sum(int(entry["count"]) for entry in admin.acl_log())
                assert refused == 2, "each once, and not at each look"
            admin.execute_command("ACL", "SETUSER", "poor", "-ping")
            async with pool_at(server, username="poor", password="pw") as pool:
                for _ in range(3):
                    report = await pool.health()
                    assert report.status == "healthy"
                    assert len(report.notes) == 3
                    assert report.endpoints[0].reachable
                assert sum(int(entry["count"]) for entry in admin.acl_log()) == 2 + 3


# -- the way to it -----------------------------------------------------------------


@one_loop
async def test_a_server_that_is_gone_and_back() -> None:
    async with EmbeddedServer() as server, pool_at(server) as pool:
        assert (await pool.health()).status == "healthy"
        await server.kill()
        report = await pool.health(timeout=0.3)
        assert codes(report) == {"unreachable": "unhealthy"}
        assert "connection refused" in told(report, "unreachable")
        (endpoint,) = report.endpoints
        assert (endpoint.reachable, endpoint.round_trip, endpoint.server) == (False, None, None)
        await server.start()
        assert (await pool.health(timeout=5)).status == "healthy"


@one_loop
async def test_a_frozen_server_costs_the_timeout_and_no_more(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        await clean_server.pause()
        began = monotonic()
        reports = await asyncio.gather(pool.health(timeout=0.3), pool.health(timeout=0.2))
        assert monotonic() - began < 1.3
        for report in reports:
            assert codes(report) == {"unreachable": "unhealthy"}
            assert "does not answer" in told(report, "unreachable")
        await clean_server.resume()
        assert (await pool.health()).status == "healthy"


@one_loop
async def test_a_wrong_password_and_an_open_circuit_are_told() -> None:
    async with EmbeddedServer() as server, pool_at(server, password="wrong") as pool:
        report = await pool.health()
        assert codes(report) == {"unreachable": "unhealthy"}
        assert "REDIS_PASSWORD" in told(report, "unreachable")
    async with create_redis_pool(
        port=free_port(),
        circuit_breaker_seconds=0.1,
        max_retries=100,
        retry_delay_ms=10,
        retry_max_delay_ms=20,
    ) as pool:
        with pytest.raises(CircuitOpen):
            await pool.client.ping()
        report = await pool.health()
        assert codes(report) == {"circuit-open": "unhealthy"}
        assert "REDIS_CIRCUIT_BREAKER_SECONDS" in told(report, "circuit-open")
        assert report.pool.breaker != "closed"
        assert not report.endpoints[0].reachable


@one_loop
async def test_a_stuck_lane_is_not_a_sick_server(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.set("large", b"x" * 3_000_000)
        proxy.to_client.bandwidth = 300_000
        large = asyncio.ensure_future(pool.client.with_timeout(60).get("large"))
        await until(lambda: standalone(pool).lane().depth == 1)
        report = await pool.health(timeout=1.0)
        assert codes(report) == {"lane": "degraded"}
        assert "'default' does not answer" in told(report, "lane")
        assert report.endpoints[0].reachable
        assert report.endpoints[0].role == "primary"
        proxy.restore()
        assert len(await large) == 3_000_000
        assert (await pool.health()).status == "healthy"


@one_loop
async def test_a_slow_round_trip(
    clean_server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not list(reasons.of_round_trip("there", 0.29))
    assert list(reasons.of_round_trip("there", 0.31))
    monkeypatch.setattr(reasons, "SLOW_ROUND_TRIP", 0.1)
    async with pool_at(clean_server, proxy) as pool:
        proxy.to_client.latency = 0.12
        assert (await pool.health(timeout=10)).status == "healthy"  # it had to connect
        report = await pool.health(timeout=10)
        assert codes(report) == {"round-trip": "degraded"}
        assert report.round_trip is not None
        assert report.round_trip > 0.1


@pytest.mark.parametrize("ahead", [5.0, -5.0])
async def test_a_clock_that_is_wrong(ahead: float, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Peer(answering(INFO, ahead=ahead)) as peer, create_redis_pool(url=peer.url) as pool:
        report = await pool.health()
        assert codes(report) == {"clock": "degraded"}
        assert ("ahead of" if ahead > 0 else "behind") in told(report, "clock")
        facts = report.endpoints[0].server
        assert facts is not None
        assert facts.clock_skew == pytest.approx(ahead, abs=1.5)


# -- what the server tells ---------------------------------------------------------


async def test_memory(start_server: StartServer) -> None:
    server = await start_server()
    async with steered(server) as (pool, admin):

        def fill(part: float) -> None:
            told = Info("\n".join(f"{k}:{v}" for k, v in admin.info("memory").items()))
            admin.config_set("maxmemory", int(told.counted_memory / part))

        fill(0.5)
        assert (await pool.health()).status == "healthy"
        fill(0.95)
        report = await pool.health()
        assert codes(report) == {"memory": "degraded"}
        assert "writes will fail" in told(report, "memory")
        admin.config_set("maxmemory-policy", "volatile-lru")
        assert "evicts" in told(await pool.health(), "memory")
        admin.config_set("maxmemory-policy", "allkeys-lru")  # a cache is full, and that is well
        assert (await pool.health()).status == "healthy"
        admin.config_set("maxmemory-policy", "noeviction")
        fill(1.2)
        report = await pool.health()
        assert codes(report) == {"memory": "unhealthy"}
        assert "refuses writes" in told(report, "memory")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            await pool.client.set("k", "v")
        admin.config_set("maxmemory", 0)
        assert (await pool.health()).status == "healthy"


@pytest.mark.parametrize("policy", ["volatile-random", "allkeys-random"])
async def test_evictions(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    server = await start_server()
    async with steered(server) as (pool, admin):
        await pool.health()
        await pool.client.set("k", b"x" * 100_000, ex=1000)
        used = admin.info("memory")["used_memory"]
        admin.config_set("maxmemory-policy", policy)
        admin.config_set("maxmemory", used - 50_000)
        await until(lambda: admin.info("stats")["evicted_keys"])
        admin.config_set("maxmemory", 0)
        for _ in range(3):  # it stays, and is seen by everyone who looks
            report = await pool.health()
            if policy == "allkeys-random":
                assert report.status == "healthy"
                assert "evicted 1 key in" in " ".join(report.notes)
            else:
                assert codes(report) == {"evictions": "degraded"}
                assert "evicted 1 key in" in told(report, "evictions")
                assert not report.notes
        monkeypatch.setattr(judging, "WINDOW", 0.0)
        monkeypatch.setattr(judging, "_SPACING", 0.0)
        await pool.health()
        report = await pool.health()
        assert (report.status, report.notes) == ("healthy", ())


async def test_clients(start_server: StartServer) -> None:
    server = await start_server()
    async with steered(server) as (pool, admin):
        await pool.health()
        admin.config_set("maxclients", 2)
        report = await pool.health()
        assert codes(report) == {"clients": "degraded"}
        assert "2 clients of 2" in told(report, "clients")
        with pytest.raises(redis.RedisError):
            _ = await pool.get()
        admin.config_set("maxclients", 100)
        report = await pool.health()
        assert codes(report) == {"rejected-connections": "degraded"}
        assert "refused 1 connection in" in told(report, "rejected-connections")


async def test_persistence(start_server: StartServer, tmp_path: Path) -> None:
    server = await start_server(config={"enable-protected-configs": "local"})
    place = tmp_path / "data"
    place.mkdir()
    async with steered(server) as (pool, admin):
        admin.config_set("dir", str(place))
        shutil.rmtree(place)
        admin.bgsave()
        await until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")
        report = await pool.health()  # without `save` nobody relies on it
        assert codes(report) == {"persistence": "degraded"}
        assert "BGSAVE" in told(report, "persistence")
        facts = report.endpoints[0].server
        assert facts is not None
        assert facts.persistence == "failing"
        admin.config_set("save", "3600 1000")
        report = await pool.health()
        assert codes(report) == {"persistence": "unhealthy"}
        assert "MISCONF" in told(report, "persistence")
        place.mkdir()
        admin.config_set("dir", str(place))
        admin.bgsave()
        await until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok")
        report = await pool.health()
        assert report.status == "healthy"
        facts = report.endpoints[0].server
        assert facts is not None
        assert facts.persistence == "ok"


@one_loop
async def test_loading(start_server: StartServer) -> None:
    server = await start_server(config={"enable-debug-command": "local"})
    async with steered(server) as (pool, admin):
        admin.execute_command("DEBUG", "POPULATE", 2000)
        admin.config_set("key-load-delay", "400")
        admin.config_set("loading-process-events-interval-bytes", "1024")
        reloading = asyncio.create_task(asyncio.to_thread(admin.execute_command, "DEBUG", "RELOAD"))
        report = await pool.health()
        while "loading" not in codes(report):
            assert not reloading.done()
            report = await pool.health()
        assert codes(report)["loading"] == "unhealthy"
        assert report.endpoints[0].reachable
        await reloading
        assert (await pool.health()).status == "healthy"


@one_loop
@pytest.mark.parametrize("size", [1, 10])
async def test_a_script_that_goes_on_and_on(start_server: StartServer, size: int) -> None:
    """Whether or not there is another connection to ask by."""
    server = await start_server(config={"busy-reply-threshold": "10"})
    async with steered(server, pool_max_size=size) as (pool, admin):
        script = asyncio.create_task(asyncio.to_thread(admin.eval, "while true do end return 1", 0))
        report = await pool.health(timeout=0.5)
        while "busy" not in codes(report):
            assert not script.done()
            report = await pool.health(timeout=0.5)
        assert codes(report) == {"busy": "unhealthy"}
        assert "SCRIPT KILL" in told(report, "busy")
        assert report.endpoints[0].reachable
        with redis.Redis.from_url(server.url) as killer:
            killer.script_kill()
        with pytest.raises(redis.ResponseError):
            await script
        assert (await pool.health()).status == "healthy"


@one_loop
async def test_replication(server_kind: str) -> None:
    async with EmbeddedReplication(1, server_kind) as group:
        (replica,) = group.replicas
        async with steered(group.primary) as (pool, admin), pool_at(replica) as reader:
            report = await pool.health()
            assert report.status == "healthy"
            facts = report.endpoints[0].server
            assert facts is not None
            assert (facts.role, facts.replicas) == ("primary", 1)
            assert facts.replication_lag in (0, 1, 2)
            report = await reader.health()
            assert report.status == "healthy"
            assert report.endpoints[0].role == "replica"
            assert report.endpoints[0].replication_lag is not None

            with pytest.raises(redis.exceptions.ReadOnlyError):
                await reader.client.with_timeout(0.2).set("k", "v")
            report = await reader.health()
            assert codes(report) == {"read-only": "degraded"}
            assert f"127.0.0.1 {group.primary.port}".replace(" ", ":") in told(report, "read-only")

            admin.config_set("min-replicas-to-write", 1)
            assert (await pool.health()).status == "healthy"
            admin.config_set("min-replicas-to-write", 2)
            await pool.health()
            with pytest.raises(redis.ResponseError, match="NOREPLICAS"):
                await pool.client.set("k", "v")
            report = await pool.health()
            assert codes(report) == {"too-few-replicas": "unhealthy"}
            await replica.kill()
            await until(lambda: admin.info("replication")["connected_slaves"] == 0)
            report = await pool.health()
            assert codes(report) == {"too-few-replicas": "unhealthy"}
            assert "has 0 good replicas" in told(report, "too-few-replicas")


@one_loop
async def test_a_replica_without_its_primary(server_kind: str) -> None:
    async with EmbeddedReplication(1, server_kind) as group:
        (replica,) = group.replicas
        async with steered(replica) as (pool, admin):
            await group.primary.kill()
            await until(lambda: admin.info("replication")["master_link_status"] == "down")
            report = await pool.health()
            assert codes(report) == {"replica-link": "degraded"}
            assert "without a link to its primary" in told(report, "replica-link")
            admin.config_set("replica-serve-stale-data", "no")
            report = await pool.health()
            assert codes(report) == {"replica-link": "unhealthy"}
            assert "MASTERDOWN" in told(report, "replica-link")


def judged(text: str, before: str | None = None, refused_writes: int = 0) -> dict[str, str]:
    """The reasons in an answer to INFO."""
    info = Info(text)
    grown = Grown(10.0, info, None if before is None else Info(before))
    found = reasons.of_server("the-peer:1", info, grown, refused_writes)
    return {reason.code: str(reason) for reason in found}


def test_replicas_that_lag() -> None:
    slave = "role:master\nslave0:ip=10.0.0.7,port=6379,state={},offset=7,lag={}"
    assert judged(slave.format("online", 10)) == {}
    assert "10.0.0.7:6379" in judged(slave.format("online", 11))["replication-lag"]
    assert "synchronised" in judged(slave.format("wait_bgsave", 0))["replica-link"]
    link = "role:slave\nmaster_link_status:up\nmaster_last_io_seconds_ago:{}"
    assert judged(link.format(20)) == {}
    assert "for 21 s" in judged(link.format(21))["replication-lag"]


def test_an_aof_that_cannot_be_written() -> None:
    assert "refuses writes" in judged("role:master\naof_last_write_status:err")["persistence"]
    rewriting = judged("role:master\naof_last_bgrewrite_status:err")["persistence"]
    assert "BGREWRITEAOF" in rewriting
    assert "refuses writes" not in rewriting


async def test_the_gravest_of_each_kind_is_told_and_comes_first() -> None:
    text = (
        b"role:master\r\nrdb_last_bgsave_status:err\r\naof_last_write_status:err\r\n"
        b"connected_clients:9\r\nmaxclients:10\r\n"
    )
    info = b"$%d\r\n%s\r\n" % (len(text), text)
    async with Peer(answering(info)) as peer, create_redis_pool(url=peer.url) as pool:
        report = await pool.health()
        assert [(reason.code, reason.severity) for reason in report.reasons] == [
            ("persistence", "unhealthy"),
            ("clients", "degraded"),
        ]
        assert report.status == "unhealthy"


def test_what_another_server_has_counted_is_not_compared() -> None:
    """One that was restarted begins anew; one behind the same name has a past of its own."""
    now = "run_id:b\nevicted_keys:7"
    assert judged(now, "run_id:b\nevicted_keys:7") == {}
    assert judged(now, "run_id:b\nevicted_keys:9") == {}
    assert judged(now, "run_id:a\nevicted_keys:0") == {}
    assert "evicted 4 keys" in judged(now, "run_id:b\nevicted_keys:3")["evictions"]
    assert judged(now) == {}


NONSENSE = [
    "",
    "nonsense",
    "maxmemory:x\nused_memory:\nuptime_in_seconds:inf\nmaxclients:nan",
    "slave0:\ndb0:\nerrorstat_NOREPLICAS:count=x\nevicted_keys:x",
    "slave0:state=online,lag=x",
]


@pytest.mark.parametrize("text", NONSENSE)
def test_what_a_server_does_not_tell_is_none(text: str) -> None:
    assert judged(text) == {}
    facts = Info(text).facts(hit_rate=None, clock_skew=None)
    assert (facts.maxmemory, facts.role, facts.persistence, facts.keys) == (None,) * 4


# -- our own side ------------------------------------------------------------------


async def test_callers_that_wait_for_a_connection(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=2) as pool:
        await pool.health()  # what came before the first look is not known
        async with pool.get():
            waiting = asyncio.ensure_future(pool.get().__aenter__())
            await asyncio.sleep(0)
            report = await pool.health()
            assert codes(report) == {"pool": "degraded"}
            assert "1 other caller waiting" in told(report, "pool")
            assert "REDIS_POOL_MAX_SIZE" in told(report, "pool")
        async with await waiting:
            report = await pool.health()  # nobody waits, and the next one would
            assert codes(report) == {"pool": "degraded"}
            assert "1 caller had to wait" in told(report, "pool")
        assert (await pool.health()).status == "healthy"


@one_loop
async def test_a_pool_without_a_place_for_commands(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool, pool.get():
        report = await pool.health(timeout=0.1)
        assert codes(report) == {"pool": "unhealthy"}
        assert "no connection is free for commands" in told(report, "pool")


def test_an_event_loop_that_is_late() -> None:
    def lag(seconds: float, times: int) -> dict[str, str]:
        histogram = LatencyHistogram()
        histogram.record(0.001, 1000)
        earlier = histogram.snapshot()
        histogram.record(0.001, 40)
        histogram.record(seconds, times)
        late = histogram.snapshot().since(earlier)
        return {reason.code: str(reason) for reason in reasons.of_lag(late, 10.0)}

    assert lag(0.04, 60) == {}
    assert lag(0.5, 2) == {}, "one pause, or two"
    assert "by more than 50 ms 3 times in the last 10 s, by up to 80 ms" in lag(0.08, 3)["loop-lag"]
    assert "50 ms 1 time in the last 10 s, by up to 4000 ms" in lag(4.0, 1)["loop-lag"], (
        "who stands still most of the time is seldom seen to be late"
    )
    few = LatencyHistogram()
    few.record(1.0, 9)  # of ten seconds, in which it hardly came to look
    assert list(reasons.of_lag(few.snapshot(), 10.0))
    assert not list(reasons.of_lag(few.snapshot(), 1.9))


def test_calls_that_fail() -> None:
    def found(failures: float, grown: dict[tuple[str, str], int]) -> str:
        rates = Rates(commands=100.0, failures=failures, bytes_in=0.0, bytes_out=0.0)
        return " ".join(reasons.of_failures(rates, grown))

    late = ("CommandTimeout", "UNKNOWN")
    wrong = ("ResponseError", "REJECTED")
    assert found(0.9, {late: 9}) == ""
    assert "CommandTimeout (UNKNOWN)" in found(1.1, {late: 9, ("PoolTimeout", "NOT_SENT"): 2})
    assert found(50.0, {wrong: 500}) == "", "mistakes of callers are not the server's"
    assert found(50.0, {wrong: 500, late: 1}) == ""
    assert found(50.0, {wrong: 500, late: 50}).startswith("4% of all calls")
    assert "failed, 1015 a second" in found(1015.0, {late: 9})
    assert "failed, 1.2 a second" in found(1.24, {late: 9})
    assert found(50.0, {}) == ""
    assert found(50.0, {late: 4}) == "", "a pool that was opened just now has seen little"


async def test_failures_are_read_from_the_pools_own_counters(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        metrics = pool.server.metrics
        await pool.health()
        for _ in range(100):
            metrics.failed(PoolClosed("it tells of neither server nor network"))
        assert (await pool.health()).status == "healthy"
        for _ in range(1000):
            metrics.failed(CircuitOpen("it is dead"))
        report = await pool.health()
        assert codes(report) == {"failures": "degraded"}
        assert "CircuitOpen (NOT_SENT)" in told(report, "failures")


async def test_when_all_calls_fail_all_are_told(clean_server: EmbeddedServer) -> None:
    """What is said while connecting is nobody's call."""
    async with pool_at(clean_server, password="wrong") as pool:
        await pool.health()
        for _ in range(20):
            with pytest.raises(AuthenticationFailed):
                await pool.client.ping()
        assert pool.metrics().commands == 0
        assert pool.metrics().bytes_in > 0
        assert "100% of all calls" in told(await pool.health(), "failures")


async def test_to_look_is_nobodys_failure(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool:
        await pool.client.ping()
        clean_server.process.signal(signal.SIGSTOP)
        waiting = asyncio.ensure_future(pool.client.get("k"))
        await until(lambda: pool.metrics().in_flight)
        for _ in range(6):
            assert (await pool.health(timeout=0.05)).status == "unhealthy"
        clean_server.process.signal(signal.SIGCONT)
        await waiting
        assert not pool.metrics().failures


async def test_to_try_once_in_vain_is_no_failure(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool, pool.get():
        with pytest.raises(PoolTimeout):
            _ = await pool.get(timeout=0)
        assert not pool.metrics().failures
        with pytest.raises(PoolTimeout):
            _ = await pool.get(timeout=0.01)
        assert pool.metrics().failures == {("PoolTimeout", "NOT_SENT"): 1}


# -- a server that says too much -----------------------------------------------------

ENDLESS = b"x" * 3_000_000


@pytest.mark.parametrize("refused", [b"PING", b"TIME", b"INFO", b"HELLO"])
async def test_endless_refusals_are_cut(refused: bytes) -> None:
    def answer(command: list[bytes]) -> bytes:
        if command[0] == refused:
            return b"-NOPERM " + ENDLESS + b"\r\n"
        return answering(INFO)(command)

    async with Peer(answer) as peer, create_redis_pool(url=peer.url) as pool:
        report = await pool.health()
        assert all(len(text) < 600 for text in (*report.reasons, *report.notes))
        assert report.reasons or report.notes or refused == b"HELLO"


def test_endless_answers_are_cut() -> None:
    slaves = "".join(f"slave{n}:ip={'y' * 999},state=online,lag=99\n" for n in range(500))
    info = Info(f"role:master\nredis_version:{'x' * 999}\n{slaves}{'z' * 2**21}:1")
    assert len(list(info.replicas())) == 100
    assert max(map(len, info.fields)) < 2**10
    version = info.facts(hit_rate=None, clock_skew=None).version
    assert version is not None
    assert len(version) == 200
    for reason in reasons.of_server("the-peer:1", info, Grown(1.0, info, None), 0):
        assert len(reason) < 600


async def test_looks_that_are_refused_are_not_all_remembered() -> None:
    def answer(command: list[bytes]) -> bytes:
        return b"-NOPERM no\r\n" if command[0] == b"INFO" else answering(INFO)(command)

    async with Peer(answer) as peer, create_redis_pool(url=peer.url) as pool:
        for _ in range(20):
            await pool.health()
        examiner = standalone(pool)._examiner
        assert examiner is not None
        assert len(examiner._judge._stands) <= 3  # half a second apart


# -- asking ------------------------------------------------------------------------


async def test_a_caller_that_leaves_takes_nothing_from_the_others() -> None:
    async with Peer(answering(INFO)) as peer, create_redis_pool(url=peer.url) as pool:
        one, other = (asyncio.ensure_future(pool.health()) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        assert (await other).status == "healthy"
        assert one.cancelled()


async def test_a_pool_that_is_closed_is_unhealthy(clean_server: EmbeddedServer) -> None:
    pool = pool_at(clean_server)
    with pytest.raises(PoolClosed, match="is not open"):
        await pool.health()
    _ = await pool
    assert (await pool.health()).status == "healthy"
    await pool.close()
    report = await pool.health()
    assert codes(report) == {"closed": "unhealthy"}
    assert report.round_trip is None


@one_loop
async def test_closing_ends_a_look_and_tells_who_waits(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    before = our_tasks()
    pool = await pool_at(clean_server, proxy)
    await pool.client.ping()
    proxy.stall()
    looking = asyncio.ensure_future(pool.health(timeout=0.4))
    await asyncio.sleep(0.3)  # it asks by a connection of its own, too
    began = monotonic()
    await pool.close()
    assert our_tasks() <= {*before, looking}
    assert (await looking).status == "unhealthy"
    assert monotonic() - began < 5


async def test_closing_in_the_very_turn_of_an_answer_raises_nothing(
    clean_server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.set("large", b"x" * 3_000_000)
        await pool.health()
        examiner = standalone(pool)._examiner
        assert examiner is not None
        ask = examiner._ask_own

        async def ask_as_it_closes(end: float) -> Any:
            look = await ask(end)
            assert look is not None
            standalone(pool).pool.close()
            return look

        monkeypatch.setattr(examiner, "_ask_own", ask_as_it_closes)
        proxy.to_client.bandwidth = 300_000
        large = asyncio.ensure_future(pool.client.with_timeout(60).get("large"))
        await until(lambda: standalone(pool).lane().depth == 1)
        assert (await pool.health(timeout=0.5)).status != "healthy"
        large.cancel()


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), "1"])
async def test_a_timeout_that_cannot_be_is_refused(
    clean_server: EmbeddedServer, timeout: Any
) -> None:
    async with pool_at(clean_server) as pool:
        with pytest.raises(ConfigError, match="timeout="):
            await pool.health(timeout)


async def test_another_loop_is_told_so(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        found: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(pool.health())
            except WrongLoop as error:
                found.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert len(found) == 1
        assert outcome_of(found[0]) is Outcome.NOT_SENT
