"""The comparison: every test that passes with redis-py must pass with ours.

A test that did not pass is run again, alone, on a fresh server: passing then, it is *unsteady*
and named. Failing again, it is run with redis-py on the same kind of server, unless the stored
baseline already answers for exactly this redis-py and server. Passing there, it is a *regression*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from . import baseline, jobs, selection, servers, source
from .jobs import Job, Outcome, Wanted


@dataclass
class Verdict:
    """One server and protocol: what happened, and what that means."""

    server: str
    protocol: str
    outcome: Outcome
    expected: int | None = None
    regressions: dict[str, str] = field(default_factory=dict)
    unsteady: dict[str, str] = field(default_factory=dict)
    also_redis_py: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether nothing is worse than with redis-py, and something ran at all."""
        return bool(self.outcome.passed) and not self.regressions and not self.outcome.broken


def judge(wanted: Wanted, folder: Path, say: Callable[[str], None]) -> list[Verdict]:
    """Run everything wanted and compare it with redis-py; ``folder`` holds redis-py's tests."""
    first = jobs.collect(wanted, folder)
    verdicts = []
    for (kind, protocol), outcome in first.items():
        verdict = Verdict(servers.describe(kind), protocol, outcome)
        _compare(verdict, kind, wanted, folder, say)
        verdicts.append(verdict)
    return verdicts


def gaps(outcomes: Iterable[Outcome], folder: Path) -> list[str]:
    """Return what selection.py gets wrong: entries without a test, modules not decided upon."""
    used = jobs.merged(outcomes).used
    texts = [
        f"deselected, but there is no such test: {one}"
        for one in selection.DESELECTED
        if one not in used
    ]
    here = {path.name for path in Path(folder, selection.FOLDER).glob("test_*.py")}
    known = {*selection.MODULES, *(one for group in selection.GROUPS.values() for one in group)}
    texts += [f"neither selected nor left out: {one}" for one in sorted(here - known)]
    texts += [f"selected or left out, but not there: {one}" for one in sorted(known - here)]
    return texts


def _compare(
    verdict: Verdict, kind: str, wanted: Wanted, folder: Path, say: Callable[[str], None]
) -> None:
    outcome, stored = verdict.outcome, baseline.load(kind)
    expected = set(stored.passes.get(verdict.protocol, ()) if stored else ())
    if wanted.keyword:
        expected &= outcome.collected
    sure = stored is not None and stored.fits(source.installed_version(), verdict.server)
    verdict.expected = len(expected) if sure else None

    suspects = (expected | outcome.failed.keys()) - outcome.passed
    if not suspects or outcome.broken:
        return
    say(f"{verdict.server}, protocol {verdict.protocol}: {len(suspects)} to run again")
    again = _rerun(wanted.client, kind, verdict.protocol, suspects & outcome.collected, folder)
    verdict.unsteady = {name: _why(name, outcome) for name in again.passed}
    suspects -= again.passed

    if sure or wanted.client == "redis-py":
        theirs = expected & suspects
    else:
        # What is not collected here belongs to the other release that the baseline is of.
        here = suspects & outcome.collected
        theirs = _rerun("redis-py", kind, verdict.protocol, here, folder).passed
    verdict.also_redis_py = {name: _why(name, again, outcome) for name in suspects - theirs}
    verdict.regressions = {name: _why(name, again, outcome) for name in theirs}


def _why(name: str, *outcomes: Outcome) -> str:
    """Return the first reason given for a test not to have passed."""
    for outcome in outcomes:
        if name in outcome.failed:
            return outcome.failed[name]
    skipped = any(name in outcome.skipped for outcome in outcomes)
    return "skipped" if skipped else "not collected"


def _rerun(client: str, kind: str, protocol: str, names: Iterable[str], folder: Path) -> Outcome:
    """Run single tests, each on a server of its own while they are few, else by module."""
    names = sorted(names)
    if len(names) <= 12:
        batches: list[tuple[str, ...]] = [(name,) for name in names]
    else:
        modules = sorted({name.split("::")[0] for name in names})
        batches = [tuple(n for n in names if n.startswith(f"{m}::")) for m in modules]
    return jobs.merged(jobs.run_all([Job(client, kind, protocol, b) for b in batches], folder))
