"""What a command's latency is made of, and which commands are measured."""

from __future__ import annotations

import asyncio
import gc
import logging
import time
from math import inf
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from redisutils import RedisPool
from redisutils.connection.naming import OTHER, command_name, hashed, slow_command
from redisutils.connection.packing import pack, pack_many
from redisutils.connection.timing import Timing
from redisutils.metrics import (
    PARTS,
    LatencyHistogram,
    LatencySnapshot,
    PoolMetrics,
    SlowCommand,
    Split,
)
from redisutils.metrics.measures import Measures
from redisutils.metrics.meter import BLOCK, LARGEST_GAP, SPARE, TARGET, Meter
from redisutils.metrics.pulse import Pulse
from redisutils.metrics.slow import KEPT, MINUTES, SlowLog
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import pool_at, until

LONG = 0.05
ABOUT = LONG * 0.9  # timers may be a millisecond early, and clocks disagree
"""Seconds, far above what anything takes here by itself."""

durations = st.floats(min_value=1e-6, max_value=100.0)


def only(pool: RedisPool, name: str) -> dict[str, float]:
    """The parts of the single call of ``name``, in seconds."""
    found = pool.metrics().by_command[name]
    assert found.latency.count == 1
    return found.split.as_dict()


# -- the parts ---------------------------------------------------------------------


async def test_the_network_is_on_the_wire(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.to_client.latency = LONG
        await pool.client.get("k")
        parts = only(pool, "GET")
    assert parts["wire"] >= ABOUT
    assert max(parts[part] for part in PARTS if part != "wire") < LONG


async def test_connecting_is_waited_for(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy) as pool:
        proxy.to_client.latency = LONG  # of the handshake
        await pool.client.get("k")
        parts = only(pool, "GET")
    assert parts["wait"] >= ABOUT
    assert parts["wire"] >= ABOUT


async def test_a_busy_turn_keeps_commands_in_the_queue(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()

        async def busy() -> None:
            time.sleep(LONG)  # noqa: ASYNC251  # the fault

        # The first leaves at once; the second waits for the end of the turn, and so for the third.
        await asyncio.gather(pool.client.incr("n"), pool.client.get("k"), busy())
        parts = only(pool, "GET")
    assert parts["queue"] >= ABOUT


async def test_a_task_that_is_woken_keeps_those_behind_it_waiting(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()

        async def slow_to_go_on() -> None:
            await pool.client.incr("n")
            time.sleep(LONG)  # noqa: ASYNC251  # the fault

        # The first leaves at once, the others in one write, and their answers come in one read.
        await asyncio.gather(pool.client.ping(), slow_to_go_on(), pool.client.get("k"))
        parts = only(pool, "GET")
    assert parts["loop"] >= ABOUT


async def test_parsing_is_told(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.rpush("list", *range(20_000))
        await pool.client.get("k")
        for _ in range(3):
            await pool.client.lrange("list", 0, -1)
        found = pool.metrics().by_command
    assert found["LRANGE"].split.parse > 5 * found["GET"].split.parse > 0


async def test_the_parts_add_up(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await asyncio.gather(*(pool.client.set(f"k{number}", number) for number in range(500)))
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.get("k1").get("k2")
        await pipe.execute()
        found = pool.metrics()
    assert sum(part.total for part in found.parts.values()) == pytest.approx(found.latency.total)
    assert found.composition.mean().total == pytest.approx(found.latency.mean)
    for percent in (1, 50, 95, 99, 99.9, 100):
        whole = found.latency.percentile(percent)
        assert found.composition.at(percent).total == pytest.approx(whole)
    assert sum(each.latency.count for each in found.by_command.values()) == found.latency.count


# -- which are measured ------------------------------------------------------------


@given(st.lists(st.floats(min_value=1e-6, max_value=0.01), min_size=1, max_size=5))
@settings(max_examples=30, deadline=None)
def test_few_are_all_measured_and_many_about_as_often_as_aimed_at(pauses: list[float]) -> None:
    """Commands come every ``pause`` seconds, for six seconds, and then every next ``pause``."""
    meter = Meter()
    now = meter._began
    for pause in pauses:
        for second in range(6):  # until it has found its pace
            end, measured = now + 1, 0
            while now < end:
                now += meter.draw(now) * pause
                measured += 1
            meter.turn(now)
            if second > 4:
                assert measured > min(TARGET, 1 / pause) / 2
                assert measured < 2 * max(TARGET, 1 / pause / LARGEST_GAP)


def test_the_page_tells_how_many_are_measured() -> None:
    page = Path(__file__).parent.parent / "docs" / "metrics.md"
    assert f"about {TARGET:,} a second" in page.read_text(encoding="utf-8")


def test_after_a_burst_all_are_measured_again() -> None:
    meter = Meter()
    now = meter._began
    while meter._mean < LARGEST_GAP:
        now += 1e-6
        meter.draw(now)
    for _ in range(4):  # seconds in which nearly nothing happens
        now += 1
        meter.draw(now)
        meter.turn(now)
    assert meter.draw(now) == 1


def busy(meter: Meter) -> float:
    """Let as many be answered as it takes to measure the fewest. Returns when they were."""
    now = monotonic()
    while meter._mean < LARGEST_GAP:
        now += 1e-6
        meter.draw(now)
    return now


async def test_after_a_burst_connections_measure_all_again(clean_server: EmbeddedServer) -> None:
    """And do not let those hundreds go by that they would have skipped in it."""
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        metrics = pool.server.metrics
        metrics.measures.slow.floor = inf  # none is measured since it is slow
        now = busy(metrics.meter)
        (timing,) = (one._timing for one in standalone(pool)._manager.open)
        timing.skip, timing._stands_for = 400, 401
        metrics.tick(now + 1)
        metrics.measures.slow.floor = inf
        before = pool.metrics()
        for _ in range(20):
            await pool.client.echo("quietly")
        found = pool.metrics().since(before)
    assert found.commands == 20
    # The first stands for those, too, that went by before.
    assert 20 <= found.by_command["ECHO"].latency.count < 20 + 2 * LARGEST_GAP


def test_what_is_due_sooner_stays_so_and_stands_for_what_has_gone_by() -> None:
    metrics = PoolMetrics()
    timings = [Timing("peer", metrics) for _ in range(3)]
    now = busy(metrics.meter)
    for timing, skip in zip(timings, (0, 300, 400), strict=True):
        timing.skip, timing._stands_for = skip, 401
    for timing in timings:
        timing.hurry(300)
    assert [(timing.skip, timing._stands_for) for timing in timings] == [
        (0, 401),
        (300, 401),
        (300, 301),
    ]
    metrics.meter.turn(now + 1)
    assert [(timing.skip, timing._stands_for) for timing in timings] == [(0, 401), (0, 101), (0, 1)]
    timings[0].skip = 5
    metrics.meter.turn(now + 2)
    assert timings[0].skip == 5, "nothing has changed"


def test_what_is_slow_may_be_measured_again_in_the_next_second() -> None:
    meter = Meter()
    for _ in range(3):
        assert sum(meter.spend() for _ in range(2 * SPARE)) == SPARE - 1
        meter.turn(monotonic())


async def test_many_commands_are_counted_exactly_and_measured_without_a_bias(
    clean_server: EmbeddedServer,
) -> None:
    # asyncio's loop is slow in debug mode, so slow that all are measured.
    total = 2_000 if asyncio.get_running_loop().get_debug() else 30_000
    async with pool_at(clean_server) as pool:

        async def work() -> None:
            for number in range(total // 50):
                if number % 5:
                    await pool.client.get("k")
                else:
                    await pool.client.set("k", "v")

        await asyncio.gather(*(work() for _ in range(50)))
        found = pool.metrics()
    assert found.commands == total
    assert found.latency.count <= total
    # What has gone by since the last that was measured is not counted in yet.
    assert found.latency.count > total - 2 * LARGEST_GAP
    share = found.by_command["SET"].latency.count / found.latency.count
    assert 0.05 < share < 0.4


async def test_a_slow_command_among_many_is_never_missed(clean_server: EmbeddedServer) -> None:
    # Some tenths of a second; a script's clock stands still.
    script = "local n = 0 for i = 1, 1e7 do n = n + i end return redis.call('GET', KEYS[1])"
    async with pool_at(clean_server) as pool:
        busy = True

        async def work() -> None:
            while busy:
                await pool.client.get("k")

        workers = [asyncio.ensure_future(work()) for _ in range(50)]
        await until(lambda: pool.server.metrics.meter._mean > 1, "a busy pool")
        await pool.client.eval(script, 1, "slow:key")
        busy = False
        await asyncio.gather(*workers)
        found = {slow.command: slow for slow in pool.metrics().slow}["EVAL"]
    assert found.seconds > 0.01
    assert found.split.total == pytest.approx(found.seconds)
    assert found.split.wire > 0.8 * found.seconds
    assert found.key == hashed(b"slow:key")
    assert "slow:key" not in repr(found)
    assert found.request_bytes > len(script)


async def test_what_is_much_slower_is_measured_whatever_was_spent(
    clean_server: EmbeddedServer,
) -> None:
    """As in the first second of a busy pool, in which every read is slow as yet."""
    # Much longer than a busy machine takes for a read of its own.
    script = "local n = 0 for i = 1, 1e7 do n = n + i end return n"
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        (timing,) = (one._timing for one in standalone(pool)._manager.open)
        timing.skip, timing._stands_for = 400, 401
        meter = pool.server.metrics.meter
        meter._spare, meter._slowest = 0, 0.0  # the PING may have been slow, too
        before = [pool.client.get("k") for _ in range(20)]
        await asyncio.gather(*before, pool.client.eval(script, 0), pool.client.get("k"))
        assert "EVAL" in {slow.command for slow in pool.metrics().slow}


@pytest.mark.asyncio(loop_factories=["uvloop"])  # asyncio's in debug mode takes ten times as long
async def test_slow_reads_do_not_slow_the_program_down(clean_server: EmbeddedServer) -> None:
    """Each read of a long queue is slower than the one before, and would be measured whole."""
    async with pool_at(clean_server) as pool:
        measures, recorded = pool.server.metrics.measures, 0
        record = type(measures).record

        def counted(*args: Any) -> None:
            nonlocal recorded
            recorded += 1
            record(measures, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(type(measures), "record", lambda _, *args: counted(*args))
            began = time.monotonic()
            await asyncio.gather(*(pool.client.get("k") for _ in range(20_000)))
            seconds = 1 + time.monotonic() - began
        found = pool.metrics()
    assert found.commands == 20_000
    assert recorded < seconds * (2 * TARGET + SPARE) + BLOCK + 50  # and one for each read
    assert found.latency.count > 20_000 - 2 * LARGEST_GAP


async def test_what_a_pool_asks_by_itself_is_nobodys_latency(clean_server: EmbeddedServer) -> None:
    """A look at the server each second would be half of what a quiet program sees."""
    async with pool_at(clean_server, health_check_interval=0.001) as pool:
        async with pool.get():
            await pool.client.get("k")
        for _ in range(3):
            assert (await pool.health()).round_trip
            await standalone(pool)._housekeeper.round()
        found = pool.metrics()
        assert found.commands > 10
        assert (set(found.by_command), found.latency.count) == ({"GET"}, 1)
        assert {slow.command for slow in found.slow} == {"GET"}


async def test_what_a_pool_asks_by_itself_leaves_nothing_behind(
    clean_server: EmbeddedServer,
) -> None:
    """On a connection that nobody uses there is nothing else, for days."""
    async with pool_at(clean_server, health_check_interval=0.001) as pool:
        async with pool.get():
            pass
        for _ in range(20):
            await standalone(pool)._housekeeper.round()
        (timing,) = (one._timing for one in standalone(pool)._manager.open)
        assert len(timing.writes) < 5  # its own round may be under way


async def test_what_would_have_been_measured_is_not_let_by(clean_server: EmbeddedServer) -> None:
    """The next one is, and stands for as many."""
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        pool.server.metrics.measures.slow.floor = inf
        (timing,) = (one._timing for one in standalone(pool)._manager.open)
        timing.skip, timing._stands_for = 0, 7
        before = pool.metrics()
        await pool.health()
        await pool.client.echo("hello")
        found = pool.metrics().since(before)
    assert found.by_command["ECHO"].latency.count == found.latency.count == 7


async def test_what_is_pushed_leaves_nothing_behind(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool, pool.client.pubsub() as messages:
        for number in range(100):
            await messages.subscribe(f"c{number % 3}")
        timings = [one._timing for one in standalone(pool)._manager.open]
        assert max(len(timing.writes) for timing in timings) < 10
        assert pool.metrics().commands == 0  # nor are they replies


async def test_scripts_cannot_make_names(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        for number in range(50):
            for text in (f"user:{number}:secret not found", f"CODE{number} is made up"):
                with pytest.raises(redis.ResponseError):
                    await pool.client.eval("return redis.error_reply(ARGV[1])", 0, text)
        errors = pool.metrics().by_command["EVAL"].errors
    assert len(errors) <= 33
    assert not any("secret" in code for code in errors)
    assert sum(errors.values()) == 100


def test_a_huge_slow_command_is_not_read_through() -> None:
    batch = pack_many([("PING",), ("SET", "first", "x"), *[("GET", "k")] * 100_000])
    value = pack(("SET", b"k" * 2000, b"x" * 50_000_000))
    for payload, key in ((batch, b"first"), (value, b"k" * 1024)):
        began = time.process_time()
        told = slow_command("SET", payload, b"OK", Split(), server="s", plain=False)
        assert time.process_time() - began < 0.05  # a hundred times what it takes
        assert told.key == hashed(key)


# -- the log of slow commands ------------------------------------------------------


def slow(seconds: float) -> SlowCommand:
    return SlowCommand(0.0, "GET", None, 20, None, seconds, Split(wire=seconds))


@given(st.lists(durations, max_size=200))
@settings(max_examples=50, deadline=None)
def test_the_slowest_are_kept(took: list[float]) -> None:
    log = SlowLog()
    for seconds in took:
        if seconds > log.floor:
            log.add(slow(seconds))
    expected = sorted(took, reverse=True)[:KEPT]
    assert [command.seconds for command in log.read()] == expected


def test_the_slow_are_forgotten_after_some_minutes() -> None:
    now = 1000.0
    log = SlowLog(lambda: now)
    log.add(slow(3.0))
    for minute in range(1, MINUTES):
        now += 60
        log.turn()
        assert log.floor == 0.0
        log.add(slow(1.0))
        assert len(log.read()) == minute + 1
    now += 60
    assert [command.seconds for command in log.read()] == [1.0] * (MINUTES - 1)


# -- names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (("GET", "k"), "GET"),
        (("get", "k"), "GET"),
        (("CLIENT LIST",), "CLIENT LIST"),
        (("client", "no-such"), "CLIENT"),
        (("CLIENT",), "CLIENT"),
        (("Set", "k", b"x" * 100_000), "SET"),
        (("SECRET-OF-A-CALLER", "k"), OTHER),
        (("",), OTHER),
        (("\N{SNOWMAN}" * 300,), OTHER),
    ],
)
def test_commands_have_the_tables_names(command: tuple[Any, ...], name: str) -> None:
    assert command_name(pack(command)) == name


def test_batches_have_names_of_their_own() -> None:
    assert command_name(pack_many([("GET", "k"), ("GET", "k")]), batch=True) == "PIPELINE"
    assert command_name(pack_many([("MULTI",), ("EXEC",)]), batch=True) == "TRANSACTION"


async def test_error_replies_are_counted_by_command(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.set("s", "text")
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.lpush("s", 1).get("s")
        for answer in (pool.client.lpush("s", 1), pool.client.execute_command("NO-SUCH")):
            with pytest.raises(Exception, match=r"wrong kind|unknown command"):
                await answer
        await pipe.execute(raise_on_error=False)
        found = {name: dict(each.errors) for name, each in pool.metrics().by_command.items()}
    assert found == {
        "SET": {},
        "LPUSH": {"WRONGTYPE": 1},
        OTHER: {"ERR": 1},
        "PIPELINE": {"WRONGTYPE": 1},
    }


# -- snapshots ---------------------------------------------------------------------


@given(st.lists(durations, max_size=60), st.lists(durations, max_size=60))
@settings(max_examples=100, deadline=None)
def test_the_difference_of_two_snapshots_is_what_came_between(
    before: list[float], after: list[float]
) -> None:
    both, second = LatencyHistogram(), LatencyHistogram()
    for seconds in before:
        both.record(seconds)
    earlier = both.snapshot()
    for seconds in after:
        both.record(seconds, 2)
        second.record(seconds, 2)
    found, expected = both.snapshot().since(earlier), second.snapshot()
    assert dict(found.counts) == dict(expected.counts)
    assert found.count == expected.count
    assert found.total == pytest.approx(expected.total)
    assert (found.p50, found.p99) == pytest.approx((expected.p50, expected.p99), rel=0.02)
    assert found.max == pytest.approx(expected.max, rel=0.02)


@given(st.lists(durations, max_size=100), st.lists(durations, min_size=1, max_size=20))
@settings(max_examples=100, deadline=None)
def test_cumulative_counts_are_right_to_the_bucket(took: list[float], bounds: list[float]) -> None:
    histogram = LatencyHistogram()
    for seconds in took:
        histogram.record(seconds)
    bounds.sort()
    found = histogram.snapshot().at_most(bounds)
    for bound, count in zip(bounds, found, strict=True):
        assert sum(t <= bound * 0.98 for t in took) <= count <= sum(t <= bound * 1.02 for t in took)
    assert sum(count for _, count in histogram.snapshot().spread()) == len(took)


def test_what_commands_are_made_of_can_be_subtracted_too() -> None:
    measures = Measures()
    measures.record("GET", 0.0, 0.0, 1.0, 0.0, 0.0, 10)
    earlier = measures.composition(measures.latency())
    measures.record("GET", 0.0, 1.0, 0.0, 0.0, 0.0, 5)
    found = measures.composition(measures.latency()).since(earlier)
    assert found.latency.count == 5
    slowest, mean = found.at(99), found.mean()
    assert slowest.queue == pytest.approx(found.latency.p99) == slowest.total
    assert mean.queue == pytest.approx(1.0) == mean.total


async def test_an_interval_of_a_pool(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.set("k", "v")
        earlier = pool.metrics()
        await asyncio.gather(*(pool.client.get("k") for _ in range(10)))
        found = pool.metrics().since(earlier)
    assert found.commands == found.latency.count == found.by_command["GET"].latency.count == 10
    assert found.by_command["SET"].latency.count == 0
    assert found.parts["wire"].count == 10
    assert 0 < found.seconds < 60
    assert found.connections_created == 0
    assert found.bytes_out == 10 * len(pack(("GET", "k")))


# -- the loop and the process ------------------------------------------------------


async def test_the_loops_lag_is_seen(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:

        def lag() -> LatencySnapshot:
            return pool.metrics().process.loop_lag

        await until(lambda: lag().count, "the first beat")
        time.sleep(0.3)  # noqa: ASYNC251  # the fault
        count = lag().count
        await until(lambda: lag().count > count, "another")
        assert lag().max >= 0.15


async def test_the_collectors_pauses_are_seen(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        before = pool.metrics().process.gc_pauses.count
        gc.collect()
        found = pool.metrics().process
        assert found.gc_pauses.count > before
        assert found.gc_pauses.max > 0
        assert found.memory is None or found.memory > 2**20
        assert found.cpu_seconds > 0
    listeners = len(gc.callbacks)
    del pool, found
    gc.collect()
    assert len(gc.callbacks) <= listeners


class Told:
    """Is told the time, and may fail of it."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.times = 0

    def tick(self, now: float) -> None:
        self.times += 1
        if self.error is not None:
            raise self.error


async def test_whoever_fails_of_a_tick_ends_nothing_for_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pulse = Pulse.of(asyncio.get_running_loop())
    everyone = [Told(), Told(LookupError("what nobody expects")), Told()]
    for each in everyone:
        pulse.join(each)
    while everyone[0].times < 3:
        pulse.beat()
    assert [each.times for each in everyone] == [3, 3, 3]
    assert "what nobody expects" in caplog.text
    assert len(caplog.records) == 1
    beats = pulse.lag.snapshot().count
    await until(lambda: pulse.lag.snapshot().count > beats, "another beat")
    logging.getLogger("redisutils.pool").addFilter(_fail)
    try:
        for each in everyone:
            each.error = LookupError("and not even that can be told")
        while everyone[0].times < 4:
            pulse.beat()
    finally:
        logging.getLogger("redisutils.pool").removeFilter(_fail)
    assert [each.times for each in everyone] == [4, 4, 4]
    for each in everyone:
        pulse.leave(each)


def _fail(record: logging.LogRecord) -> bool:
    raise RuntimeError("a fault of the application's filter")


async def test_who_comes_as_the_last_has_left_starts_no_second_beat() -> None:
    pulse = Pulse.of(asyncio.get_running_loop())
    timers = []
    told = Told()
    for _ in range(20):
        pulse.join(told)
        timers.append(pulse._timer)
        pulse.leave(told)
    assert [timer is None or timer.cancelled() for timer in timers] == [True] * 19 + [False]


async def test_rates_are_those_of_the_last_seconds() -> None:
    metrics = PoolMetrics(asyncio.get_running_loop())
    began = metrics._since
    for second in range(1, 121):
        metrics.commands += 100 if second <= 110 else 1000
        metrics.bytes_in += 7
        metrics.tick(began + second)
    rates = metrics.rates(began + 120)
    assert rates[1].commands == pytest.approx(1000)
    assert rates[10].commands == pytest.approx(1000)
    assert rates[60].commands == pytest.approx((10 * 1000 + 50 * 100) / 60)
    assert rates[60].bytes_in == pytest.approx(7)
    assert rates[60].failures == 0
    metrics.close()


async def test_a_closed_pool_is_not_looked_after(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        pulse = pool.server.metrics._pulse
        assert pulse is not None
        assert pool.server.metrics in pulse._ticked
    assert pool.server.metrics not in pulse._ticked


async def test_a_closed_pool_still_tells(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
    found = pool.metrics()
    assert (found.commands, found.size, found.in_flight, found.lanes) == (1, 0, 0, ())


async def test_what_is_in_flight_is_told(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.stall()
        waiting = [asyncio.ensure_future(pool.client.get("k")) for _ in range(5)]
        await asyncio.sleep(0)
        found = pool.metrics()
        assert found.in_flight == 5
        assert found.in_flight_bytes == 5 * len(pack(("GET", "k")))
        (lane,) = found.lanes
        assert (lane.name, lane.connected, lane.in_flight, lane.waiting) == ("default", True, 5, 0)
        proxy.restore()
        await asyncio.gather(*waiting)
        assert pool.metrics().in_flight == 0
