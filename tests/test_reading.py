"""Whom to read from: the figures of servers, and what follows from them. No server is asked."""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections import Counter
from collections.abc import Callable
from math import inf
from typing import Any

import pytest

from redisutils.connection.packing import pack
from redisutils.metrics.reading import ReadCounts, ReadMetrics
from redisutils.topology.plan import Reading
from redisutils.topology.reading.choosing import VALID_FOR, Choosing, ranks
from redisutils.topology.reading.figures import Figures, Pace
from redisutils.topology.reading.hedging import SAVED, Budget, Hedging
from redisutils.topology.reading.reader import all_read, only_reads
from redisutils.topology.reading.standing import Course, Standing, standing
from redisutils.topology.reading.writes import Writes

from .ours import until


class Server:
    """What is known of one."""

    def __init__(self, name: str, round_trip: float = 0.001, zone: str | None = None) -> None:
        self.name = name
        self.figures = Figures()
        self.figures.answered(round_trip)
        self.figures.zone = zone
        self.load = 0
        self.replicas: list[Server] = []

    def __repr__(self) -> str:
        return self.name


def group(*replicas: Server, zone: str | None = None, round_trip: float = 0.001) -> Server:
    primary = Server("primary", round_trip, zone)
    primary.replicas = list(replicas)
    return primary


def names(reading: Reading, primary: Server, now: float = 0.0) -> list[str]:
    """Who may be asked: equals in alphabetical order, better ones before a bar."""
    found = ranks(reading, primary, primary.replicas, now)
    return [" ".join(sorted(server.name for server in equals)) for equals in found.groups]


def choosing(reading: Reading, clock: Callable[[], float] = lambda: 0.0) -> Choosing[Server]:
    return Choosing(reading, lambda p: p.replicas, lambda s: s.load, ReadCounts(), clock)


# -- choosing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("primary", ["primary"]),
        ("replica", ["a b"]),
        ("prefer-replica", ["a b", "primary"]),
        ("nearest", ["a b primary"]),
    ],
)
def test_each_source_has_its_order(source: Any, expected: list[str]) -> None:
    assert names(Reading(source), group(Server("a"), Server("b"))) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [("replica", []), ("prefer-replica", ["primary"]), ("nearest", ["primary"])],
)
def test_who_has_not_answered_is_not_read_from(source: Any, expected: list[str]) -> None:
    silent = Server("a")
    silent.figures.failed("it is silent")
    assert names(Reading(source), group(silent)) == expected
    assert names(Reading(source), group()) == expected


def test_a_primary_that_does_not_answer_is_the_last_to_be_asked() -> None:
    primary = group(Server("a"), Server("far", 0.05))
    primary.figures.failed("it was lost")
    assert names(Reading("nearest"), primary) == ["a", "far", "primary"]


def test_servers_of_the_zone_go_first() -> None:
    primary = group(Server("a", zone="x"), Server("b", zone="y"), Server("c", zone="y"), zone="x")
    assert names(Reading("replica", zone="y"), primary) == ["b c", "a"]
    assert names(Reading("prefer-replica", zone="x"), primary) == ["a", "b c", "primary"]
    assert names(Reading("prefer-replica", zone="z"), primary) == ["a b c", "primary"]
    assert names(Reading("nearest", zone="x"), primary) == ["a primary", "b c"]


def test_the_nearest_of_the_zone_goes_before_a_nearer_one_elsewhere() -> None:
    primary = group(Server("a", 0.004, "x"), Server("b", 0.001, "y"), zone="y", round_trip=0.003)
    assert names(Reading("nearest", zone="x"), primary) == ["a", "b", "primary"]


def test_who_is_about_as_near_shares_the_load() -> None:
    near = group(Server("a", 0.0012), Server("b", 0.0016), Server("c", 0.010), round_trip=0.001)
    assert names(Reading("nearest"), near) == ["a primary", "b", "c"]
    # Within a machine room all differences are noise.
    room = group(Server("a", 0.0001), Server("b", 0.00025), round_trip=0.00007)
    assert names(Reading("nearest"), room) == ["a b primary"]


def test_whose_distance_is_not_known_yet_is_taken_for_near() -> None:
    new = Server("new")
    new.figures.round_trip = None
    primary = group(new, Server("far", 0.1), round_trip=0.02)
    assert names(Reading("nearest"), primary) == ["new primary", "far"]


def test_a_replica_is_left_out_as_long_as_it_is_too_far_behind() -> None:
    one, other = Server("a"), Server("b")
    one.figures.fresh_at, other.figures.fresh_at = 99.5, 97.0
    primary = group(one, other)
    bounded = Reading("prefer-replica", max_lag=2.0)
    assert names(bounded, primary, now=100.0) == ["a", "primary"]
    assert names(bounded, primary, now=101.4) == ["a", "primary"]
    assert names(bounded, primary, now=101.6) == ["primary"]
    assert names(Reading("prefer-replica"), primary, now=1000.0) == ["a b", "primary"]


def test_lag_is_bounded_to_the_moment_though_choices_are_remembered() -> None:
    now = 100.0
    replica = Server("a")
    replica.figures.fresh_at = 99.0
    primary = group(replica)
    chosen = choosing(Reading("prefer-replica", max_lag=1.0 + VALID_FOR / 2), lambda: now)
    assert chosen.choose(primary) is replica
    now += VALID_FOR / 2 + 0.001
    assert chosen.choose(primary) is primary


def test_a_choice_stands_until_something_is_heard() -> None:
    replica = Server("a")
    primary = group(replica)
    chosen = choosing(Reading("prefer-replica"))
    assert chosen.choose(primary) is replica
    replica.figures.failed("it was lost")
    assert chosen.choose(primary) is replica
    chosen.changed()
    assert chosen.choose(primary) is primary


def test_equals_take_turns() -> None:
    primary = group(Server("a"), Server("b"), Server("c"))
    chosen = choosing(Reading("replica"))
    asked = Counter(str(chosen.choose(primary)) for _ in range(300))
    assert asked == {"a": 100, "b": 100, "c": 100}


def test_who_owes_many_answers_is_asked_less() -> None:
    busy = Server("busy")
    busy.load = 50
    primary = group(busy, Server("b"))
    chosen = choosing(Reading("replica"))
    assert {str(chosen.choose(primary)) for _ in range(10)} == {"b"}
    primary.replicas.append(Server("c"))
    chosen.changed()
    asked = Counter(str(chosen.choose(primary)) for _ in range(300))
    assert asked["busy"] == 0


def test_another_one_is_the_best_of_the_others() -> None:
    a, b, far = Server("a", 0.001), Server("b", 0.001), Server("far", 0.1)
    primary = group(a, b, far)
    chosen = choosing(Reading("nearest"))
    b.load = 1
    assert chosen.another(primary, a) is primary
    assert chosen.another(primary, primary) is a
    assert choosing(Reading("replica")).another(group(a), a) is None


def test_being_left_out_is_counted() -> None:
    counts = ReadCounts()
    replica = Server("a")
    replica.figures.fresh_at = -5.0
    primary = group(replica)
    reading = Reading("prefer-replica", max_lag=1.0)
    chosen = Choosing(reading, lambda p: p.replicas, lambda s: s.load, counts, lambda: 0.0)
    for _ in range(3):
        chosen.choose(primary)
    assert counts.snapshot() == ReadMetrics(lagging=3)
    assert counts.snapshot().since(ReadMetrics(lagging=2)) == ReadMetrics(lagging=1)


def test_a_round_trip_is_the_middle_of_the_last_looks() -> None:
    figures = Figures()
    for seconds in (None, 0.001, 0.9, 0.001, 0.002):
        figures.answered(seconds)
    assert figures.round_trip == 0.002
    for _ in range(3):
        figures.answered(0.05)
    assert figures.round_trip == 0.05


# -- how far behind --------------------------------------------------------------------------

PRIMARY = "# Replication\r\nrole:master\r\nmaster_replid:abc\r\nmaster_repl_offset:300\r\n"
REPLICA = (
    "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r\n"
    "slave_read_repl_offset:299\r\nslave_repl_offset:298\r\nmaster_replid:abc\r\nmaster_repl_offset:297\r\n"
)


def test_what_a_server_tells_of_its_replication() -> None:
    assert standing(PRIMARY) == Standing(True, True, "abc", 300)
    assert standing(REPLICA) == Standing(False, True, "abc", 298)  # what it has executed
    assert standing("# Replication\r\nrole:slave\r\n") is None
    assert standing("") is None


def test_a_replica_without_a_link_has_what_it_had_unless_it_has_just_started() -> None:
    down = REPLICA.replace("link_status:up", "link_status:down")
    assert standing(down) == Standing(False, True, "abc", 298)
    assert standing(down.replace("298", "1")) == Standing(False, False, "abc", 1)
    assert standing(REPLICA.replace("298", "0")) == Standing(False, True, "abc", 0)  # all new


def test_a_replica_has_all_that_its_primary_had_at_a_moment() -> None:
    course = Course()
    for when, offset in ((1.0, 100), (2.0, 100), (3.0, 200), (4.0, 300)):
        course.note(when, Standing(True, True, "abc", offset))
    for offset, when in ((99, -inf), (100, 2.0), (199, 2.0), (200, 3.0), (300, 4.0), (310, 4.0)):
        assert course.fresh_at(Standing(False, True, "abc", offset)) == when


def test_offsets_of_another_stream_say_nothing() -> None:
    course = Course()
    course.note(1.0, Standing(True, True, "abc", 100))
    assert course.fresh_at(Standing(False, True, "xyz", 500)) == -inf
    course.note(2.0, Standing(True, True, "xyz", 600))  # a failover
    assert course.fresh_at(Standing(False, True, "abc", 700)) == -inf
    assert course.fresh_at(Standing(False, True, "xyz", 500)) == -inf
    assert course.fresh_at(Standing(False, True, "xyz", 600)) == 2.0


# -- own writes ------------------------------------------------------------------------------


async def test_a_slot_is_recent_from_the_write_until_so_long_after_its_answer() -> None:
    now = 100.0
    writes = Writes(2.0, lambda: now)
    answer: Future[str] = asyncio.get_running_loop().create_future()
    assert not writes.recent(7)
    writes.note(7, answer)
    now += 60.0  # it takes long
    assert writes.recent(7)
    assert not writes.recent(8)
    answer.set_result("OK")
    now += 60.0
    assert writes.recent(7)  # nobody has read since: it may have been answered just now
    now += 1.9
    assert writes.recent(7)
    now += 0.2
    assert not writes.recent(7)
    assert not writes


async def test_answers_that_nobody_keeps_are_not_kept_for_us() -> None:
    now = 0.0
    writes = Writes(1.0, lambda: now)
    writes.note(1, asyncio.get_running_loop().create_future())  # its caller has dropped it
    assert writes.recent(1)
    now += 1.1
    assert not writes.recent(1)


async def test_writes_on_no_lane_count_from_issue_and_from_answer() -> None:
    now = 0.0
    writes, gone = Writes(1.0, lambda: now), Writes(1.0, lambda: now)
    loop = asyncio.get_running_loop()
    blocking, quick = loop.create_future(), loop.create_future()
    writes.note_of_others([1], blocking)
    writes.note_of_others([1, 2], quick)
    quick.set_result("OK")
    await asyncio.sleep(0)
    assert writes.recent(1)
    assert writes.recent(2)
    now += 1.1
    assert not writes.recent(1)
    blocking.set_result("OK")  # which the other one must not hide
    await asyncio.sleep(0)
    assert writes.recent(1)
    assert not writes.recent(2)
    gone.note(3, loop.create_future())
    writes.absorb(gone)
    assert writes.recent(3)
    now += 1.1
    assert not writes.recent(3)


async def test_what_may_concern_all_slots_counts_for_each() -> None:
    writes = Writes(1.0)
    answer: Future[str] = asyncio.get_running_loop().create_future()
    writes.note(None, answer)
    assert writes.recent(0)
    assert writes.recent(16383)


# -- hedging ---------------------------------------------------------------------------------


def test_the_pace_of_a_server_is_told_once_enough_is_known() -> None:
    pace = Pace()
    for _ in range(19):
        pace.note(0.001)
    assert pace.p95() == inf
    pace.note(0.5)
    assert pace.p95() == 0.5
    for _ in range(64):
        pace.note(0.002)
    assert pace.p95() == 0.002


def test_no_more_than_a_share_of_the_reads_is_hedged() -> None:
    budget = Budget(0.05)
    assert not budget.spend()
    hedged = 0
    for _ in range(1000):
        budget.earn()
        hedged += budget.spend()
    assert hedged == pytest.approx(50, abs=1)
    for _ in range(100_000):
        budget.earn()
    saved = 0
    while budget.spend():
        saved += 1
    assert saved == SAVED


class Hedged:
    """Reads of one group, whose answers the test gives."""

    def __init__(self, share: float = 1.0, **figures: float) -> None:
        self.loop = asyncio.get_running_loop()
        self.servers = {name: Server(name) for name in ("a", "b")}
        self.primary = group(*self.servers.values())
        for name, server in self.servers.items():
            for _ in range(64):
                server.figures.pace.note(figures.get(name, 0.001))
        self.counts = ReadCounts()
        self.second: list[tuple[Server, Future[Any]]] = []
        chosen = choosing(Reading("replica"))
        self.hedging = Hedging(
            self.loop, Budget(share), lambda p: p.replicas, chosen.another, self.ask, self.counts
        )

    def ask(self, server: Server, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        assert (payload, decode) == (b"GET k", True)
        assert 0 < timeout < 5.0
        answer: Future[Any] = self.loop.create_future()
        self.second.append((server, answer))
        return answer

    def read(self, name: str = "a") -> Future[Any]:
        answer: Future[Any] = self.loop.create_future()
        self.hedging.watch(self.primary, self.servers[name], answer, b"GET k", True, 5.0)
        return answer


async def test_the_first_answer_is_taken_and_the_other_dropped() -> None:
    hedged = Hedged()
    answer = hedged.read("a")
    await until(lambda: hedged.second)
    ((server, second),) = hedged.second
    assert server is hedged.servers["b"]
    second.set_result("from b")
    assert await answer == "from b"
    assert hedged.counts == ReadCounts(hedged=1, hedges_won=1)

    answer = hedged.read("b")
    await until(lambda: len(hedged.second) == 2)
    answer.set_result("from b")
    hedged.second[1][1].set_result("from a")
    await asyncio.sleep(0)
    assert await answer == "from b"
    assert hedged.counts == ReadCounts(hedged=2, hedges_won=1)
    hedged.hedging.close()


async def test_a_refusal_of_the_second_is_no_answer() -> None:
    hedged = Hedged()
    answer = hedged.read()
    await until(lambda: hedged.second)
    hedged.second[0][1].set_exception(RuntimeError("LOADING"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not answer.done()
    answer.set_result("from a")
    assert await answer == "from a"
    assert hedged.counts == ReadCounts(hedged=1)
    hedged.hedging.close()


async def test_too_long_is_what_is_so_for_the_quickest() -> None:
    hedged = Hedged(a=30.0, b=0.001)
    answer = hedged.read("a")
    await until(lambda: hedged.second)
    assert not answer.done()
    hedged.hedging.close()


async def test_what_is_answered_in_time_is_not_hedged() -> None:
    hedged = Hedged(a=0.01, b=0.01)
    for _ in range(50):
        hedged.read().set_result("quick")
    late = hedged.read()
    await until(lambda: hedged.second)
    assert len(hedged.second) == 1
    late.set_result("slow")
    hedged.hedging.close()


async def test_reads_past_the_budget_wait_for_whom_they_have_asked() -> None:
    hedged = Hedged(share=0.25)
    answers = [hedged.read() for _ in range(100)]
    await until(lambda: hedged.second)
    assert len(hedged.second) == hedged.counts.hedged == SAVED
    assert not any(answer.done() for answer in answers)
    hedged.hedging.close()


async def test_nothing_is_hedged_before_the_pace_is_known() -> None:
    hedged = Hedged()
    for server in hedged.servers.values():
        server.figures.pace = Pace()
    answers = [hedged.read()]
    known = Hedged()
    answers.append(known.read())
    await until(lambda: known.second)
    assert not hedged.second
    hedged.hedging.close()
    known.hedging.close()


# -- what may be read from replicas ------------------------------------------------------------


@pytest.mark.parametrize(
    ("commands", "expected"),
    [
        ([("GET", "k"), ("LRANGE", "k", 0, 1)], True),
        ([("GET", "k"), ("SET", "k", "v")], False),
        ([("XREAD", "BLOCK", 5, "STREAMS", "k", 0)], False),
        ([("XREAD", "STREAMS", "k", 0), ("GET", "k")], True),
    ],
)
def test_what_all_reads(commands: list[tuple[Any, ...]], expected: bool) -> None:
    payload = b"".join(map(pack, commands))
    assert all_read(payload, len(commands), only_reads) is expected
