"""What Prometheus scrapes: well formed, named by the rules, true, and to be had at any time."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as read_text
from prometheus_client.registry import DuplicateTimeseries
from redis.exceptions import ResponseError

from redisutils import RedisPool, errors
from redisutils.errors import ConfigError
from redisutils.metrics import LatencyHistogram
from redisutils.monitor import reading
from redisutils.monitor.catalogue import BUCKETS, CATALOGUE
from redisutils.monitor.prometheus import PoolCollector, exposition
from redisutils.monitor.reading import Reader
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import pool_at
from .test_loops import in_child

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]

read_openmetrics: Any = openmetrics_parser.text_string_to_metric_families  # it has no types

generate_openmetrics: Any = openmetrics_exposition.generate_latest

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def values_of(families: Iterable[Metric]) -> Values:
    """Every sample by its name and labels. None may come twice."""
    found: Values = {}
    for family in families:
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} is told twice"
            found[key] = sample.value
    return found


def scraped(*pools: RedisPool) -> Values:
    return values_of(read_text(exposition(*pools)[0].decode()))


def value(values: Values, name: str, **labels: str) -> float:
    """Of the one sample of that name with these labels among others."""
    (found,) = (
        value for (each, has), value in values.items() if each == name and labels.items() <= has
    )
    return found


async def some_traffic(pool: RedisPool) -> None:
    client = pool.client
    await client.set("price", "50000")
    await asyncio.gather(*(client.get("price") for _ in range(20)))
    with pytest.raises(ResponseError):
        await client.lpush("price", "no list")
    async with pool.get() as conn:
        await conn.execute("PING")
    await pool.lane("orders").incr("orders")
    await asyncio.sleep(0)  # a read counts its answers when it has handed them all out


async def test_both_formats_are_well_formed_and_say_the_same(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await some_traffic(pool)
        text, kind = exposition(pool)
        assert kind.startswith("text/plain")
        openmetrics, kind = exposition(pool, accept=f"{OPENMETRICS},text/plain;q=0.5")
        assert kind.startswith("application/openmetrics-text")
        assert openmetrics.endswith(b"# EOF\n")
        plain = values_of(read_text(text.decode()))
        open_ = values_of(read_openmetrics(openmetrics.decode()))
        assert plain.keys() == open_.keys()
        place = {"endpoint": f"{clean_server.host}:{clean_server.port}"}
        assert all(place.items() <= labels for _, labels in plain)


async def test_what_we_write_is_what_prometheus_client_would(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool:
        await some_traffic(pool)
        pool.server.metrics.errors['odd "name"\\\n'] = 1
        await pool.lane('odd "lane"\\\n').ping()
        reading = Reader.of(pool).read()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reader, "read", lambda _: reading)
            registry = CollectorRegistry()
            registry.register(PoolCollector(pool))
            bodies = [
                (read_text, exposition(pool), generate_latest(registry)),
                (
                    read_openmetrics,
                    exposition(pool, accept=OPENMETRICS),
                    generate_openmetrics(registry),
                ),
            ]
        for read, (body, _), theirs in bodies:
            ours, expected = (list(read(text.decode())) for text in (body, theirs))
            assert values_of(ours) == values_of(expected)
            told, wanted = (
                [(f.name, f.type, f.unit, f.documentation) for f in families]
                for families in (ours, expected)
            )
            assert told == wanted


async def test_figures_are_the_pools(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=7) as pool:
        await some_traffic(pool)
        found, metrics = scraped(pool), pool.metrics()
        assert value(found, "redisutils_commands_total") == metrics.commands == 24
        assert value(found, "redisutils_command_duration_seconds_count", command="GET") == 20
        assert value(found, "redisutils_command_duration_seconds_sum", command="GET") == (
            pytest.approx(metrics.by_command["GET"].latency.total)
        )
        by_command = metrics.by_command["GET"].latency.at_most(BUCKETS)
        for bound, count in zip(BUCKETS, by_command, strict=True):
            name = "redisutils_command_duration_seconds_bucket"
            (told,) = (
                v
                for (n, labels), v in found.items()
                if n == name and ("command", "GET") in labels and float(dict(labels)["le"]) == bound
            )
            assert told == count
        assert value(found, "redisutils_errors_total", error="ResponseError") == 1
        assert value(found, "redisutils_received_bytes_total") == metrics.bytes_in
        assert value(found, "redisutils_sent_bytes_total") == metrics.bytes_out
        assert value(found, "redisutils_pool_max_connections") == 7
        assert value(found, "redisutils_pool_connections") == metrics.size
        assert value(found, "redisutils_pool_in_use_connections") == 2  # two lanes
        assert value(found, "redisutils_lane_connected", lane="orders") == 1
        assert value(found, "redisutils_connections_created_total") == metrics.connections_created
        assert value(found, "redisutils_breaker_state", state="closed") == 1
        assert value(found, "redisutils_breaker_state", state="open") == 0
        assert value(found, "redisutils_snapshot_age_seconds") == 0
        # So that their first rise is seen.
        assert (
            value(found, "redisutils_failures_total", error="ConnectionLost", outcome="UNKNOWN")
            == 0
        )
        assert value(found, "redisutils_retries_total", reason="lost") == 0


def test_names_units_and_texts_follow_the_rules() -> None:
    assert len({each.name for each in CATALOGUE}) == len(CATALOGUE)
    for each in CATALOGUE:
        assert re.fullmatch(r"redisutils(_[a-z]+)*", each.name)
        assert each.text.endswith(".")
        assert not re.search(r"_(total|milliseconds|ms|kb|percent)$", each.name), each.name
        # The unit stands at the end of the name, and no other does.
        assert each.unit == next((u for u in ("seconds", "bytes") if each.name.endswith(u)), "")
        assert each.kind != "histogram" or each.unit == "seconds"
        assert "le" not in each.labels
    assert list(BUCKETS) == sorted(set(BUCKETS))
    assert (BUCKETS[0], BUCKETS[-1]) == (50e-6, 10.0)


async def test_counters_never_fall_while_commands_run(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        stop = False

        async def traffic() -> None:
            while not stop:
                await asyncio.gather(*(pool.client.incr("n") for _ in range(50)))

        running = asyncio.create_task(traffic())
        falling = ("_total", "_bucket", "_count", "_sum")
        before: Values = {}
        for _ in range(6):
            now = await asyncio.to_thread(scraped, pool)  # as start_http_server does
            for key, was in before.items():
                if key[0].endswith(falling):
                    assert now[key] >= was, key
            before = now
        stop = True
        await running
        # And buckets are cumulative, up to the count.
        for command, latency in ((n, e.latency) for n, e in pool.metrics().by_command.items()):
            counts = latency.at_most(BUCKETS)
            assert counts == sorted(counts), command
            assert counts[-1] <= latency.count


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_many_threads_scrape_at_once(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        registry = CollectorRegistry()
        registry.register(PoolCollector(pool))
        await some_traffic(pool)
        bodies = await asyncio.gather(
            *(asyncio.to_thread(generate_latest, registry) for _ in range(8)),
            *(pool.client.get("price") for _ in range(200)),
        )
        for body in bodies[:8]:
            assert isinstance(body, bytes)
            assert value(values_of(read_text(body.decode())), "redisutils_commands_total") >= 24


async def test_a_scrape_in_the_loop_and_beside_it(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await some_traffic(pool)
        here = scraped(pool)
        there = await asyncio.to_thread(scraped, pool)
        assert here.keys() == there.keys()


async def test_a_loop_that_hangs_is_told_with_the_age_of_the_figures(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.01)
    async with pool_at(clean_server) as pool:
        await some_traffic(pool)
        before = scraped(pool)
        found: list[Values] = []
        thread = threading.Thread(target=lambda: found.append(scraped(pool)))
        thread.start()
        thread.join()  # the loop hangs meanwhile
        assert 0.01 <= value(found[0], "redisutils_snapshot_age_seconds") < 10
        commands = value(found[0], "redisutils_commands_total")
        assert commands == value(before, "redisutils_commands_total")
        after = await asyncio.to_thread(scraped, pool)
        monkeypatch.undo()
        assert value(after, "redisutils_snapshot_age_seconds") == 0


async def test_the_age_is_how_long_the_loop_has_hung(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.01)
    now = 1000.0
    monkeypatch.setattr(reading, "monotonic", lambda: now)
    async with pool_at(clean_server) as pool:
        ages = []

        def scrape(times: int) -> None:
            nonlocal now
            for _ in range(times):
                now += 15  # Prometheus comes again
                ages.append(value(scraped(pool), "redisutils_snapshot_age_seconds"))

        def hang(times: int) -> None:
            thread = threading.Thread(target=scrape, args=(times,))
            thread.start()
            thread.join()

        scrape(1)
        hang(3)
        scrape(1)
        hang(2)
    assert ages == [0, 0, 15, 30, 0, 0, 15]


async def test_scraping_while_the_pool_closes_and_when_it_is_closed(
    clean_server: EmbeddedServer,
) -> None:
    pool = pool_at(clean_server)
    collector = PoolCollector(pool)
    registry = CollectorRegistry()
    registry.register(collector)
    assert value_count(registry) == 0  # it is not open yet
    assert not (await pool).closed
    await some_traffic(pool)
    scrapes = [asyncio.create_task(asyncio.to_thread(generate_latest, registry)) for _ in range(4)]
    await pool.close()
    for scrape in scrapes:
        assert b"redisutils_commands_total" in await scrape
    after = values_of(read_text(generate_latest(registry).decode()))
    assert value(after, "redisutils_commands_total") == 24
    assert value(after, "redisutils_pool_in_use_connections") == 0
    collector.remove(pool)
    assert value_count(registry) == 0


def value_count(registry: CollectorRegistry) -> int:
    return sum(len(family.samples) for family in registry.collect())


async def test_a_forked_child_does_not_ask_the_loop_of_its_parent(
    clean_server: EmbeddedServer,
) -> None:
    """It would wait in vain. What is told is how things stood as it was forked."""
    async with pool_at(clean_server) as pool:
        await some_traffic(pool)

        def deed() -> str:
            told = asyncio.run(asyncio.to_thread(scraped, pool))
            names = "redisutils_commands_total", "redisutils_snapshot_age_seconds"
            return " ".join(str(value(told, name)) for name in names)

        assert in_child(deed) == "24 0.0"


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, "uvloop"])
def test_scraping_after_the_loop_has_ended(clean_server: EmbeddedServer, factory: Any) -> None:
    import uvloop

    pools = []

    async def program() -> None:
        async with pool_at(clean_server) as pool:
            await some_traffic(pool)
            pools.append(pool)

    with asyncio.Runner(
        loop_factory=uvloop.new_event_loop if factory == "uvloop" else factory
    ) as r:
        r.run(program())
        # The loop stands still, and may go on.
        assert value(scraped(*pools), "redisutils_commands_total") == 24
    assert value(scraped(*pools), "redisutils_commands_total") == 24
    assert value(scraped(*pools), "redisutils_snapshot_age_seconds") == 0


async def test_registered_twice(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        # As prometheus_client's own: it would collect, to learn the names, if it were not told.
        registry = CollectorRegistry(auto_describe=True)
        collector = PoolCollector(pool)
        registry.register(collector)
        for again in (collector, PoolCollector(pool)):
            with pytest.raises(DuplicateTimeseries, match="redisutils_commands"):
                registry.register(again)
        collector.add(pool)  # it is there already
        values_of(read_text(generate_latest(registry).decode()))
        registry.unregister(collector)
        registry.register(PoolCollector(pool))


async def test_several_pools(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(clean_server) as first, pool_at(clean_server, proxy) as second:
        await first.client.ping()
        await some_traffic(second)
        found = scraped(first, second)
        for pool, place, commands in ((first, clean_server, 1), (second, proxy, 24)):
            endpoint = f"{place.host}:{place.port}"
            assert pool.metrics().endpoint == endpoint
            assert value(found, "redisutils_commands_total", endpoint=endpoint) == commands


async def test_pools_that_could_not_be_told_apart(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as first, pool_at(clean_server) as second:
        collector = PoolCollector(first)
        with pytest.raises(ConfigError, match=rf"two pools of .*:{clean_server.port} .*labels"):
            collector.add(second)
        with pytest.raises(ConfigError, match="told apart"):
            exposition(first, second)
        collector.add(second, labels={"pool": "orders"})
        await second.client.ping()
        await asyncio.sleep(0)
        found = values_of(collector.collect())
        assert value(found, "redisutils_commands_total", pool="orders") == 1
        assert value(found, "redisutils_commands_total", pool="") == 0
        await second.close()
        async with pool_at(clean_server) as third:  # takes the closed one's place
            collector.add(third, labels={"pool": "orders"})
            found = values_of(collector.collect())
            assert value(found, "redisutils_commands_total", pool="orders") == 0


@pytest.mark.parametrize("label", ["endpoint", "le", "command", "a-b", "", "__name__", "1st"])
async def test_labels_that_cannot_be(clean_server: EmbeddedServer, label: str) -> None:
    with pytest.raises(ConfigError, match="cannot be a label's name"):
        PoolCollector(pool_at(clean_server), labels={label: "x"})


async def test_what_comes_from_outside_cannot_make_series_without_end(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=50) as pool:
        measures = pool.server.metrics.measures
        for number in range(100):
            measures.refused("EVAL", f"CODE{number}")
        measures.refused("EVAL", "user 17's password")
        for number in range(40):
            pool.lane(f"user-{number}")._open_lane()
        first = scraped(pool)
        measures.refused("EVAL", "NEW")
        second = scraped(pool)
        name = "redisutils_command_errors_total"
        codes = {dict(labels)["code"]: v for (n, labels), v in second.items() if n == name}
        assert len(codes) <= 33
        assert sum(codes.values()) == 102
        assert codes["CODE0"] == 1
        assert not any("password" in code for code in codes)
        assert all(second[key] >= was for key, was in first.items() if key[0] == name)
        lanes = [labels for n, labels in second if n == "redisutils_lane_connected"]
        assert len(lanes) <= 33


async def test_what_may_have_happened_is_there_from_the_beginning(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool:
        told = exposition(pool)[0].decode()
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    lost = [kind.__name__ for kind in classes if issubclass(kind, errors.ConnectionLost)]
    assert "ProtocolError" in lost
    for name in [*lost, "CommandTimeout", "ResponseError"]:
        assert re.search(rf'redisutils_failures_total.*error="{name}",outcome="UNKNOWN".* 0', told)


async def test_what_is_no_utf_8_leaves_the_scrape_whole(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.lane("\udcff\u00e9").ping()
        collector = PoolCollector(labels={"pool": "\udcfe"})
        collector.add(pool, labels={"pool": "\udcfe"})
        registry = CollectorRegistry()
        registry.register(collector)
        for body in (exposition(pool)[0], generate_latest(registry)):
            assert 'lane="\\\\udcff\u00e9"' in body.decode()
        assert 'pool="\\\\udcfe"' in generate_latest(registry).decode()


async def test_lanes_of_one_name_are_told_together(clean_server: EmbeddedServer) -> None:
    async with (
        pool_at(clean_server) as pool,
        pool.client.client() as one,
        pool.client.client() as two,
    ):
        await one.ping()
        await two.ping()
        assert value(scraped(pool), "redisutils_lane_connected", lane="single connection") == 2


def test_nothing_is_counted_between_the_bounds_twice() -> None:
    made = LatencyHistogram()
    for seconds in (10e-6, 60e-6, 0.004, 0.3, 11.0, 1e4):
        made.record(seconds)
    counts = made.snapshot().at_most(BUCKETS)
    assert counts[0] == 1
    assert counts[1] == 2
    assert counts[-1] == 4
    assert made.snapshot().count == 6


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "import redisutils.monitor\n"
        "try: import redisutils.monitor.prometheus\n"
        "except ImportError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("pip install 'redisutils[prometheus]'")
