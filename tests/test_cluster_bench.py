"""The comparison of cluster clients sees calls that fail, and undoes what it does to servers."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from benchmarks import report, runner
from benchmarks.box import Box
from benchmarks.cluster import keys
from benchmarks.cluster import measures as of_clusters
from benchmarks.cluster.__main__ import SUITE
from benchmarks.cluster.workloads import MOVING, OUTAGE
from benchmarks.contenders import OURS, REFERENCE, STANDALONE
from benchmarks.measures import WrongReply
from benchmarks.results import Results
from benchmarks.server import KEYS, Node, Server, key_name


def test_a_small_run_moves_slots_and_mends_what_it_killed() -> None:
    results = runner.run(
        runner.Plan(
            suite=SUITE,
            contenders=[OURS],
            # An outage first: what comes after it needs a cluster that is whole.
            workloads=[OUTAGE, MOVING, "routing"],
            rounds=1,
            seconds=0.3,
            warmup=0.05,
        )
    )
    assert results.failures == []
    found = {
        (row.workload, row.metric.key, name): results.median(row, name)
        for row in results.rows()
        for name in results.contenders
    }
    assert found[MOVING, "failed", OURS] == 0
    assert (found[MOVING, "ops", OURS] or 0) > 0
    assert (found[OUTAGE, "ops", OURS] or 0) > 0
    assert (found["routing", "cost", OURS] or 0) > 0


def test_a_suite_asks_nobody_for_what_he_cannot_do() -> None:
    covered = {
        name: {key for key, workload in SUITE.workloads.items() if SUITE.covers(workload, name)}
        for name in [*SUITE.roster, REFERENCE]
    }
    everything = set(SUITE.workloads)
    assert covered[OURS] == everything
    assert covered["redis-py"] == everything - {"routing"}
    assert covered[STANDALONE] == everything - {MOVING, OUTAGE, "routing"}
    assert covered[REFERENCE] == {"get-1", "get-50", "get-200", "latency-50", "mixed-50"}


def test_what_is_wanted_is_told_beside_what_was_measured() -> None:
    names = {OURS: "1", "redis-py": "1", STANDALONE: "1"}
    machine = dict.fromkeys(("system", "Python", "server"), "")
    results = Results(names, list(SUITE.workloads.values()), machine, {"rounds": 1, "seconds": 1.0})
    results.add("get-50", OURS, 0, {"ops": 100.0})
    results.add("get-50", "redis-py", 0, {"ops": 10.0})
    results.add("get-50", STANDALONE, 0, {"ops": 200.0})
    results.add("routing", OURS, 0, {"cost": 2.5})
    page = report.markdown(results, SUITE.wording)
    told = [line.split("|")[1:-1] for line in page.partition("## What is wanted")[2].splitlines()]
    found = [tuple(cell.strip() for cell in cells) for cells in told if len(cells) == 4][2:]
    assert found == [
        ("GET, 50 tasks, ÷ redis-py", "≥ 10.0×", "10.0×", "yes"),
        ("GET, 50 tasks, ÷ valkey-glide", "≥ 3.00×", "", "not measured"),
        (f"GET, 50 tasks, ÷ {STANDALONE}", "≥ 0.60×", "0.50×", "NO"),
        ("Pipelines of 100, 4 tasks, ÷ redis-py", "≥ 6.00×", "", "not measured"),
        ("Routing of a GET sent before", "≤ 2.00 µs", "2.50 µs", "NO"),
    ]
    results.workloads = []
    assert all(goal.told(results) is None for goal in SUITE.wording.goals)


def test_every_goal_is_of_a_row_that_there_is() -> None:
    rows = {f"{key}.{metric.key}" for key, one in SUITE.workloads.items() for metric in one.metrics}
    wanted = {goal.row for goal in SUITE.wording.goals}
    assert wanted
    assert wanted <= rows


def test_keys_of_the_dead_node_are_told_from_those_of_the_healthy() -> None:
    victim = Node("127.0.0.1", 1, 1, 0, 16383 // 3)
    healthy, lost = keys.split(victim)
    assert len(healthy) + len(lost) == KEYS
    assert KEYS / 4 < len(lost) < KEYS / 2
    assert {name for name, _ in healthy} | set(lost) == {key_name(n) for n in range(KEYS)}
    server = Server("h", 1, None, "secret", (victim,))
    assert Server.from_dict(server.as_dict()) == server


class _Odd:
    """A client whose GETs all do the same: raise, or answer with what no key holds."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    async def get(self, _key: str) -> Any:
        if self.error is not None:
            raise self.error


async def test_calls_that_fail_while_slots_move_are_counted() -> None:
    odd: Any = _Odd(redis.ResponseError("MOVED 1 127.0.0.1:1"))
    found = await of_clusters.while_moving(odd, 2, Box(0.01), Box(0.05))
    assert found == {"ops": 0, "failed": 10_000}


async def test_a_missing_key_is_no_answer_while_slots_move() -> None:
    odd: Any = _Odd(None)
    with pytest.raises(ExceptionGroup) as caught:
        await of_clusters.while_moving(odd, 2, Box(0.01), Box(0.05))
    assert caught.group_contains(WrongReply)
