"""The harness that does the same to us and to the peers counts what it says, and survives them."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.contenders import OURS
from benchmarks.faults import page, runner, table
from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.clients import ADAPTERS
from benchmarks.faults.clients.base import Fate
from benchmarks.faults.measure import Measure, Unit, Verdict
from benchmarks.faults.results import Results
from benchmarks.faults.scenarios.writes import told
from benchmarks.faults.settings import SETUPS

PEER = "redis-py"
SEED = 7


def results_of(figure: float | None) -> Results:
    """Two clients, of which the second has ``figure`` for how long it was half open."""
    return Results(
        clients={OURS: "1", PEER: "2"},
        scenarios=["half-open"],
        facts={"server": "Some 1.0"},
        seed=SEED,
        figures={
            ("half-open", OURS): {"back": 0.26, "failed": 0},
            ("half-open", PEER): {"back": figure, "failed": 1234},
        },
    )


def test_a_small_run_sees_what_is_sent_twice_and_what_is_told() -> None:
    results = runner.run(runner.Plan(["swallowed"], [OURS, PEER], SEED, scale=0.02))
    assert not results.failures
    ours, theirs = (
        {key: value or 0 for key, value in results.figures["swallowed", name].items()}
        for name in (OURS, PEER)
    )
    for figures in (ours, theirs):
        assert figures["strikes"] > 10
        assert figures["missing"] == 0
    assert ours["doubled"] == 0
    assert ours["failed"]
    # What was behind the swallowed reply may be lost before it reaches the server.
    assert ours["failed"] >= ours["landed"] > 0
    assert ours["untold"] == 0
    # It repeats whatever the command, which is the reason of all this: each swallowed INCR, once
    # for every time, and few of them were struck again.
    assert theirs["extra"] == theirs["strikes"]
    assert theirs["doubled"] > theirs["strikes"] / 2
    assert results.flawless(OURS)
    assert results.bad(PEER, "swallowed") == [f"applied twice: {theirs['doubled']:.0f}"]


def test_a_small_run_of_what_falls_silent() -> None:
    results = runner.run(runner.Plan(["half-open", "abandoned"], [OURS], SEED, scale=0.1))
    assert not results.failures
    assert results.flawless(OURS)


def test_a_client_that_hangs_or_crashes_costs_its_own_cell_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    plan = runner.Plan(["abandoned"], [PEER], SEED, scale=0.1)
    with pytest.raises(runner.CellFailed, match="KeyError: 'nobody'"):
        runner.play(plan, SCENARIOS["abandoned"], "nobody", str(tmp_path))
    monkeypatch.setattr(runner, "STARTING", 0.05)
    monkeypatch.setitem(SCENARIOS, "abandoned", replace(SCENARIOS["abandoned"], deadline=0.0))
    results = runner.run(plan)
    assert results.failures == {("abandoned", PEER): "hung: nothing after 0.05 s"}
    assert results.bad(PEER, "abandoned") == ["items lost: no result"]
    assert "hung: nothing after 0.05 s" in page.markdown(results)


def test_the_table_and_the_page_show_every_figure_and_mark_the_bad_ones(tmp_path: Path) -> None:
    results = results_of(None)
    console = Console(width=120, record=True, file=io.StringIO())
    table.show(results, console)
    shown = console.export_text()
    assert "0.3 s " in shown
    assert "> 15 s ✗" in shown
    assert "1,234 ✗" in shown
    written = page.write(results, tmp_path / "docs" / "page.md", tmp_path / "raw.json")
    text = written[0].read_text(encoding="utf-8")
    assert "| all answered after | 0.3 s | > 15 s ✗ |" in text
    assert "| calls that raised | 0 | 1,234 ✗ |" in text
    assert f"- seed {SEED}" in text
    raw = json.loads(written[1].read_text(encoding="utf-8"))
    assert raw["scenarios"]["half-open"][PEER] == {"back": None, "failed": 1234}


@pytest.mark.parametrize(
    ("measure", "value", "text", "verdict"),
    [
        (Measure("m", "", Unit.COUNT, 0), 0, "0", Verdict.GOOD),
        (Measure("m", "", Unit.COUNT, 0), 1, "1", Verdict.BAD),
        (Measure("m", "", Unit.COUNT, None), 5000, "5,000", Verdict.PLAIN),
        (Measure("m", "", Unit.SECONDS, 0.5), 0.0999, "< 0.1 s", Verdict.GOOD),
        (Measure("m", "", Unit.SECONDS, 0.5), 0.51, "0.5 s", Verdict.BAD),
        (Measure("m", "", Unit.SECONDS, 0.5, 15), None, "> 15 s", Verdict.BAD),
        (Measure("m", "", Unit.RATIO, 2), 1.04, "1.0", Verdict.GOOD),
        (Measure("m", "", Unit.RATIO, 2), 96.4, "96", Verdict.BAD),
        (Measure("m", "", Unit.YES, 1), 1, "yes", Verdict.GOOD),
        (Measure("m", "", Unit.YES, 1), 0, "no", Verdict.BAD),
    ],
)
def test_a_figure_is_written_and_judged(
    measure: Measure, value: float | None, text: str, verdict: Verdict
) -> None:
    assert (measure.text(value), measure.verdict(value)) == (text, verdict)


@pytest.mark.parametrize(
    ("fate", "count", "right"),
    [
        (None, 0, False),
        (None, 1, False),
        ("unknown", 0, True),
        ("unknown", 1, True),
        ("no effect", 0, True),
        ("no effect", 1, False),
        ("done", 1, True),
        ("done", 0, False),
    ],
)
def test_an_error_tells_the_outcome_only_if_it_says_something_and_is_right(
    fate: Fate | None, count: int, right: bool
) -> None:
    assert told(fate, count) is right


def test_everything_is_told_of_every_client() -> None:
    assert list(SETUPS) == list(ADAPTERS)
