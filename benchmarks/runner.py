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

from benchmarks import hosting, imports, machine, reference
from benchmarks.children import environment, last_words
from benchmarks.contenders import OURS, REFERENCE, ROSTER
from benchmarks.progress import shown
from benchmarks.results import Results
from benchmarks.server import Server
from benchmarks.workloads import IMPORT, WORKLOADS, Workload

_PATIENCE = 60.0
"""Seconds that a process may take beyond its boxes."""


@dataclass(frozen=True)
class Plan:
    """What to run. Durations in seconds."""

    contenders: Sequence[str]
    workloads: Sequence[str]
    rounds: int = 3
    seconds: float = 1.5
    warmup: float = 0.3
    url: str | None = None


class CellFailed(Exception):
    """A measurement came to nothing; the message is what its process said last."""


def run(plan: Plan) -> Results:
    """Carry out ``plan``. A cell that fails is noted in the results and stops nothing."""
    machine.allow_many_sockets()
    cores = machine.Cores.choose()
    notes: list[str] = []
    versions = _versions(plan.contenders, notes)
    with (
        hosting.running(plan.url, cores.server) as server,
        tempfile.TemporaryDirectory() as nowhere,
    ):
        results = Results(
            contenders=versions,
            workloads=list(plan.workloads),
            machine={
                **machine.facts(cores, own_server=plan.url is None),
                "server": hosting.describe(server),
            },
            settings={"rounds": plan.rounds, "seconds": plan.seconds, "warmup": plan.warmup},
            notes=notes,
        )
        cells = list(_cells(plan, list(versions)))
        bench = _Bench(plan, server, cores.client, nowhere)
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


def _cells(plan: Plan, contenders: list[str]) -> Iterator[tuple[int, Workload, str]]:
    for round_ in range(plan.rounds):
        first = round_ % len(contenders) if contenders else 0
        for key in plan.workloads:
            workload = WORKLOADS[key]
            for contender in contenders[first:] + contenders[:first]:
                if workload.ours_only and contender != OURS:
                    continue
                if contender != REFERENCE or reference.covers(workload):
                    yield round_, workload, contender


def _versions(contenders: Sequence[str], notes: list[str]) -> dict[str, str]:
    """The contenders that are there, with their versions; a note for each that is not."""
    versions = {}
    for name in contenders:
        if name == REFERENCE:
            if reference.available():
                versions[name] = reference.version()
            else:
                notes.append(f"{name} was skipped: it is not on the PATH.")
        elif ROSTER[name].installed():
            versions[name] = machine.version(ROSTER[name].distribution)
        else:
            notes.append(f"{name} was skipped: it is not installed.")
    if "valkey-py" in versions and machine.version("libvalkey") == machine.MISSING:
        notes.append("valkey-py ran without libvalkey, its parser in C: it is not installed.")
    return versions


def _summary(workload: Workload, measured: dict[str, float]) -> str:
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

    def __init__(self, plan: Plan, server: Server, cpu: int | None, cwd: str) -> None:
        self._plan = plan
        self._server = server
        self._cpu = cpu
        # An empty directory: no .env file may configure a contender either.
        self._cwd = cwd
        self._env = environment()

    def measure(self, workload: Workload, contender: str) -> dict[str, float]:
        """One cell. Raises if it fails in whatever way."""
        plan = self._plan
        if contender == REFERENCE:
            return reference.measure(workload, self._server, self._cpu, plan.warmup, plan.seconds)
        if workload.key == IMPORT:
            return imports.measure(contender, self._cpu, self._env, self._cwd)
        order = {
            "contender": contender,
            "workload": workload.key,
            "server": self._server.as_dict(),
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
