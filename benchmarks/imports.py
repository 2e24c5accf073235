"""How long importing a contender takes, each time in a fresh process."""

from __future__ import annotations

import subprocess
import sys
from statistics import median

from benchmarks.contenders import OURS, ROSTER, Entry
from benchmarks.machine import pinned

REPEATS = 5

_PROGRAM = """
import sys
from importlib import import_module
from time import perf_counter
sys.modules["opentelemetry"] = None  # see benchmarks/worker.py
for name in sys.argv[1:]:
    begun = perf_counter()
    import_module(name)
    print((perf_counter() - begun) * 1e3)
"""


def measure(
    entry: Entry, cpu: int | None, env: dict[str, str], cwd: str, repeats: int = REPEATS
) -> dict[str, float]:
    """Milliseconds to import what ``entry`` names, and for redisutils also what it adds once
    redis-py is imported: medians of ``repeats``, after one that writes the bytecode."""
    found = {"total": _median([entry.imports], cpu, env, cwd, repeats)}
    if entry.name == OURS:
        both = [ROSTER["redis-py"].imports, entry.imports]
        found["added"] = _median(both, cpu, env, cwd, repeats)
    return found


def _median(
    modules: list[str], cpu: int | None, env: dict[str, str], cwd: str, repeats: int
) -> float:
    _milliseconds(modules, cpu, env, cwd)
    return median(_milliseconds(modules, cpu, env, cwd) for _ in range(repeats))


def _milliseconds(modules: list[str], cpu: int | None, env: dict[str, str], cwd: str) -> float:
    """How long the last of ``modules`` took, imported one after the other."""
    with pinned(cpu):
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM, *modules],
            check=False,
            capture_output=True,
            text=True,
            env=env,
            cwd=cwd,
            timeout=60,
        )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])
