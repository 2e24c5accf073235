"""docs/scaling.md says what the simulation does, and the simulation does what the library does."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import simulate_cluster
from benchmarks.simulation import connections, refresh, slots, storm
from benchmarks.simulation.connections import Fleet
from benchmarks.simulation.loss import Failover
from benchmarks.simulation.refresh import Asking
from redisutils.topology.cluster.refreshing import GAP, GAP_OF_SUSPICION, gap_of_suspicion

PAGE = Path(__file__).parent.parent / "docs" / "scaling.md"
NAMINGS = {naming.title: naming for naming in slots.NAMINGS}
POLICIES = {policy.title: policy for policy in storm.POLICIES}


def played(title: str, *, connect: float = 0.0002, seed: int = 1) -> storm.Outcome:
    random.seed(seed)
    return storm.Storm(
        POLICIES[title], pods=300, lanes=2, down=1.0, connect=connect, per_turn=10, seed=seed
    ).run()


def test_the_page_has_the_tables_that_the_simulation_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Those that take no time. The others have the same seed, and are printed by the same program.
    for slow in ("_slots", "_storm", "_refresh"):
        monkeypatch.setattr(simulate_cluster, slow, lambda *_: None)
    monkeypatch.setattr("sys.argv", ["simulate_cluster"])
    assert simulate_cluster.main() == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    page = {re.sub(r"\s+|-+", " ", line) for line in PAGE.read_text().splitlines()}
    assert len(rows) > 12
    assert [row for row in rows if re.sub(r"\s+|-+", " ", row) not in page] == []


def test_everybody_is_connected_in_the_end_and_the_same_seed_gives_the_same() -> None:
    for title in POLICIES:
        found = played(title)
        assert len(found.waiting) == 600
        assert found.waiting[-1][1] == 0
        assert found.attempts >= 600 + found.refused
        assert played(title) == found


def test_jitter_spares_the_kernel_and_the_server() -> None:
    together, apart = played("every second"), played("redisutils")
    assert together.dropped > 0
    assert apart.dropped == 0
    assert apart.peak < together.peak / 4


def test_who_gives_up_early_has_connections_prepared_in_vain() -> None:
    early = played("every second, giving up after 0.25 s", connect=0.002)
    patient = played("every second", connect=0.002)
    assert patient.wasted == 0
    assert early.wasted > 0
    assert early.last > patient.last


def test_a_naming_puts_all_load_somewhere_and_one_tag_into_one_slot() -> None:
    for naming in slots.NAMINGS:
        load = slots.load(naming, seed=3)
        total = sum(load.values())
        assert total == pytest.approx(1) or (naming.keys is slots.with_copies and 1 < total < 1.2)
        assert slots.busiest_node(load, 1) == pytest.approx(total)
    hottest = max(slots.load(NAMINGS["one tag for a service"], seed=3).values())
    assert hottest >= slots.MARKET
    tagged = max(slots.load(NAMINGS["a tag per symbol"], seed=3).values())
    assert tagged >= slots.MARKET * slots.zipf(slots.SYMBOLS, slots.SYMBOL_EXPONENT)[0]


def test_looks_at_the_map_are_as_the_library_makes_them() -> None:
    gaps = [gap_of_suspicion() for _ in range(200)]
    assert min(gaps) >= GAP
    assert sum(gaps) / len(gaps) == pytest.approx(GAP_OF_SUSPICION, rel=0.1)
    assert len(set(gaps)) > 100
    looks = {
        asking: refresh.simulate(asking, pods=200, tasks=5, nodes=2, outage=2.0, seed=1)
        for asking in Asking
    }
    assert looks[Asking.CALLS].total > 5 * looks[Asking.STEP].total
    assert looks[Asking.JITTER].later_stall < looks[Asking.STEP].later_stall / 4
    assert sum(looks[Asking.STEP].timeline) == looks[Asking.STEP].total == 200 * 11


def test_sums_of_connections_and_of_lost_writes() -> None:
    fleet = Fleet(500, processes=2, lanes=3, checkouts=1)
    assert fleet.at_node == 4_000
    assert fleet.at_node_rolling == 5_000
    assert fleet.in_pod(6) == 48
    assert connections.maxclients_for(5_000, replicas=2) == 7_000
    assert connections.descriptors_for(7_000) == 7_032
    failover = Failover(
        1_000, replication_lag=0.01, node_timeout=5, down_after=10, election=1, max_lag=None
    )
    assert failover.crash == 10
    assert failover.split_cluster(60) == 5_000
    assert failover.split_cluster(2) == 2_000
    assert failover.split_sentinel(60) == 60_000
    guarded = replace(failover, max_lag=2)
    assert guarded.split_cluster(60) == guarded.split_sentinel(60) == 3_000
