"""Log records: one for each event that matters, with its facts, and never a flood."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from redisutils import CommandTimeout, ConnectFailed, ConnectionLost
from redisutils.metrics.events import BURST, PERIOD, EventLog
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import pool_at, until
from .things import Thing, Things, pool_of


def of(caplog: pytest.LogCaptureFixture, event: str) -> list[Any]:
    return [record for record in caplog.records if getattr(record, "event", None) == event]


async def test_a_connections_life_is_told(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redisutils.events")
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.set("k", "v")
        (connected,) = of(caplog, "connected")
        assert connected.endpoint == f"{proxy.host}:{proxy.port}"
        assert connected.seconds > 0
        assert connected.levelname == "INFO"
        proxy.swallow_replies(1, lambda request: b"GET" in request, then="reset")
        await pool.client.get("k")
        (lost,) = of(caplog, "lost")
        assert (lost.levelname, lost.owner, lost.in_flight) == ("WARNING", "default", 1)
        assert len(of(caplog, "connected")) == 2
        proxy.stall()
        with pytest.raises(CommandTimeout):
            await pool.client.with_timeout(0.02).incr("n")
        (spent,) = of(caplog, "budget_spent")
        assert spent.outcome == "UNKNOWN"
        assert "UNKNOWN" in spent.getMessage()
        proxy.restore()


async def test_an_idle_lane_that_is_lost_is_no_warning(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redisutils.events")
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.reset()
        await until(lambda: of(caplog, "lost"), "the end of it")
        assert of(caplog, "lost")[0].levelname == "INFO"
        async with pool.get() as conn:
            await conn.execute("PING")
    assert len(of(caplog, "lost")) == 1  # to close a pool loses nothing


def test_a_flood_is_told_in_short(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "redisutils.events")
    now = 0.0
    log = EventLog("here:1", lambda: now)

    def note(times: int, event: str = "lost") -> None:
        for _ in range(times):
            log.note(event, logging.WARNING, "gone")

    note(BURST + 5)
    assert caplog.messages == ["gone"] * BURST
    note(1, "connected")  # has a count of its own
    assert len(caplog.messages) == BURST + 1
    caplog.clear()
    now = PERIOD - 0.1
    log.tick(now)
    assert not caplog.messages
    now = PERIOD + 1
    log.tick(now)
    assert caplog.messages == [f"here:1: 5 more times 'lost' in the last {PERIOD + 1:.0f} s"]
    record: Any = caplog.records[0]
    assert (record.suppressed, record.event, record.levelname) == (5, "lost", "WARNING")
    log.tick(now + PERIOD)
    assert len(caplog.messages) == 1
    note(BURST + 1)
    now += PERIOD
    note(1)  # tells itself what was suppressed, if no tick came in between
    assert caplog.messages[-2:] == [
        f"here:1: 1 more times 'lost' in the last {PERIOD:.0f} s",
        "gone",
    ]


def test_what_nobody_reads_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "redisutils.events")
    log = EventLog("here:1")
    for _ in range(3 * BURST):
        log.note("lost", logging.WARNING, "gone")
    assert not log._kinds


async def test_retries_are_told_together(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redisutils.events")
    async with pool_at(clean_server, proxy, retry_delay_ms=1) as pool:
        await pool.client.set("k", "v")
        proxy.swallow_replies(1, lambda request: b"GET" in request, then="reset")
        await asyncio.gather(*(pool.client.get("k") for _ in range(5)))
        (retried,) = of(caplog, "retried")
        assert (retried.levelname, retried.reason, retried.commands) == ("INFO", "lost", 5)
        assert retried.getMessage().startswith(f"{proxy.host}:{proxy.port}: 5 commands")


async def test_what_is_lost_is_told_whoever_had_it(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """A subscription's messages, and the command of a checkout."""
    caplog.set_level(logging.INFO, "redisutils.events")
    async with pool_at(clean_server, proxy) as pool:
        async with pool.client.pubsub() as messages:
            await messages.subscribe("channel")
            assert await messages.get_message(timeout=5)
            proxy.reset()
            await until(lambda: of(caplog, "lost"), "the end of it")
            (lost,) = of(caplog, "lost")
            assert (lost.levelname, lost.owner) == ("WARNING", "subscription")
            assert pool.metrics().connections_lost == 1
        async with pool.get() as conn:
            waiting = asyncio.ensure_future(conn.execute("BLPOP", "nothing", 5))
            await until(lambda: pool.metrics().in_flight, "the command")
            proxy.reset()
            with pytest.raises(ConnectionLost):
                await waiting
        assert [record.in_flight for record in of(caplog, "lost")] == [0, 1]
        assert pool.metrics().connections_lost == 2


async def test_an_attempt_to_connect_that_fails_is_told(
    clean_server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redisutils.events")
    proxy.refuse()
    async with pool_at(clean_server, proxy, max_retries=0) as pool:
        with pytest.raises(ConnectFailed):
            await pool.client.ping()
        (failed,) = of(caplog, "connect_failed")
        assert failed.levelname == "WARNING"
        assert f"{proxy.host}:{proxy.port}" in failed.error
        proxy.restore()
        assert await pool.client.ping()
    told: list[Any] = caplog.records
    assert all(record.endpoint for record in told)  # a handshake tells nothing by itself


# -- an application whose logging fails ----------------------------------------------


@contextmanager
def failing_filter(name: str = "events") -> Iterator[None]:
    """Of one of our loggers."""

    def fail(record: logging.LogRecord) -> bool:
        raise RuntimeError("a fault of the application's filter")

    logger = logging.getLogger(f"redisutils.{name}")
    logger.addFilter(fail)
    try:
        yield
    finally:
        logger.removeFilter(fail)


@contextmanager
def overlapping_factory() -> Iterator[None]:
    """Of records that have an ``event`` already, as in many an application."""
    before = logging.getLogRecordFactory()

    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = before(*args, **kwargs)
        record.event = "the application's own"
        return record

    logging.setLogRecordFactory(make)
    try:
        yield
    finally:
        logging.setLogRecordFactory(before)


@pytest.mark.parametrize("logs", [failing_filter, overlapping_factory])
async def test_logging_that_fails_leaves_nobody_waiting(
    clean_server: EmbeddedServer, proxy: FaultProxy, logs: Any
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        with logs():
            proxy.swallow_replies(1, lambda request: b"INCR" in request, then="reset")
            write = asyncio.ensure_future(pool.client.incr("n"))
            read = asyncio.ensure_future(pool.client.get("n"))
            _, waiting = await asyncio.wait([write, read], timeout=5)
            assert not waiting
            assert isinstance(write.exception(), ConnectionLost)
            assert read.result() == b"1"
        assert pool.server.metrics.events.failed


async def test_logging_that_fails_does_not_end_looking_after_the_pool(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    impatient: dict[str, Any] = {"command_timeout": 0.1, "connection_timeout": 0.2}
    often: dict[str, Any] = {"health_check_interval": 0.04, "pool_min_idle": 1}
    async with pool_at(clean_server, proxy, **impatient, **often) as pool:
        await until(lambda: pool.status().available == 1, "a spare connection")
        with failing_filter("health"):
            proxy.blackhole()
            await until(lambda: pool.metrics().background_errors, "the end of a silent connection")
            proxy.refuse()
            await until(lambda: pool.metrics().background_errors >= 4, "rounds that failed")
            proxy.restore()
            await until(lambda: pool.status().available == 1, "another one")


async def test_logging_that_fails_leaves_nobody_waiting_for_a_connection(
    clean_server: EmbeddedServer,
) -> None:
    def refuse(*_: object) -> None:
        raise LookupError("a fault of the application's hook")

    async with pool_at(clean_server) as pool:
        pool.post_create.append(refuse)
        with failing_filter("lane"), pytest.raises(ConnectFailed, match="application's hook"):
            await pool.client.ping()


async def test_logging_that_fails_leaves_nothing_open(clean_server: EmbeddedServer) -> None:
    pool = await pool_at(clean_server)
    lane = standalone(pool).lane()
    await pool.client.ping()
    held = await pool.get()
    with failing_filter("pool"):
        await pool.close(drain=0.01)
    assert lane.closed
    held.release()
    assert pool.status().size == 0


class Stuck(Things):
    """What cannot even be closed."""

    def discard(self, item: Thing) -> None:
        raise OSError("a fault in closing")


async def test_logging_that_fails_keeps_the_books() -> None:
    pool = pool_of(Stuck(), 1)
    with failing_filter("pool"):
        (await pool.get()).release(discard=True)
        assert await pool.get(wait=0)
    assert pool.metrics.background_errors == 1


def test_facts_that_cannot_be_told_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    log = EventLog("here:1")
    with overlapping_factory():
        log.note("lost", logging.WARNING, "%s is gone", "it")
    (told,) = caplog.messages
    assert told.startswith("it is gone (logged without its facts: KeyError: ")
    assert log.failed == 1


def test_logging_that_fails_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    now = 0.0
    log = EventLog("here:1", lambda: now)
    with failing_filter():
        for _ in range(BURST + 1):
            log.note("lost", logging.WARNING, "gone")
        now = PERIOD
        log.tick(now)
    assert log.failed == BURST + 1
    shown = capsys.readouterr().err
    assert shown.count("Traceback") == 1
    assert "RuntimeError: a fault of the application's filter" in shown
