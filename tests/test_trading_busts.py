"""A trade that is taken back leaves nothing behind but that it was."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import redis

from redisutils import RedisPool
from redisutils.testing import EmbeddedServer
from redisutils.trading.market.tape_form import Retention
from redisutils.trading.market.tape_state import Written
from redisutils.trading.market.ticks import Ticks
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.times import SECOND

from .ours import pool_at
from .trades import MINUTE, NOON, a_tape, bars_of, trade


def bust(seq: int, gone: Trade) -> TradeBust:
    return TradeBust(
        instrument=gone.instrument,
        ts_event=NOON + 60 * MINUTE,
        ts_recv=NOON + 60 * MINUTE,
        seq=seq,
        trade_seq=gone.seq,
        trade_ts=gone.ts_event,
    )


async def all_of(ticks: Ticks, **how: Any) -> list[Trade]:
    return [trade async for trade in ticks.between("ES", **how)]


@pytest.mark.parametrize("late", [0.0, 0.1])
async def test_any_trade_can_be_taken_back(pool: RedisPool, late: float) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m", "1d"))
    trades = a_tape(300, late=late)
    newest = max(trades, key=lambda each: (each.ts_event, each.seq))
    chosen = [*random.Random(7).sample(trades, 25), trades[0], trades[-1], newest]
    gone = list({each.seq: each for each in chosen}.values())
    busts = [bust(301 + number, each) for number, each in enumerate(gone)]
    result = await ticks.write([*trades, *busts, *busts[:1]])
    assert (result.written, result.unmatched) == (300 + len(gone), 0)
    rest = [each for each in trades if each not in gone]
    assert await all_of(ticks) == rest
    assert await all_of(ticks, busted=True) == trades
    assert await ticks.busts("ES") == busts
    for interval in ("5s", "1m", "1d"):
        assert await ticks.bars("ES", interval) == bars_of(rest, interval)
    assert (await ticks.latest("ES")).value == max(rest, key=lambda one: (one.ts_event, one.seq))
    # And it goes on.
    more = [trade(1000, at=NOON + 30 * SECOND), trade(1001, at=NOON + 30 * MINUTE)]
    await ticks.write(more)
    for interval in ("5s", "1m", "1d"):
        assert await ticks.bars("ES", interval) == bars_of([*rest, *more], interval)


async def test_the_only_trade(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    await ticks.write([trade(1), bust(2, trade(1))])
    assert await ticks.bars("ES", "1m") == []
    assert await all_of(ticks) == []
    assert (await ticks.latest("ES")).state == "absent"
    assert await ticks.reached("ES") == 2
    await ticks.write([trade(3, "7", at=NOON - MINUTE)])
    assert (await ticks.latest("ES")).value == trade(3, "7", at=NOON - MINUTE)
    assert await ticks.bars("ES", "1m") == bars_of([trade(3, "7", at=NOON - MINUTE)], "1m")


async def test_a_correction_is_a_bust_and_a_trade(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    right = trade(4, "101")
    await ticks.write([trade(1), trade(2, "999"), bust(3, trade(2, "999")), right])
    assert await ticks.bars("ES", "1m") == bars_of([trade(1), right], "1m")


async def test_what_was_not_in_a_bar_does_not_leave_it(pool: RedisPool) -> None:
    ticks = Ticks(pool, intervals=("5s", "1m"), late="drop")
    early = trade(3, "50", at=NOON)
    trades = [trade(1, "10", at=NOON + 2), trade(2, "11", at=NOON + 6 * SECOND), early]
    await ticks.write([*trades, bust(4, early)])
    assert await ticks.bars("ES", "5s") == bars_of(trades[:2], "5s")
    assert await ticks.bars("ES", "1m") == bars_of(trades[:2], "1m")
    # Nor when a bar is made again.
    ticks = Ticks(pool, prefix="again:", intervals=("5s",), late="drop")
    trades.insert(0, trade(0, "9", at=NOON + 1))
    await ticks.write([*trades, bust(4, trades[1])])
    assert await ticks.bars("ES", "5s") == bars_of([trades[0], trades[2]], "5s")


async def test_the_latest_of_a_millisecond(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    trades = [trade(1, at=NOON + 5), trade(2, at=NOON + 3), trade(3, at=NOON + 9)]
    await ticks.write([*trades, bust(4, trades[2])])
    assert (await ticks.latest("ES")).value == trades[0]


async def test_busts_of_nothing_are_told(pool: RedisPool) -> None:
    ticks = Ticks(pool)
    real = [trade(1), trade(2, "101")]
    await ticks.write(real)
    unknown = bust(4, trade(3))
    elsewhen = bust(5, trade(2, at=NOON + 1))
    for each in (unknown, elsewhen):
        assert await ticks.write([each]) == Written(written=1, unmatched=1)
    assert await ticks.bars("ES", "1m") == bars_of(real, "1m")
    assert await ticks.write([bust(6, real[0])]) == Written(written=1)
    assert await ticks.write([bust(6, real[0])]) == Written(duplicates=1)
    assert await ticks.write([bust(7, real[0])]) == Written(written=1, unmatched=1)
    assert await ticks.bars("ES", "1m") == bars_of(real[1:], "1m")


async def test_when_history_does_not_reach_back(pool: RedisPool, admin: redis.Redis) -> None:
    """Sums stay exact; what cannot be known any more is told."""
    ticks = Ticks(pool, intervals=("1d",), retention=Retention(trades=None))
    trades = [trade(seq, str(seq), at=NOON + seq * SECOND) for seq in range(1, 11)]
    await ticks.write([*trades, bust(100, trades[1])])
    admin.xtrim("md:{ES}:t", maxlen=3, approximate=False)
    assert (await ticks.write([bust(101, trades[0])])).unmatched == 1
    await ticks.write([bust(102, trades[8]), bust(103, trades[9])])
    (bar,) = await ticks.bars("ES", "1d")
    (rest,) = bars_of([trades[0], *trades[2:8]], "1d")
    assert (bar.volume, bar.notional, bar.count) == (rest.volume, rest.notional, rest.count)
    assert bar.high == 10
    assert bar.doubtful
    # A bust lives no longer than its trade.
    assert set(admin.hkeys("md:{ES}:t:x")) == {"9", "10"}


async def test_another_writer_between(clean_server: EmbeddedServer) -> None:
    """Both write the same source at once, busts too."""
    trades = a_tape(400, late=0.05)
    events: list[Trade | TradeBust] = []
    gone = set()
    for each in trades:
        events.append(trade_of(each))
        if each.seq % 9 == 0:
            gone.add(each.seq)
            events.append(bust(each.seq * 10 + 5, trade_of(each)))
    async with pool_at(clean_server) as one, pool_at(clean_server) as two:

        async def replay(pool: RedisPool, size: int) -> Written:
            ticks, total = Ticks(pool, intervals=("5s", "1m")), Written()
            for at in range(0, len(events), size):
                total += await ticks.write(events[at : at + size])
            return total

        results = await asyncio.gather(replay(one, 7), replay(two, 11))
        assert sum(each.written for each in results) == len(events)
        assert all(not each.unmatched for each in results)
        rest = [trade_of(each) for each in trades if each.seq not in gone]
        ticks = Ticks(one, intervals=("5s", "1m"))
        assert await all_of(ticks) == rest
        for interval in ("5s", "1m"):
            assert await ticks.bars("ES", interval) == bars_of(rest, interval)


def trade_of(each: Trade) -> Trade:
    """The same, with room for busts between it and the next."""
    return trade(each.seq * 10, str(each.price), str(each.quantity), each.ts_event)
