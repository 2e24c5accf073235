"""The circuit breaker: nobody waits for a server that is known dead, and no blip makes one dead."""

from __future__ import annotations

import asyncio
import gc
import resource
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from math import inf
from time import monotonic
from typing import Any

import pytest
import redis

from redisutils import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    PoolClosed,
    Redis,
    RedisPool,
    create_redis_pool,
    outcome_of,
)
from redisutils.connection.embedded import free_port
from redisutils.errors import CircuitOpen
from redisutils.metrics import PoolMetrics
from redisutils.metrics.events import EventLog
from redisutils.pool import breaker as breakers
from redisutils.pool import manager as managers
from redisutils.pool import scouting
from redisutils.pool.breaker import FEWEST, Breaker
from redisutils.retry import LONGEST_PAUSE
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import our_tasks, pool_at, until
from .peers import turns
from .test_events import failing_filter
from .test_recovery import FAULTS, WITHIN

# Seconds pass by in these: on one loop they prove as much as on two.
pytestmark = [pytest.mark.asyncio(loop_factories=["uvloop"]), pytest.mark.usefixtures("often")]

QUICK: dict[str, Any] = {
    "circuit_breaker_seconds": 0.2,
    "retry_delay_ms": 20,
    "retry_max_delay_ms": 50,
    "max_retries": 1000,
}
"""A breaker that opens soon, and callers who would wait much longer."""


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    """The kind makes no difference: it is about connecting."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def mortal() -> AsyncIterator[EmbeddedServer]:
    """One that may be killed."""
    async with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def proxy(server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(server.host, server.port) as proxy:
        yield proxy


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead server is tried again sooner: how soon is what few of these are about."""
    monkeypatch.setattr(breakers, "LONGEST_PAUSE", 0.1)


@pytest.fixture
def unhurried(often: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in earnest."""
    monkeypatch.setattr(breakers, "LONGEST_PAUSE", LONGEST_PAUSE)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that swallows all is given up sooner."""
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 0.1)
    monkeypatch.setattr(scouting, "SCOUT_FOR", 0.1)
    monkeypatch.setattr(breakers, "_LONG", 0.08)


def nowhere(**settings: Any) -> RedisPool:
    """A pool of a server that is not there."""
    return create_redis_pool(host="127.0.0.1", port=free_port(), **{**QUICK, **settings})


async def opened(pool: RedisPool) -> None:
    """Wait until the breaker is open, with a caller who has it find out."""
    with pytest.raises(CircuitOpen):
        await pool.client.ping()
    assert pool.status().breaker != "closed"


async def closed(pool: RedisPool) -> None:
    await until(lambda: pool.status().breaker == "closed", "the end of being open")


# -- what counts -----------------------------------------------------------------


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Trial:
    """A breaker of five seconds on a clock of its own, and attempts to connect."""

    def __init__(self, clock: Clock, seconds: float = 5.0) -> None:
        self.clock = clock
        self.metrics = PoolMetrics()
        self.breaker = Breaker("the-peer:1", seconds, self.metrics)

    async def attempt(self, error: BaseException | None, took: float = 0.0, heard: int = 0) -> None:
        async def dial() -> str:
            self.clock.now += took
            self.metrics.bytes_in += heard
            if error is not None:
                raise error
            return "connected"

        (answer,) = await asyncio.gather(self.breaker.attempt(dial), return_exceptions=True)
        assert type(answer) is (str if error is None else type(error))

    @property
    def state(self) -> str:
        return self.breaker.state

    async def fail(self, *pauses: float) -> None:
        """An attempt that fails after each pause."""
        for pause in pauses:
            self.clock.now += pause
            await self.attempt(ConnectFailed("refused"))


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(breakers, "monotonic", clock)
    return clock


@pytest.fixture
async def trial(clock: Clock) -> AsyncIterator[Trial]:
    trial = Trial(clock)
    yield trial
    await trial.breaker.stop()


async def test_it_opens_when_for_so_long_nothing_but_failures_has_happened(trial: Trial) -> None:
    told: list[str] = []
    trial.breaker.on_open = lambda: told.append(trial.state)
    await trial.fail(0, 2, 2, 0.99)
    assert trial.state == "closed"
    trial.breaker.check()
    await trial.fail(0.02)
    with pytest.raises(CircuitOpen):
        trial.breaker.check()
    assert told == ["open"]
    status = trial.breaker.status()
    assert (status.state, status.failures, status.trips) == ("open", 5, 1)
    assert status.error == "refused"


async def test_few_attempts_open_nothing_however_long_they_take(clock: Clock) -> None:
    trial = Trial(clock, 1.0)
    for _ in range(FEWEST - 1):
        await trial.attempt(ConnectFailed("timed out"), took=1.4)
    assert trial.state == "closed"
    await trial.attempt(ConnectFailed("timed out"), took=1.4)
    assert trial.state == "open"
    await trial.breaker.stop()


async def test_failures_far_apart_say_nothing_of_the_time_between(trial: Trial) -> None:
    await trial.fail(*[2.6] * 10)
    assert trial.state == "closed"
    assert trial.breaker.status().failures == 1
    await trial.fail(2.4, 2.4)
    assert trial.state == "closed"
    await trial.fail(2.4)
    assert trial.state == "open"


async def test_many_failures_at_once_are_one_blip(trial: Trial) -> None:
    await trial.fail(*[0.001] * 1000)
    assert trial.state == "closed"


@pytest.mark.parametrize("evidence", ["bytes", "handshake", "success", "fatal"])
async def test_what_shows_that_it_lives_begins_anew(trial: Trial, evidence: str) -> None:
    await trial.fail(0, 2, 2)
    trial.clock.now += 0.9
    if evidence == "bytes":
        trial.metrics.bytes_in += 1
    elif evidence == "handshake":
        await trial.attempt(ConnectFailed("maxclients"), heard=1)
    elif evidence == "success":
        await trial.attempt(None)
    else:
        await trial.attempt(AuthenticationFailed("wrong password"))
    assert trial.breaker.status().failures == 0
    await trial.fail(0.2, 2, 2)
    assert trial.state == "closed"
    await trial.fail(1.1)
    assert trial.state == "open"


@pytest.mark.parametrize("evidence", ["bytes", "handshake", "success", "fatal"])
async def test_what_shows_that_it_lives_closes_it(trial: Trial, evidence: str) -> None:
    await trial.fail(0, 2, 2, 2)
    assert trial.state == "open"
    if evidence == "bytes":
        trial.metrics.bytes_in += 1
    elif evidence == "handshake":
        await trial.attempt(ConnectFailed("maxclients"), heard=1)
    elif evidence == "success":
        await trial.attempt(None)
    else:
        await trial.attempt(AuthenticationFailed("wrong password"))
    assert not trial.breaker.refuses
    trial.breaker.check()
    assert trial.breaker.status().error is None
    await trial.fail(2, 2)
    assert trial.state == "closed"


async def test_nobody_probes_a_server_that_was_heard_otherwise(trial: Trial) -> None:
    probes: list[str] = []

    async def probe() -> None:
        probes.append(trial.state)

    before = our_tasks()
    trial.breaker.probe = probe
    await trial.fail(0, 2, 2, 2)
    trial.metrics.bytes_in += 1
    trial.breaker.check()
    await until(lambda: our_tasks() <= before, "the end of the probe")
    assert not probes
    assert trial.state == "closed"


async def test_our_own_failures_say_nothing_of_the_server(trial: Trial) -> None:
    ours = ConnectFailed("the credential provider failed")
    ours.own = True
    for _ in range(10):
        trial.clock.now += 1
        await trial.attempt(ours)
    assert trial.breaker.status().failures == 0


async def test_what_this_process_lacks_is_no_dead_server(server: EmbeddedServer) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with pool_at(server, **QUICK) as pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no descriptor is to be had
        try:
            end = monotonic() + 0.3
            while monotonic() < end:
                with pytest.raises(ConnectFailed, match="open files") as caught:
                    await standalone(pool).pool.add_idle()
                assert caught.value.own
                await asyncio.sleep(0.02)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        found = pool.metrics().breaker
        assert (found.state, found.failures) == ("closed", 0)


async def test_nothing_waits_for_the_log_when_it_opens(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    before = our_tasks()
    trial.breaker.on_open = lambda: told.append("those who wait")

    def note(*_: Any, **__: Any) -> None:
        assert our_tasks() > before, "the probe"
        told.append("the log")

    monkeypatch.setattr(EventLog, "note", note)
    await trial.fail(0, 2, 2, 2)
    assert told == ["those who wait", "the log"]


async def test_an_attempt_that_was_cancelled_counts_if_it_took_long(trial: Trial) -> None:
    for _ in range(10):
        await trial.attempt(asyncio.CancelledError(), took=0.6)
    assert trial.breaker.status().failures == 0
    for _ in range(8):
        await trial.attempt(asyncio.CancelledError(), took=0.75)
    assert trial.state == "open"
    assert "0.75 s" in str(trial.breaker.status().error)


async def test_an_attempt_that_others_have_overtaken_does_not_count(trial: Trial) -> None:
    async def dial() -> None:
        trial.clock.now += 3
        await trial.attempt(None)
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await trial.breaker.attempt(dial)
    assert trial.breaker.status().failures == 0


async def test_without_end_it_never_opens(clock: Clock) -> None:
    trial = Trial(clock, inf)
    await trial.fail(*[1] * 1000)
    assert trial.state == "closed"
    assert trial.breaker.status().failures == 1000


async def test_once_it_is_stopped_it_opens_no_more(trial: Trial) -> None:
    await trial.breaker.stop()
    await trial.fail(0, 2, 2, 2)
    assert trial.state == "closed"


# -- nobody waits ------------------------------------------------------------------


async def _checkout(pool: RedisPool, **how: Any) -> None:
    async with pool.get(**how):
        pass


async def _watch(client: Any) -> None:
    async with client.pipeline() as pipe:
        await pipe.watch("k")


async def _subscribe(client: Any) -> None:
    async with client.pubsub() as pubsub:
        await pubsub.subscribe("news")


async def _alone(client: Any) -> None:
    try:
        await client.get("k")
    finally:
        await client.aclose()


async def _monitor(client: Any) -> None:
    async with client.monitor():
        pass


USES: dict[str, Callable[[RedisPool], Awaitable[Any]]] = {
    "command": lambda pool: pool.client.get("k"),
    "write": lambda pool: pool.client.incr("n"),
    "pipeline": lambda pool: pool.client.pipeline().get("k").incr("n").execute(),
    "lane": lambda pool: pool.lane("orders").get("k"),
    "checkout": lambda pool: pool.get().__aenter__(),
    "checkout in time": lambda pool: pool.get(timeout=30).__aenter__(),
    "blocking": lambda pool: pool.client.blpop(["none"], timeout=0),
    "watch": lambda pool: _watch(pool.client),
    "pub/sub": lambda pool: _subscribe(pool.client),
    "monitor": lambda pool: _monitor(pool.client),
    "single connection": lambda pool: _alone(pool.client.client()),
}


async def test_who_waits_as_it_opens_and_who_comes_later_is_told_at_once(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None
) -> None:
    proxy.blackhole()
    async with pool_at(server, proxy, pool_max_size=20, **QUICK) as pool:
        waiting = {name: asyncio.ensure_future(use(pool)) for name, use in USES.items()}
        answers = await asyncio.gather(*waiting.values(), return_exceptions=True)
        for name, error in zip(USES, answers, strict=True):
            assert isinstance(error, CircuitOpen), (name, error)
            assert outcome_of(error) is Outcome.NOT_SENT
        began = pool.metrics()
        assert began.breaker.trips == 1
        for name, use in USES.items():
            loop = asyncio.get_running_loop()
            moment = loop.time()
            with pytest.raises(CircuitOpen) as caught:
                await use(pool)
            assert outcome_of(caught.value) is Outcome.NOT_SENT
            assert loop.time() - moment < 0.2, f"{name} waited"
        assert pool.metrics().breaker.refused - began.breaker.refused >= len(USES)
        assert pool.status().waiting == 0
        assert standalone(pool).pool.in_use <= 3  # the lanes keep their places


async def test_who_was_told_is_counted_and_nobody_else(caplog: pytest.LogCaptureFixture) -> None:
    """Not who has gone before, nor what the pool does by itself; and of that no log speaks."""
    async with nowhere(pool_min_idle=1, health_check_interval=0.05) as pool:
        await opened(pool)
        housekeeper = standalone(pool)._housekeeper
        await housekeeper.stop()  # with the round that began before, which may fail
        housekeeper.start()
        caplog.clear()
        failed = pool.metrics().background_errors
        assert pool.metrics().breaker.refused == 1
        gone = asyncio.ensure_future(pool.client.ping())
        await turns(1)
        gone.cancel()
        for _ in range(3):
            assert (await pool.health()).status == "unhealthy"
        with pytest.raises(CircuitOpen):
            await housekeeper.round()
        await asyncio.sleep(0.1)  # in which it goes round by itself, too
        assert pool.metrics().breaker.refused == 1
        assert pool.metrics().background_errors == failed
        assert not [record for record in caplog.records if record.name == "redisutils.health"]
        with pytest.raises(CircuitOpen):
            _ = await pool.get()
        with pytest.raises(CircuitOpen):
            await pool.client.blpop("k", 1)
        assert pool.metrics().breaker.refused == 3


async def test_who_tries_over_and_over_leaves_the_event_loop_its_turns() -> None:
    """Or nothing would ever find out that the server is back."""
    async with nowhere() as pool:
        await opened(pool)
        for name, use in USES.items():
            turn = asyncio.Event()
            asyncio.get_running_loop().call_soon(turn.set)
            with pytest.raises(CircuitOpen):
                await use(pool)
            assert turn.is_set(), name


async def test_the_message_says_what_is_wrong_and_what_to_do(unhurried: None) -> None:
    async with nowhere() as pool:
        with pytest.raises(CircuitOpen) as caught:
            await pool.client.ping()
        told = str(caught.value)
        assert f"127.0.0.1:{pool.config.port} is known dead" in told
        assert "nothing was heard from it for 0." in told
        assert "connection refused" in told
        assert f"every {LONGEST_PAUSE} s" in told
        assert "REDIS_CIRCUIT_BREAKER_SECONDS=0.2" in told
        assert isinstance(caught.value, redis.ConnectionError)
        assert not caught.value.fatal


async def test_those_who_wait_for_a_place_are_told_too(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None
) -> None:
    async with pool_at(server, proxy, pool_max_size=2, **QUICK) as pool, pool.get():
        proxy.blackhole()
        waiting = [asyncio.ensure_future(pool.get().__aenter__()) for _ in range(3)]
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, CircuitOpen)
        assert standalone(pool).pool.in_use == 1


async def test_it_shows_everywhere() -> None:
    async with nowhere() as pool:
        assert pool.status().breaker == "closed"
        await opened(pool)
        shown = pool.metrics().breaker
        assert shown.state in ("open", "half-open")
        assert shown.failures >= FEWEST
        assert (shown.trips, shown.error is None) == (1, False)
        assert pool.status().breaker == shown.state
        assert shown.state in repr(standalone(pool).breaker)


async def test_nothing_else_connects_in_the_background() -> None:
    async with nowhere() as pool:
        await opened(pool)
        with pytest.raises(CircuitOpen):  # as housekeeping does, and whoever looks after a lane
            await standalone(pool).pool.add_idle()


async def test_it_is_told_of_once(caplog: pytest.LogCaptureFixture, mortal: EmbeddedServer) -> None:
    async with pool_at(mortal, **QUICK) as pool:
        await mortal.kill()
        await opened(pool)
        for _ in range(10):
            with pytest.raises(CircuitOpen):
                await pool.client.ping()
        await mortal.start()
        await closed(pool)
    told: list[Any] = [record for record in caplog.records if "circuit" in record.message]
    assert [(record.levelname, record.state) for record in told] == [
        ("ERROR", "open"),
        ("WARNING", "closed"),
    ]
    assert {record.event for record in told} == {"circuit"}
    assert "is open" in caplog.text
    assert "closed again" in caplog.text


async def test_it_can_be_switched_off() -> None:
    async with nowhere(circuit_breaker_seconds=0, max_retries=12) as pool:
        with pytest.raises(ConnectFailed) as caught:
            await pool.client.ping()
        assert not isinstance(caught.value, CircuitOpen)
        assert pool.metrics().breaker.trips == 0


async def test_redis_pys_face_has_it_too() -> None:
    assert Redis().connection_pool.source.settings.circuit_breaker == 5.0
    async with Redis(port=free_port(), circuit_breaker_seconds=0.1) as client:
        with pytest.raises(CircuitOpen):
            await client.get("k")
    assert (
        Redis(circuit_breaker_seconds=None).connection_pool.source.settings.circuit_breaker == inf
    )
    found = Redis.from_url("redis://localhost?circuit_breaker_seconds=0").connection_pool
    assert found.source.settings.circuit_breaker == inf
    for wrong in (-1, "soon", float("nan")):
        with pytest.raises(ConfigError, match="circuit_breaker_seconds="):
            _ = Redis(circuit_breaker_seconds=wrong)


# -- who is alive --------------------------------------------------------------------


async def test_a_server_that_refuses_is_alive(mortal: EmbeddedServer) -> None:
    with redis.Redis.from_url(mortal.url) as admin:
        admin.config_set("maxclients", 1)
        async with pool_at(mortal, **{**QUICK, "max_retries": 30}) as pool:
            with pytest.raises(ConnectFailed, match="max number of clients"):
                await pool.client.ping()
            assert pool.metrics().breaker.trips == 0
            assert pool.metrics().breaker.failures == 0


async def test_a_wrong_password_is_told_each_time(server: EmbeddedServer) -> None:
    async with pool_at(server, password="wrong", **QUICK) as pool:
        end = monotonic() + 0.5
        while monotonic() < end:
            with pytest.raises(AuthenticationFailed):
                await pool.client.ping()
        assert pool.metrics().breaker.trips == 0


async def test_a_lane_that_is_answered_works_on(server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        await pool.client.ping()
        proxy.refuse()  # who comes anew
        waiting = asyncio.ensure_future(pool.lane("orders").ping())
        end = monotonic() + 0.6
        while monotonic() < end:
            assert await pool.client.ping() is True
            await asyncio.sleep(0.01)
        assert pool.metrics().breaker.trips == 0
        # Once nobody asks it, nothing shows that it lives; until somebody does.
        with pytest.raises(CircuitOpen):
            await waiting
        assert await pool.client.ping() is True
        assert pool.status().breaker == "closed"
        proxy.restore()
        assert await pool.lane("orders").ping() is True


async def failing(pool: RedisPool) -> None:
    """Wait until the breaker is open, by connections that nobody waits for."""
    while not standalone(pool).breaker.refuses:
        with pytest.raises(ConnectFailed):
            await standalone(pool)._manager.create()
        await asyncio.sleep(0.02)


ONCE: dict[str, Callable[[RedisPool], Awaitable[Any]]] = {
    "command": lambda pool: pool.client.get("k"),
    "checkout": _checkout,
    "checkout in time": lambda pool: _checkout(pool, timeout=5),
    "checkout at once": lambda pool: _checkout(pool, timeout=0),
    "blocking": lambda pool: pool.client.blpop(["none"], timeout=0.01),
}


@pytest.mark.parametrize("use", ONCE)
async def test_an_idle_connection_that_works_is_used(
    server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setattr(managers, "FRESH_FOR", 0.0)  # it is looked at
    async with pool_at(server, proxy, **QUICK) as pool:
        async with pool.get():
            pass
        proxy.refuse()  # who comes anew
        await failing(pool)
        await ONCE[use](pool)
        assert pool.status().breaker == "closed"  # it was heard
        assert pool.metrics().breaker.refused == 0
        assert proxy.accepted == 1


@pytest.mark.parametrize("use", ONCE)
async def test_idle_connections_that_do_not_work_are_no_reason_to_wait(
    server: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, use: str
) -> None:
    monkeypatch.setattr(managers, "FRESH_FOR", 0.0)
    async with pool_at(server, proxy, **QUICK) as pool:
        async with pool.get():
            pass
        ((connection, _),) = standalone(pool).pool.idle()
        proxy.refuse()
        await failing(pool)
        connection.abort(ConnectionLost("gone"))
        with pytest.raises(CircuitOpen):
            await asyncio.wait_for(ONCE[use](pool), 3)
        assert standalone(pool).pool.in_use <= 1


async def test_a_restart_is_no_death(mortal: EmbeddedServer) -> None:
    async with pool_at(mortal) as pool:
        await pool.client.ping()
        await mortal.kill()
        waiting = [asyncio.ensure_future(pool.lane(str(n)).set("k", n)) for n in range(5)]
        await asyncio.sleep(0.7)
        await mortal.start()
        assert await asyncio.gather(*waiting) == [True] * 5
        assert pool.metrics().breaker.trips == 0


# -- back again ------------------------------------------------------------------------


async def test_it_finds_by_itself_that_the_server_is_back(
    server: EmbeddedServer, proxy: FaultProxy, unhurried: None
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)
        states = set()

        def back() -> bool:
            states.add(pool.status().breaker)
            return "closed" in states

        proxy.restore()
        ended = monotonic()
        await until(back)  # nobody calls
        assert monotonic() - ended < WITHIN
        await until(lambda: pool.status().size == 1, "the probe's connection")
        assert pool.status().available == 1
        accepted = proxy.accepted
        assert await pool.client.ping() is True
        assert proxy.accepted == accepted  # it was kept for this
        assert pool.metrics().connections_created == 1


async def test_it_tries_often_and_never_two_at_a_time(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.blackhole()
        await opened(pool)
        await proxy.wait_active(0)
        accepted = proxy.accepted
        began = monotonic()
        while monotonic() - began < 0.6:
            with pytest.raises(CircuitOpen):
                await pool.client.ping()
            assert proxy.active <= 3, "the probe, its scout, and one that is being closed"
            await asyncio.sleep(0.01)
        tried = proxy.accepted - accepted
        assert 2 <= tried <= (monotonic() - began) / 0.1 + 2
        proxy.restore()
        await closed(pool)
        assert await pool.client.ping() is True


async def _recovery(name: str) -> dict[str, float]:
    """Seconds from the end of a fault that opened it until each use works again."""
    begin, end = FAULTS[name]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(EmbeddedServer())
        proxy = await stack.enter_async_context(FaultProxy(server.host, server.port))
        pool = await stack.enter_async_context(
            pool_at(server, proxy, pool_max_size=20, command_timeout=1.0, **QUICK)
        )
        await pool.client.ping()
        async with pool.get():
            pass
        await begin(server, proxy)

        async def command() -> None:
            await pool.client.get("k")

        async def blocking() -> None:
            await pool.client.blpop(["none"], timeout=0.001)

        async def checkout() -> None:
            async with pool.get(timeout=1.0) as connection:
                await connection.ping()

        async def use(how: Callable[[], Awaitable[None]]) -> float:
            """When it worked."""
            while True:
                try:
                    await how()
                    return monotonic()
                except (redis.RedisError, TimeoutError):
                    await asyncio.sleep(0.01)

        hows = {"command": command, "checkout": checkout, "blocking": blocking}
        users = [asyncio.ensure_future(use(how)) for how in hows.values()]
        await until(lambda: pool.metrics().breaker.trips, "the opening", 10)
        await asyncio.sleep(LONGEST_PAUSE)
        assert not any(user.done() for user in users)
        await end(server, proxy)
        proxy.restore()
        ended = monotonic()
        return {f"{name}, {how}": await user - ended for how, user in zip(hows, users, strict=True)}


async def test_within_a_second(unhurried: None) -> None:
    """All faults at once, each with a server and a pool of its own: it is their clocks that take
    the time."""
    recoveries = await asyncio.gather(*map(_recovery, FAULTS))
    late = {
        use: round(seconds, 2)
        for recovery in recoveries
        for use, seconds in recovery.items()
        if seconds > WITHIN
    }
    assert not late


@pytest.mark.parametrize("size", [1, 2])
async def test_a_lane_that_kept_its_place_gets_the_probes_connection(
    server: EmbeddedServer, proxy: FaultProxy, size: int
) -> None:
    async with pool_at(server, proxy, pool_max_size=size, **QUICK) as pool:
        await pool.client.ping()
        proxy.refuse()
        proxy.reset()
        await until(lambda: pool.status().size == 0)
        await opened(pool)
        proxy.restore()
        await closed(pool)
        await until(lambda: pool.status().size == 1)
        accepted = proxy.accepted
        assert await pool.client.ping() is True
        assert proxy.accepted == accepted
        assert pool.status().size == 1


async def test_in_a_full_pool_the_probes_connection_is_closed(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(server, proxy, pool_max_size=2, **QUICK) as pool, pool.get(), pool.get():
        breaker = standalone(pool).breaker
        proxy.refuse()
        while not breaker.refuses:  # nobody else would connect
            with pytest.raises(ConnectFailed):
                await standalone(pool)._manager.create()
            await asyncio.sleep(0.02)
        proxy.restore()
        await closed(pool)
        await proxy.wait_active(2)
        assert pool.status().size == 2


async def test_a_server_slower_than_the_probes_patience_is_reached(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)
        proxy.restore()
        proxy.to_client.latency = 0.4
        await until(lambda: pool.status().breaker == "closed")
        await until(lambda: pool.status().size == 1)
        proxy.restore()
        assert await pool.client.ping() is True


async def test_a_subscription_hears_of_it_and_goes_on_afterwards(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool, pool.client.pubsub() as pubsub:
        await pubsub.subscribe("news")
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        proxy.refuse()
        proxy.reset()
        with pytest.raises(CircuitOpen):
            await pubsub.get_message(timeout=5)
        proxy.restore()
        await closed(pool)
        assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
        await pool.client.publish("news", "back")
        assert (await pubsub.get_message(timeout=5))["data"] == b"back"


# -- trouble of its own ------------------------------------------------------------------


async def test_what_a_hook_refuses_is_told_and_stops_nothing(
    server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)

        def hook(connection: object, usage: object) -> None:
            raise LookupError("what nobody expects")

        pool.post_create.append(hook)
        proxy.restore()
        await until(lambda: pool.metrics().background_errors)
        assert "what nobody expects" in caplog.text
        assert pool.status().breaker == "closed"  # it was reached
        await proxy.wait_active(0)
        pool.post_create.clear()
        assert await pool.client.ping() is True


async def test_a_hook_that_hangs_does_not_end_probing(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)
        hanging = asyncio.Event()

        async def hook(connection: object, usage: object) -> None:
            if not hanging.is_set():
                hanging.set()
                await asyncio.Event().wait()

        pool.post_create.append(hook)
        proxy.restore()
        await asyncio.wait_for(hanging.wait(), 5)
        assert pool.status().breaker == "closed"  # it was reached
        proxy.refuse()
        proxy.reset()
        await opened(pool)
        breaker = standalone(pool).breaker
        await until(lambda: breaker._probes == {breaker._probing}, "the end of the one before")
        proxy.restore()
        await closed(pool)
        assert await pool.client.ping() is True
        assert pool.status().size == 1


async def test_a_hook_that_hangs_is_waited_for_as_long_as_for_any_connection(
    server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        standalone(pool).pool.timeouts = replace(standalone(pool).pool.timeouts, create=0.05)

        async def hook(connection: object, usage: object) -> None:
            await asyncio.Event().wait()

        proxy.refuse()
        await failing(pool)
        pool.post_create.append(hook)
        proxy.restore()
        await until(lambda: pool.metrics().background_errors)
        assert "a post_create hook took longer than 0.05 s" in caplog.text
        await proxy.wait_active(0)


async def test_a_probe_that_somebody_cancels_begins_anew(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    before = our_tasks()
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)
        probe = standalone(pool).breaker._probing
        assert probe is not None
        probe.cancel()
        await asyncio.wait([probe])
        with pytest.raises(CircuitOpen):
            await pool.client.ping()
        proxy.restore()
        await closed(pool)
        assert await pool.client.ping() is True
    assert our_tasks() <= before


async def test_logging_that_fails_does_not_end_probing(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        with failing_filter():
            proxy.refuse()
            await opened(pool)
            proxy.restore()
            await closed(pool)
            assert await pool.client.ping() is True


async def test_an_unexpected_failure_of_the_probe_does_not_end_it(
    server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        proxy.refuse()
        await opened(pool)
        probe = standalone(pool).breaker.probe
        times = 0

        async def broken() -> None:
            nonlocal times
            times += 1
            if times == 1:
                raise LookupError("what nobody expects")
            await probe()

        standalone(pool).breaker.probe = broken
        await until(lambda: times)
        assert pool.metrics().background_errors == 1
        assert "what nobody expects" in str(pool.metrics().breaker.error)
        proxy.restore()
        await closed(pool)
    assert "what nobody expects" in caplog.text


@pytest.mark.parametrize("state", ["open", "half-open"])
async def test_closing_the_pool_ends_the_probe(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None, state: str
) -> None:
    before = our_tasks()
    pool = await pool_at(server, proxy, **QUICK)
    proxy.blackhole()
    await opened(pool)
    await until(lambda: pool.status().breaker == state)
    await pool.close()
    assert our_tasks() <= before
    await proxy.wait_active(0)
    with pytest.raises(PoolClosed):
        await pool.client.ping()


async def test_draining_is_not_held_up_by_who_waits_for_a_dead_server(
    server: EmbeddedServer, proxy: FaultProxy, impatient: None
) -> None:
    before = our_tasks()
    pool = await pool_at(server, proxy, **QUICK)
    proxy.blackhole()
    waiting = asyncio.ensure_future(pool.client.ping())
    await proxy.wait_accepted(1)
    began = monotonic()
    await pool.close(drain=8)
    assert monotonic() - began < 4
    with pytest.raises(CircuitOpen):
        await waiting
    assert our_tasks() <= before


async def test_a_client_that_is_dropped_ends_its_probe() -> None:
    before = our_tasks()

    async def use() -> None:
        client = Redis(port=free_port(), circuit_breaker_seconds=0.1)
        try:
            await client.get("k")
        except CircuitOpen:
            pass

    with pytest.warns(ResourceWarning, match="never closed"):  # noqa: PT031  # gone for certain
        await use()
        await turns(3)  # until the task has ended that told of the failure
        gc.collect()
    await until(lambda: our_tasks() <= before)
