"""One snapshot of many servers: exact sums, that never fall when servers come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import fields, replace
from itertools import count
from math import inf
from time import monotonic
from typing import Any, Literal

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redisutils import Redis
from redisutils.client.adapter import AdapterPool
from redisutils.client.source import OpenSource
from redisutils.errors import CircuitOpen, ConnectionLost, Outcome
from redisutils.metrics import (
    BreakerStatus,
    Gauges,
    LaneMetrics,
    PoolMetrics,
)
from redisutils.metrics.measures import CODES
from redisutils.metrics.merging import Counted, merged
from redisutils.metrics.reading import ReadCounts
from redisutils.metrics.slow import KEPT
from redisutils.metrics.snapshot import MetricsSnapshot, SlowCommand
from redisutils.metrics.split import PARTS, Split
from redisutils.monitor.nodes import NODES
from redisutils.monitor.reading import Reading
from redisutils.testing import EmbeddedServer
from redisutils.topology.standalone import Standalone

from .monitored import one_loop
from .ours import pool_at

WHOLE = Gauges("the cluster of a:1, b:2")


def own() -> PoolMetrics:
    """Of the cluster itself: of the loop that runs."""
    return PoolMetrics(asyncio.get_running_loop(), WHOLE.endpoint)


def node(cluster: PoolMetrics, name: str = "a:1", **gauges: Any) -> Counted:
    return PoolMetrics(None, name, cluster), Gauges(name, **gauges)


def together(metrics: PoolMetrics, *nodes: Counted) -> MetricsSnapshot:
    return merged((metrics, WHOLE), nodes)


# -- sums ----------------------------------------------------------------------------------

parts = st.tuples(*(st.floats(0, 1) for _ in PARTS))
calls = st.tuples(
    st.sampled_from(["GET", "SET", "BLPOP"]),
    parts,
    st.integers(1, 50),
    st.sampled_from(["", "WRONGTYPE", "OOM"]),
    st.integers(0, 3),
)


def record(metrics: PoolMetrics, call: Any) -> None:
    command, seconds, times, code, _ = call
    wait, queue, wire, loop, parse = seconds
    apart = command == "BLPOP"
    metrics.measures.record(command, wait, queue, wire, loop, parse, times, apart)
    metrics.wait_time.record(sum(seconds))
    metrics.commands += times
    metrics.waits += 1
    if code:
        metrics.measures.refused(command, code)
        metrics.errors["ResponseError"] += 1
        metrics.failures["ResponseError", "REJECTED"] += 1
        metrics.retries["lost"] += times


def assert_alike(found: MetricsSnapshot, wanted: MetricsSnapshot) -> None:
    """All that is counted; of what is summed up in floats, to their last digits."""
    assert found.latency.counts == wanted.latency.counts
    assert found.latency.total == pytest.approx(wanted.latency.total)
    for name in ("count", "p50", "p95", "p99", "p999", "max"):
        assert getattr(found.latency, name) == getattr(wanted.latency, name), name
    assert found.composition.latency == found.latency
    assert found.composition.sums.keys() == wanted.composition.sums.keys()
    for band, sums in wanted.composition.sums.items():
        assert found.composition.sums[band] == pytest.approx(sums)
    for part in PARTS:
        assert found.parts[part].counts == wanted.parts[part].counts
    assert found.wait_time.counts == wanted.wait_time.counts
    assert found.by_command.keys() == wanted.by_command.keys()
    for name, command in wanted.by_command.items():
        theirs = found.by_command[name]
        assert theirs.latency.counts == command.latency.counts
        assert theirs.split.as_dict() == pytest.approx(command.split.as_dict())
        assert theirs.errors == command.errors
    same = "commands errors failures retries waits timeouts unknown_writes".split()
    for name in same:
        assert getattr(found, name) == getattr(wanted, name), name


@given(st.lists(calls, max_size=60))
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
def test_merged_is_what_one_pool_would_have_counted(made: list[Any]) -> None:
    async def compare() -> None:
        one, cluster = own(), own()
        nodes = [node(cluster, f"n{n}:1") for n in range(1, 5)]
        for call in made:
            record(one, call)
            record([cluster, *(metrics for metrics, _ in nodes)][call[-1]], call)
        found = together(cluster, *nodes)
        assert_alike(found, one.snapshot(Gauges("one")))
        quick = [call for call in made if call[0] != "BLPOP" and call[-1]]
        assert sum(node.latency.count for node in found.nodes) == sum(call[2] for call in quick)
        assert [node.commands for node in found.nodes] == [
            sum(call[2] for call in made if call[-1] == number) for number in (1, 2, 3)
        ] + [0]
        # To read is to change nothing.
        assert_alike(together(cluster, *nodes), one.snapshot(Gauges("one")))
        # And nothing falls when half of them leave.
        for metrics, _ in nodes[2:]:
            cluster.adopt(metrics)
        assert_alike(together(cluster, *nodes[:2]), one.snapshot(Gauges("one")))

    asyncio.run(compare())


@one_loop
async def test_every_figure_is_told_of_all() -> None:
    """A field that somebody adds is told of all servers as well, or is named here."""
    numbers = count(1)
    cluster, servers = own(), []
    for name in ("a:1", "b:2"):
        metrics, _ = node(cluster, name)
        for name_of in PoolMetrics.__slots__:
            if type(getattr(metrics, name_of, None)) is int:
                setattr(metrics, name_of, next(numbers))
        for read in fields(ReadCounts):
            setattr(metrics.reads, read.name, next(numbers))
        record(metrics, ("GET", (0.1,) * 5, 1, "OOM", 0))
        metrics.failures[CircuitOpen.__name__, "NOT_SENT"] += 2
        known = WHOLE._asdict()
        numbered = {each: next(numbers) for each, value in known.items() if type(value) is int}
        servers.append((metrics, Gauges(**{**known, **numbered, "endpoint": name})))
    found = together(cluster, *servers)
    apart = {"endpoint", "at", "seconds", "utilisation", "rates", "process", "nodes", "lanes"}
    apart |= {
        "latency",
        "parts",
        "composition",
        "by_command",
        "slow",
        "wait_time",
        "breaker",
        "reads",
    }
    for field in fields(MetricsSnapshot):
        if field.name in apart:
            continue
        value = getattr(found, field.name)
        each = [
            getattr(gauges, field.name, None) or getattr(metrics, field.name)
            for metrics, gauges in servers
        ]
        if isinstance(value, Mapping):
            assert value == each[0] + each[1], field.name
        elif field.name == "commands":
            uncounted = sum(gauges.uncounted for _, gauges in servers)
            assert value == sum(metrics.commands for metrics, _ in servers) + uncounted
        else:
            assert value == sum(each) > 0, field.name
    for read in fields(ReadCounts):
        counted = [getattr(metrics.reads, read.name) for metrics, _ in servers]
        assert getattr(found.reads, read.name) == sum(counted) > 0
    assert found.utilisation == found.in_use / found.max_size
    assert found.breaker.trips == sum(metrics.trips for metrics, _ in servers)
    assert found.breaker.refused == 4


@one_loop
async def test_what_is_known_of_no_server_in_particular_is_counted_too() -> None:
    cluster = own()
    cluster.commands = 3
    cluster._since -= 100
    cluster.events.failed = 2
    cluster.failures["ConnectFailed", "NOT_SENT"] += 1
    known = WHOLE._replace(uncounted=2, in_flight=4)
    metrics, gauges = node(cluster, "a:1", in_flight=1)
    metrics.commands = 10
    metrics.background_errors = 1
    metrics.events.failed = 3
    found = merged((cluster, known), [(metrics, gauges)])
    assert (found.commands, found.in_flight, found.endpoint) == (15, 5, WHOLE.endpoint)
    assert found.failures == {("ConnectFailed", "NOT_SENT"): 1}
    assert found.background_errors == 6
    assert 100 <= found.seconds < 160
    nobody = together(cluster)
    assert (nobody.commands, nobody.nodes, nobody.breaker.state) == (3, (), "closed")
    assert nobody.utilisation == 0.0


@one_loop
async def test_the_process_is_told_once() -> None:
    cluster = own()
    pulse = cluster._pulse
    assert pulse is not None
    pulse.lag.record(0.001, times=7)
    loop = asyncio.get_running_loop()
    nodes = [(PoolMetrics(loop, name, cluster), Gauges(name)) for name in ("a:1", "b:2")]
    assert together(cluster, *nodes).process.loop_lag.count == pulse.lag.snapshot().count >= 7


@one_loop
async def test_lanes_stand_with_their_servers() -> None:
    lanes = [LaneMetrics("default", True, 1, 0, False, name) for name in ("a:1", "b:2")]
    cluster = own()
    nodes = [node(cluster, lane.endpoint, lanes=(lane,)) for lane in lanes]
    found = together(cluster, *nodes, node(cluster, "c:3", size=1))
    assert found.lanes == tuple(lanes)
    assert [(one.endpoint, one.connected) for one in found.nodes] == [
        ("a:1", False),
        ("b:2", False),
        ("c:3", True),
    ]


def slow(seconds: float, command: str = "GET") -> SlowCommand:
    return SlowCommand(0.0, command, None, 1, 1, seconds, Split())


@one_loop
async def test_the_slowest_of_all_are_shown() -> None:
    cluster = own()
    nodes = [node(cluster, "a:1"), node(cluster, "b:2")]
    for number, (metrics, _) in enumerate(nodes):
        for n in range(KEPT):
            metrics.measures.slow.add(slow(1.0 + n + number / 2))
    every = sorted((1.0 + n / 2 for n in range(2 * KEPT)), reverse=True)
    assert [one.seconds for one in together(cluster, *nodes).slow] == every[:KEPT]
    cluster.adopt(nodes[0][0])
    assert [one.seconds for one in together(cluster, nodes[1]).slow] == every[:KEPT]


@one_loop
async def test_to_measure_costs_as_much_as_with_one_server() -> None:
    """One meter chooses what is measured, of all servers, and only the whole tells it the time."""
    cluster = own()
    (a, _), (b, _) = node(cluster, "a:1"), node(cluster, "b:2")
    assert a.meter is b.meter is cluster.meter
    now = monotonic()
    a.meter.spend()
    left = cluster.meter._spare
    a.tick(now + 1)
    assert cluster.meter._spare == left
    cluster.tick(now + 1)
    assert cluster.meter._spare > left


@one_loop
async def test_what_is_measured_elsewhere_is_not_merged() -> None:
    stranger = PoolMetrics(None, "a:1")
    with pytest.raises(AssertionError):
        together(own(), (stranger, Gauges("a:1")))
    with pytest.raises(AssertionError):
        own().adopt(stranger)


@one_loop
async def test_codes_of_a_command_stay_bounded() -> None:
    cluster = own()
    nodes = [node(cluster, "a:1"), node(cluster, "b:2")]
    for number, (metrics, _) in enumerate(nodes):
        for code in range(CODES):
            metrics.measures.refused("EVAL", f"CODE{number}{code}")
    errors = together(cluster, *nodes).by_command["EVAL"].errors
    assert len(errors) == CODES + 1
    assert errors["OTHER"] == CODES
    assert sum(errors.values()) == 2 * CODES


def breaker(
    state: Literal["closed", "open", "half-open"], seconds: float, failures: int = 0
) -> BreakerStatus:
    error = None if state == "closed" else f"{state} {seconds}"
    return BreakerStatus(state, seconds, failures, 9, 9, error)


@pytest.mark.parametrize(
    ("breakers", "worst"),
    [
        ([breaker("closed", 5.0), breaker("open", 1.0), breaker("half-open", 9.0)], 1),
        ([breaker("closed", 5.0), breaker("half-open", 1.0)], 1),
        ([breaker("open", 5.0), breaker("open", 7.0)], 1),
        ([breaker("closed", 5.0), breaker("closed", 1.0)], 1),
        ([breaker("closed", 1.0), breaker("closed", 5.0, failures=2)], 1),
    ],
)
@one_loop
async def test_the_worst_breaker_is_that_of_the_whole(
    breakers: list[BreakerStatus], worst: int
) -> None:
    for order in (breakers, breakers[::-1]):
        cluster = own()
        nodes = [node(cluster, f"n{n}:1", breaker=one) for n, one in enumerate(order)]
        found = together(cluster, *nodes)
        assert found.breaker == replace(breakers[worst], trips=0, refused=0)
        assert [one.breaker for one in found.nodes] == order


# -- servers that come and go ----------------------------------------------------------------


@one_loop
async def test_a_server_that_leaves_takes_nothing_with_it() -> None:
    cluster = own()
    a, b = node(cluster, "a:1", size=2, in_use=1), node(cluster, "b:2", size=3)
    for metrics, _ in (a, b):
        record(metrics, ("GET", (0.1,) * 5, 100, "OOM", 0))
        metrics.trips = 2
        metrics.failed(CircuitOpen("x", outcome=Outcome.NOT_SENT))
        metrics.failed(ConnectionLost("x", outcome=Outcome.UNKNOWN), lambda: True)
    before = together(cluster, a, b)
    cluster.adopt(b[0])
    after = together(cluster, a)
    assert_alike(after, before)
    assert (after.unknown_writes, after.breaker.trips, after.breaker.refused) == (2, 4, 2)
    assert (after.size, after.in_use) == (2, 1)
    assert [one.endpoint for one in after.nodes] == ["a:1"]
    record(a[0], ("SET", (0.2,) * 5, 10, "", 0))
    least = together(cluster, a).since(before)
    assert (least.commands, least.latency.count, least.errors) == (10, 10, {})
    assert {name for name, one in least.by_command.items() if one.latency.count} == {"SET"}
    assert least.latency.p50 == pytest.approx(1.0, rel=0.02)


@one_loop
async def test_since_tells_of_a_server_that_came_and_of_one_that_came_back() -> None:
    cluster = own()
    a, b = node(cluster, "a:1"), node(cluster, "b:2")
    for metrics, _ in (a, b):
        record(metrics, ("GET", (0.1,) * 5, 100, "OOM", 0))
    before = together(cluster, a, b)
    cluster.adopt(b[0])
    back, new = node(cluster, "b:2"), node(cluster, "c:3")
    for metrics, times in ((a[0], 1), (back[0], 2), (new[0], 3)):
        record(metrics, ("GET", (0.1,) * 5, times, "OOM", 0))
    now = together(cluster, a, back, new)
    assert now.commands == 206
    between = now.since(before)
    assert between.commands == 6
    told = {one.endpoint: (one.commands, one.errors, one.latency.count) for one in between.nodes}
    assert told == {"a:1": (1, 1, 1), "b:2": (2, 1, 2), "c:3": (3, 1, 3)}


@one_loop
async def test_one_that_leaves_and_its_successor_are_both_counted() -> None:
    cluster = own()
    leaving, gauges = node(cluster, "a:1", size=1)
    staying, others = node(cluster, "a:1", size=2)
    leaving.commands, staying.commands = 5, 7
    found = together(cluster, (leaving, gauges), (staying, others))
    assert (found.commands, found.size) == (12, 3)
    assert [(one.endpoint, one.commands) for one in found.nodes] == [("a:1", 7)]


@given(
    st.lists(
        st.tuples(st.sampled_from(["come", "leave", "work", "work", "look"]), st.integers(0, 9)),
        max_size=40,
    )
)
@settings(deadline=None, max_examples=40)
def test_counters_never_fall(events: list[tuple[str, int]]) -> None:
    async def play() -> None:
        cluster, nodes, names, done = own(), list[Counted](), count(), 0
        before = together(cluster)
        begun = before
        for event, number in events:
            if event == "come":
                nodes.append(node(cluster, f"n{next(names) % 4}:1"))
            elif event == "leave" and nodes:
                metrics, _ = nodes.pop(number % len(nodes))
                cluster.adopt(metrics)
            elif event == "work" and nodes:
                record(nodes[number % len(nodes)][0], ("GET", (0.01,) * 5, number + 1, "OOM", 0))
                done += number + 1
            now = together(cluster, *nodes)
            assert now.commands >= before.commands
            assert now.latency.count >= before.latency.count
            step = now.since(before)
            assert step.commands == step.latency.count
            assert all(one.commands >= 0 and one.errors >= 0 for one in step.nodes)
            before = now
        assert before.since(begun).commands == done

    asyncio.run(play())


# -- rates ---------------------------------------------------------------------------------


def work(metrics: PoolMetrics, rate: int, now: float) -> None:
    """A second with so many commands is over."""
    metrics.commands += rate
    metrics.bytes_in += 10 * rate
    metrics.tick(now)


@one_loop
async def test_rates_are_summed_and_outlive_a_server() -> None:
    cluster = own()
    (a, _), (b, _) = node(cluster, "a:1"), node(cluster, "b:2")
    began = max(metrics._since for metrics in (cluster, a, b))
    now = began
    for now in (began + second for second in range(1, 80)):
        for metrics, rate in ((cluster, 1), (a, 10), (b, 100)):
            work(metrics, rate, now)
    each = [metrics.rates(now)[10].commands for metrics in (cluster, a, b)]
    assert each == pytest.approx([1, 10, 100], rel=0.01)
    before = cluster.rates(now)[60].commands + b.rates(now)[60].commands
    cluster.adopt(b)
    for window in (1, 10, 60):
        rates = cluster.rates(now)[window]
        assert rates.commands == pytest.approx(101, rel=0.01), window
        assert rates.bytes_in == pytest.approx(1010, rel=0.01), window
    assert cluster.rates(now)[60].commands == pytest.approx(before)
    # What it did leaves the windows as time goes by.
    for now in (began + second for second in range(80, 200)):
        work(cluster, 1, now)
        assert all(one.commands > 0 for one in cluster.rates(now).values())
    assert cluster.rates(now)[60].commands == pytest.approx(1, rel=0.01)


@one_loop
async def test_rates_do_not_leap_when_a_young_server_leaves() -> None:
    cluster = own()
    began = cluster._since
    now = began
    for now in (began + second for second in range(1, 80)):
        work(cluster, 1, now)
    young, _ = node(cluster, "a:1")
    young._ticks.clear()
    young._ticks.append((now, 0, 0, 0, 0))
    for now in (began + second for second in range(80, 83)):
        work(cluster, 1, now)
        work(young, 60, now)
    cluster.adopt(young)
    assert cluster.rates(now)[1].commands == pytest.approx(61, rel=0.01)
    assert cluster.rates(now)[60].commands == pytest.approx(1 + 3 * 60 / 60, rel=0.02)


@one_loop
async def test_the_snapshot_has_the_rates_of_all() -> None:
    loop = asyncio.get_running_loop()
    cluster = own()
    a, at_a = PoolMetrics(loop, "a:1", cluster), Gauges("a:1")
    cluster.commands, a.commands = 3, 7
    found = together(cluster, (a, at_a)).rates
    assert found.keys() == {1, 10, 60}
    assert found[60].commands > 7 / 60
    a.commands += 1_000_000_000
    assert together(cluster, (a, at_a)).rates[60].commands > found[60].commands


# -- with servers --------------------------------------------------------------------------


async def test_one_server_is_a_node_too(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.set("k", "v")
        before = pool.metrics()
        await asyncio.gather(*(pool.client.get("k") for _ in range(20)))
        metrics = pool.metrics()
        [only] = metrics.nodes
        assert only.endpoint == metrics.endpoint == metrics.lanes[0].endpoint
        assert (only.commands, only.errors, only.latency) == (21, 0, metrics.latency)
        assert (only.size, only.in_use, only.connected) == (metrics.size, metrics.in_use, True)
        assert (only.breaker, only.role) == (metrics.breaker, None)
        [since] = metrics.since(before).nodes
        assert (since.commands, since.latency.count) == (20, 20)


async def test_two_servers_are_one_whole(clean_server: EmbeddedServer) -> None:
    cluster = own()
    async with pool_at(clean_server) as pool:
        options, settings = pool.server.options, pool.server.settings
    a, b = (Standalone(options, settings, whole=cluster) for _ in range(2))
    try:
        one, other = (AdapterPool(OpenSource(server), {}) for server in (a, b))
        first: Redis = Redis(connection_pool=one)
        second: Redis = Redis(connection_pool=other)
        await asyncio.gather(*(first.set(f"k{n}", n) for n in range(5)))
        await asyncio.gather(*(second.get(f"k{n}") for n in range(6)))
        with pytest.raises(redis.ResponseError):
            await second.lpush("k1", 1)
        at_b = b.gauges()._replace(endpoint="b:2", size=3, in_use=2)
        servers = [(a.metrics, a.gauges()._replace(endpoint="a:1")), (b.metrics, at_b)]
        found = together(cluster, *servers)
        assert found.commands == 12 == found.latency.count
        assert found.bytes_in == a.metrics.bytes_in + b.metrics.bytes_in > 0
        assert {name: one.latency.count for name, one in found.by_command.items()} == {
            "GET": 6,
            "LPUSH": 1,
            "SET": 5,
        }
        assert found.by_command["LPUSH"].errors == {"WRONGTYPE": 1}
        samples = {
            (each.name, *values): value
            for each in NODES
            for values, value in each.read(Reading(found, 0.0))
        }
        assert samples["redisutils_node_commands", "a:1"] == 5
        assert samples["redisutils_node_commands", "b:2"] == 7
        assert samples["redisutils_node_errors", "b:2"] == 1
        assert samples["redisutils_node_connections", "b:2"] == 3
        assert samples["redisutils_node_in_use_connections", "b:2"] == 2
        assert samples["redisutils_node_breaker_state", "a:1", "closed"] == 1.0
        assert samples["redisutils_node_breaker_state", "a:1", "open"] == 0.0
        latency = samples["redisutils_node_command_duration_seconds", "b:2"]
        assert latency == found.nodes[1].latency
        assert found.nodes[1].latency.at_most([inf]) == [7]
    finally:
        await a.aclose()
        await b.aclose()
    cluster.adopt(a.metrics)
    assert together(cluster, servers[1]).commands == 12
