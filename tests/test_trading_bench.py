"""The comparison of trading services gives both sides the same ticks, and sees what they lose."""

from __future__ import annotations

import gc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from benchmarks import command, report, runner
from benchmarks.box import Box
from benchmarks.contenders import OURS, REFERENCE, load
from benchmarks.contenders.trading import ROSTER
from benchmarks.contenders.trading.base import Feed, Filled, OneBar, TradingClient
from benchmarks.contenders.trading.by_hand.orders import moved
from benchmarks.measures import WrongReply
from benchmarks.results import Results
from benchmarks.server import Server
from benchmarks.suite import Suite
from benchmarks.trading import feeds, material, orders, quotes, trades
from benchmarks.trading import ticks as source
from benchmarks.trading.__main__ import SUITE
from redisutils.testing import EmbeddedServer
from redisutils.trading.market.tape import TAPE_VARIABLE
from redisutils.trading.times import SECOND

from .tapes import make_tape
from .trades import a_tape, trade

BY_HAND = "redis-py"
BOTH = (OURS, BY_HAND)

Opened = Callable[[str], Any]


@pytest.fixture
def tape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A short tape, which the processes that measure find, too."""
    path = make_tape(tmp_path / "tape.csv", 3_000)
    monkeypatch.setenv(TAPE_VARIABLE, str(path))
    return path


@pytest.fixture
def opened(clean_server: EmbeddedServer, tape: Path) -> Iterator[Opened]:
    """A contender at the session's server."""
    place = Server(clean_server.host, clean_server.port, None, clean_server.password)

    @asynccontextmanager
    async def open_one(name: str) -> AsyncIterator[TradingClient]:
        client = load(ROSTER[name].adapter)(place, tasks=20)
        assert isinstance(client, TradingClient)
        await client.open()
        try:
            yield client
        finally:
            await client.close()

    yield open_one
    gc.unfreeze()  # as benchmarks do in processes of their own, with what they make ready


# -- what is measured ------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
async def test_what_is_written_can_be_read(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        for conflate in (False, True):
            found = await quotes.write(client, 1, Box(0), Box(0.02), conflate=conflate, laps=1)
            assert found["ops"] > 0
            assert 0 < found["sent"] <= 100
            assert conflate or found["sent"] == 100


@pytest.mark.parametrize("name", BOTH)
async def test_reads_find_what_was_written(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        assert (await quotes.latest_of_many(client, 2, Box(0), Box(0.01)))["ops"] > 0
        assert (await quotes.latest_while_written(client, 2, Box(0), Box(0.03)))["ops"] > 0


@pytest.mark.parametrize("name", BOTH)
async def test_every_subscriber_gets_what_is_published(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        found = await feeds.fan_out(client, 1, Box(0), Box(0.03), policy="block", together=8)
        assert found["ops"] > 0
        assert found["share"] == pytest.approx(100)


@pytest.mark.parametrize("name", BOTH)
async def test_each_delivery_is_timed(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        delays = await feeds.delay(client, 1, Box(0), Box(0.03))
        assert 0 < delays["p50"] <= delays["p99"]


@pytest.mark.parametrize("name", BOTH)
async def test_what_is_conflated_is_no_delivery(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        found = await feeds.fan_out(client, 1, Box(0), Box(0.03), policy="conflate", together=8)
    assert 100 / 8 * 0.5 < found["share"] < 60


@pytest.mark.parametrize("name", BOTH)
async def test_bars_are_those_of_the_tape(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        assert (await trades.keep(client, 1, Box(0), Box(0)))["ops"] > 0
        assert sum(bar.trades for bar in await client.bars(source.SYMBOL)) == 3_000
        # The same bars, and one trade that was never made.
        await client.write_trades([trade(3_001, "1", "1", 1_600_000_000 * SECOND)])
        with pytest.raises(WrongReply):
            await trades.keep(client, 1, Box(0), Box(0))


@pytest.mark.parametrize("name", BOTH)
async def test_executions_come_to_what_follows_from_them(opened: Opened, name: str) -> None:
    async with opened(name) as client:
        found = await orders.one_by_one(client, 20, Box(0), Box(0.05))
        assert found["ops"] > 0
        assert 0 < found["p50"] <= found["p99"]


@pytest.mark.parametrize("name", BOTH)
async def test_an_execution_too_many_is_seen(opened: Opened, name: str) -> None:
    placed = orders.orders(4)
    extra, *filled = orders.executions(placed, 9)
    async with opened(name) as client:
        await client.place(placed)
        await client.apply_all([client.report(one) for one in filled])
        assert await client.executed(placed) == orders.outcome(filled)
        await client.apply(client.report(filled[0]))  # it is known already
        assert await client.executed(placed) == orders.outcome(filled)
        await client.apply(client.report(extra))
        assert await client.executed(placed) != orders.outcome(filled)


@pytest.mark.parametrize("name", BOTH)
async def test_a_start_finds_all_open_orders_without_a_walk(opened: Opened, name: str) -> None:
    placed = orders.orders(2_100)
    async with opened(name) as client:
        await client.place(placed)
        found = await orders.started(client, placed)
        assert found["seconds"] > 0
        assert found["walks"] == 0
        with pytest.raises(WrongReply):
            await orders.started(client, placed[1:])


async def test_walks_through_all_keys_are_counted(opened: Opened) -> None:
    async with opened(BY_HAND) as client:
        await client.place(orders.orders(3))
        listed = client.open_orders

        async def walking() -> AsyncIterator[Any]:
            await client.client.keys("*")
            await client.client.scan()
            async for order in listed():
                yield order

        client.open_orders = walking
        assert (await orders.started(client, orders.orders(3)))["walks"] == 2


# -- who loses something fails ---------------------------------------------------------------


class _Numbered:
    """A quote of which only its number is looked at."""

    def __init__(self, seq: int) -> None:
        self.seq = seq


async def test_a_subscriber_who_misses_an_update_is_seen(opened: Opened) -> None:
    async with opened(BY_HAND) as client:
        whole = client.feed

        @asynccontextmanager
        async def lossy(*given: Any) -> AsyncIterator[Feed]:
            async with whole(*given) as feed:

                async def some() -> AsyncIterator[Any]:
                    async for quote in feed.quotes:
                        if quote.seq != 2:
                            yield quote

                yield Feed(some(), feed.left_out)

        client.feed = lossy
        with pytest.raises(WrongReply):
            await feeds.fan_out(client, 1, Box(0), Box(0.02), policy="block")


async def test_an_update_that_comes_twice_is_seen(opened: Opened) -> None:
    async with opened(BY_HAND) as client:

        @asynccontextmanager
        async def stuttering(*_: Any) -> AsyncIterator[Feed]:
            async def twice() -> AsyncIterator[Any]:
                yield _Numbered(1)
                yield _Numbered(1)

            yield Feed(twice(), lambda: 0)

        client.feed = stuttering
        with pytest.raises(ExceptionGroup) as caught:
            await feeds.fan_out(client, 1, Box(0), Box(0.02), policy="block")
    assert caught.group_contains(WrongReply)


async def test_an_old_quote_is_no_answer(opened: Opened) -> None:
    async with opened(BY_HAND) as client:
        old = client.quote(next(source.ticks()))

        async def outdated(_: str) -> Any:
            return old

        client.latest = outdated
        with pytest.raises(WrongReply):
            await quotes.write(client, 1, Box(0), Box(0.02), conflate=True, laps=1)


# -- the material ----------------------------------------------------------------------------


def test_ticks_are_around_the_trades_and_later_in_each_lap(tape: Path) -> None:
    every = list(source.ticks(2))
    made = source.trades()
    assert len(every) == 2 * len(made) == 6_000
    assert [tick.seq for tick in every] == list(range(1, 6_001))
    assert [tick.instrument for tick in every[:101]] == [*source.INSTRUMENTS, source.INSTRUMENTS[0]]
    for tick, one in zip(every, made + made, strict=True):
        assert (tick.bid, tick.ask) == (one.price - source.STEP, one.price + source.STEP)
        assert tick.size == one.quantity
    assert [tick.ts for tick in every] == sorted(tick.ts for tick in every)
    assert every[3_000].ts > every[2_999].ts
    assert {tick.instrument for tick in source.ticks(1, ("ES",))} == {"ES"}


def test_simulated_ticks_are_called_so(tape: Path) -> None:
    assert source.origin(tape) == "3,000 trades of a tape, tape.csv"
    told = source.origin(None)
    assert "SIMULATED" in told
    assert TAPE_VARIABLE in told


def test_the_tape_is_found_from_any_directory(
    tape: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(TAPE_VARIABLE, "tape.csv")
    assert source.tape() == Path("tape.csv")
    monkeypatch.chdir(Path(__file__).parent)
    assert len(source.trades()) == 3_000


def test_bars_are_added_up_by_hand() -> None:
    made = [
        trade(1, "2", "3", 1_600_000_020 * SECOND),
        trade(2, "1", "1", 1_600_000_021 * SECOND),
        trade(3, "4", "0.5", 1_600_000_079 * SECOND),
        trade(4, "5", "2", 1_600_000_080 * SECOND),
    ]
    first, second = trades.bars_of(made)
    dec = Decimal
    assert first == OneBar(
        1_600_000_020 * SECOND, dec(2), dec(4), dec(1), dec(4), dec("4.5"), dec(9), 3
    )
    assert second.start == 1_600_000_080 * SECOND
    assert sum(bar.trades for bar in trades.bars_of(a_tape(200, late=0.3))) == 200


def test_outcomes_of_executions_are_added_up_by_hand(tape: Path) -> None:
    placed = orders.orders(200)
    assert [order.buys for order in placed[::100]] == [True, False]
    buy, sell = placed[0], placed[100]
    assert buy.instrument == sell.instrument
    filled = [
        Filled("1", buy, trade(1, "10", "3")),
        Filled("2", sell, trade(2, "11", "5")),
    ]
    assert orders.outcome(filled) == (Decimal(8), Decimal(85), {buy.instrument: Decimal(-2)})
    assert len({one.exec_id for one in orders.executions(placed, 50)}) == 50


@pytest.mark.parametrize(
    ("before", "signed", "price", "after"),
    [
        (("0", "0", "0"), "10", "100", ("10", "1000", "0")),
        (("10", "1000", "0"), "-4", "110", ("6", "600", "40")),
        (("-10", "-1000", "0"), "4", "90", ("-6", "-600", "40")),
        (("10", "1000", "5"), "-15", "110", ("-5", "-550", "105")),
    ],
)
def test_positions_by_hand_are_at_average_cost(
    before: tuple[str, ...], signed: str, price: str, after: tuple[str, ...]
) -> None:
    qty, cost, realised = map(Decimal, before)
    found = moved(qty, cost, realised, Decimal(signed), Decimal(price))
    assert found == tuple(map(Decimal, after))


def test_percentiles() -> None:
    took = list(range(100_000, 0, -1_000))
    assert material.percentiles(took) == {"p50": 51.0, "p99": 100.0}


# -- the run ---------------------------------------------------------------------------------


def test_a_small_run_says_what_its_ticks_are(tape: Path) -> None:
    results = runner.run(
        runner.Plan(
            suite=SUITE,
            contenders=BOTH,
            workloads=["conflated"],
            rounds=1,
            seconds=0.1,
            warmup=0.02,
        )
    )
    assert results.failures == []
    assert results.machine["ticks"] == "3,000 trades of a tape, tape.csv"
    told = {row.key: results.median(row, OURS) for row in results.rows()}
    assert all(told.values())
    page = report.markdown(results, SUITE.wording)
    assert "- ticks: 3,000 trades of a tape, tape.csv" in page
    assert "≥ 150,000/s" in page


def test_a_suite_offers_only_who_can_take_part(monkeypatch: pytest.MonkeyPatch) -> None:
    plans: list[runner.Plan] = []

    def noted(plan: runner.Plan) -> Results:
        plans.append(plan)
        raise KeyboardInterrupt

    monkeypatch.setattr(runner, "run", noted)
    monkeypatch.setattr("sys.argv", ["bench"])
    command.main(SUITE, "bench", "")
    assert list(plans[0].contenders) == [OURS, BY_HAND]
    assert REFERENCE not in plans[0].contenders


def test_every_goal_is_of_a_row_that_there_is() -> None:
    suite: Suite = SUITE
    rows = {f"{key}.{each.key}" for key, one in suite.workloads.items() for each in one.metrics}
    wanted = {goal.row for goal in suite.wording.goals}
    assert wanted
    assert wanted <= rows
