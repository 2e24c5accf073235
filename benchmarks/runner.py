"""Runs all cells in turn: rounds, workloads, contenders.

Within a round and a workload the contenders follow one another directly, beginning with
another one each round, so that a slow minute of the machine hits all of them alike and a
ratio compares what was measured side by side.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks import imports, machine, reference
from benchmarks.children import environment, last_words
from benchmarks.contenders import REFERENCE
from benchmarks.progress import shown
from benchmarks.results import Results
from benchmarks.suite import Stage, Suite
from benchmarks.workloads import IMPORT, Workload

_PATIENCE = 60.0
"""Seconds that a process may take beyond its boxes."""


@dataclass(frozen=True)
class Plan:
    """What to run. Durations in seconds."""

    suite: Suite
    contenders: Sequence[str]
    workloads: Sequence[str]
    rounds: int = 3
    seconds: float = 1.5
    warmup: float = 0.3
    url: str | None = None


_OVERHEAD = 1.2
"""Seconds of a measurement besides its boxes, about: a process that starts, connects and ends."""


class CellFailed(Exception):
    """A measurement came to nothing; the message is what its process said last."""


def run(plan: Plan) -> Results:
    """Carry out ``plan``. A cell that fails is noted in the results and stops nothing."""
    machine.allow_many_sockets()
    cores = machine.Cores.choose()
    notes: list[str] = []
    versions = _versions(plan, notes)
    with (
        plan.suite.stage(plan.url, cores) as stage,
        tempfile.TemporaryDirectory() as nowhere,
    ):
        results = Results(
            contenders=versions,
            workloads=[plan.suite.workloads[key] for key in plan.workloads],
            machine={
                **machine.facts(cores, own_server=plan.url is None),
                **stage.facts(),
            },
            settings={"rounds": plan.rounds, "seconds": plan.seconds, "warmup": plan.warmup},
            notes=notes,
        )
        cells = list(_cells(plan, list(versions)))
        bench = _Bench(plan, stage, cores.client, nowhere)
        minutes = max(1, round(len(cells) * (plan.warmup + plan.seconds + _OVERHEAD) / 60))
        print(
            f"{len(cells)} measurements, about {minutes} minute{'' if minutes == 1 else 's'}.",
            file=sys.stderr,
            flush=True,
        )
        with shown(len(cells)) as progress:
            for round_, workload, contender in cells:
                label = f"round {round_ + 1}/{plan.rounds}, {workload.key}, {contender}"
                progress.begin(label)
                try:
                    measured = bench.measure(workload, contender)
                except (CellFailed, OSError, RuntimeError, subprocess.TimeoutExpired) as error:
                    results.failures.append(f"{label}: {_reason(error)}")
                    progress.end(label, f"failed: {_reason(error)}")
                else:
                    results.add(workload.key, contender, round_, measured)
                    progress.end(label, _summary(workload, measured))
    return results


def _cells(plan: Plan, contenders: list[str]) -> Iterator[tuple[int, Workload[Any], str]]:
    for round_ in range(plan.rounds):
        first = round_ % len(contenders) if contenders else 0
        for key in plan.workloads:
            workload = plan.suite.workloads[key]
            for contender in contenders[first:] + contenders[:first]:
                if plan.suite.covers(workload, contender):
                    yield round_, workload, contender


def _versions(plan: Plan, notes: list[str]) -> dict[str, str]:
    """The contenders that are there, with their versions; a note for each that is not."""
    versions = {}
    roster = plan.suite.roster
    for name in plan.contenders:
        if name == REFERENCE:
            if reference.available():
                versions[name] = reference.version()
            else:
                notes.append(f"{name} was skipped: it is not on the PATH.")
        elif roster[name].installed():
            versions[name] = machine.version(roster[name].distribution)
        else:
            notes.append(f"{name} was skipped: it is not installed.")
    if "valkey-py" in versions and machine.version("libvalkey") == machine.MISSING:
        notes.append("valkey-py ran without libvalkey, its parser in C: it is not installed.")
    return versions


def _summary(workload: Workload[Any], measured: dict[str, float]) -> str:
    return ", ".join(
        f"{measured[metric.key]:,.6g} {metric.unit}".replace(" /s", "/s")
        for metric in workload.metrics
        if metric.key in measured
    )


def _reason(error: Exception) -> str:
    if isinstance(error, subprocess.TimeoutExpired):
        # Its own text repeats the whole command.
        return f"no result after {error.timeout:g} s"
    return str(error)


class _Bench:
    """Measures single cells."""

    def __init__(self, plan: Plan, stage: Stage, cpu: int | None, cwd: str) -> None:
        self._plan = plan
        self._stage = stage
        self._cpu = cpu
        # An empty directory: no .env file may configure a contender either.
        self._cwd = cwd
        self._env = environment()

    def measure(self, workload: Workload[Any], contender: str) -> dict[str, float]:
        """One cell. Raises if it fails in whatever way."""
        with self._stage.around(workload):
            return self._measure(workload, contender)

    def _measure(self, workload: Workload[Any], contender: str) -> dict[str, float]:
        plan = self._plan
        server = self._stage.server_for(contender)
        if contender == REFERENCE:
            return reference.measure(workload, server, self._cpu, plan.warmup, plan.seconds)
        entry = plan.suite.roster[contender]
        if workload.key == IMPORT:
            return imports.measure(entry, self._cpu, self._env, self._cwd)
        order = {
            "adapter": entry.adapter,
            "catalogue": plan.suite.catalogue,
            "workload": workload.key,
            "server": server.as_dict(),
            "warmup": plan.warmup,
            "seconds": plan.seconds,
        }
        patience = plan.warmup + plan.seconds + _PATIENCE
        with machine.pinned(self._cpu):
            child = subprocess.run(
                [sys.executable, "-m", "benchmarks.worker", json.dumps(order)],
                check=False,
                capture_output=True,
                text=True,
                cwd=self._cwd,
                env=self._env,
                timeout=patience,
            )
        if child.returncode:
            raise CellFailed(last_words(child))
        measured: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
        return measured
