"""OpenTelemetry: metrics and spans by the conventions, for every way that a command can take."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from redis.exceptions import ResponseError

from redisutils import (
    CommandTimeout,
    ConfigError,
    ConnectFailed,
    ConnectionLost,
    PoolClosed,
    RedisPool,
    create_redis_pool,
)
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.metrics.measures import CODES
from redisutils.monitor.catalogue import CATALOGUE
from redisutils.monitor.otel import Instrumentation, instrument
from redisutils.monitor.tracing import Tracing
from redisutils.pool.lane import Lane
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .ours import pool_at, until


@dataclass
class Told:
    """What OpenTelemetry was told."""

    spans: InMemorySpanExporter
    tracer_provider: TracerProvider
    reader: InMemoryMetricReader
    meter_provider: MeterProvider

    def instrument(self, pool: RedisPool, **options: Any) -> Instrumentation:
        return instrument(
            pool,
            meter_provider=self.meter_provider,
            tracer_provider=self.tracer_provider,
            **options,
        )

    def finished(self) -> list[ReadableSpan]:
        return list(self.spans.get_finished_spans())

    def named(self) -> list[str]:
        """The names of the spans since this was last asked."""
        names = [span.name for span in self.finished()]
        self.spans.clear()
        return names

    async def only(self) -> ReadableSpan:
        """The one span; it ends a turn of the loop after its caller was told."""
        await until(self.finished, "a span")
        (span,) = self.finished()
        self.spans.clear()
        return span

    def metrics(self) -> dict[str, list[Any]]:
        """The points of each metric, as they are now."""
        data = self.reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in data.resource_metrics if data is not None else ():
            for scope in resource.scope_metrics:
                assert scope.scope.name == "redisutils"
                for metric in scope.metrics:
                    found[metric.name] = list(metric.data.data_points)
        return found


def told_with(sampler: Sampler) -> Told:
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    reader = InMemoryMetricReader()
    return Told(exporter, tracers, reader, MeterProvider([reader], shutdown_on_exit=False))


@pytest.fixture
def told() -> Iterator[Told]:
    made = told_with(ALWAYS_ON)
    yield made
    made.meter_provider.shutdown()
    made.tracer_provider.shutdown()


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


# -- spans -------------------------------------------------------------------------------


async def test_a_span_says_what_the_conventions_ask_for(
    pool: RedisPool, told: Told, clean_server: EmbeddedServer
) -> None:
    with told.instrument(pool):
        await pool.client.set("secret:key", "secret value")
    span = await told.only()
    assert span.name == "SET"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "db.system.name": "redis",
        "db.namespace": "0",
        "db.operation.name": "SET",
        "server.address": clean_server.host,
        "server.port": clean_server.port,
        "network.peer.address": clean_server.host,
        "network.peer.port": clean_server.port,
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "redisutils"
    assert "secret" not in span.to_json()


async def test_a_unix_socket(clean_server: EmbeddedServer, told: Told) -> None:
    path = clean_server.unix_socket
    async with create_redis_pool(url=f"unix://{path}?db=1", password=clean_server.password) as pool:
        with told.instrument(pool) as instrumentation:
            await pool.client.get("k")
            assert instrumentation.name == f"{path}/1"
            attributes = dict((await told.only()).attributes or {})
    assert attributes["server.address"] == attributes["network.peer.address"] == str(path)
    assert attributes["db.namespace"] == "1"
    assert not {"server.port", "network.peer.port"} & attributes.keys()


async def test_a_path_that_is_no_text(
    told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Exporters and logs write UTF-8, which has no lone surrogates."""
    caplog.set_level("DEBUG")
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    async with create_redis_pool(url=f"unix://{path}", retry="never") as pool:
        assert pool.config.unix_socket_path == str(path)
        assert (repr(pool) + pool.config.endpoint).encode()
        with told.instrument(pool):
            with pytest.raises(ConnectFailed):
                await pool.client.get("k")
            span = await told.only()
            points = [point for points in told.metrics().values() for point in points]
    assert span.status.description is not None
    assert "\\udcff" in span.status.description
    texts = [span.status.description, *map(str, (span.attributes or {}).values())]
    texts += [str(value) for point in points for value in point.attributes.values()]
    assert any("\\udcff" in text for text in texts[1:])
    assert "\\udcff" in caplog.text
    assert [text.encode() for text in (*texts, caplog.text)]


async def test_every_way_of_a_command_is_seen(pool: RedisPool, told: Told) -> None:
    early = pool.client
    await early.ping()  # it has its lane already
    view = early.with_timeout(5)
    with told.instrument(pool):
        await early.get("k")
        await view.get("k")
        await early.with_timeout(5).incr("n")
        await pool.make_client(decode_responses=True).client_id()
        await pool.lane("orders").exists("k")
        async with early.client() as single:
            await single.select(1)
        async with pool.get() as conn:
            await conn.execute("PING")
            await conn.with_timeout(5).ttl("k")
        await early.rpush("queue", "x")
        await early.blpop(["queue"], timeout=1)
        watching: Any = early.pipeline()
        await watching.watch("n")
        await watching.get("n")
        watching.multi()
        watching.incr("n")
        watching.incr("n")
        await watching.execute()
        await asyncio.sleep(0)
        seen = told.named()
    names = [
        "GET",
        "GET",
        "INCRBY",
        "CLIENT ID",
        "EXISTS",
        "SELECT",
        "PING",
        "TTL",
        "RPUSH",
        "BLPOP",
    ]
    assert seen == [*names, "WATCH", "GET", "MULTI INCRBY"]


async def test_pipelines(pool: RedisPool, told: Told) -> None:
    async def piped(transaction: bool, *calls: tuple[Any, ...]) -> tuple[str, Any]:
        pipe: Any = pool.client.pipeline(transaction=transaction)
        for call in calls:
            pipe.execute_command(*call)
        await pipe.execute()
        span = await told.only()
        attributes = dict(span.attributes or {})
        assert attributes["db.operation.name"] == span.name
        return span.name, attributes.get("db.operation.batch.size")

    get, incr = ("GET", "k"), ("INCR", "n")
    with told.instrument(pool):
        assert await piped(False, get, get, get) == ("PIPELINE GET", 3)
        assert await piped(False, get, incr) == ("PIPELINE", 2)
        assert await piped(True, incr, incr) == ("MULTI INCR", 2)
        assert await piped(True, get, incr) == ("MULTI", 2)
        assert await piped(False, *[get] * 100) == ("PIPELINE", 100)
        # One command is no batch.
        assert await piped(False, get) == ("GET", None)
        assert await piped(True, incr) == ("INCR", None)


async def test_errors(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool):
        await pool.client.set("secret", "text")
        told.named()
        with pytest.raises(ResponseError):
            await pool.client.lpush("secret", "x")
        span = await told.only()
        attributes = dict(span.attributes or {})
        assert attributes["error.type"] == attributes["db.response.status_code"] == "WRONGTYPE"
        assert attributes["redisutils.outcome"] == "REJECTED"
        assert span.status.status_code is StatusCode.ERROR
        assert span.status.description is None  # what servers say may quote keys and values
        pipe: Any = pool.client.pipeline()
        pipe.get("secret").lpush("secret", "x")
        answers = await pipe.execute(raise_on_error=False)
        assert isinstance(answers[1], ResponseError)
        attributes = dict((await told.only()).attributes or {})
        assert attributes["error.type"] == "WRONGTYPE"


async def test_what_a_transaction_by_hand_ran_into(pool: RedisPool, told: Told) -> None:
    await pool.client.set("text", "x")
    with told.instrument(pool):
        async with pool.get() as connection:
            for command in (("MULTI",), ("LPUSH", "text", "x"), ("EXEC",)):
                await connection.execute(*command)
        await until(lambda: len(told.finished()) == 3, "all spans")
        *before, last = told.finished()
    assert {span.status.status_code for span in before} == {StatusCode.UNSET}
    assert (last.name, last.status.status_code) == ("EXEC", StatusCode.ERROR)
    assert (last.attributes or {})["error.type"] == "WRONGTYPE"


async def test_codes_that_scripts_make_up_are_no_attributes_without_end(
    pool: RedisPool, told: Told
) -> None:
    with told.instrument(pool):
        for number in range(3 * CODES):
            with pytest.raises(ResponseError):
                await pool.client.eval("return redis.error_reply(ARGV[1])", 0, f"CODE{number} it")
        await until(lambda: len(told.finished()) == 3 * CODES, "all spans")
        found = told.metrics()["db.client.operation.duration"]
    assert len(found) == CODES + 1
    other = one(found, error__type="_OTHER")
    assert other.count == 2 * CODES
    assert "db.response.status_code" not in other.attributes
    (last,) = (dict(span.attributes or {}) for span in told.finished()[-1:])
    assert last["error.type"] == "_OTHER"


class Long(list[str]):
    """An answer that is not to be read through."""

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("it may have millions of elements")


async def test_a_long_answer_is_not_looked_through(told: Told) -> None:
    tracing = Tracing(
        told.tracer_provider.get_tracer("redisutils"),
        told.meter_provider.get_meter("redisutils").create_histogram("duration"),
        *(lambda _: None,) * 3,
        {},
        query_text=False,
    )
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[Any] = loop.create_future()
    submit, _ = tracing.watch(lambda *_: answer, lambda *_: answer, lambda: None)
    assert submit(pack(("LRANGE", "k", 0, -1)), False, 1.0) is answer
    answer.set_result(Long("ab"))
    assert (await told.only()).status.status_code is StatusCode.UNSET


async def test_outcomes_and_our_own_messages(
    clean_server: EmbeddedServer, proxy: FaultProxy, told: Told
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        with told.instrument(pool):
            proxy.stall()
            with pytest.raises(CommandTimeout):
                await pool.client.with_timeout(0.02).incr("n")
            span = await told.only()
            attributes = dict(span.attributes or {})
            assert attributes["error.type"] == "CommandTimeout"
            assert "db.response.status_code" not in attributes
            assert attributes["redisutils.outcome"] == "UNKNOWN"
            assert "no answer" in str(span.status.description)
            proxy.restore()
            await pool.client.ping()
            told.named()
            proxy.swallow_replies(1, lambda request: b"INCR" in request, then="reset")
            with pytest.raises(ConnectionLost):
                await pool.client.incr("n")
            attributes = dict((await told.only()).attributes or {})
            assert attributes["error.type"] == "ConnectionLost"
            assert attributes["redisutils.outcome"] == "UNKNOWN"


async def test_a_caller_who_goes_away(
    clean_server: EmbeddedServer, proxy: FaultProxy, told: Told
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        with told.instrument(pool):
            proxy.stall()
            task = asyncio.create_task(pool.client.get("k"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            span = await told.only()
            assert dict(span.attributes or {})["error.type"] == "CancelledError"
            assert span.status.status_code is StatusCode.ERROR
        proxy.restore()


async def test_a_call_that_is_refused_at_once(pool: RedisPool, told: Told) -> None:
    await pool.client.ping()
    told.instrument(pool)
    await pool.close()
    with pytest.raises(PoolClosed):
        await pool.client.get("k")
    span = await told.only()
    assert dict(span.attributes or {})["error.type"] == "PoolClosed"
    assert dict(span.attributes or {})["redisutils.outcome"] == "NOT_SENT"


async def test_retries_are_events(
    clean_server: EmbeddedServer, proxy: FaultProxy, told: Told
) -> None:
    async with pool_at(clean_server, proxy, retry_delay_ms=1) as pool:
        await pool.client.set("k", "v")
        with told.instrument(pool):
            proxy.swallow_replies(1, lambda request: b"GET" in request, then="reset")
            assert await pool.client.get("k") == b"v"
            span = await told.only()
            (event,) = span.events
            assert event.name == "retry"
            assert dict(event.attributes or {}) == {
                "redisutils.retry.reason": "lost",
                "redisutils.retry.attempt": 1,
                "redisutils.retry.pause": 0.0,
            }
            assert span.status.status_code is StatusCode.UNSET  # it went well in the end
            assert "error.type" not in (span.attributes or {})
            # No connection to be had, for a while.
            proxy.refuse()
            proxy.reset()
            await until(lambda: pool.status().size == 0, "the end of the connection")
            asked = asyncio.create_task(pool.client.get("k"))
            await until(lambda: pool.metrics().retries.get("connect", 0) >= 2, "retries")
            proxy.restore()
            assert await asked == b"v"
            events = (await told.only()).events
            attempts = [dict(event.attributes or {}) for event in events]
            assert [each["redisutils.retry.attempt"] for each in attempts] == list(
                range(1, len(attempts) + 1)
            )
            assert {each["redisutils.retry.reason"] for each in attempts} == {"connect"}
            assert all(float(str(each["redisutils.retry.pause"])) > 0 for each in attempts)


async def changed(pool: RedisPool) -> Any:
    return await pool.client.set("k", "w")


async def test_a_passing_refusal_is_an_event(
    start_server: Callable[..., Awaitable[EmbeddedServer]], told: Told
) -> None:
    server = await start_server()
    async with pool_at(server, retry_delay_ms=1) as pool:
        await pool.client.set("k", "v")
        other = pool.make_client()
        with told.instrument(pool):
            await other.execute_command("REPLICAOF", "127.0.0.1", "1")
            told.named()
            written = asyncio.create_task(changed(pool))
            await until(lambda: pool.metrics().retries.get("READONLY"), "a refusal")
            await other.execute_command("REPLICAOF", "NO", "ONE")
            assert await written is True
            await asyncio.sleep(0)
            (span,) = (each for each in told.finished() if each.name == "SET")
            assert span.events
            assert {
                dict(event.attributes or {})["redisutils.retry.reason"] for event in span.events
            } == {"READONLY"}


async def test_parents_are_the_callers_and_nothing_leaks(pool: RedisPool, told: Told) -> None:
    tracer = told.tracer_provider.get_tracer("the program")
    with told.instrument(pool):
        found: list[Any] = []

        async def request(number: int) -> None:
            with tracer.start_as_current_span(f"request {number}") as span:
                for _ in range(3):
                    await pool.client.get("k")
                    # Woken by an answer, the task is where it was.
                    assert trace.get_current_span() is span
                found.append(span)

        await asyncio.gather(*(request(number) for number in range(5)))
        assert trace.get_current_span() is trace.INVALID_SPAN
        await pool.client.get("k")
        await asyncio.sleep(0)
    spans = told.finished()
    requests = {span.context.span_id: span for span in spans if span.name != "GET" and span.context}
    children = [span for span in spans if span.name == "GET"]
    assert len(requests) == 5
    assert len(children) == 16
    orphans = [span for span in children if span.parent is None]
    assert len(orphans) == 1
    for span in children:
        if span.parent is not None:
            parent = requests[span.parent.span_id]
            assert (parent.start_time or 0) <= (span.start_time or 0)
            assert (span.end_time or 0) <= (parent.end_time or 0) + 50_000_000


async def test_the_programs_sampler_decides(pool: RedisPool) -> None:
    told = told_with(ALWAYS_OFF)
    with told.instrument(pool):
        await pool.client.get("k")
        await asyncio.sleep(0)
        assert told.finished() == []
        # The metric counts every operation all the same.
        (point,) = told.metrics()["db.client.operation.duration"]
        assert point.count == 1
    told.meter_provider.shutdown()


def text_of(span: ReadableSpan) -> object:
    assert span.attributes is not None
    return span.attributes["db.query.text"]


async def test_query_text_has_keys_and_no_values(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool, query_text=True):
        await pool.client.hset("account:7", "pin", "1234")
        assert text_of(await told.only()) == "HSET account:7 ? ?"
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.set("a", "secret").mget("a", "b")
        await pipe.execute()
        assert text_of(await told.only()) == "SET a ?; MGET a b"
        await pool.client.client_setname("secret")
        assert text_of(await told.only()) == "CLIENT SETNAME ?"
        with pytest.raises(ResponseError):
            await pool.client.execute_command("AUHT", "secret")
        span = await told.only()
        assert text_of(span) == "OTHER ?"
        assert span.name == "OTHER"


async def test_our_own_commands_are_nobodys_spans(
    clean_server: EmbeddedServer, proxy: FaultProxy, told: Told
) -> None:
    async with pool_at(clean_server, proxy, health_check_interval=0.05) as pool:
        with told.instrument(pool):
            await pool.client.get("k")
            before = pool.metrics().commands
            await until(lambda: pool.metrics().commands >= before + 2, "two checks of the lane")
            lane = standalone(pool).lane()
            lost = lane.connection
            proxy.reset()
            await until(lambda: lane.connection not in (None, lost), "the lane's next connection")
            await until(lambda: not lane.depth, "the answer to what opened it")
            await asyncio.sleep(0)
            assert told.named() == ["GET"]


# -- metrics -----------------------------------------------------------------------------


def one(points: list[Any], **attributes: object) -> Any:
    """The point that has these attributes, dots written as two underscores."""
    wanted = {key.replace("__", "."): value for key, value in attributes.items()}
    (found,) = (p for p in points if wanted.items() <= dict(p.attributes).items())
    return found


async def test_operations_are_measured_one_by_one(
    pool: RedisPool, told: Told, clean_server: EmbeddedServer
) -> None:
    with told.instrument(pool):
        await asyncio.gather(*(pool.client.get("k") for _ in range(500)))
        await pool.client.set("k", "v")
        with pytest.raises(ResponseError):
            await pool.client.lpush("k", "x")
        await asyncio.sleep(0)
        points = told.metrics()["db.client.operation.duration"]
        assert one(points, db__operation__name="GET").count == 500
        assert dict(one(points, db__operation__name="LPUSH").attributes) == {
            "db.system.name": "redis",
            "db.namespace": "0",
            "db.operation.name": "LPUSH",
            "server.address": clean_server.host,
            "server.port": clean_server.port,
            "error.type": "WRONGTYPE",
            "db.response.status_code": "WRONGTYPE",
        }
        assert one(points, db__operation__name="SET").explicit_bounds == (
            *(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0),
        )


async def test_a_span_and_its_measurement_agree(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool):
        await pool.client.get("k")
        span = await told.only()
        (point,) = told.metrics()["db.client.operation.duration"]
        took = ((span.end_time or 0) - (span.start_time or 0)) / 1e9
        assert point.sum <= took
        (exemplar,) = point.exemplars
        assert span.context is not None
        assert exemplar.span_id == span.context.span_id


async def test_the_pool_by_the_conventions(clean_server: EmbeddedServer, told: Told) -> None:
    async with pool_at(clean_server, pool_max_size=3, pool_timeout=0.01) as pool:
        with told.instrument(pool) as instrumentation:
            name = f"{clean_server.host}:{clean_server.port}/0"
            assert instrumentation.name == name
            await pool.client.ping()
            async with pool.get() as first:
                await first.execute("PING")
                async with pool.get():
                    with pytest.raises(Exception, match="are in use"):
                        (await pool.get()).release()
            found = told.metrics()
            count = found["db.client.connection.count"]
            assert one(count, db__client__connection__state="used").value == 1  # the lane
            assert one(count, db__client__connection__state="idle").value == 2
            for metric, value in (("max", 3), ("idle.min", 0), ("pending_requests", 0)):
                (point,) = found[f"db.client.connection.{metric}"]
                assert point.value == value
                assert dict(point.attributes) == {"db.client.connection.pool.name": name}
            (timeouts,) = found["db.client.connection.timeouts"]
            assert timeouts.value == 1
            for metric, counted in (("create", 3), ("wait", 3), ("use", 2)):
                (point,) = found[f"db.client.connection.{metric}_time"]
                assert point.count == counted, metric
                assert dict(point.attributes) == {"db.client.connection.pool.name": name}


async def test_what_nobody_has_used_is_not_counted_as_used(
    clean_server: EmbeddedServer, told: Told
) -> None:
    async with pool_at(clean_server, pool_min_idle=2) as pool:
        await until(lambda: pool.status().available == 2, "the spare ones")
        with told.instrument(pool):
            pool.resize(1)
            pool.resize(5)
            await standalone(pool)._housekeeper.round()
            found = told.metrics()
            assert one(found["db.client.connection.create_time"]).count == 1
            assert "db.client.connection.use_time" not in found
            assert "db.client.connection.wait_time" not in found


async def test_one_that_was_taken_is_used_no_more(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool):
        async with await pool.get() as kept:
            _ = kept.take()
            count = told.metrics()["db.client.connection.count"]
            assert one(count, db__client__connection__state="used").value == 0
            assert one(count, db__client__connection__state="idle").value == 0


async def test_the_catalogue_is_observed(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool, commands=False):
        await pool.client.set("k", "v")
        await asyncio.gather(*(pool.client.get("k") for _ in range(20)))
        await asyncio.sleep(0)
        found = told.metrics()
        metrics = pool.metrics()
        (commands,) = found["redisutils.commands"]
        assert commands.value == metrics.commands == 21
        buckets = found["redisutils.command.duration.bucket"]
        assert one(buckets, db__operation__name="GET", le="+Inf").value == 20
        assert one(found["redisutils.command.duration.sum"], db__operation__name="GET").value == (
            pytest.approx(metrics.by_command["GET"].latency.total)
        )
        states = found["redisutils.breaker.state"]
        assert one(states, redisutils__breaker__state="closed").value == 1
        expected = set()
        for each in CATALOGUE:
            if each.otel is not None and each.name != "redisutils_command_errors":
                histogram = each.kind == "histogram"
                expected |= (
                    {f"{each.otel}{end}" for end in (".bucket", ".sum")}
                    if histogram
                    else {each.otel}
                )
        assert expected <= found.keys()
        assert not {name for name in found if name.startswith("redisutils.")} - expected
        # Nothing looks at each command.
        assert told.finished() == []
        assert "db.client.operation.duration" not in found


async def test_collecting_in_another_thread(pool: RedisPool, told: Told) -> None:
    with told.instrument(pool):
        await pool.client.ping()
        await asyncio.sleep(0)
        found = await asyncio.to_thread(told.metrics)
        (commands,) = found["redisutils.commands"]
        assert commands.value == 1


# -- from beginning to end -----------------------------------------------------------------


async def test_it_ends(pool: RedisPool, told: Told) -> None:
    instrumentation = told.instrument(pool)
    await pool.client.get("k")
    await asyncio.sleep(0)
    assert told.named() == ["GET"]
    assert "redisutils.commands" in told.metrics()
    instrumentation.uninstrument()
    instrumentation.uninstrument()
    await pool.client.get("k")
    async with pool.get() as conn:
        await conn.execute("PING")
        assert isinstance(conn._lane, Connection)
    await asyncio.sleep(0)
    assert told.named() == []
    assert "redisutils.commands" not in told.metrics()
    again = told.instrument(pool)
    await pool.client.get("k")
    await asyncio.sleep(0)
    assert told.named() == ["GET"]
    assert "redisutils.commands" in told.metrics()
    await pool.close()
    again.uninstrument()


async def test_nothing_stands_before_a_pool_that_is_not_instrumented(pool: RedisPool) -> None:
    await pool.client.ping()
    lane = pool.client._lane
    assert isinstance(lane, Lane)
    assert lane.connection is not None
    assert lane.submit == lane.connection.submit
    assert lane.submit_many == lane.connection.submit_many


async def test_a_command_in_flight_at_the_end(
    clean_server: EmbeddedServer, proxy: FaultProxy, told: Told
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        await pool.client.ping()
        proxy.stall()
        with told.instrument(pool):
            asked = asyncio.create_task(pool.client.get("k"))
            await asyncio.sleep(0)
        proxy.restore()
        assert await asked is None
        assert (await told.only()).name == "GET"


async def test_one_pool_twice_and_two_of_one_name(clean_server: EmbeddedServer, told: Told) -> None:
    async with pool_at(clean_server) as first, pool_at(clean_server) as second:
        with told.instrument(first):
            with pytest.raises(ConfigError, match="instrumented already"):
                told.instrument(first)
            with pytest.raises(ConfigError, match="name='orders'"):
                told.instrument(second)
            with told.instrument(second, name="orders"):
                await second.client.ping()
                await asyncio.sleep(0)
                points = told.metrics()["redisutils.commands"]
                assert one(points, db__client__connection__pool__name="orders").value == 1


async def test_a_pool_that_is_not_open(clean_server: EmbeddedServer, told: Told) -> None:
    pool = pool_at(clean_server)
    with pytest.raises(PoolClosed, match="is not open"):
        told.instrument(pool)
    async with pool:
        pass
    with pytest.raises(PoolClosed, match="is closed"):
        told.instrument(pool)


async def test_what_is_over_keeps_no_pool(clean_server: EmbeddedServer, told: Told) -> None:
    pool = pool_at(clean_server)
    async with pool:
        with told.instrument(pool):
            await pool.client.ping()
            assert told.metrics()
    gone = weakref.ref(pool)
    del pool
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None
    told.metrics()


async def test_without_any_sdk_it_does_nothing(pool: RedisPool) -> None:
    with instrument(pool):
        assert await pool.client.set("k", "v")
        assert await pool.client.get("k") == b"v"


def test_without_the_extra_it_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "try: import redisutils.monitor.otel\n"
        "except ImportError as error: print(error)\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install 'redisutils[otel]'")
