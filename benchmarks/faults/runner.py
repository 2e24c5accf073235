"""Runs every scenario with every client, each in a process of its own with a deadline."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks import machine
from benchmarks.children import environment, last_words
from benchmarks.contenders import ROSTER
from benchmarks.faults.catalogue import SCENARIOS, Scenario
from benchmarks.faults.results import BAD, Results
from benchmarks.faults.stage import Figures
from benchmarks.progress import Progress, shown
from redisutils.testing import find_servers

STARTING = 20.0
"""Seconds for starting a process and a server, on top of a scenario's deadline."""


@dataclass(frozen=True)
class Plan:
    """What to run. ``scale``: the share of a whole run's counts and durations."""

    scenarios: Sequence[str]
    clients: Sequence[str]
    seed: int
    scale: float = 1.0


class CellFailed(Exception):
    """A process has left no figures; the message says how it ended."""


def run(plan: Plan) -> Results:
    """Carry out ``plan``. A client that crashes or hangs is noted in the results."""
    machine.allow_many_sockets()
    notes = [
        f"{name} was skipped: it is not installed."
        for name in plan.clients
        if not ROSTER[name].installed()
    ]
    versions = {
        name: machine.version(ROSTER[name].distribution)
        for name in plan.clients
        if ROSTER[name].installed()
    }
    facts = {"server": _server(), "Python": sys.version.split()[0]}
    results = Results(versions, list(plan.scenarios), facts, plan.seed, plan.scale, notes=notes)
    cells = [(SCENARIOS[key], client) for key in plan.scenarios for client in versions]
    with tempfile.TemporaryDirectory() as nowhere, shown(len(cells), ticking=True) as progress:
        for scenario, client in cells:
            _cell(plan, scenario, client, nowhere, results, progress)
    return results


def _cell(
    plan: Plan,
    scenario: Scenario,
    client: str,
    nowhere: str,
    results: Results,
    progress: Progress,
) -> None:
    progress.begin(f"{scenario.title}, {client}")
    try:
        figures = play(plan, scenario, client, nowhere)
    except (CellFailed, OSError) as error:
        results.failures[scenario.key, client] = str(error)
        progress.end(scenario.title, f"failed: {client}: {error}")
    else:
        results.figures[scenario.key, client] = figures
        bad = results.bad(client, scenario.key)
        # With the name: on the bar it stands beside the one that has begun since.
        progress.end(scenario.title, f"{client}: {f'{len(bad)} {BAD}' if bad else 'all good'}")


def play(plan: Plan, scenario: Scenario, client: str, cwd: str) -> Figures:
    """One client, one scenario, in a process that works in ``cwd``. Raises CellFailed."""
    order = {
        "client": client,
        "scenario": scenario.key,
        "seed": plan.seed,
        "scale": plan.scale,
    }
    try:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.faults.worker", json.dumps(order)],
            check=False,
            capture_output=True,
            text=True,
            cwd=cwd,
            env=environment(),
            timeout=scenario.deadline + STARTING,
        )
    except subprocess.TimeoutExpired as error:
        raise CellFailed(f"hung: nothing after {error.timeout:g} s") from None
    if child.returncode:
        raise CellFailed(last_words(child))
    figures: Figures = json.loads(child.stdout.splitlines()[-1])
    return figures


def _server() -> str:
    """Kind and version of the server that is faulty."""
    kind, program = next(iter(find_servers().items()))
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    version = said.stdout.partition("v=")[2].split()[:1]
    return " ".join([kind.capitalize(), *version])
