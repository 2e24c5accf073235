"""Quotes: the newest of each instrument wins, whoever writes it and in whatever order."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from random import Random
from time import time_ns
from typing import Any

import msgspec
import pytest
import redis

from redisutils import Outcome, RedisPool
from redisutils.errors import outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.codec import Encoding
from redisutils.trading.errors import (
    Crossed,
    InvalidValue,
    ServiceClosed,
    UnknownInstrument,
    UnreadableRecord,
)
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.quotes import Quote
from redisutils.trading.times import SECOND

from .ours import pool_at

NOW = time_ns()


def quote(instrument: str = "BTCUSD", ts: int = 0, seq: int | None = 0, **fields: Any) -> Quote:
    """One that is ``ts`` nanoseconds younger than a second before these tests."""
    given: dict[str, Any] = {"bid": "50000.10", "ask": "50000.20", "ts_event": NOW - SECOND + ts}
    return Quote.of(instrument, seq=seq, ts_recv=NOW, **{**given, **fields})


# -- what is a quote -----------------------------------------------------------------------------


def test_a_quote_of_strings() -> None:
    made = Quote.of("BTC/USD", "50000.10", 50001, bid_size="1.50", ts_recv=NOW)
    assert (made.bid, made.ask) == (Decimal("50000.10"), Decimal(50001))
    assert (made.bid_size, made.ask_size) == (Decimal("1.50"), None)
    assert made.ts_event == made.ts_recv == NOW
    assert not made.locked


def test_a_locked_quote_is_one_and_says_so() -> None:
    assert Quote.of("EURUSD", "1.10", "1.1").locked
    assert not Quote.of("EURUSD").locked


@pytest.mark.parametrize(
    ("fields", "error", "text"),
    [
        ({"bid": "2", "ask": "1"}, Crossed, "crossed: bid=2 is above ask=1"),
        ({"bid": 1.5}, InvalidValue, "bid=1.5 is a float"),
        ({"ask": Decimal("NaN")}, InvalidValue, "ask=NaN must be a finite number"),
        ({"bid_size": "-1"}, InvalidValue, "bid_size=-1 must not be negative"),
        ({"ask_size": -1}, InvalidValue, "ask_size=-1 must not be negative"),
        ({"bid": None, "bid_size": 1}, InvalidValue, "bid_size=1 of X has no bid"),
        ({"ask": None, "ask_size": 1}, InvalidValue, "ask_size=1 of X has no ask"),
        ({"ts_event": NOW + 3600 * SECOND}, InvalidValue, "s in the future"),
        ({"ts_recv": NOW + 3600 * SECOND}, InvalidValue, "s in the future"),
        ({"ts_event": NOW // 1000}, InvalidValue, "in another unit"),
        ({"seq": -1}, InvalidValue, "seq=-1 must be an int"),
        ({"seq": 10**19}, InvalidValue, "seq=10000000000000000000 must be an int"),
        ({"seq": True}, InvalidValue, "seq=True must be an int"),
        ({"instrument": "B{TC}"}, InvalidValue, "instrument='B{TC}'"),
    ],
)
async def test_what_cannot_be_meant_is_one_error_and_nothing_is_sent(
    market: MarketData, admin: redis.Redis, fields: dict[str, Any], error: type, text: str
) -> None:
    given = {"instrument": "X", "bid": "1", "ask": "2", **fields}
    with pytest.raises(error) as caught:
        Quote.of(**given)
    assert text in str(caught.value)
    # The same, field by field, which nobody has looked at yet.
    raw = {"ts_event": NOW, "ts_recv": NOW, "seq": 1, **given}
    for name in ("bid", "ask", "bid_size", "ask_size"):
        if isinstance(raw.get(name), str | int):
            raw[name] = Decimal(raw[name])
    good = quote("GOOD")
    with pytest.raises(error) as caught:
        await market.put_quotes([good, Quote(**raw)])
    assert text in str(caught.value)
    assert outcome_of(caught.value) is Outcome.NOT_SENT
    assert admin.keys() == []


async def test_fields_of_other_types_are_refused(market: MarketData) -> None:
    raw: dict[str, Any] = {"instrument": "X", "ts_event": NOW, "ts_recv": NOW}
    with pytest.raises(InvalidValue, match="bid='1' must be a Decimal"):
        await market.put_quote(Quote(**{**raw, "bid": "1"}))
    with pytest.raises(InvalidValue, match="ask_size=1 must be a Decimal"):
        await market.put_quote(Quote(**{**raw, "ask": Decimal(1), "ask_size": 1}))
    with pytest.raises(InvalidValue, match="must be a Quote"):
        await market.put_quote("X")  # type: ignore[arg-type]  # refused


async def test_only_instruments_that_are_known(pool: RedisPool) -> None:
    market = MarketData(pool, instruments=["BTCUSD"])
    assert await market.put_quote(quote("BTCUSD"))
    with pytest.raises(UnknownInstrument, match="instrument='ETHUSD' is none of the 1"):
        await market.put_quote(quote("ETHUSD"))
    with pytest.raises(UnknownInstrument):
        await market.quote("ETHUSD")


@pytest.mark.parametrize(
    "option",
    [{"ttl": 0}, {"ttl": True}, {"history": -1}, {"channels": "loud"}, {"prefix": "{"}],
    ids=str,
)
async def test_options_that_cannot_be(pool: RedisPool, option: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match=next(iter(option))):
        MarketData(pool, **option)


# -- the newest wins -----------------------------------------------------------------------------


async def test_the_newest_wins_in_whatever_order(market: MarketData) -> None:
    assert await market.put_quote(quote(ts=10, seq=5))
    assert not await market.put_quote(quote(ts=9, seq=6))
    assert not await market.put_quote(quote(ts=10, seq=4))
    assert await market.put_quote(quote(ts=10, seq=5))  # the same: it is there
    assert not await market.put_quote(quote(ts=10, seq=5, bid="1"))  # not the same
    assert await market.put_quote(quote(ts=10, seq=6, bid="2"))
    found = await market.quote("BTCUSD")
    assert found.value == quote(ts=10, seq=6, bid="2")


async def test_without_a_sequence_the_later_to_arrive_wins(market: MarketData) -> None:
    first = quote(seq=None, bid="1")
    later = msgspec.structs.replace(quote(seq=None, bid="2"), ts_recv=NOW + 1)
    assert await market.put_quotes([later, first]) == [True, False]
    assert (await market.quote("BTCUSD")).value == later


async def test_many_instruments_in_any_order_from_many_tasks(market: MarketData) -> None:
    random = Random(7)
    names = [f"I{number}" for number in range(20)]
    quotes = [
        quote(random.choice(names), ts=random.randrange(50), seq=random.randrange(3), bid=number)
        for number in range(900)
    ]
    await asyncio.gather(*map(market.put_quote, quotes[:300]), market.put_quotes(quotes[300:]))
    found = await market.quotes(names)
    for name in names:
        of_it = [one for one in quotes if one.instrument == name]
        best = max((one.ts_event, one.seq) for one in of_it)
        first = next(one for one in of_it if (one.ts_event, one.seq) == best)
        assert found[name].value == first


async def test_one_turn_of_the_loop_leaves_as_one_call(
    market: MarketData, admin: redis.Redis
) -> None:
    await market.put_quote(quote())  # the script is known
    admin.config_resetstat()
    news = await asyncio.gather(
        *(market.put_quote(quote(f"I{number}")) for number in range(100)),
        market.put_quotes([quote("I1", ts=1), quote("I1")]),
    )
    assert news == [True] * 100 + [[True, False]]
    assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


async def test_a_caller_who_leaves_takes_nobody_along(market: MarketData) -> None:
    leaving = asyncio.ensure_future(market.put_quote(quote("A")))
    staying = asyncio.ensure_future(market.put_quote(quote("B")))
    await asyncio.sleep(0)
    leaving.cancel()
    assert await staying
    await market.aclose()
    assert (await market.quote("A")).fresh
    with pytest.raises(ServiceClosed):
        await market.put_quote(quote("C"))


async def test_closing_writes_what_was_put(market: MarketData) -> None:
    putting = asyncio.ensure_future(market.put_quote(quote()))
    await asyncio.sleep(0)
    await market.aclose()
    assert putting.done()
    assert putting.result()


# -- what a read says ----------------------------------------------------------------------------


async def test_age_and_state(pool: RedisPool) -> None:
    now = NOW
    market = MarketData(pool, clock=lambda: now)
    absent = await market.quote("BTCUSD", max_age=1)
    assert (absent.value, absent.age, absent.state) == (None, None, "absent")
    await market.put_quote(quote(ts_event=NOW))
    now = NOW + SECOND
    seen = await market.quote("BTCUSD", max_age=1)
    assert (seen.age, seen.state, seen.fresh) == (1.0, "fresh", True)
    now += 1_000
    assert (await market.quote("BTCUSD", max_age=1)).state == "stale"
    assert (await market.quote("BTCUSD")).state == "fresh"
    many = await market.quotes(["BTCUSD", "ETHUSD", "BTCUSD"], max_age=0.5)
    assert {name: one.state for name, one in many.items()} == {
        "BTCUSD": "stale",
        "ETHUSD": "absent",
    }
    now = NOW - SECOND  # a venue's clock may be ahead of ours
    assert (await market.quote("BTCUSD", max_age=1)).age == 0.0
    for wrong in (0, -1, float("nan"), "1", True):
        with pytest.raises(InvalidValue, match="max_age="):
            await market.quote("BTCUSD", wrong)  # type: ignore[arg-type]  # refused
    assert await market.quotes([]) == {}


async def test_it_lives_as_long_as_it_is_told(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool, ttl=30, history=5, history_ttl=300)
    await market.put_quote(quote())
    admin.pexpire("md:{BTCUSD}:q", 5)
    assert await market.put_quote(quote(ts=1))
    assert 20_000 < admin.pttl("md:{BTCUSD}:q") <= 30_000
    assert 200_000 < admin.pttl("md:{BTCUSD}:q:h") <= 300_000
    await market.put_quote(quote())  # no news do not prolong its life
    admin.delete("md:{BTCUSD}:q")
    assert (await market.quote("BTCUSD")).state == "absent"


async def test_anybody_can_read_it(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool, prefix="paper:")
    await market.put_quote(quote(bid_size="1.50", ask_size=0))
    text = admin.hget("paper:md:{BTCUSD}:q", "v")
    assert isinstance(text, str)
    assert msgspec.json.decode(text) == {
        "v": 1,
        "instrument": "BTCUSD",
        "bid": "50000.10",
        "bid_size": "1.50",
        "ask": "50000.20",
        "ask_size": "0",
        "ts_event": NOW - SECOND,
        "ts_recv": NOW,
        "seq": 0,
    }


async def test_what_is_not_ours_says_where_it_is(market: MarketData, admin: redis.Redis) -> None:
    admin.hset("md:{BTCUSD}:q", "v", "50000.10")
    for _ in range(2):
        with pytest.raises(UnreadableRecord, match=r"no Quote of ours under md:\{BTCUSD\}:q"):
            await market.quote("BTCUSD")
    admin.set("md:{ETHUSD}:q", "50000.10")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        await market.quotes(["BTCUSD", "ETHUSD"])
    # Of those that are put together, only its own caller hears of it.
    good, bad = await asyncio.gather(
        market.put_quote(quote("SOLUSD")), market.put_quote(quote("ETHUSD")), return_exceptions=True
    )
    assert good is True
    assert isinstance(bad, redis.ResponseError)
    assert "WRONGTYPE" in str(bad)
    assert "md:{ETHUSD}:q" in str(bad)
    assert outcome_of(bad) is Outcome.REJECTED


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
async def test_history_has_every_quote_late_ones_too(pool: RedisPool, encoding: Encoding) -> None:
    market = MarketData(pool, encoding=encoding, history=10_000)
    quotes = [quote(ts=ts, seq=seq) for seq, ts in enumerate((5, 3, 3, 9, 9, 1))]
    await market.put_quotes(quotes)
    await market.put_quote(quotes[0])  # identical ticks do not collapse
    expected = [*quotes, quotes[0]]
    assert [one async for one in market.quote_history("BTCUSD")] == expected
    assert [one async for one in market.quote_history("BTCUSD", page=2)] == expected
    later = market.quote_history("BTCUSD", since=NOW + 3600 * SECOND)
    assert [one async for one in later] == []


async def test_history_is_bounded(pool: RedisPool, admin: redis.Redis) -> None:
    market = MarketData(pool, history=100)
    await market.put_quotes([quote(seq=number) for number in range(1500)])
    assert 100 <= admin.xlen("md:{BTCUSD}:q:h") < 400


async def test_a_lost_answer_doubles_nothing(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, proxy) as pool:
        market = MarketData(pool, history=1000)
        await market.put_quote(quote(seq=1))
        quotes = [quote(seq=number) for number in (2, 2, 4, 3)]
        proxy.swallow_replies(1, lambda request: b"EVALSHA" in request, then="reset")
        assert await market.put_quotes(quotes) == [False, False, True, False]
        assert proxy.swallowed == 1
        assert admin.hget("md:{BTCUSD}:q", "n") == "3"
        assert [one.seq async for one in market.quote_history("BTCUSD")] == [1, 2, 2, 4, 3]


async def test_a_server_that_forgets_its_scripts(market: MarketData, admin: redis.Redis) -> None:
    assert await market.put_quote(quote())
    admin.script_flush()
    assert await market.put_quote(quote(ts=1))
