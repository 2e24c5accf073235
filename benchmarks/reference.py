"""redis-benchmark, the reference in C, without ``-P``: a connection per task.

Its own equivalents of the workloads only; a workload without one stays empty.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import dataclass

from benchmarks.hosting import admin
from benchmarks.machine import pinned
from benchmarks.server import KEYS, PREFIX, Server, large_value, small_value
from benchmarks.workloads import Workload

PROGRAM = "redis-benchmark"

_GET = ("GET", f"{PREFIX}__rand_int__")
# Keys of its own: the others' hold what the other workloads expect of them.
_SET = ("SET", f"{PREFIX}mixed:__rand_int__", small_value(0).decode())
_SET_LARGE = ("SET", f"{PREFIX}large:0", large_value(0).decode())


@dataclass(frozen=True)
class _Run:
    """One line of its CSV."""

    per_second: float
    p50_ms: float
    p99_ms: float


def available() -> bool:
    """Whether it is installed."""
    return shutil.which(PROGRAM) is not None


def version() -> str:
    """Its version, as it says itself."""
    printed = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    return printed.stdout.split()[1]


def covers(workload: Workload) -> bool:
    """Whether it can do something equivalent."""
    return workload.key.startswith("get-") or workload.key in ("latency-50", "mixed-50", "set-10k")


def measure(
    workload: Workload, server: Server, cpu: int | None, warmup: float, seconds: float
) -> dict[str, float]:
    """Measure ``workload``, which it must cover. Raises RuntimeError if it fails."""

    def timed(command: tuple[str, ...], box: float) -> _Run:
        return _time_boxed(server, workload.tasks, command, cpu, warmup=warmup, seconds=box)

    if workload.key == "set-10k":
        return {"ops": timed(_SET_LARGE, seconds).per_second}
    if workload.key == "mixed-50":
        # It cannot mix. Four GETs and a SET take four times the time of one and once
        # that of the other, each measured for half of the box.
        get = timed(_GET, seconds / 2).per_second
        set_ = timed(_SET, seconds / 2).per_second
        return {"ops": 1 / (0.8 / get + 0.2 / set_)}
    run = timed(_GET, seconds)
    if workload.key == "latency-50":
        return {"p50": run.p50_ms * 1e3, "p99": run.p99_ms * 1e3}
    return {"ops": run.per_second}


def _time_boxed(
    server: Server,
    clients: int,
    command: tuple[str, ...],
    cpu: int | None,
    *,
    warmup: float,
    seconds: float,
) -> _Run:
    """It counts requests, not time: a first short run tells how many fill the box."""
    # At 20,000 a second, less than it reaches, this first run lasts no longer than the warm-up.
    first = _run(server, clients, command, cpu, max(clients * 10, int(20_000 * warmup)))
    wanted = max(clients * 10, int(first.per_second * seconds))
    with admin(server) as client:
        hits = client.info("stats")["keyspace_hits"]
        run = _run(server, clients, command, cpu, wanted)
        found = client.info("stats")["keyspace_hits"] - hits
    if command[0] == "GET" and found < wanted:
        raise RuntimeError(f"{PROGRAM} found {found} keys with {wanted} GETs")
    return run


def _run(
    server: Server, clients: int, command: tuple[str, ...], cpu: int | None, requests: int
) -> _Run:
    arguments = [PROGRAM, "-h", server.host, "-p", str(server.port), "--csv"]
    arguments += ["-c", str(clients), "-n", str(requests), "-r", str(KEYS)]
    if server.username is not None:
        arguments += ["--user", server.username]
    if server.password is not None:
        arguments += ["-a", server.password]
    with pinned(cpu):
        done = subprocess.run(
            [*arguments, *command], check=False, capture_output=True, text=True, timeout=120
        )
    lines = [line for line in done.stdout.splitlines() if line.startswith('"')]
    if done.returncode or len(lines) != 2:
        said = (done.stderr or done.stdout).strip()
        raise RuntimeError(f"{PROGRAM} failed: {said[:200]}")
    row = next(csv.DictReader(lines))
    return _Run(
        per_second=float(row["rps"]),
        p50_ms=float(row["p50_latency_ms"]),
        p99_ms=float(row["p99_latency_ms"]),
    )
