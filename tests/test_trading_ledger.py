"""The account's one writer: groups, conflicts, refusals, faults and cancellation."""

from __future__ import annotations

import asyncio
import gc
import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
import redis

from redisutils.errors import ConnectionLost, Outcome, PoolClosed, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading.codec import Codec, Record
from redisutils.trading.errors import TradingError, UnreadableRecord
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.ledger import GROUP, Ledger
from redisutils.trading.ledger.outbox import Gap
from redisutils.trading.ledger.view import Cache, Kind, Missing, Stored, View
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.records import Applied, ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType

from .ours import pool_at, until
from .trading import account, fill, report

KEYS = Keys("A")
QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}


class Tally(Record, frozen=True, kw_only=True):
    """A record to count in."""

    total: int = 0


def _nothing(view: View, key: str, before: Tally | None, after: Tally) -> None:
    """Nothing else changes with it."""


TALLY: Kind[Tally] = Kind(Codec(Tally), _nothing)


class Add:
    """Adds to a tally, once for each name."""

    def __init__(self, name: str, amount: int = 1, key: str = "t", limit: int = 10**9) -> None:
        self.name, self.amount, self.limit = name, amount, limit
        self.key = KEYS.base + key
        self.decided = 0

    def expected(self, view: View) -> Iterable[tuple[str, Kind[Any]]]:
        yield self.key, TALLY

    def decide(self, view: View) -> int:
        self.decided += 1
        if view.taken(KEYS.base + "done", self.name) is not None:
            return -1
        tally = view.record(TALLY, self.key) or Tally()
        total = tally.total + self.amount
        if total > self.limit:
            raise TradingError(f"{total} is more than {self.limit}")
        view.name(KEYS.base + "done", self.name, b"1")
        view.put(TALLY, self.key, Tally(total=total))
        view.event("", 2, "k", self.name)
        return total


def totals(admin: redis.Redis, key: str = "t") -> str | None:
    found = admin.hget(KEYS.base + key, "r")
    assert found is None or isinstance(found, str)
    return found


async def test_a_group_is_one_round_trip(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)
        await ledger.submit(Add("first"))
        first = admin.hget(KEYS.meta, "tip")
        admin.config_resetstat()
        adds = [ledger.submit(Add(f"n{number}")) for number in range(GROUP)]
        assert await asyncio.gather(*adds) == list(range(2, GROUP + 2))
        assert admin.info("commandstats")["cmdstat_evalsha"]["calls"] == 1
        assert totals(admin) == f'{{"v":1,"total":{GROUP + 1}}}'
        assert admin.hget(KEYS.base + "t", "n") == admin.hget(KEYS.meta, "tip") != first
        assert admin.hget(KEYS.meta, "seq") == str(GROUP + 1)
        last: Any = admin.xrevrange(KEYS.events, count=1)
        tip: Any = admin.hget(KEYS.meta, "tip")
        assert last[0] == (f"{GROUP + 1}-0", {"c": f"{tip} {tip}", "k": f"n{GROUP - 1}"})
        assert repr(ledger) == "<Ledger ord:{A}: waiting=0 cached=1 idle>"


async def test_what_others_wrote_is_seen(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server) as one, pool_at(clean_server) as other:
        mine, theirs = Ledger(one, KEYS), Ledger(other, KEYS)
        assert await mine.submit(Add("a")) == 1
        assert await theirs.submit(Add("b")) == 2
        again = Add("c")
        assert await mine.submit(again) == 3
        assert again.decided == 2  # by what was remembered, in vain; by what is there
        assert await theirs.submit(Add("a")) == -1
        results = await asyncio.gather(
            *(ledger.submit(Add(f"{n}")) for n in range(100) for ledger in (mine, theirs))
        )
        assert Counter(results)[-1] == 100
        assert totals(admin) == '{"v":1,"total":103}'


async def test_nobody_is_refused_by_what_is_only_remembered(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as one, pool_at(clean_server) as other:
        mine, theirs = Ledger(one, KEYS), Ledger(other, KEYS)
        await mine.submit(Add("a", 10))
        await theirs.submit(Add("b", -8))
        assert await mine.submit(Add("c", 3, limit=5)) == 5
        with pytest.raises(TradingError, match="6 is more than 5"):
            await mine.submit(Add("d", 1, limit=5))


class Follow:
    """Sets a tally to what a field says, whose every change changes the tally, too."""

    def expected(self, view: View) -> Iterable[tuple[str, Kind[Any]]]:
        return ()

    def decide(self, view: View) -> int:
        total = int(view.field(KEYS.base + "says", "total") or b"0")
        view.record(TALLY, KEYS.base + "t")
        view.put(TALLY, KEYS.base + "t", Tally(total=total))
        view.event("", 2, "k", "follow")
        return total


async def test_what_was_read_before_a_record_is_read_again(
    clean_server: EmbeddedServer, admin: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin.hset(KEYS.base + "says", "total", "1")
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)
        read, loads = ledger._load, 0

        async def load(view: View, missing: Missing) -> None:
            nonlocal loads
            loads += 1
            await read(view, missing)
            if loads == 1:  # the field was read, the record not yet
                admin.hset(KEYS.base + "says", "total", "2")
                admin.hset(KEYS.base + "t", mapping={"n": "7", "r": '{"v":1}'})

        monkeypatch.setattr(ledger, "_load", load)
        assert await ledger.submit(Follow()) == 2
        assert loads == 3


async def test_a_refusal_is_its_callers_alone(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)

        class Broken(Add):
            def decide(self, view: View) -> int:
                raise ZeroDivisionError

        results = await asyncio.gather(
            ledger.submit(Add("a")),
            ledger.submit(Add("b", 99, limit=5)),
            ledger.submit(Broken("c")),
            ledger.submit(Add("d")),
            return_exceptions=True,
        )
        assert [type(one) for one in results] == [int, TradingError, ZeroDivisionError, int]
        assert totals(admin) == '{"v":1,"total":2}'


async def test_a_record_that_is_none_harms_only_who_needs_it(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    admin.hset(KEYS.base + "bad", mapping={"n": "3", "r": "what"})
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)
        results = await asyncio.gather(
            ledger.submit(Add("a", key="bad")), ledger.submit(Add("b")), return_exceptions=True
        )
        assert isinstance(results[0], UnreadableRecord)
        assert "under ord:{A}:bad" in str(results[0])
        assert results[1] == 1
        admin.set(KEYS.base + "worse", "a string")
        results = await asyncio.gather(
            ledger.submit(Add("c", key="worse")), ledger.submit(Add("d")), return_exceptions=True
        )
        assert isinstance(results[0], UnreadableRecord)
        assert "no record of ours under ord:{A}:worse: WRONGTYPE" in str(results[0])
        assert results[1] == 2


async def test_who_is_cancelled_in_the_queue_has_changed_nothing(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)
        tasks = [asyncio.create_task(ledger.submit(Add(f"n{n}"))) for n in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        await ledger.drained()
        assert totals(admin) == '{"v":1,"total":2}'


async def test_cancelling_a_caller_cancels_nothing_that_is_under_way(
    server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    async with pool_at(server, proxy) as pool:
        ledger = Ledger(pool, KEYS)
        await ledger.submit(Add("a"))
        proxy.to_client.latency = 0.1
        task = asyncio.create_task(ledger.submit(Add("b")))
        await until(lambda: totals(admin) == '{"v":1,"total":2}', "written")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await ledger.submit(Add("c")) == 3


async def test_a_writer_that_is_cancelled_leaves_nobody_waiting(
    server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with pool_at(server, proxy) as pool:
        ledger = Ledger(pool, KEYS)
        await ledger.submit(Add("a"))
        proxy.to_server.latency = 0.05
        first = asyncio.create_task(ledger.submit(Add("b")))
        await asyncio.sleep(0.01)
        later = asyncio.create_task(ledger.submit(Add("c")))
        await asyncio.sleep(0)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("ledger "):
                task.cancel()
        with pytest.raises(ConnectionLost, match="was cancelled") as failure:
            await first
        assert outcome_of(failure.value) is Outcome.UNKNOWN
        assert await later == 3
        assert await ledger.submit(Add("b")) == -1


async def test_a_pool_that_is_closed(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS)
        await ledger.submit(Add("a"))
    results = await asyncio.gather(
        *(ledger.submit(Add(f"n{n}")) for n in range(200)), return_exceptions=True
    )
    assert {type(one) for one in results} == {PoolClosed}


async def test_the_queue_is_bounded(server: EmbeddedServer, proxy: FaultProxy) -> None:
    async with pool_at(server, proxy) as pool:
        ledger = Ledger(pool, KEYS, waiting=10)
        proxy.stall()
        tasks = [asyncio.create_task(ledger.submit(Add(f"n{n}"))) for n in range(100)]
        await asyncio.sleep(0.01)
        assert "waiting=10 " in repr(ledger)
        proxy.restore()
        assert sorted(await asyncio.gather(*tasks)) == list(range(1, 101))


async def test_who_waits_for_room_comes_before_newcomers(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pool_at(clean_server) as pool:
        ledger = Ledger(pool, KEYS, waiting=1)
        taken = ledger._taken
        newcomers: list[asyncio.Task[int]] = []

        def taken_while_somebody_comes() -> Any:
            if not newcomers:
                newcomers.append(asyncio.create_task(ledger.submit(Add("new"))))
            return taken()

        monkeypatch.setattr(ledger, "_taken", taken_while_somebody_comes)
        assert await asyncio.gather(*(ledger.submit(Add(f"n{n}")) for n in range(4))) == [
            1,
            2,
            3,
            4,
        ]
        assert await newcomers[0] == 5


def test_a_loop_that_ends_with_work_under_way(
    clean_server: EmbeddedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is left hanging, and nothing is complained of."""

    async def begin() -> list[asyncio.Task[Any]]:
        async with pool_at(clean_server) as pool:
            orders = Orders(pool, account="A")
            await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10**6)
            begun = [
                asyncio.create_task(orders.apply_all([fill("X", 1, 1) for _ in range(300)]))
                for _ in range(3)
            ]
            await orders.apply(report("X"))
            return begun

    tasks = asyncio.run(begin())
    assert all(task.cancelled() or task.exception() for task in tasks)
    tasks.clear()
    gc.collect()
    assert [one.message for one in caplog.records if one.name == "asyncio"] == []


def test_a_forked_child_gives_names_of_its_own() -> None:
    program = (
        "import os\n"
        "from redisutils.trading.ledger.naming import unique_name\n"
        "first = unique_name()\n"
        "if child := os.fork(): os.waitpid(child, 0)\n"
        "print(first, unique_name(), flush=True)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    (first, one), (same, other) = (line.split() for line in ran.stdout.splitlines())
    assert first == same
    assert len({first, one, other}) == 3
    assert {len(name) for name in (first, one, other)} == {13}


async def test_one_ledger_for_all_services_of_a_pool(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as one, pool_at(clean_server) as other:
        assert Ledger.of(one, KEYS, 5) is not Ledger.of(other, KEYS, 5)
        mine = Ledger.of(one, KEYS, 5)
        assert mine is Ledger.of(one, Keys("A"), 5)
        assert mine is not Ledger.of(one, Keys("B"), 5)


def test_memory_is_bounded() -> None:
    cache = Cache(10)
    for number in range(1000):
        cache.put(f"k{number}", Stored(b"1", number))
        assert cache.get("k0") is not None or number == 0  # what is used stays
        assert len(cache) <= 20
    assert cache.get("k5") is None
    cache.forget("k0")
    assert cache.get("k0") is None


def test_what_was_not_read_is_missing() -> None:
    view = View(Cache(1), {}, {})
    for read in (
        lambda: view.record(TALLY, "k"),
        lambda: view.field("k", "f"),
        lambda: view.list("k"),
    ):
        with pytest.raises(Missing):
            read()
    assert view.taken("k") is None


# -- while orders flow ---------------------------------------------------------------------------


async def test_faults_while_orders_flow(
    server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    """Every report is applied once, whatever becomes of connections and replies."""
    settings = QUICK | {"command_timeout": 0.2, "max_retries": 2}
    names = [f"O{number}" for number in range(10)]
    dice = random.Random(7)
    applied = unknown = 0
    async with account(server, proxy, settings=settings) as (_, orders):

        async def surely(work: Any) -> Any:
            nonlocal unknown
            while True:
                try:
                    return await work()
                except redis.RedisError as error:
                    unknown += outcome_of(error) is Outcome.UNKNOWN

        async def work(name: str) -> list[Applied]:
            nonlocal applied
            await surely(
                lambda: orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=1000)
            )
            reports = [report(name), *(fill(name, n, n) for n in range(1, 21))]
            told = []
            for one in reports:
                told.append(await surely(lambda one=one: orders.apply(one)))
                applied += 1
            return told

        async def trouble() -> None:
            """Again and again, each time after some reports were applied."""
            for fault in itertools.cycle(range(4)):
                wanted = applied + dice.randrange(2, 12)
                # It is awaited before wanted is another.
                await until(lambda: applied >= wanted, "progress", 60)  # noqa: B023
                if fault <= 1:
                    then: Any = ("close", "reset")[fault]
                    proxy.swallow_replies(1, lambda data: b"EVAL" in data, then)
                elif fault == 2:
                    proxy.reset()
                else:  # longer than a call may take
                    proxy.swallow_replies(9, lambda data: b"EVAL" in data, "reset")
                    await asyncio.sleep(0.05)
                    proxy.restore()

        making = asyncio.create_task(trouble())
        results = await asyncio.gather(*map(work, names))
        making.cancel()
        proxy.restore()
        swallowed = proxy.swallowed
        for told in results:
            assert [one.cum_qty for one in told] == [n * (n + 1) // 2 for n in range(21)]
        seen = [event async for event in orders.replay()]
    assert swallowed > 5
    assert unknown > 0
    assert all(isinstance(event, Event) for event in seen)
    ids = [
        event.message.exec_id
        for event in seen
        if isinstance(event, Event) and isinstance(event.message, ExecutionReport)
    ]
    assert len(ids) == len(set(ids)) == 10 * 21
    assert [e.seq for e in seen if isinstance(e, Event)] == list(range(1, 10 * 22 + 1))
    position: Any = admin.hget("ord:{A}:pos:ABC", "r")
    assert '"qty":"2100"' in position
    assert f'"cost":"{10 * sum(n * n for n in range(1, 21))}"' in position


async def test_who_wrote_it_is_no_duplicate(server: EmbeddedServer, proxy: FaultProxy) -> None:
    """A reply that was lost does not make the caller's own report a duplicate to him."""
    async with account(server, proxy, settings=QUICK) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10)
        for number in range(3):
            proxy.swallow_replies(1, lambda data: b"EVALSHA" in data, "reset")
            trade = fill("X", 1, 1)
            assert not (await orders.apply(trade)).duplicate
            assert proxy.swallowed == number + 1
            assert (await orders.apply(trade)).duplicate


def copied(admin: redis.Redis) -> dict[str, Any]:
    """All that a server has: what a replica that gets nothing any more would have."""
    return {key: admin.dump(key) for key in admin.scan_iter()}


def fall_back(server: EmbeddedServer, admin: redis.Redis, before: dict[str, Any]) -> None:
    """A failover to a replica that was behind: what came since never happened."""
    admin.flushall()
    with redis.Redis.from_url(server.url) as raw:
        for key, dumped in before.items():
            raw.restore(key, 0, dumped)


async def test_the_server_forgets_what_it_told(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """After a failover to a replica that was behind, what is remembered here is not what is."""
    async with account(clean_server) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10)
        lost = fill("X", 4, 1)
        await orders.apply(report("X"))
        before = copied(admin)
        await orders.apply(lost)
        fall_back(clean_server, admin, before)
        assert (await orders.apply(fill("X", 5, 1))).cum_qty == 5
        again = await orders.apply(lost)
        assert again.cum_qty == 9
        assert not again.duplicate


async def test_others_came_as_far_after_the_server_forgot(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """What is remembered is as many changes old as what is there, and yet another thing."""
    async with account(clean_server) as (_, mine), account(clean_server) as (_, theirs):
        await mine.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=100)
        await mine.apply(report("X"))
        before = copied(admin)
        lost = [fill("X", 4, 1), fill("X", 5, 1)]
        await mine.apply_all(lost)
        fall_back(clean_server, admin, before)
        await theirs.apply_all([fill("X", 10, 1), fill("X", 20, 1)])
        assert (await mine.apply(fill("X", 1, 1))).cum_qty == 31
        assert [getattr(one, "cum_qty", one) for one in await mine.apply_all(lost)] == [35, 40]
        assert '"qty":"40"' in str(admin.hget("ord:{A}:pos:ABC", "r"))


async def test_what_others_made_unreadable_fails_those_alone_who_need_it(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """It was read before it was spoilt, so that only the script finds it changed."""
    async with account(clean_server) as (_, orders):
        for name in ("X", "Y"):
            await orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=10)
        admin.hset("ord:{A}:o:X", mapping={"n": "another", "r": "{"})
        spoilt, whole = await asyncio.gather(
            orders.apply(fill("X", 1, 1)), orders.apply(fill("Y", 1, 1)), return_exceptions=True
        )
        assert isinstance(spoilt, UnreadableRecord)
        assert isinstance(whole, Applied)


async def test_a_key_of_another_type_leaves_a_gap_and_the_rest_goes_on(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with account(clean_server) as (_, orders):
        for name in ("X", "Y"):
            await orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=10)
        admin.delete("ord:{A}:h:X")
        admin.set("ord:{A}:h:X", "someone's")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            await orders.apply(fill("X", 1, 1))
        mark = [event.mark async for event in orders.replay() if isinstance(event, Event)][1]
        assert (await orders.apply(fill("Y", 1, 1))).cum_qty == 1
        told = [one async for one in orders.replay(mark)]
        assert told[0] == Gap(3, 4)
        assert [one.seq for one in told[1:] if isinstance(one, Event)] == [4]


async def test_closing_waits_for_its_own_and_not_for_what_comes_later(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server) as pool, Orders(pool, account="A") as orders:
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10)
        await orders.apply(report("X"))
        other, closed = Orders(pool, account="A"), asyncio.Event()

        async def restating() -> None:
            while not closed.is_set():
                await orders.apply(report("X", ExecType.RESTATED))

        busy = [asyncio.create_task(restating())]
        await until(lambda: "writing" in repr(orders))
        busy.append(asyncio.create_task(restating()))  # so that something always waits
        last = asyncio.create_task(other.apply(fill("X", 1, 1)))
        await asyncio.sleep(0)
        async with asyncio.timeout(10):
            await other.close()
        assert last.done()
        closed.set()
        await asyncio.gather(*busy, last)


async def test_what_goes_wrong_after_its_caller_has_gone_is_logged(
    server: EmbeddedServer, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    async with pool_at(server, proxy, command_timeout=0.3, **QUICK) as pool:
        ledger = Ledger(pool, KEYS)
        await ledger.submit(Add("a"))
        for intent, said in (
            (Add("b", limit=0, key="u"), "refused, after its caller had gone: 1 is more than 0"),
            (Add("c"), "of 1 changes whose callers had gone it is not known"),
        ):
            proxy.stall()
            call = asyncio.create_task(ledger.submit(intent))
            await until(lambda: "waiting=0" in repr(ledger) and "writing" in repr(ledger))
            call.cancel()
            if "refused" in said:
                proxy.restore()
            await ledger.drained()
            assert call.cancelled()
            assert said in caplog.text
            proxy.restore()


async def test_who_has_lost_the_count_goes_on_behind_the_outbox(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Evicted, or deleted by somebody."""
    async with account(clean_server) as (_, orders):
        await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10)
        await orders.apply(report("X"))
        (*_, last) = [event async for event in orders.replay()]
        assert isinstance(last, Event)
        admin.delete(KEYS.meta)
        assert (await orders.apply(fill("X", 1, 1))).cum_qty == 1
        gap, told = [event async for event in orders.replay(last.mark)]
        assert gap == Gap(3, 3)
        assert isinstance(told, Event)
        assert told.seq == 3
