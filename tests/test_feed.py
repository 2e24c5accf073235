"""The feed: each second one frame, for all who watch, whatever happens to the server or to them."""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, get_type_hints, is_typeddict

import pytest
from redis.exceptions import ResponseError

from redisutils import (
    ConfigError,
    HealthReport,
    MetricsSnapshot,
    RedisPool,
    create_redis_pool,
)
from redisutils.metrics import LaneMetrics
from redisutils.monitor import checks as checks_module
from redisutils.monitor import feed as feed_module
from redisutils.monitor.feed import BEHIND, Feed, Sheet, Viewer
from redisutils.monitor.frame import Frame, HealthFrame
from redisutils.monitor.framing import COMMANDS, make_frame, server_frame
from redisutils.testing import EmbeddedServer
from redisutils.topology.facts import Info
from tests.conftest import StartServer
from tests.ours import our_tasks, pool_at, until

WELL: HealthFrame = {"status": "healthy", "reasons": [], "round_trip": 0.0003}
QUICK = 0.02
"""Seconds between the frames of a feed whose pace is not what is tested."""

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])  # for what waits for nothing


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


class Counted:
    """The counters of a pool that connects to nobody, filled by hand, and their snapshots."""

    def __init__(self, pool: RedisPool) -> None:
        self._pool = pool
        self.metrics = pool.server.metrics

    def snapshot(self, at: float) -> MetricsSnapshot:
        lanes = (LaneMetrics("default", True, 3, 0, False),)
        return replace(self._pool.metrics(), at=at, waiting=4, lanes=lanes)


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    async with create_redis_pool(host="cache") as pool:
        yield Counted(pool)


def conforms(value: Any, kind: Any, where: str = "frame") -> None:
    """Every key that the frame promises is there, and no other."""
    if is_typeddict(kind):
        assert value.keys() == get_type_hints(kind).keys(), where
        for name, part in get_type_hints(kind).items():
            conforms(value[name], part, f"{where}.{name}")
    elif getattr(kind, "__origin__", None) is list:
        for each in value:
            conforms(each, kind.__args__[0], f"{where}[]")
    elif getattr(kind, "__origin__", None) is dict:
        for name, each in value.items():
            conforms(each, kind.__args__[1], f"{where}[{name}]")
    elif value is not None and hasattr(kind, "__args__"):
        for each in kind.__args__:
            if is_typeddict(each):
                conforms(value, each, where)


# The frame, of two snapshots


@one_loop
async def test_what_a_server_says_at_length_is_cut(counted: Counted) -> None:
    endless = "x" * 1_000_000
    counted.metrics.retried(endless)
    now = replace(
        counted.snapshot(1.0),
        lanes=(LaneMetrics(endless, True, 0, 0, False),),
        breaker=replace(counted.snapshot(1.0).breaker, error=endless),
    )
    info = Info(f"redis_version:{endless}\r\nmaxmemory_policy:{endless}")
    facts = info.facts(hit_rate=None, clock_skew=None)
    frame = make_frame(now, now, at=0, health=WELL, server=server_frame(facts))
    assert len(json.dumps(frame)) < 10_000


@one_loop
async def test_a_frame_tells_what_happened_between_two_snapshots(counted: Counted) -> None:
    metrics = counted.metrics
    metrics.measures.record("GET", 0.0, 0.0, 0.9, 0.0, 0.0, 7)  # before
    metrics.failures["CommandTimeout", "UNKNOWN"] += 5
    metrics.retries["LOADING"] += 1
    before = counted.snapshot(100.0)
    metrics.commands += 30
    metrics.bytes_in += 400
    metrics.measures.record("GET", 0.0, 0.001, 0.002, 0.001, 0.0, 20)
    metrics.measures.record("SET", 0.008, 0.0, 0.0, 0.0, 0.0, 10)
    metrics.measures.refused("SET", "OOM")
    metrics.failures["CommandTimeout", "UNKNOWN"] += 2
    metrics.failures["ConnectFailed", "NOT_SENT"] += 6
    frame = make_frame(before, counted.snapshot(102.0), at=1e9, health=WELL)

    assert (frame["at"], frame["seconds"], frame["endpoint"]) == (1e9, 2.0, "cache:6379")
    assert frame["throughput"] == {
        "commands": 15.0,
        "failures": 4.0,
        "bytes_in": 200.0,
        "bytes_out": 0.0,
    }
    assert frame["latency"]["count"] == 30
    assert frame["latency"]["p50"] == pytest.approx(0.004, rel=0.02)
    assert frame["latency"]["p99"] == pytest.approx(0.008, rel=0.02)
    assert frame["split"]["p50"]["wire"] == pytest.approx(0.002, rel=0.02)
    assert frame["split"]["p50"]["wait"] == 0.0
    assert frame["split"]["p99"]["wait"] == pytest.approx(0.008, rel=0.02)
    assert frame["split"]["mean"]["wait"] == pytest.approx(0.008 / 3, rel=0.02)
    assert frame["errors"] == [
        {"name": "ConnectFailed", "outcome": "NOT_SENT", "rate": 3.0, "total": 6},
        {"name": "CommandTimeout", "outcome": "UNKNOWN", "rate": 1.0, "total": 7},
    ]
    assert frame["retries"] == [{"reason": "LOADING", "rate": 0.0, "total": 1}]
    told = [(each["name"], each["rate"], each["errors"]) for each in frame["commands"]]
    assert told == [("GET", 10.0, 0.0), ("SET", 5.0, 0.5)]
    assert frame["commands"][0]["split"]["queue"] == pytest.approx(0.001)
    assert frame["pool"] == {"max_size": 10, "size": 0, "in_use": 0, "waiting": 4}
    assert [lane["name"] for lane in frame["lanes"]] == ["default"]
    conforms(frame, Frame)
    json.dumps(frame, allow_nan=False)


@one_loop
async def test_what_was_not_measured_is_none_and_no_key_is_missing(counted: Counted) -> None:
    before = counted.snapshot(1.0)
    frame = make_frame(before, counted.snapshot(2.0), at=0.0, health=WELL)
    assert frame["latency"]["count"] == 0
    assert set(frame["latency"].values()) == {0, None}
    for split in frame["split"].values():
        assert set(split.values()) == {None}
    for name in ("heat", "commands", "errors", "retries", "slow"):
        assert frame[name] == []
    assert frame["throughput"]["commands"] == 0.0
    assert frame["server"] is None
    conforms(frame, Frame)


@one_loop
async def test_the_bands_of_the_heat_map_hold_every_command_once(counted: Counted) -> None:
    before = counted.snapshot(1.0)
    taken = [2.0**-exponent * (1 + step / 7) for exponent in range(20) for step in range(7)]
    for seconds in taken:
        counted.metrics.measures.record("GET", 0.0, 0.0, seconds, 0.0, 0.0, 1)
    heat = make_frame(before, counted.snapshot(2.0), at=0.0, health=WELL)["heat"]
    assert sum(count for _, count in heat) == len(taken)
    bounds = [bound for bound, _ in heat]
    assert bounds == sorted(set(bounds))
    # Four bands for each power of two: of the seven in each, none is far from its band's end.
    ends = Counter(next(bound for bound in bounds if seconds * 0.98 <= bound) for seconds in taken)
    assert len(ends) == len(heat)
    assert all(1.1 < later / earlier < 1.26 for earlier, later in pairwise(bounds))


@one_loop
async def test_a_frame_names_the_busiest_commands_only(counted: Counted) -> None:
    before = counted.snapshot(1.0)
    for number in range(COMMANDS + 8):
        counted.metrics.measures.record(f"C{number:02}", 0.0, 0.0, 0.001, 0.0, 0.0, number + 1)
    commands = make_frame(before, counted.snapshot(2.0), at=0.0, health=WELL)["commands"]
    assert [each["name"] for each in commands] == [f"C{n:02}" for n in range(19, 7, -1)]


# The feed


async def test_frames_tell_of_a_real_pool(pool: RedisPool, server_kind: str) -> None:
    feed = Feed(pool, interval=0.1)
    with feed.watch() as viewer:
        first = (await anext(viewer)).frame
        for number in range(50):
            await pool.client.set(f"k{number}", "v")
        second = (await anext(viewer)).frame
    conforms(second, Frame)
    assert first["health"]["status"] == "healthy"
    assert second["health"]["round_trip"] is not None
    assert {each["name"] for each in second["commands"]} >= {"SET"}
    assert second["throughput"]["commands"] * second["seconds"] == pytest.approx(53, abs=3)
    assert second["server"] is not None
    assert second["server"]["kind"] == ("redis" if "redis" in server_kind else "valkey")
    assert second["server"]["role"] == "primary"
    history = [json.loads(each) for each in feed.history()]
    assert [each["at"] for each in history] == [first["at"], second["at"]]
    assert json.loads((feed.latest or Sheet(first)).data) == json.loads(json.dumps(second))
    await feed.stop()
    assert not feed.running


async def test_all_who_watch_are_given_the_same_bytes(pool: RedisPool) -> None:
    feed = Feed(pool, interval=QUICK)
    viewers = [feed.watch() for _ in range(100)]
    sheets = [await anext(viewer) for viewer in viewers]
    assert len({id(sheet) for sheet in sheets}) == 1
    assert len({id(sheet.data) for sheet in sheets}) == 1
    assert feed.viewers == 100
    await feed.stop()
    assert feed.viewers == 0


async def test_viewers_are_woken_a_few_at_a_time(pool: RedisPool) -> None:
    feed = Feed(pool, interval=QUICK)
    turn = 0
    woken: Counter[int] = Counter()

    async def watch() -> None:
        with feed.watch() as viewer:
            await anext(viewer)
            woken[turn] += 1

    watching = [asyncio.create_task(watch()) for _ in range(40)]
    while not all(task.done() for task in watching):
        turn += 1
        await asyncio.sleep(0)
    assert woken.total() == 40
    assert max(woken.values()) <= 4  # what the loop has to do besides never waits for more
    await feed.stop()


async def test_a_slow_viewer_loses_frames_and_nobody_waits_for_it(pool: RedisPool) -> None:
    feed = Feed(pool, interval=QUICK)
    with feed.watch() as slow, feed.watch() as quick:
        made = [await anext(quick) for _ in range(BEHIND + 5)]
        assert (slow.lost, quick.lost) == (5, 0)
        assert [await anext(slow) for _ in range(BEHIND)] == made[-BEHIND:]
    await feed.stop()


async def test_history_is_bounded(pool: RedisPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_module, "KEPT", 3)
    feed = Feed(pool, interval=QUICK)
    with feed.watch() as viewer:
        made = [(await anext(viewer)).frame["at"] for _ in range(6)]
    await feed.stop()
    assert [json.loads(each)["at"] for each in feed.history()] == made[-3:]


async def test_history_is_bounded_in_bytes_too(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "KEPT_BYTES", 10_000)
    feed = Feed(pool, interval=QUICK)
    with feed.watch() as viewer:
        made = [(await anext(viewer)).frame["at"] for _ in range(12)]
    await feed.stop()
    kept = feed.history()
    assert 0 < sum(map(len, kept)) <= 10_000
    assert [json.loads(each)["at"] for each in kept] == made[-len(kept) :]


async def frames_until(viewer: Viewer, status: str) -> list[Frame]:
    """The frames up to the first with that status."""
    found = []
    async for sheet in viewer:
        found.append(sheet.frame)
        if sheet.frame["health"]["status"] == status:
            break
    return found


async def test_a_dead_server_is_told_with_the_second_frame_and_its_return_too(
    start_server: StartServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "redisutils.monitor")
    server = await start_server()
    async with pool_at(server) as pool:
        feed = Feed(pool, interval=0.1)
        with feed.watch() as viewer:
            await frames_until(viewer, "healthy")
            await server.kill()
            # One may have been under way. With a frame each second that is 1.5 s at most.
            frames = await frames_until(viewer, "unhealthy")
            assert len(frames) <= 2
            assert "does not answer" in " ".join(frames[-1]["health"]["reasons"])
            assert frames[-1]["server"] is None
            await server.start()
            await anext(viewer)
            back = await frames_until(viewer, "healthy")
            assert back[-1]["server"] is not None
        await feed.stop()
    logged = [each.message for each in caplog.records if each.name == "redisutils.monitor"]
    changes = [each.partition(" is ")[2].partition(":")[0] for each in logged]
    # Each change, and not each check. On a busy machine one may not have ended in time.
    assert [each for each in changes if each != "degraded"] == ["unhealthy", "healthy"]


async def test_a_server_that_hangs_delays_no_frame_for_long(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        feed = Feed(pool, interval=0.1)
        with feed.watch() as viewer:
            await anext(viewer)
            await clean_server.pause()
            frames = await frames_until(viewer, "unhealthy")
            assert len(frames) <= 2
            assert frames[-1]["seconds"] < 0.1 + checks_module.PATIENCE * 3  # machines are slow
            await clean_server.resume()
            await frames_until(viewer, "healthy")
        await feed.stop()


async def test_a_check_that_does_not_end_is_told_and_not_waited_for(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = our_tasks()
    monkeypatch.setattr(checks_module, "PATIENCE", 0.02)
    monkeypatch.setattr(checks_module, "HOPELESS", 0.1)
    feed = Feed(pool, interval=QUICK)
    with feed.watch() as viewer:
        await frames_until(viewer, "healthy")
        again = asyncio.Event()

        async def health(timeout: float = 1.0) -> HealthReport:
            await again.wait()
            return HealthReport("healthy", (), 0.001, pool.status())

        monkeypatch.setattr(pool, "health", health)
        frames = await frames_until(viewer, "degraded")
        assert "the health check has not ended in " in frames[-1]["health"]["reasons"][0]
        await frames_until(viewer, "unhealthy")
        again.set()
        await frames_until(viewer, "healthy")
    await feed.stop()
    assert our_tasks() == before


async def test_a_fault_of_ours_is_logged_once_and_shown(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    feed = Feed(pool, interval=QUICK)
    with feed.watch() as viewer, caplog.at_level(logging.ERROR, "redisutils.monitor"):
        good = (await anext(viewer)).frame

        def broken(*_: Any, **__: Any) -> Frame:
            raise ZeroDivisionError("no such luck")

        with monkeypatch.context() as patch:
            patch.setattr(feed_module, "make_frame", broken)
            await frames_until(viewer, "degraded")
            shown = (await anext(viewer)).frame
            why = "ZeroDivisionError: no such luck"
            told = f"the dashboard's feed failed, and these figures are old: {why}"
            assert shown["health"]["reasons"] == [told]
            assert shown["at"] > good["at"]
            assert shown["throughput"] is not None
            assert feed.error == why
        await frames_until(viewer, "healthy")
        assert not feed.error
    logged = [record for record in caplog.records if record.name == "redisutils.monitor"]
    assert [record.exc_info is not None for record in logged] == [True]
    await feed.stop()


async def test_the_last_frame_says_that_the_pool_is_closed(clean_server: EmbeddedServer) -> None:
    pool = await pool_at(clean_server)
    feed = Feed(pool, interval=QUICK)
    viewer = feed.watch()
    await anext(viewer)
    await pool.close()
    frames = [sheet.frame async for sheet in viewer]
    assert frames[-1]["closed"]
    assert frames[-1]["health"]["reasons"] == ["the pool is closed"]
    assert not any(frame["closed"] for frame in frames[:-1])
    await until(lambda: not feed.running, "the end of the feed")
    with feed.watch() as late:
        assert [sheet async for sheet in late] == []
    assert our_tasks() == {asyncio.current_task()}


async def test_a_pool_that_is_not_open_yet_is_waited_for(clean_server: EmbeddedServer) -> None:
    pool = pool_at(clean_server)
    feed = Feed(pool, interval=QUICK)
    assert await feed.first(0.05) is None
    async with pool:
        sheet = await feed.first(5.0)
        assert sheet is not None
        assert sheet.frame["health"]["status"] == "healthy"
    never = pool_at(clean_server)
    feed = Feed(never, interval=QUICK)
    viewer = feed.watch()
    await never.close()
    assert [sheet async for sheet in viewer] == []


async def test_a_server_that_refuses_info_has_no_facts(start_server: StartServer) -> None:
    server = await start_server()
    async with pool_at(server) as pool:
        await pool.client.acl_setuser("default", commands=["-info"])
        with pytest.raises(ResponseError):
            await pool.client.info()
        feed = Feed(pool, interval=QUICK)
        sheet = await feed.first(5.0)
        assert sheet is not None
        assert sheet.frame["server"] is None
        assert sheet.frame["health"]["status"] == "healthy"
        await feed.stop()


@pytest.mark.parametrize("interval", [0, -1.0, float("nan")])
async def test_an_interval_must_be_some_time(pool: RedisPool, interval: float) -> None:
    with pytest.raises(ConfigError, match="must be a positive number of seconds"):
        Feed(pool, interval=interval)
