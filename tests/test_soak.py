"""The soak itself, for a few seconds: it runs, finds nothing, and would find what there is."""

from __future__ import annotations

import asyncio
import gc
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from redisutils import CommandTimeout, Outcome
from redisutils.testing import find_servers

from .soak import chart, page
from .soak.__main__ import main
from .soak.calls import Calls, Pulse
from .soak.calm import Baseline, Calm
from .soak.ledger import Ledger, Tally
from .soak.run import Plan, Record, _all_heard, soak
from .soak.samples import Sample
from .soak.verdict import growth, judge
from .soak.weather import Spell

needs_proc = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc here")


@needs_proc
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_short_one_finds_nothing(tmp_path: Path) -> None:
    shown: list[float] = []
    plan = Plan(seconds=3.5, seed=7, server=next(iter(find_servers())), calm_every=2.0)
    record = await soak(plan, lambda record: shown.append(record.samples[-1].at))
    assert record.complaints == []
    assert len(record.calms) > 1
    assert len({calm.found for calm in record.calms}) == 1
    assert record.spells
    assert record.outcomes["done"] > 500
    assert shown
    chart.draw(record, tmp_path / "soak.svg")
    assert (tmp_path / "soak.svg").stat().st_size > 10_000
    page.write(record, tmp_path / "soak.md")
    assert "all is well" in (tmp_path / "soak.md").read_text(encoding="utf-8")


@needs_proc
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_one_that_is_interrupted_ends_quietly(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Record] = []
    struck = asyncio.Event()

    def show(record: Record) -> None:
        seen.append(record)
        if record.weather != "fair":
            struck.set()

    plan = Plan(seconds=10, seed=7, server=next(iter(find_servers())))
    running = asyncio.create_task(soak(plan, show))
    async with asyncio.timeout(40):
        await struck.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    gc.collect()
    assert "never retrieved" not in caplog.text
    assert seen[-1].interrupted
    assert seen[-1].complaints == []
    assert seen[-1].spells
    assert "verdict: interrupted: nothing was found so far" in page.summary(seen[-1])


def test_only_an_undisturbed_run_with_faults_is_called_well() -> None:
    record = Record(Plan())
    assert "no fault struck" in page.verdict(record)
    record.spells.append(Spell("Reset", 1.0, 1.0))
    assert page.verdict(record) == "all is well"
    record.interrupted = True
    assert page.verdict(record) == "interrupted: nothing was found so far"
    record.complaints.append("a warning")
    assert page.verdict(record) == "interrupted: 1 complaints"


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "ten"])
def test_only_a_time_to_come_is_run(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--minutes", minutes])
    assert exited.value.code == 2
    assert f"argument --minutes: {minutes} must be" in capsys.readouterr().err


async def test_a_warning_says_where() -> None:
    complaints: list[str] = []
    with _all_heard(complaints.append):
        warnings.warn("beware", UserWarning, stacklevel=1)
    (complaint,) = complaints
    assert re.fullmatch(r"a warning: .*test_soak\.py:\d+: UserWarning: beware", complaint)


# --- it would find what there is ---


async def told(outcome: Outcome | None) -> str:
    if outcome is not None:
        raise CommandTimeout("too late", outcome=outcome)
    return "OK"


async def written(*outcomes: Outcome | None) -> Ledger:
    ledger = Ledger("list")
    for outcome in outcomes:
        try:
            await ledger.write([ledger.name()], told(outcome))
        except CommandTimeout:
            continue
    return ledger


@pytest.mark.parametrize(
    ("landed", "wrong"),
    [
        (["list#1", "list#2", "list#4"], ""),
        (["list#1", "list#4"], ""),
        (["list#2", "list#1", "list#4"], ""),  # of unknown fate, it may come late
        (["list#1"], "gone: .'list#4'"),
        (["list#1", "list#4", "list#4"], "list#4 is there 2 times"),
        (["list#1", "list#2", "list#2", "list#4"], "list#2 is there 2 times"),
        (["list#1", "list#3", "list#4"], "list#3 was not done"),
        (["list#1", "list#4", "list#9"], "list#9 .* never written"),
        (["list#4", "list#1"], "out of order"),
    ],
)
async def test_a_ledger_sees(landed: list[str], wrong: str) -> None:
    ledger = await written(None, Outcome.UNKNOWN, Outcome.NOT_SENT, None)
    complaints = "; ".join(ledger.audit(landed))
    if wrong:
        with pytest.raises(AssertionError, match=wrong):
            raise AssertionError(complaints)
    else:
        assert not complaints
    assert not list(ledger.audit([])), "the next audit begins anew"


async def test_a_queue_may_lose_what_nobody_learnt_of() -> None:
    assert not list(
        (await written(None, None, None)).audit(["list#3"], consumed=["list#1"], lost=1)
    )
    assert list((await written(None, None, None)).audit(["list#3"], consumed=["list#1"]))
    assert list((await written(None)).audit(["list#1"], consumed=["list#1"]))


async def test_a_tally_sees() -> None:
    async def value(number: int) -> int:
        return number

    tally = Tally("number")
    assert not list(await tally.count(value(1)))
    assert list(await tally.count(value(1))), "the same twice"
    assert list(await tally.count(value(4))), "more than were asked for"
    assert not list(tally.audit(3))
    assert list(tally.audit(2)), "an acknowledged one is missing"


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_call_that_does_not_end_is_seen() -> None:
    complaints: list[str] = []
    calls = Calls(Pulse(), complaints.append)
    calls_of: Any = calls
    calls_of._pulse.lost = lambda: 0.0  # this loop has other things to do than to beat
    call = asyncio.ensure_future(calls.make("it", asyncio.sleep(60), -1.0))
    await asyncio.sleep(0)
    calls.look_for_hung()
    calls.look_for_hung()
    assert len(complaints) == 1
    assert "has not ended" in complaints[0]
    call.cancel()
    await asyncio.wait([call])
    with pytest.raises(CommandTimeout):
        await calls.make("it", told(Outcome.UNKNOWN), 1.0)
    assert len(complaints) == 1
    await calls.make("it", told(None), -1.0)
    assert len(complaints) == 2
    assert calls.outcomes == {"cancelled": 1, "UNKNOWN": 1, "done": 1}


def calm(minute: int, memory: float, objects: int) -> Calm:
    return Calm(60.0 * minute, Baseline(1, 1, 1), int(memory), objects, 0.0)


def test_a_leak_is_seen_and_noise_is_not() -> None:
    assert growth([(0, 0), (1, 2), (2, 4), (3, 600), (4, 8)]) == 2
    flat = [calm(n, 60e6 + n % 3 * 1e5 + (n < 5) * n * 1e6, 1000 + n) for n in range(11)]
    leaking = [calm(n, 60e6 + n % 3 * 1e5 + n * 1.2e6, 1000) for n in range(11)]
    more = [calm(n, 60e6, 1000 * n) for n in range(11)]
    samples = [Sample(1.0, 1, 1, 1, 1, 1, 1.0, 0.0, 0.0, 0, 0)]
    assert list(judge(samples, flat)) == []
    assert "memory grows by 7" in next(judge(samples, leaking))
    assert "Python objects" in next(judge(samples, more))
    assert list(judge(samples, leaking[:3])) == [], "too short to tell"
