"""The comparison: every test that passes with redis-py must pass with ours.

A module with a test that did not pass is run again, on a fresh server: if that test passes then,
it is *unsteady* and named. If not, the module is run with redis-py on the same kind of server,
unless the stored baseline already answers for exactly this redis-py and server. A test that
passes there is a *regression*.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
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
    passes = {
        one: _Comparison(one, wanted, outcome)
        for one, outcome in jobs.collect(wanted, folder).items()
    }
    suspected = {one: found.suspects for one, found in passes.items() if found.suspects}
    again = _rerun(wanted.client, wanted.keyword, suspected, folder, say)
    for one, found in passes.items():
        found.settle_with_ours(again.get(one, Outcome()))

    doubtful = {one: found.suspects for one, found in passes.items() if found.doubtful}
    theirs = _rerun("redis-py", wanted.keyword, doubtful, folder, say)
    for one, found in passes.items():
        found.settle_with_theirs(theirs.get(one, Outcome()).passed)
    return [found.verdict for found in passes.values()]


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


class _Comparison:
    """The way of one server and protocol to its verdict; ``suspects`` become fewer on it."""

    def __init__(self, one: tuple[str, str], wanted: Wanted, outcome: Outcome) -> None:
        kind, protocol = one
        self.verdict = Verdict(servers.describe(kind), protocol, outcome)
        stored = baseline.load(kind)
        self._expected = set(stored.passes.get(protocol, ()) if stored else ())
        if wanted.keyword:
            self._expected &= outcome.collected
        self._sure = stored is not None and stored.fits(
            source.installed_version(), self.verdict.server
        )
        self._theirs_is_asked = not self._sure and wanted.client != "redis-py"
        if self._sure:
            self.verdict.expected = len(self._expected)
        else:
            # Of another release or server: only what is there can be asked about.
            self._expected &= outcome.collected
        self._again = Outcome()
        self.suspects = self._expected - outcome.passed
        others = outcome.failed.keys() - self._expected
        if self._sure:
            self.verdict.also_redis_py = {name: outcome.failed[name] for name in others}
        else:
            self.suspects |= others
        if outcome.broken:
            self.suspects = set()

    @property
    def doubtful(self) -> bool:
        """Whether only redis-py itself can tell whose fault it is."""
        return self._theirs_is_asked and bool(self.suspects)

    def settle_with_ours(self, again: Outcome) -> None:
        """Take in the second run."""
        self._again = again
        steady = self.suspects - again.passed
        self.verdict.unsteady = {name: self._why(name) for name in self.suspects & again.passed}
        self.suspects = steady

    def settle_with_theirs(self, theirs: set[str]) -> None:
        """Take in what passes with redis-py, of the suspects; the baseline counts if it fits."""
        guilty = self.suspects & (theirs if self._theirs_is_asked else self._expected)
        self.verdict.regressions = {name: self._why(name) for name in guilty}
        self.verdict.also_redis_py |= {name: self._why(name) for name in self.suspects - guilty}

    def _why(self, name: str) -> str:
        outcome = self.verdict.outcome
        for failed in (outcome.failed, self._again.failed):
            if name in failed:
                return failed[name]
        return "skipped" if name in outcome.skipped else "not collected"


def _rerun(
    client: str,
    keyword: str,
    names: Mapping[tuple[str, str], set[str]],
    folder: Path,
    say: Callable[[str], None],
) -> dict[tuple[str, str], Outcome]:
    """Run the modules of these tests anew; what a test meets there is what it met before."""
    work = [
        (one, Job(client, *one, (module,), keyword))
        for one, suspects in names.items()
        for module in sorted({name.split("::")[0] for name in suspects})
    ]
    if work:
        say(f"{len(work)} modules once more with {client}")
    results = jobs.run_all([job for _, job in work], folder)
    outcomes: dict[tuple[str, str], Outcome] = {one: Outcome() for one in names}
    for (one, _), result in zip(work, results, strict=True):
        outcomes[one].add(result)
    return outcomes
