"""A tape that is replayed comes to exactly the sums of its file, however the process is killed,
resumed and joined by others, and whatever the network does."""

from __future__ import annotations

import asyncio
import gzip
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from time import monotonic, sleep
from typing import Any, cast
from zoneinfo import ZoneInfo

import pytest
import redis
import uvloop

from redisutils import create_redis_pool
from redisutils.errors import Outcome, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading import InvalidValue
from redisutils.trading.errors import TradesMissing
from redisutils.trading.market.bars import Bar
from redisutils.trading.market.tape import find_tape, read_tape, simulate_tape
from redisutils.trading.market.ticks import Ticks
from redisutils.trading.times import SECOND

from .ours import pool_at, until
from .replayer import INTERVALS
from .tapes import bars_by_hand, make_tape, real_tape, rows_of
from .trades import MINUTE, NOON, a_tape, bars_of, trade

REPLAYER = Path(__file__).with_name("replayer.py")


@contextmanager
def replaying(server: EmbeddedServer, tape: Path, size: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "REDIS_URL": server.url}
    command = [sys.executable, str(REPLAYER), str(tape), str(size)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(client: redis.Redis, place: int, *processes: subprocess.Popen[bytes]) -> None:
    """Until the tape has got so far."""
    deadline = monotonic() + 60
    reached = 0
    while reached < place:
        assert all(process.poll() is None for process in processes)
        assert monotonic() < deadline, f"only {reached} of {place} after a minute"
        reached = int(cast(Any, client.hget("md:{ES}:t:m", "s")) or 0)
        sleep(0.002)  # a core for each of the others


def as_by_hand(bars: list[Bar]) -> dict[int, tuple[Any, ...]]:
    return {
        bar.start: (
            *(bar.open, bar.high, bar.low, bar.close),
            *(bar.volume, bar.notional, bar.count),
        )
        for bar in bars
    }


def test_killed_and_resumed_it_is_exact(tmp_path: Path) -> None:
    """Killed four times at places of the tape that nobody chose, one with two writers at work."""
    tape = real_tape() or make_tape(tmp_path / "tape.csv", 200_000)
    rows = list(rows_of(tape))
    assert len(rows) == 200_000
    with EmbeddedServer() as server, redis.Redis.from_url(server.url) as client:
        for place in (1, 40_000, 100_000):
            with replaying(server, tape, 700) as process:
                wait_for(client, place, process)
        with replaying(server, tape, 700) as one, replaying(server, tape, 900) as two:
            wait_for(client, 110_000, one, two)
        with replaying(server, tape, 5000) as process:
            assert process.wait(60) == 0

        async def check() -> None:
            async with create_redis_pool(url=server.url) as pool:
                ticks = Ticks(pool, intervals=INTERVALS)
                kept = [
                    (each.ts_event, each.price, each.quantity) async for each in ticks.between("ES")
                ]
                assert kept == rows
                second, minute, day = [
                    as_by_hand(await ticks.bars("ES", interval)) for interval in INTERVALS
                ]
                assert second == bars_by_hand(rows, SECOND)
                assert minute == bars_by_hand(rows, 60 * SECOND)
                assert day == bars_by_hand(rows, 86_400 * SECOND, 22 * 3600 * SECOND)
                volume = sum(bar[4] for bar in day.values())
                notional = sum(bar[5] for bar in day.values())
                assert volume == sum(volume for _, _, volume in rows)
                assert notional == sum(price * volume for _, price, volume in rows)

        uvloop.run(check())


async def test_whatever_the_network_does(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    """Replies that never come, connections that break: what was written is written once."""
    trades = a_tape(3000, late=0.02)
    asked = reset = 0
    async with pool_at(
        clean_server, proxy, command_timeout=0.25, connection_timeout=1, max_retries=2
    ) as pool:
        ticks = Ticks(pool, intervals=("5s", "1m"))
        at, step = 0, 0
        while at < len(trades):
            step += 1
            if step % 4 == 1:
                proxy.swallow_replies(1 + step % 3, lambda data: b"EVAL" in data, "reset")
            elif step % 4 == 3:
                proxy.close_all()
            calls = [ticks.write(trades[at + part : at + part + 75]) for part in range(0, 300, 75)]
            results = await asyncio.gather(*calls, return_exceptions=True)
            failed = [result for result in results if isinstance(result, BaseException)]
            for failure in failed:
                assert isinstance(failure, redis.RedisError | TradesMissing)
                assert outcome_of(failure) in (Outcome.UNKNOWN, Outcome.NOT_SENT)
            if not failed:
                at += 300
                continue
            reset += 1
            proxy.restore()
            at = max(0, await ticks.reached("ES"))
        asked = proxy.swallowed
        proxy.restore()
        assert asked >= 3
        assert reset < step
        assert [each async for each in ticks.between("ES")] == trades
        for interval in ("5s", "1m"):
            assert await ticks.bars("ES", interval) == bars_of(trades, interval)


async def test_steps_that_are_repeated_are_not_taken_for_others(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    """When the reply gets lost, they find out that they were carried out."""
    trades = a_tape(1025)
    async with pool_at(clean_server, proxy, connection_timeout=1) as pool:
        ticks = Ticks(pool)
        await ticks.write(trades[:1])
        for fault in range(2):
            proxy.swallow_replies(1 + fault, lambda data: b"EVAL" in data, "reset")
            written = await ticks.write(trades[1 + 512 * fault : 513 + 512 * fault])
            assert (written.written, written.duplicates) == (512, 0)
        assert [each async for each in ticks.between("ES")] == trades
        # Both were carried out before the first is repeated.
        proxy.swallow_replies(1, lambda data: b"EVAL" in data, "silence")
        more = [trade(1025 + number, at=NOON + 60 * MINUTE) for number in range(1, 1025)]
        call = asyncio.create_task(ticks.write(more))
        await until(lambda: admin.hget("md:{ES}:t:m", "s") == "2049")
        proxy.restore()
        proxy.reset()
        written = await call
        assert (written.written, written.duplicates) == (1024, 0)
        assert [each async for each in ticks.between("ES")] == trades + more


# -- files -------------------------------------------------------------------------------------


def a_file(folder: Path, *lines: str) -> Path:
    path = folder / "tape.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_of_trades(tmp_path: Path) -> None:
    path = a_file(
        tmp_path,
        "Volume,datetime,Other,PRICE",
        "8,2013-09-01 17:00:00.083,x,1640.25",
        "0.5,2013-09-01T17:00:00,,-1",
        "3,2013-09-01 17:00:01.000000001,,1640.25",
    )
    trades = list(read_tape(path, "ES"))
    start = 1_378_054_800 * SECOND
    assert [each.seq for each in trades] == [1, 2, 3]
    assert [each.ts_event - start for each in trades] == [83_000_000, 0, SECOND + 1]
    assert [str(each.price) for each in trades] == ["1640.25", "-1", "1640.25"]
    assert [str(each.quantity) for each in trades] == ["8", "0.5", "3"]
    assert list(read_tape(path, "ES", after=2)) == trades[2:]
    chicago = next(read_tape(path, "ES", zone=ZoneInfo("America/Chicago")))
    assert chicago.ts_event - trades[0].ts_event == 5 * 3600 * SECOND
    packed = tmp_path / "tape.csv.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert list(read_tape(packed, "ES")) == trades


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("2013-09-01 17:00:00,1", "line 3: "),
        ("2013-09-01 17:00:00,nan,1", "line 3: Price='nan'"),
        ("2013-09-01 17:00:00,1,0", "line 3: Volume=0 must be more than 0"),
        ("2013-13-01 17:00:00,1,1", "line 3: month must be"),
        ("01.09.2013 17:00:00,1,1", "line 3: DateTime='01.09.2013 17:00:00' must be like"),
    ],
)
def test_a_line_that_cannot_be_read(tmp_path: Path, line: str, hint: str) -> None:
    path = a_file(tmp_path, "DateTime,Price,Volume", "2013-09-01 17:00:00,1,1", line)
    tape = read_tape(path, "ES")
    assert next(tape).seq == 1
    with pytest.raises(InvalidValue, match=hint):
        next(tape)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.csv.gz", gzip.compress(b"DateTime,Price,Volume\n2013-09-01 17:00:00,1,1\n" * 9)[:-9]),
        ("none.csv.gz", b"DateTime,Price,Volume\n"),
        ("latin.csv", b"DateTime,Price,Volume\n2013-09-01 17:00:00,1,\xff\n"),
        ("long.csv", b"DateTime,Price,Volume\n2013-09-01 17:00:00,1," + b"1" * 200_000 + b"\n"),
    ],
    ids=["cut", "no gzip", "no UTF-8", "too long"],  # in gzip's there is the time of its making
)
def test_a_file_that_is_broken(tmp_path: Path, name: str, content: bytes) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidValue, match=f"path=.*{name}, (after )?line "):
        list(read_tape(path, "ES"))


def test_a_file_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="must name the columns DateTime, Price and Volume"):
        next(read_tape(a_file(tmp_path, "a,b"), "ES"))


def test_where_the_tape_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISUTILS_TAPE", raising=False)
    assert find_tape() is None
    monkeypatch.setenv("REDISUTILS_TAPE", str(tmp_path / "none"))
    with pytest.raises(InvalidValue, match=r"REDISUTILS_TAPE=.*none must be a file"):
        find_tape()
    path = a_file(tmp_path, "x")
    monkeypatch.setenv("REDISUTILS_TAPE", str(path))
    assert find_tape() == path


def test_a_simulated_tape() -> None:
    trades = list(simulate_tape("ES", 5000))
    assert trades == list(simulate_tape("ES", 5000))
    assert trades != list(simulate_tape("ES", 5000, seed=2))
    assert [each.seq for each in trades] == list(range(1, 5001))
    assert all(each.price % Decimal("0.25") == 0 for each in trades)
    moments = [each.ts_event for each in trades]
    assert moments == sorted(moments)
    assert len({(each.ts_event, each.price, each.quantity) for each in trades}) < 5000
