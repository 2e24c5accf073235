"""``redisutils bench``: what it measures is so, it harms nothing, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import io
import itertools
import json
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from random import Random
from time import perf_counter
from typing import Any

import pytest
import redis
from rich.console import Console
from typer.testing import CliRunner

from redisutils import ConfigError, Redis
from redisutils.cli import drawing, running
from redisutils.cli.app import app
from redisutils.cli.bench import alarm as alarm_module
from redisutils.cli.bench import run as run_module
from redisutils.cli.bench.alarm import Alarm
from redisutils.cli.bench.data import Data
from redisutils.cli.bench.figures import Figures, joined
from redisutils.cli.bench.hgrm import hgrm
from redisutils.cli.bench.load import Load, Plan, Schedule
from redisutils.cli.bench.mix import OPERATIONS, parse_mix, parse_size
from redisutils.cli.bench.record import Record, Settings, Spread, load_record, to_json
from redisutils.cli.bench.run import Options, measure
from redisutils.cli.bench.summary import _ratio, summary
from redisutils.cli.bench.thresholds import parse_threshold
from redisutils.cli.bench.view import Facts, Frame, LiveView
from redisutils.metrics import LatencyHistogram
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import client_at, until
from tests.servers import client_of

ALL = ",".join(OPERATIONS)


pytestmark = pytest.mark.usefixtures("empty_surroundings")


@pytest.fixture(autouse=True)
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends with ``gc.unfreeze``: what conftest froze for all tests is not to thaw."""
    monkeypatch.setattr(gc, "unfreeze", lambda: None)


@pytest.fixture
def target(clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> EmbeddedServer:
    """The session's server, and the environment says so."""
    monkeypatch.setenv("REDIS_URL", clean_server.url)
    return clean_server


@pytest.fixture(scope="module")
def a_server() -> Iterator[EmbeddedServer]:
    """One of any kind, for what it does not depend on, and empty."""
    with EmbeddedServer() as server:
        yield server


@pytest.fixture
async def client(clean_server: EmbeddedServer) -> AsyncIterator[Redis]:
    async with client_at(clean_server) as client:
        yield client


def bench(*arguments: str) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, ["bench", *arguments])


def settings(**others: Any) -> Settings:
    given: dict[str, Any] = {
        "mix": {"get": 1}, "size": (10, 10), "tasks": 5, "seconds": 0.2, "warmup": 0.0,
        "keys": 10, "pipeline": 1, "rate": None, "arrivals": "constant",
    }  # fmt: skip
    return Settings(**{**given, **others})


async def measured(**others: Any) -> Record:
    quiet = Console(file=io.StringIO())
    record = await measure(Options(settings=settings(**others), json=True), quiet)
    assert record is not None
    return record


def spread_of(*seconds: float) -> Spread:
    histogram = LatencyHistogram()
    for each in seconds:
        histogram.record(each)
    return Spread.of(histogram.snapshot())


# What it leaves alone, and what it leaves behind


@pytest.mark.parametrize("more", [(), ("--rate", "2000"), ("--pipeline", "7")])
def test_every_command_of_the_mix_works_and_nothing_is_left(
    target: EmbeddedServer, admin: redis.Redis, more: tuple[str, ...]
) -> None:
    admin.set("theirs", "untouched")
    done = bench(
        "--mix", ALL, "--seconds", "0.5", "--warmup", "0.1", "--keys", "50",
        "--size", "10-200", "--json", *more,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["errors"] == {}
    assert record["commands"] > 500
    rows = {row["name"]: row["calls"] for row in record["rows"]}
    assert rows.keys() == ({"pipeline of 7"} if "--pipeline" in more else set(OPERATIONS))
    assert all(rows.values())
    assert admin.keys() == ["theirs"]
    assert admin.get("theirs") == "untouched"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_every_key_has_a_ttl_from_its_first_moment_to_its_last(
    client: Redis, admin: redis.Redis
) -> None:
    data = Data(OPERATIONS, 5, (2000, 3000), 1000)
    await data.store(client)
    dealers = [data.dealer(name) for name in OPERATIONS]
    pops = data.dealer("rpop")
    for _ in range(30):
        await asyncio.gather(*[client.execute_command(*dealer()) for dealer in dealers])
    # More than there is in the lists.
    await asyncio.gather(*[client.execute_command(*pops()) for _ in range(1_500)])
    await asyncio.gather(*[client.execute_command(*dealer()) for dealer in dealers])
    names = set(data.names())
    assert set(admin.keys()) == names
    assert len(names) == data.keys
    assert all(0 < admin.ttl(name) <= 1000 for name in names)
    await data.delete(client)
    assert admin.dbsize() == 0


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_lists_and_streams_stay_short(client: Redis, admin: redis.Redis) -> None:
    data = Data(["lpush", "xadd"], 1, (20_000, 20_000), 1000)
    await data.store(client)
    push, add = data.dealer("lpush"), data.dealer("xadd")
    longest = 0
    for _ in range(300):
        await asyncio.gather(client.execute_command(*push()), client.execute_command(*add()))
        longest = max(longest, admin.llen(f"{data.prefix}list:0"))
    assert 40 < longest <= 50  # a million bytes
    assert admin.xlen(f"{data.prefix}stream:0") <= 110
    await data.delete(client)


async def test_keys_that_cannot_be_stored_end_it_before_it_begins(
    target: EmbeddedServer,
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    admin.acl_setuser("reader", enabled=True, passwords=["+pw"], keys="*", commands=["+ping"])
    monkeypatch.setenv("REDIS_URL", f"redis://reader:pw@{target.host}:{target.port}")
    try:
        told = "^the keys of the run cannot be stored: .* has no permissions.*set"
        with pytest.raises(redis.exceptions.NoPermissionError, match=told) as failed:
            await measured()
    finally:
        admin.acl_deluser("reader")
    assert "redisutils:bench" not in str(failed.value)  # nor any value, which is no text
    assert capsys.readouterr().err == ""  # of deleting what is not there


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from redisutils.cli import main; main()", *arguments]


def test_ctrl_c_shows_what_there_is_and_deletes_the_keys(
    a_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", a_server.url)
    admin: redis.Redis
    with (
        client_of(a_server.url) as admin,
        subprocess.Popen(
            command(
                "bench",
                "--seconds",
                "60",
                "--warmup",
                "0",
                "--keys",
                "1000",
                "--tasks",
                "5",
                "--mix",
                "get,set,hset,lpush",
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        for line in process.stdout:
            if "measuring" in line:
                break
        assert admin.dbsize() > 2000
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert admin.dbsize() == 0
    assert process.returncode == 130, err
    assert "✓ ended early; " in out
    assert "Traceback" not in err


# What it measures


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_stall_counts_for_all_who_would_have_waited(
    target: EmbeddedServer,
    proxy: FaultProxy,
    admin: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", target.url.replace(f":{target.port}", f":{proxy.port}"))
    running = asyncio.create_task(measured(rate=300.0, seconds=1.2, tasks=2, mix={"ping": 1}))
    await until(lambda: proxy.to_server.forwarded > 2000)
    admin.client_pause(400, all=True)
    record = await running
    assert record.response is not None
    # The two that were under way are all that a closed loop would have seen of it.
    assert 1 <= longer_than(0.2, record.service) <= 4
    assert longer_than(0.2, record.response) > 40
    assert record.response.percentile(99) > 0.25 > record.service.percentile(90)
    assert record.open is not None
    assert record.open.late_busy > 60


def longer_than(seconds: float, spread: Spread) -> int:
    return sum(count for value, count in spread.values if value > seconds)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_rate_beyond_reach_is_told_and_all_that_was_due_is_counted(
    target: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisutils.cli.bench.load.DRAIN", 0.05)
    record = await measured(
        rate=500_000.0, tasks=1, seconds=0.3, arrivals="poisson", mix={"get": 2, "ping": 1}
    )
    assert record.rate_held is False
    assert record.rate < 250_000
    opened = record.open
    assert opened is not None
    assert record.response is not None
    assert opened.due == pytest.approx(150_000, rel=0.03)
    assert opened.unstarted > 50_000
    assert record.response.count == opened.due == record.commands + opened.unstarted
    # What was never started has waited for at least as long as it was due.
    assert record.response.percentile(50) > 0.1
    assert record.response.max < 1.5
    text = shown(record)
    assert "500,000/s could not be held" in text
    assert "never started" in text


async def test_arrivals_by_the_clock_are_as_many_as_were_asked_for(target: EmbeddedServer) -> None:
    record = await measured(rate=400.0, seconds=0.5, tasks=50)
    assert record.open is not None
    assert record.open.due == 200
    assert record.commands == 200
    assert record.response is not None
    assert record.response.count == 200
    assert record.response.mean >= record.service.mean


@pytest.mark.parametrize("rate", [1.0, 7.0, 10.0, 333.0, 400.0, 1000.0])
def test_nothing_is_owed_when_all_has_been_dealt(rate: float) -> None:
    for begin in (0.0, 100.0, 123.456, 3600.7):
        schedule = Schedule(Plan({"ping": 1}, 1, 1, rate, "constant"), begin, begin + 3.0, Random())
        assert schedule.owed(begin + 1.0) == pytest.approx(rate, abs=1)
        assert len(list(schedule)) == pytest.approx(3 * rate, abs=1)
        assert schedule.owed(begin + 9.0) == 0


def test_random_arrivals_come_at_random() -> None:
    due = list(Schedule(Plan({"ping": 1}, 1, rate=1000.0), 100.0, 110.0, Random(3)))
    gaps = [after - before for before, after in itertools.pairwise(due)]
    assert len(due) == pytest.approx(10_000, rel=0.05)
    # Of exponential gaps, a share of 1/e is longer than the mean.
    assert sum(gap > 0.001 for gap in gaps) / len(gaps) == pytest.approx(0.368, abs=0.03)


async def test_errors_are_counted_by_outcome_and_do_not_pass_for_latencies(
    target: EmbeddedServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.acl_setuser(
        "half", enabled=True, passwords=["+pw"], keys="*", commands=["+@all", "-publish"]
    )
    monkeypatch.setenv("REDIS_URL", f"redis://half:pw@{target.host}:{target.port}")
    try:
        record = await measured(mix={"ping": 1, "publish": 1})
    finally:
        admin.acl_deluser("half")
    ((name, count),) = record.errors.items()
    assert name == "NoPermissionError REJECTED"
    rows = {row.name: row for row in record.rows}
    assert rows["publish"].failed == count > 0
    assert rows["publish"].calls == 0
    assert rows["ping"].calls == record.service.count > 0
    assert "NOPERM" in record.examples[0] or "permission" in record.examples[0]
    assert run_module._verdict(record, []) == 1
    assert "calls failed" in shown(record)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_what_ran_into_its_budget_counts_with_the_time_that_it_took(
    target: EmbeddedServer, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", target.url.replace(f":{target.port}", f":{proxy.port}"))
    monkeypatch.setenv("REDIS_COMMAND_TIMEOUT", "0.3")
    monkeypatch.setattr("redisutils.cli.bench.load.DRAIN", 0.1)
    running = asyncio.create_task(measured(rate=200.0, seconds=0.6, mix={"ping": 1}))
    await until(lambda: proxy.to_server.forwarded > 1500)
    proxy.stall()
    record = await running
    proxy.restore()
    overdue = sum(n for name, n in record.errors.items() if name.startswith("CommandTimeout"))
    assert overdue
    (row,) = record.rows
    assert record.commands == row.calls == row.service.count - overdue
    assert record.service.max > 0.25


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_pool_tells_what_the_latency_is_made_of(target: EmbeddedServer) -> None:
    record = await measured(seconds=0.4)
    assert {"mean", "50", "99"} <= record.parts.keys()
    assert sum(record.parts["50"].values()) == pytest.approx(record.service.percentile(50), rel=0.6)
    assert record.server_cpu is not None
    assert record.client.cpu > 0


async def test_memory_does_not_grow_with_the_run(client: Redis) -> None:
    data = Data(["get"], 10, (5, 5), 60)
    await data.store(client)
    figures = Figures(["get"])
    load = Load(client, data, Plan({"get": 1}, 20), figures)
    most = 0

    def look() -> None:
        nonlocal most
        most = max(most, len(figures.rows["get"].service.pending), len(load._deck))
        if not load._stopped:
            asyncio.get_running_loop().call_soon(look)

    look()
    await load.run(0.3)
    assert 0 < most <= 20 + 64 * 17
    assert figures.rows["get"].service.snapshot().count > most
    await data.delete(client)


# The alarm


@pytest.mark.parametrize("kernel", [True, False])
async def test_the_alarm_wakes_in_time_and_in_order(
    monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    if not kernel:
        monkeypatch.setattr(alarm_module._Timer, "make", lambda: None)
    alarm = Alarm()
    began = perf_counter()
    woken: list[tuple[int, float]] = []

    async def sleeper(number: int) -> None:
        assert await alarm.wait(began + number * 0.0007)
        woken.append((number, perf_counter()))

    await asyncio.gather(*[sleeper(number) for number in range(-3, 60)])
    assert [number for number, _ in woken] == list(range(-3, 60))
    assert all(at >= began + number * 0.0007 for number, at in woken)
    left = alarm.wait(perf_counter() + 60)
    assert alarm.waiting == 1
    alarm.close()
    alarm.close()
    assert await left is False
    assert await alarm.wait(0.0) is False


# Files


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_saved_run_is_compared(target: EmbeddedServer, tmp_path: Path) -> None:
    record = await measured(rate=500.0)
    path = tmp_path / "before.json"
    path.write_bytes(to_json(record))
    assert load_record(path) == record
    text = shown(record, ("before.json", record))
    assert "before.json" in text
    assert "× 1.00" in text
    assert "with another load" not in text


def test_the_command_saves_draws_and_compares(
    a_server: EmbeddedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setenv("REDIS_URL", a_server.url)
    short = ("--seconds", "0.3", "--warmup", "0", "--keys", "10")
    done = bench(*short, "--save", "a.json", "--hgrm", "a.hgrm", "--plot", "a.png")
    assert done.exit_code == 0, done.output
    assert "✓" in done.stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    done = bench(*short, "--rate", "100", "--compare", "a.json", "--plot", "b.svg")
    assert done.exit_code == 0, done.output
    assert "ratio" in done.stdout
    assert "with another load: get 80 %, set 20 %" in done.stdout
    assert "a.json (another load)" in (tmp_path / "b.svg").read_text()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot be read: No such file"),
        (b"", "not a run saved by redisutils bench --save"),
        (b"[]", "not a run saved by redisutils bench --save"),
        (b'{"redisutils_bench": 2}', "redisutils_bench: input should be 1"),
        (b'{"redisutils_bench": 1}', "field required"),
        (b" " * 8_000_001, "longer than"),
    ],
)
def test_a_file_that_is_no_saved_run_is_refused(content: bytes | None, told: str) -> None:
    if content is not None:
        Path("a.json").write_bytes(content)
    done = bench("--compare", "a.json")
    assert done.exit_code == 2
    assert "a.json: " in done.output
    assert told in " ".join(re.sub(r"[│╭╮╰╯─]", "", done.output).split())


def test_a_record_with_nonsense_in_it_is_refused(tmp_path: Path) -> None:
    record = json.loads(to_json(asyncio.run(_record())))
    spoilers: tuple[Callable[[Any], object], ...] = (
        lambda r: r["service"].update(count=-1),
        lambda r: r["service"]["values"].append(["x", 1]),
        lambda r: r.update(seconds=0),
        lambda r: r["settings"].update(pipeline=0),
        lambda r: r.update(rate=float("nan")),
    )
    for spoil in spoilers:
        spoiled = json.loads(json.dumps(record))
        spoil(spoiled)
        Path("a.json").write_text(json.dumps(spoiled))
        assert bench("--compare", "a.json").exit_code == 2


async def _record() -> Record:
    from redisutils import create_redis_pool
    from redisutils.cli.bench.finish import finished

    async with create_redis_pool() as pool:
        figures = Figures(["get"])
        figures.rows["get"].service.record(0.001)
        figures.seconds = 1.0
        return finished(
            settings(), figures, pool.metrics(), at=1.0, server="a server", server_cpu=None,
            interrupted=False, event_loop="asyncio",
        )  # fmt: skip


def test_the_percentile_text_is_what_its_readers_expect() -> None:
    spread = spread_of(*[0.001 * number for number in range(1, 1001)])
    lines = hgrm(spread).splitlines()
    assert lines[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    rows = [line.split() for line in lines[2:] if not line.startswith("#")]
    for value, fraction, upto, *inverse in rows:
        share = float(fraction)
        assert int(upto) >= share * 1000
        assert float(value) == pytest.approx(1000 * max(share, 0.001), rel=0.04)
        if inverse:
            assert float(inverse[0]) == pytest.approx(1 / (1 - share), rel=0.01)
    assert rows[0][1:3] == ["0.000000000000", "1"]
    assert rows[-1][:3] == ["1000.000", "1.000000000000", "1000"]
    assert [float(row[1]) for row in rows] == sorted({float(row[1]) for row in rows})
    assert "#[Mean    =      500.500, StdDeviation   =" in lines[-3]
    assert "#[Max     =     1000.000, Total count    =         1000]" in lines[-2]
    assert hgrm(spread_of()).splitlines()[-2].endswith("Total count    =            0]")


# Options


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("get=8,set=2", {"get": 8, "set": 2}),
        (" GET , set = 3", {"get": 1, "set": 3}),
        ("ping", {"ping": 1}),
    ],
)
def test_a_mix(text: str, weights: dict[str, int]) -> None:
    assert parse_mix(text) == weights


@pytest.mark.parametrize(
    ("text", "size"),
    [("100", (100, 100)), ("1k", (1000, 1000)), ("100-1kb", (100, 1000)), ("1M", (10**6, 10**6))],
)
def test_a_size(text: str, size: tuple[int, int]) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--mix flushall", "'flushall' is no command of the mix; there are get, set, mget"),
        ("--mix get=8,get=1", "get is given twice"),
        ("--mix get=", "the weight must be a whole number, as in get=8"),
        ("--mix get=-1", "the weight must be a whole number"),
        ("--mix get=0", "the weight must be from 1 to 1,000,000"),
        ("--mix ,", "'' is no command"),
        ("--size 0", "a value has from 1 to 16,000,000 bytes"),
        ("--size 17m", "a value has from 1 to 16,000,000 bytes"),
        ("--size 9-1", "the first of a range must not be the larger one"),
        ("--size ten", "'ten' is no size; right are 100, 1k, 100-1000 or 1k-64k"),
        ("--size -5", "is no size"),
        ("--tasks 0", "--tasks"),
        ("--tasks 10001", "--tasks"),
        ("--seconds 0", "--seconds"),
        ("--seconds nan", "--seconds"),
        ("--seconds 99999", "--seconds"),
        ("--rate 0", "--rate"),
        ("--rate inf", "--rate"),
        ("--rate nan", "--rate"),
        ("--arrivals never", "--arrivals"),
        ("--keys 0", "--keys"),
        ("--pipeline 1001", "--pipeline"),
        ("--warmup -1", "--warmup"),
        ("--plot a.jpeg", "the name must end in .png or .svg"),
        ("--plot absent/a.png", "there is no folder absent"),
        ("--save absent/a.json", "there is no folder absent"),
        ("--hgrm .", "is a folder"),
        ("--fail-if p99", "'p99' is no condition; right are p99>5ms"),
        ("--fail-if p99>5", "p99 needs a unit, us, ms or s"),
        ("--fail-if p100>5ms", "is no condition"),
        ("--fail-if rate<5ms", "ms is no unit of rate"),
        ("--fail-if errors>1s", "s is no unit of errors"),
        ("--keys 1000000 --size 2k", "would store about 2.1 GB"),
    ],
)
def test_wrong_options(arguments: str, told: str) -> None:
    done = bench(*arguments.split())
    assert done.exit_code == 2, done.output
    assert told in " ".join(re.sub(r"[│╭╮╰╯─]", "", done.output).split())
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("p50>1ms", True), ("p50 > 5ms", False), ("p99.9>=3ms", True), ("max>50ms", True),
        ("mean<1us", False), ("mean>1us", True), ("rate<10", True), ("rate<1", False),
        ("rate>0.001k", True), ("errors>0", True), ("errors>24%", True), ("errors>25%", False),
    ],
)  # fmt: skip
def test_a_threshold(text: str, broken: bool) -> None:
    figures = Figures(["get"])
    row = figures.rows["get"]
    for milliseconds in (2, 3, 60):
        row.service.record(milliseconds / 1000)
    figures.fail(row, redis.ConnectionError("no"), 0.1, None)
    figures.seconds = 1.0
    record = asyncio.run(_record_of(figures))
    assert bool(parse_threshold(text).broken(record)) is broken


async def _record_of(figures: Figures) -> Record:
    from redisutils import create_redis_pool
    from redisutils.cli.bench.finish import finished

    async with create_redis_pool() as pool:
        return finished(
            settings(), figures, pool.metrics(), at=1.0, server="a server", server_cpu=None,
            interrupted=False, event_loop="asyncio",
        )  # fmt: skip


def test_a_broken_threshold_is_exit_code_3(target: EmbeddedServer) -> None:
    short = ("--seconds", "0.2", "--warmup", "0", "--keys", "10")
    done = bench(*short, "--fail-if", "p50>0.1us", "--fail-if", "p50>10s")
    assert done.exit_code == 3
    assert "--fail-if 'p50>0.1us': p50 is " in done.output
    assert "p50>10s" not in done.output
    assert "✗" in done.output  # for those who read the summary alone
    assert "no errors" not in done.output


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("REDIS_MAX_RETRIES", "0")
    done = bench("--seconds", "1")
    assert done.exit_code == 1
    assert "redisutils bench: " in done.output
    assert "127.0.0.1" in done.output


def test_no_server_and_no_extra_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"set REDIS_URL.*redisutils\[embedded\]"):
        running.target()
    assert bench("--seconds", "1").exit_code == 2


def test_a_server_with_keys_of_others_is_pointed_out(
    target: EmbeddedServer, admin: redis.Redis
) -> None:
    admin.set("theirs", "1")
    short = ("--seconds", "0.1", "--warmup", "0", "--keys", "1", "--json")
    assert "holds 1 keys of others" in bench(*short).stderr
    assert "keys of others" not in bench(*short, "--rate", "10").stderr


def test_help_has_examples_a_line_each() -> None:
    lines = [line.strip() for line in bench("--help").stdout.splitlines()]
    assert "redisutils bench --rate 20000 --seconds 30 --plot latency.svg" in lines
    assert any(line.startswith("130  ended early") for line in lines)


# What it looks like


def shown(
    record: Record, compared: tuple[str, Record] | None = None, width: int = 80, **console: Any
) -> str:
    out = io.StringIO()
    screen = Console(file=out, width=width, **console)
    screen.print(summary(record, compared, width=width))
    return out.getvalue()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_summary_fits_eighty_columns(target: EmbeddedServer) -> None:
    record = await measured(rate=500.0, mix={"get": 8, "hgetall": 1}, seconds=0.3)
    for compared in (None, ("a-run-with-a-long-name.json", record)):
        text = shown(record, compared)
        assert all(len(line) <= 80 for line in text.splitlines())
        assert "99%" in text
        assert any("⣀" <= character <= "⣿" for character in text)
    assert "\x1b[3" in shown(record, force_terminal=True, color_system="256")
    assert "\x1b[3" not in shown(record, force_terminal=True, no_color=True)
    nothing = asyncio.to_thread(lambda: asyncio.run(_record_of(Figures(["get"]))))
    assert "0 commands/s" in shown(await nothing)


def plain_lines(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).splitlines()


def test_the_live_view_fits_and_redraws(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30, color_system="256")
    frame = Frame(
        "measuring", 1.5, 0.25, 12345.6, (0.0001, 0.001, 0.01), (0.0002, 0.002, 0.02),
        (("CommandTimeout UNKNOWN", 7),), 1234, 0.97,
    )  # fmt: skip
    with LiveView(console, Facts("a server", "x" * 200, 50000.0)) as view:
        view.show(frame)
        drawn = len(plain_lines(out.getvalue()))
        view.show(frame)
        assert f"\x1b[{drawn}F" in out.getvalue()
    text = out.getvalue()
    assert max(map(len, plain_lines(text))) <= 80
    for part in ("12,346", "of 50,000", "1,234 due", "2.00 ms", "7 CommandTimeout UNKNOWN", "97 %"):
        assert part in text
    assert text.endswith("\x1b[?25h")


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_the_live_view_of_a_run(target: EmbeddedServer) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=30)
    options = Options(settings=settings(seconds=0.7, rate=200.0))
    assert await measure(options, console) is not None
    assert "of 200 commands/s" in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"), (0.0, "0.0 µs"), (1e-7, "0.1 µs"), (1.234e-6, "1.23 µs"),
        (99.96e-6, "100 µs"), (0.9996e-3, "1.00 ms"), (0.01234, "12.3 ms"), (1.5, "1.50 s"),
        (2000.0, "2,000 s"),
    ],
)  # fmt: skip
def test_durations_have_three_digits(seconds: float | None, words: str) -> None:
    assert drawing.duration(seconds) == words


def test_small_pictures() -> None:
    assert [drawing.short(n) for n in (0, 999, 1000, 12345, 3.1e6)] == [
        "0", "999", "1.00k", "12.3k", "3.10M",
    ]  # fmt: skip
    assert [drawing.size(n) for n in (None, 12, 3400, 2.5e9)] == ["–", "12 B", "3.4 kB", "2.5 GB"]
    assert [drawing.share(n) for n in (None, 0.0, 0.07, 1.0, 0.0002)] == [
        "–", "0 %", "7 %", "100 %", "0.02 %",
    ]  # fmt: skip
    assert drawing.stacked([1, 1, 2], 8) == [2, 2, 4]
    assert drawing.stacked([0, 0], 8) == [0, 0]
    assert sum(drawing.stacked([0.1, 0.2, 0.7], 7)) == 7
    canvas = drawing.Braille(2, 1)
    canvas.curve([0.0, 1.0, None, 0.0], 1)
    assert canvas.lines() == [[("⡸⢀", 1)]]


def test_histograms_are_joined_without_loss() -> None:
    histograms = [LatencyHistogram(), LatencyHistogram(), LatencyHistogram()]
    for number, histogram in enumerate(histograms[:2]):
        histogram.record(0.001 * (number + 1), 10)
    together = joined(each.snapshot() for each in histograms)
    assert (together.count, together.max) == (20, 0.002)
    assert together.mean == pytest.approx(0.0015)
    assert together.p50 == pytest.approx(0.001, rel=0.02)
    assert joined([]).count == 0


async def test_what_comes_after_the_end_is_no_part_of_the_rate(target: EmbeddedServer) -> None:
    """Of a schedule that was not held: nor do counts push each other out of their columns."""
    record = await measured(rate=1000.0, seconds=0.3, mix={"get": 1})
    (row,) = record.rows
    late = dataclasses.replace(
        record, rate=500.0, rate_held=False, rows=(dataclasses.replace(row, calls=1_234_567),)
    )
    (line,) = [line for line in shown(late).splitlines() if line.strip().startswith("get  ")]
    assert line.split()[:3] == ["get", "1.23M", "500"]


def test_far_ratios_are_no_zero() -> None:
    ratios = [_ratio(now, 1.0, more_is_better=False).plain for now in (0.00234, 0.5, 23.4, 1234.5)]
    assert ratios == ["× 0.0023", "× 0.50", "× 23.40", "× 1,234"]


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize("width", [40, 60])
async def test_a_narrow_terminal_sees_whole_words_and_figures(
    width: int, target: EmbeddedServer
) -> None:
    record = await measured(mix={"get": 1, "hgetall": 1})
    lines = [line.rstrip() for line in shown(record, width=width).splitlines()]
    assert max(map(len, lines)) <= width
    [head] = [line.split() for line in lines if line.startswith("  command")]
    assert head == ["command", "calls", "p99", "errors"]
    bars = [line for line in lines if re.match(r"  p(50|99) +[\d.]+ .s    [░▒█▓=]+$", line)]
    assert len(bars) == 2
    axis = next(line for line in lines if "90%" in line)
    assert all(re.fullmatch(r"[\d.]+%", name) for name in axis.split())
