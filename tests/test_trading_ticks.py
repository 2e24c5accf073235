"""Tapes: what was written is there once, with its latest trade and its bars, and what is not news
is told."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import redis

from redisutils import RedisPool
from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.trading import MarketData
from redisutils.trading.errors import InvalidValue, TapeMismatch, TradesMissing, UnknownInstrument
from redisutils.trading.market.bars import Bar
from redisutils.trading.market.tape_form import Retention
from redisutils.trading.market.tape_state import Written
from redisutils.trading.market.ticks import Ticks
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.times import SECOND

from .clusters import cluster_pool, other_primary
from .ours import pool_at, until
from .trades import MINUTE, NOON, a_tape, bars_of, trade


async def all_of(ticks: Ticks, *between: Any, **how: Any) -> list[Trade]:
    return [trade async for trade in ticks.between("ES", *between, **how)]


async def holds(ticks: Ticks, trades: list[Trade], *intervals: str) -> None:
    """The tape is exactly these trades."""
    assert await all_of(ticks) == trades
    newest = max(trades, key=lambda each: (each.ts_event, each.seq))
    assert (await ticks.latest("ES")).value == newest
    for interval in intervals:
        assert await ticks.bars("ES", interval) == bars_of(trades, interval)
    assert await ticks.reached("ES") == trades[-1].seq


def contents(admin: redis.Redis) -> dict[str, bytes]:
    """Everything that the server has."""
    found: Any = {key: admin.dump(key) for key in admin.scan_iter()}
    return dict(found)


# -- writing ---------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_what_is_written_is_there(pool: RedisPool, encoding: Any) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m", "1d+22h"), encoding=encoding)
    assert await ticks.reached("ES") == -1
    trades = a_tape(1500, side="buy", trade_id="é1")
    assert (await ticks.write(trades[:1])).written == 1
    assert (await ticks.write(iter(trades[1:1400]))).written == 1399
    for each in trades[1400:1410]:
        await ticks.write([each])
    several = await asyncio.gather(*(ticks.write([each]) for each in trades[1410:]))
    assert all(each.written == 1 for each in several)
    assert (await ticks.write([])).written == 0
    await holds(ticks, trades, "5s", "1m", "1d+22h")
    # Somebody else, who has seen nothing of it.
    other = Ticks(pool, intervals=("1d+22h", "5s", "1m"), encoding=encoding)
    await holds(other, trades, "5s", "1m", "1d+22h")
    assert (await other.write([trade(1501)])).written == 1


async def test_calls_of_one_turn_leave_together(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool)
    await ticks.write([trade(1)])
    admin.config_resetstat()
    await asyncio.gather(*(ticks.write([trade(seq)]) for seq in range(2, 102)))
    runs: Any = admin.info("commandstats")
    assert runs["cmdstat_evalsha"]["calls"] <= 2
    assert await ticks.reached("ES") == 101


async def test_trades_that_differ_in_their_place_alone_are_two(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    trades = [trade(seq) for seq in (1, 2, 5)]
    await ticks.write(trades)
    await holds(ticks, trades, "1m")


async def test_what_is_no_news_is_told(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool)
    trades = a_tape(50)
    await ticks.write(trades)
    before = contents(admin)
    for same in (ticks, Ticks(pool)):
        again = await same.write(trades)
        assert (again.written, again.duplicates) == (0, 50)
        older = await same.write([trade(7, "999")])
        assert (older.written, older.duplicates) == (0, 1)
    assert contents(admin) == before
    mixed = [*trades[40:], trade(51, at=NOON + 5 * MINUTE), trade(51, "7"), trade(50)]
    assert await Ticks(pool).write(mixed) == Written(written=1, duplicates=12)


@pytest.mark.parametrize("seqs", [(3, 2), (1, 3, 2, 4), (5, 5, 4)])
async def test_what_its_own_successors_would_make_a_duplicate(
    pool: RedisPool, admin: redis.Redis, seqs: tuple[int, ...]
) -> None:
    with pytest.raises(InvalidValue, match=r"seq=\d of ES comes after seq=\d in one call"):
        await Ticks(pool).write([trade(1, instrument="NQ"), *map(trade, seqs)])
    assert contents(admin) == {}


async def test_what_is_no_series_of_trades(pool: RedisPool) -> None:
    for wrong in (trade(1), None, "ES"):
        with pytest.raises(InvalidValue, match=r"events=.* must be a sequence"):
            await Ticks(pool).write(wrong)  # type: ignore[arg-type]  # which is the point


async def test_a_span_in_seconds(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    for start, end in ((NOON // SECOND, None), (0, NOON // 1000)):
        with pytest.raises(InvalidValue, match="is it in another unit"):
            await ticks.bars("ES", "1m", start, end)
        with pytest.raises(InvalidValue, match="is it in another unit"):
            await anext(ticks.between("ES", start, end))


@pytest.mark.parametrize("sizes", [(70, 113), (1500, 1999)])
async def test_two_writers_of_one_source(
    clean_server: EmbeddedServer, sizes: tuple[int, int]
) -> None:
    """Each with a pool of its own, in batches of different sizes, now one ahead, now the other."""
    trades = a_tape(3000, late=0.02)
    async with pool_at(clean_server) as one, pool_at(clean_server) as two:
        writers = [Ticks(one, intervals=("5s", "1m")), Ticks(two, intervals=("5s", "1m"))]

        async def replay(ticks: Ticks, size: int) -> int:
            written = 0
            for at in range(0, len(trades), size):
                written += (await ticks.write(trades[at : at + size])).written
            return written

        written = await asyncio.gather(*map(replay, writers, sizes))
        assert sum(written) == len(trades)
        for ticks in writers:
            await holds(ticks, trades, "5s", "1m")


async def test_many_instruments_in_one_call(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    names = [f"ES{number}" for number in range(20)]
    trades = [trade(seq, instrument=name) for seq in range(3) for name in names]
    assert (await ticks.write(trades)).written == 60
    latest = await ticks.latest_of([*names, "NQ"])
    assert {name for name, one in latest.items() if one.value and one.value.seq == 2} == {*names}
    assert latest["NQ"].state == "absent"
    bars = await ticks.bars_of(names, "1m")
    assert [[bar.count for bar in bars[name]] for name in names] == [[3]] * 20


# -- late trades -------------------------------------------------------------------------------


async def test_late_trades_amend_their_bars(pool: RedisPool) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m"))
    trades = a_tape(2000, late=0.1)
    result = await asyncio.gather(
        *(ticks.write(trades[at : at + 190]) for at in range(0, len(trades), 190))
    )
    assert 150 < sum(each.late for each in result) < 250
    await holds(ticks, trades, "5s", "1m")


async def test_late_trades_are_dropped_from_bars_alone(pool: RedisPool) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m"), late="drop")
    trades = [
        trade(1, "10", at=NOON + 50 * SECOND),
        trade(2, "11", at=NOON + MINUTE),
        trade(3, "99", at=NOON + 59 * SECOND),
        trade(4, "12", at=NOON + MINUTE + 6 * SECOND),
        trade(5, "98", at=NOON + MINUTE + 1),
    ]
    assert (await ticks.write(trades)).late == 2
    kept = await all_of(ticks)
    assert [each.left_out for each in kept] == [(), (), ("5s", "1m"), (), ("5s",)]
    assert [msgspec.structs.replace(each, left_out=()) for each in kept] == trades
    assert await ticks.bars("ES", "1m") == bars_of([trades[0], *trades[1:2], *trades[3:]], "1m")
    assert await ticks.bars("ES", "5s") == bars_of([*trades[:2], trades[3]], "5s")
    assert (await ticks.latest("ES")).value == trades[3]


# -- reading -----------------------------------------------------------------------------------


async def test_history_by_time(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    trades = a_tape(700, late=0.05)
    await ticks.write(trades)
    for start, end in ((0, 1), (83, 84), (0, 300), (60, 61), (100, 100_000)):
        first, last = NOON + start * SECOND + 83_000_000, NOON + end * SECOND
        inside = [each for each in trades if first <= each.ts_event < last]
        for page in (17, 1000):
            assert await all_of(ticks, first, last, page=page) == inside
    assert await all_of(ticks, NOON + 60 * SECOND, NOON + 65 * SECOND, page=1) == [
        each for each in trades if 60 <= (each.ts_event - NOON) / SECOND < 65
    ]
    assert await all_of(ticks, trades[300].ts_event, trades[300].ts_event + 1) == [
        each for each in trades if each.ts_event == trades[300].ts_event
    ]
    for wrong in (0, 10_001, 1.5):
        with pytest.raises(InvalidValue, match="page="):
            await all_of(ticks, page=wrong)
    for name, span in {"start": (1.5e18,), "end": (0, "2023-11-14")}.items():
        with pytest.raises(InvalidValue, match=f"{name}=.* must be an int: nanoseconds"):
            await all_of(ticks, *span)
        with pytest.raises(InvalidValue, match=f"{name}=.* must be an int: nanoseconds"):
            await ticks.bars("ES", "1m", *span)  # type: ignore[arg-type]  # which is the point


async def test_the_latest_trade_has_an_age(pool: RedisPool, admin: redis.Redis) -> None:
    now = NOON
    ticks = Ticks(pool, clock=lambda: now)
    assert (await ticks.latest("ES")).state == "absent"
    await ticks.write([trade(1), trade(2, "101", at=NOON - SECOND)])
    now = NOON + 3 * SECOND
    latest = await ticks.latest("ES", max_age=3)
    assert (latest.value, latest.age, latest.state) == (trade(1), 3.0, "fresh")
    assert (await ticks.latest("ES", max_age=2.9)).state == "stale"
    assert 50_000 < admin.pttl("md:{ES}:last") <= 60_000
    admin.delete("md:{ES}:last")
    assert (await ticks.latest("ES", max_age=1)).state == "absent"
    # Though it is gone, an earlier one is not the latest.
    await ticks.write([trade(3, at=NOON - SECOND)])
    assert (await ticks.latest("ES")).state == "absent"
    await ticks.write([trade(4)])
    assert (await ticks.latest("ES")).value == trade(4)
    with pytest.raises(InvalidValue, match="max_age=0"):
        await ticks.latest("ES", max_age=0)


async def test_bars_by_time(pool: RedisPool) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m"))
    trades = [*a_tape(900), trade(901, at=NOON + 60 * MINUTE)]
    await ticks.write(trades)
    every = bars_of(trades, "1m")
    middle = every[4].start
    assert await ticks.bars("ES", "1m", middle) == every[4:]
    assert await ticks.bars("ES", "1m", middle + 1) == every[5:]
    assert await ticks.bars("ES", "1m", NOON, middle) == every[:4]
    assert await ticks.bars("ES", "1m", NOON, middle + 1) == every[:5]
    assert await ticks.bars("ES", "1m", middle, middle) == []
    assert await ticks.bars("NQ", "1m") == await ticks.bars("NQ", "1m", filled=True) == []
    # Of longer ones, which are not kept, the first that is given is whole.
    long = bars_of(trades, "2m")
    assert await ticks.bars("ES", "2m") == long
    assert await ticks.bars("ES", "2m", NOON + 1) == long[1:]
    assert await ticks.bars("ES", "15s+5s") == bars_of(trades, "15s+5s")
    with pytest.raises(InvalidValue, match="interval=7s is neither one of 5s, 1m"):
        await ticks.bars("ES", "7s")
    newest = await ticks.newest_bars(["ES", "NQ"], "1m", 2)
    assert newest == {"ES": every[-2:], "NQ": []}


@pytest.mark.parametrize("interval", ["1m", "2m"])
async def test_gaps_are_filled_on_request(pool: RedisPool, interval: str) -> None:
    ticks = Ticks(pool)
    await ticks.write([trade(1, "10"), trade(2, "11", at=NOON + 10 * MINUTE)])
    step = 1 if interval == "1m" else 2

    def closes(bars: list[Bar]) -> list[tuple[int, str, int]]:
        return [((bar.start - NOON) // MINUTE, str(bar.close), bar.count) for bar in bars]

    filled = closes(await ticks.bars("ES", interval, filled=True))
    assert filled == [(0, "10", 1), *((at, "10", 0) for at in range(step, 10, step)), (10, "11", 1)]
    inside = await ticks.bars("ES", interval, NOON + 4 * MINUTE, NOON + 8 * MINUTE, filled=True)
    assert closes(inside) == [(at, "10", 0) for at in range(4, 8, step)]
    after = await ticks.bars("ES", interval, NOON + 10 * MINUTE, NOON + 14 * MINUTE, filled=True)
    assert closes(after) == [(10, "11", 1), *((at, "11", 0) for at in range(10 + step, 14, step))]
    before = await ticks.bars("ES", interval, NOON - 4 * MINUTE, NOON + MINUTE, filled=True)
    assert closes(before) == [(0, "10", 1)]
    with pytest.raises(InvalidValue, match="more than 1000000 bars"):
        await ticks.bars("ES", interval, NOON, NOON + 2_000_001 * MINUTE, filled=True)


async def test_more_bars_than_a_page(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    trades = [trade(seq, at=NOON + seq * MINUTE) for seq in range(2500)]
    await ticks.write(trades)
    assert await ticks.bars("ES", "1m") == bars_of(trades, "1m")


# -- retention ---------------------------------------------------------------------------------


async def test_history_is_bounded(pool: RedisPool, admin: redis.Redis) -> None:
    by_count = Ticks(pool, prefix="a:", retention=Retention(trades=200))
    by_age = Ticks(pool, prefix="b:", retention=Retention(trades=None, trade_age=120))
    trades = [trade(seq, at=NOON + seq * SECOND) for seq in range(2000)]
    for at in range(0, 2000, 100):
        await by_count.write(trades[at : at + 100])
        await by_age.write(trades[at : at + 100])
    for ticks, least in ((by_count, 200), (by_age, 120)):
        kept = await all_of(ticks)
        assert kept == trades[-len(kept) :]
        assert least <= len(kept) <= least + 200
        assert await ticks.bars("ES", "1m") == bars_of(trades, "1m")


async def test_bars_are_kept_for_as_long_as_is_said(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool, intervals=("1s", "1m"), retention=Retention(bars={"1s": 60}))
    trades = [trade(seq, at=NOON + seq * SECOND) for seq in range(500)]
    for at in range(0, 500, 100):
        await ticks.write(trades[at : at + 100])
    assert await ticks.bars("ES", "1s") == bars_of(trades, "1s")[-61:]
    assert admin.hlen("md:{ES}:bar:1s:v") == admin.zcard("md:{ES}:bar:1s") == 61
    assert await ticks.bars("ES", "1m") == bars_of(trades, "1m")


@pytest.mark.parametrize("wrong", ["ES", b"ES", 5])
async def test_one_name_is_no_series_of_names(pool: RedisPool, wrong: Any) -> None:
    async with MarketData(pool) as market:
        for ask in (market.quotes, market.trades, market.prices, market.books):
            with pytest.raises(InvalidValue, match=r"^instruments="):
                await ask(wrong)
        with pytest.raises(InvalidValue, match=r"^instruments="):
            await market.ticks.bars_of(wrong, "1m")


async def test_an_idle_instrument_goes(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool, retention=Retention(idle=3600, latest=None))
    await ticks.write([trade(1)])
    keys = set(admin.keys())
    assert keys == {
        "md:{ES}:t",
        "md:{ES}:t:m",
        "md:{ES}:last",
        "md:{ES}:bar:1m",
        "md:{ES}:bar:1m:v",
    }
    for key in keys:
        assert 3_500_000 < admin.pttl(key) <= 3_600_000


async def test_what_is_removed_as_idle_is_no_loss(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool, retention=Retention(idle=0.02))
    for seq in (3, 5):
        await ticks.write([trade(seq)])
        await until(lambda: not admin.exists("md:{ES}:t:m"))
    assert await all_of(ticks) == []


async def test_a_flood_of_names_fills_no_memory(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisutils.trading.market.ticks.MAX_KNOWN", 10)
    ticks = Ticks(pool)
    for number in range(100):
        await ticks.write([trade(number, instrument=f"I{number % 35}")])
    assert len(ticks._appenders) <= 10
    assert len(ticks._known) <= 10
    bars = await ticks.bars_of([f"I{number}" for number in range(35)], "1m")
    assert sum(bar.count for each in bars.values() for bar in each) == 100


@pytest.mark.parametrize(
    "wrong",
    [
        *({"trades": value} for value in (0, 1.5, "100", True, 2**63)),
        *({"trade_age": value} for value in (0, float("inf"), float("nan"), "1d", True)),
        *({"latest": value} for value in (-1.0, 0.0001, 1e30)),
        *({"idle": value} for value in (0, 0.0004, 1e20)),
        *({"bars": {"1m": value}} for value in (0, float("inf"), None)),
        {"bars": ["1m"]},
    ],
)
async def test_no_retention_is_none(wrong: Any) -> None:
    """What a server would refuse half way through a step, or would take for "never"."""
    with pytest.raises(InvalidValue, match=f"^{next(iter(wrong))}"):
        Retention(**wrong)


async def test_the_least_and_the_longest_retention(pool: RedisPool) -> None:
    for retention in (
        Retention(1, 0.001, {"1m": 0.001}, 0.001, 0.001),
        Retention(2**53, 1e9, {"1m": 1e9}, 1e9, 1e9),
    ):
        written = await Ticks(pool, retention=retention).write([trade(1)])
        assert written == Written(written=1)
        await pool.client.flushdb()


async def test_longer_bars_are_whole_or_not_there(pool: RedisPool) -> None:
    """Made of shorter ones, of which the oldest have gone."""
    ticks = Ticks(pool, intervals=("1s",), retention=Retention(bars={"1s": 90}))
    trades = [trade(seq, at=NOON + seq * SECOND) for seq in range(400)]
    await ticks.write(trades[:80])
    assert await ticks.bars("ES", "1m") == bars_of(trades[:80], "1m")
    for at in range(80, 400, 80):
        await ticks.write(trades[at : at + 80])
    # The newest is of second 399, so that what begins before 309 goes.
    for reader in (ticks, Ticks(pool, intervals=("1s",))):
        assert await reader.bars("ES", "1m") == bars_of(trades, "1m")[6:]
        assert await reader.bars("ES", "1m", NOON + 5 * MINUTE) == bars_of(trades, "1m")[6:]
        assert await reader.bars("ES", "1m", NOON, NOON + 6 * MINUTE) == []
        assert (await reader.bars("ES", "10s"))[0].start == NOON + 310 * SECOND
        assert (await reader.bars("ES", "1s"))[0].start == NOON + 309 * SECOND


# -- refused -----------------------------------------------------------------------------------


async def test_one_that_is_refused_refuses_all(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool, instruments=("ES", "NQ"), clock=lambda: NOON)
    for wrong in (
        trade(2, instrument="E S"),
        trade(2, at=NOON + 6 * SECOND),
        trade(2, quantity="0"),
        msgspec.structs.replace(trade(2), price=1.5),
        msgspec.structs.replace(trade(2), trade_id=7),
        msgspec.structs.replace(trade(2), trade_id="\ud800"),
        msgspec.structs.replace(trade(2), trade_id="x" * 1001),
        msgspec.structs.replace(trade(2), v="1"),
        {"instrument": "ES"},
        None,
    ):
        with pytest.raises(InvalidValue):
            await ticks.write([trade(1), wrong])  # type: ignore[list-item]  # which is the point
    with pytest.raises(UnknownInstrument, match="instrument='CL' is none of the 2"):
        await ticks.write([trade(1), trade(2, instrument="CL")])
    with pytest.raises(UnknownInstrument):
        await ticks.latest("CL")
    assert admin.keys() == []


@pytest.mark.parametrize(
    "other",
    [{"intervals": ("1m", "5m")}, {"intervals": ()}, {"late": "drop"}, {"encoding": "msgpack"}],
)
async def test_all_writers_have_to_say_the_same(
    pool: RedisPool, admin: redis.Redis, other: Any
) -> None:
    one, two = Ticks(pool), Ticks(pool, **other)
    await one.write([trade(1)])
    before = admin.dump("md:{ES}:t")
    with pytest.raises(TapeMismatch, match=r"is kept as 1m;amend;json .* and here it would be"):
        await two.write([trade(2)])
    assert admin.dump("md:{ES}:t") == before
    # Nor if it was not so when the other one looked.
    admin.flushall()
    await two.write([trade(1)])
    admin.hset("md:{ES}:t:m", "f", "1m;amend;json")
    with pytest.raises(TapeMismatch):
        await two.write([trade(2)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"intervals": "1m"},
        {"intervals": ("1m", "60s")},
        {"intervals": ("x",)},
        {"late": "maybe"},
        {"encoding": "pickle"},
        {"prefix": "{a}"},
        {"retention": Retention(bars={"5m": 1})},
    ],
)
async def test_arguments_that_cannot_be_meant(pool: RedisPool, wrong: Any) -> None:
    with pytest.raises(
        InvalidValue, match=next(iter(wrong)).rstrip("s").replace("retention", "bars")
    ):
        Ticks(pool, **wrong)


@pytest.mark.parametrize("key", ["t", "t:m", "last", "t:x", "bar:1m", "bar:1m:v"])
async def test_a_key_of_somebody_else_spoils_nothing(
    pool: RedisPool, admin: redis.Redis, key: str
) -> None:
    admin.set(f"md:{{ES}}:{key}", "mine")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await Ticks(pool).write([trade(1)])
    assert admin.keys() == [f"md:{{ES}}:{key}"]


async def test_a_history_whose_state_is_lost(pool: RedisPool, admin: redis.Redis) -> None:
    await Ticks(pool).write([trade(1)])
    admin.delete("md:{ES}:t:m")
    before = admin.dump("md:{ES}:t")
    with pytest.raises(redis.ResponseError, match=r"md:\{ES\}:t is there without md:\{ES\}:t:m"):
        await Ticks(pool).write([trade(2)])
    assert admin.dump("md:{ES}:t") == before


async def test_what_a_newer_version_wrote_is_kept(pool: RedisPool, admin: redis.Redis) -> None:
    """Fields that this one does not know are written again with the rest."""
    ticks = Ticks(pool, intervals=("1m", "5m"))
    await ticks.write([trade(1), trade(2, "99"), trade(3, "101")])
    for interval in ("1m", "5m"):
        record = str(admin.hget(f"md:{{ES}}:bar:{interval}:v", f"{NOON:020d}"))
        newer = record.replace('"v":1', '"v":2,"mood":"glad"')
        admin.hset(f"md:{{ES}}:bar:{interval}:v", f"{NOON:020d}", newer)
    gone = TradeBust(
        instrument="ES", ts_event=NOON, ts_recv=NOON, seq=5, trade_seq=3, trade_ts=NOON
    )
    later = Ticks(pool, intervals=("1m", "5m"))
    await later.write([trade(4), gone, trade(6)])
    for interval in ("1m", "5m"):
        (bar,) = await later.bars("ES", interval)
        assert (bar.count, bar.v) == (4, 2)
        assert bar.high == 100
        assert bar.extra == {"mood": msgspec.Raw(b'"glad"')}
    (longer,) = await later.bars("ES", "10m")
    assert longer.extra is None


# -- failures ----------------------------------------------------------------------------------


async def test_nothing_overtakes_what_failed(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool)
    await ticks.write([trade(1)])
    kept = contents(admin)["md:{ES}:bar:1m"]
    admin.set("md:{ES}:bar:1m", "spoilt")
    two, three = asyncio.create_task(ticks.write([trade(2)])), ticks.write([trade(3), trade(4)])
    for failed in (two, three):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await failed
    admin.restore("md:{ES}:bar:1m", 0, kept, replace=True)
    for later in ([trade(3)], [trade(5)], [trade(3), trade(3)]):
        with pytest.raises(TradesMissing, match=r"after seq 1 are missing .* write again"):
            await ticks.write(later)
    two = asyncio.create_task(ticks.write([trade(2)] * 512))
    four = asyncio.create_task(ticks.write([trade(4)]))
    assert await two == Written(written=1, duplicates=511)
    with pytest.raises(TradesMissing) as caught:
        await four
    assert (caught.value.instrument, caught.value.after) == ("ES", 2)
    assert (await ticks.write([trade(seq) for seq in range(1, 6)])).written == 3
    await holds(ticks, [trade(seq) for seq in range(1, 6)], "1m")


async def test_what_failed_can_be_given_up(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool)
    admin.set("md:{ES}:last", "spoilt")
    with pytest.raises(redis.ResponseError):
        await ticks.write([trade(1)])
    admin.delete("md:{ES}:last")
    ticks.forget("ES")
    ticks.forget("NQ")
    await ticks.write([trade(2)])
    await holds(ticks, [trade(2)], "1m")


async def test_what_a_server_has_lost_is_noticed(pool: RedisPool, admin: redis.Redis) -> None:
    """As when a replica takes over that had not heard of the newest writes."""
    ticks = Ticks(pool)
    trades = a_tape(30)
    await ticks.write(trades[:10])
    before = contents(admin)
    await ticks.write(trades[10:20])
    admin.flushall()
    for key, value in before.items():
        admin.restore(key, 0, value)
    with pytest.raises(TradesMissing) as caught:
        await ticks.write(trades[20:])
    assert caught.value.after == 10
    await ticks.write([each for each in trades if each.seq > caught.value.after])
    await holds(ticks, trades, "1m")


async def test_a_caller_who_goes_stops_nothing(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    trades = a_tape(2000)
    first = asyncio.create_task(ticks.write(trades[:1500]))
    second = asyncio.create_task(ticks.write(trades[1500:]))
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).written == 500
    with pytest.raises(asyncio.CancelledError):
        await first
    await holds(ticks, trades, "1m")


async def test_what_waits_is_bounded(pool: RedisPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("redisutils.trading.market.appending.MAX_WAITING", 100)
    ticks = Ticks(pool)
    trades = a_tape(1000)
    calls = [asyncio.create_task(ticks.write(trades[at : at + 50])) for at in range(0, 1000, 50)]
    await asyncio.sleep(0)
    assert "100 waiting" in repr(ticks._appenders["ES"])
    calls[5].cancel()  # it was never let in, and is not overtaken
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results[:5] == [Written(written=50)] * 5
    assert isinstance(results[5], asyncio.CancelledError)
    assert all(isinstance(result, TradesMissing) for result in results[6:])
    await ticks.write(trades[250:])
    await holds(ticks, trades, "1m")


@pytest.mark.parametrize("events", [[[2], [4]], [[2, 4]], [[2], [3, 5]]])
async def test_nothing_overtakes_what_failed_within_a_step(
    pool: RedisPool, admin: redis.Redis, events: list[list[int]]
) -> None:
    ticks = Ticks(pool)
    await ticks.write([trade(1)])
    kept = contents(admin)["md:{ES}:bar:1m"]
    admin.set("md:{ES}:bar:1m", "spoilt")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await ticks.write([trade(seq) for seq in range(2, 6)])
    admin.restore("md:{ES}:bar:1m", 0, kept, replace=True)
    calls = [ticks.write([trade(seq) for seq in seqs]) for seqs in events]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[-1], TradesMissing)
    assert await ticks.reached("ES") == (2 if len(events) > 1 else 1)
    # What was refused is owed as well, though it is not what was missing.
    with pytest.raises(TradesMissing):
        await ticks.write([trade(6)])
    with pytest.raises(TradesMissing):
        await ticks.write([*(trade(seq) for seq in range(2, 6)), trade(7)])
    await ticks.write([trade(seq) for seq in range(1, 8)])
    await holds(ticks, [trade(seq) for seq in range(1, 8)], "1m")


async def test_what_is_owed_is_bounded(
    pool: RedisPool, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who does not listen to errors fills no memory."""
    monkeypatch.setattr("redisutils.trading.market.appending.MAX_WAITING", 10)
    ticks = Ticks(pool)
    admin.set("md:{ES}:t:m", "spoilt")
    for seq in range(1, 50):
        with pytest.raises(redis.ResponseError if seq <= 10 else TradesMissing):
            await ticks.write([trade(seq)])
    assert len(ticks._appenders["ES"]._owed) == 10
    admin.delete("md:{ES}:t:m")
    with pytest.raises(TradesMissing, match="after seq -1 are missing"):
        await ticks.write([trade(50)])
    await ticks.write([trade(seq) for seq in range(1, 51)])
    await holds(ticks, [trade(seq) for seq in range(1, 51)], "1m")


async def test_closing_waits_for_those_who_wait_to_be_let_in(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("redisutils.trading.market.appending.MAX_WAITING", 10)
    ticks = Ticks(pool)
    calls = [asyncio.create_task(ticks.write([trade(seq)] * 10)) for seq in range(1, 30)]
    await asyncio.sleep(0)
    await ticks.aclose()
    assert await ticks.reached("ES") == 29
    assert all(call.done() for call in calls)


async def test_scripts_that_are_forgotten(pool: RedisPool, admin: redis.Redis) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m"))
    trades = a_tape(3000)
    calls = [asyncio.create_task(ticks.write(trades[at : at + 300])) for at in range(0, 3000, 300)]
    for call in calls:
        admin.script_flush()
        assert (await call).written == 300
    admin.script_flush()
    await holds(ticks, trades, "5s", "1m")


# -- in a cluster ------------------------------------------------------------------------------


async def test_in_a_cluster(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        ticks = Ticks(pool, intervals=("5s", "1m"))
        names = [f"I{number}" for number in range(12)]
        tapes = {name: a_tape(200, seed, instrument=name) for seed, name in enumerate(names)}
        mixed = [each for together in zip(*tapes.values(), strict=True) for each in together]
        assert (await ticks.write(mixed)).written == len(mixed)
        bars = await ticks.bars_of(names, "5s")
        latest = await ticks.latest_of(names)
        for name, trades in tapes.items():
            assert bars[name] == bars_of(trades, "5s")
            assert latest[name].value == max(trades, key=lambda each: (each.ts_event, each.seq))
            assert [each async for each in ticks.between(name)] == trades


async def test_a_slot_that_moves_while_it_is_written(cluster: EmbeddedCluster) -> None:
    """There and back: half-way of a move, a step's keys are on two nodes."""
    trades = a_tape(20_000, late=0.02)
    key, written, moved = "md:{ES}:t", 0, asyncio.Event()
    home, away = cluster.node_for(key), other_primary(cluster, key)
    async with cluster_pool(cluster) as pool:
        ticks = Ticks(pool, intervals=("5s", "1m"))

        async def write() -> None:
            nonlocal written
            while written < len(trades) and not moved.is_set():
                result = await ticks.write(trades[written : written + 5])
                assert (result.written, result.duplicates) == (5, 0)
                written += 5

        await ticks.write(trades[:5])
        written = 5
        writing = asyncio.create_task(write())
        for to in (away, home):
            await cluster.move_slot(cluster.slot_of(key), to)
        moved.set()
        await writing
        assert written > 5
        await holds(ticks, trades[:written], "5s", "1m")


def test_sums_are_exact() -> None:
    bars = bars_of([trade(seq, "0.1", "0.1") for seq in range(3)], "1m")
    assert bars[0].volume == Decimal("0.3")
    assert bars[0].notional == Decimal("0.03")
