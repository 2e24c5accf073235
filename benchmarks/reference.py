"""redis-benchmark, the reference in C, without ``-P``: a connection per task.

Its own equivalents of the workloads only; a workload without one stays empty.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

from benchmarks.hosting import admin, members
from benchmarks.machine import pinned
from benchmarks.server import KEYS, PREFIX, Server, large_value, small_value
from benchmarks.workloads import Workload

PROGRAM = "redis-benchmark"

_GET = ("GET", f"{PREFIX}__rand_int__")
# Keys of its own: the others' hold what the other workloads expect of them.
_SET = ("SET", f"{PREFIX}mixed:__rand_int__", small_value(0).decode())
_SET_LARGE = ("SET", f"{PREFIX}large:0", large_value(0).decode())

# In a cluster it puts the hash tag of a slot at random for ``{tag}``, of all slots of the node
# that it is about to ask: 16,384 keys.
_CLUSTER_KEY = f"{PREFIX}{{tag}}"
_CLUSTER_GET = ("GET", _CLUSTER_KEY)
_CLUSTER_SET = ("SET", _CLUSTER_KEY, small_value(0).decode())

# So many SETs at random leave less than one slot in a million without its key.
_FILLING = 230_000


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


def covers(workload: Workload[Any]) -> bool:
    """Whether it can do something equivalent."""
    return workload.key.startswith("get-") or workload.key in ("latency-50", "mixed-50", "set-10k")


def measure(
    workload: Workload[Any], server: Server, cpu: int | None, warmup: float, seconds: float
) -> dict[str, float]:
    """Measure ``workload``, which it must cover. Raises RuntimeError if it fails."""

    def timed(command: tuple[str, ...], box: float) -> _Run:
        return _time_boxed(server, workload.tasks, command, cpu, warmup=warmup, seconds=box)

    get_, set_ = (_CLUSTER_GET, _CLUSTER_SET) if server.nodes else (_GET, _SET)
    if workload.key == "set-10k":
        return {"ops": timed(_SET_LARGE, seconds).per_second}
    if workload.key == "mixed-50":
        # It cannot mix. Four GETs and a SET take four times the time of one and once
        # that of the other, each measured for half of the box.
        reads = timed(get_, seconds / 2).per_second
        writes = timed(set_, seconds / 2).per_second
        return {"ops": 1 / (0.8 / reads + 0.2 / writes)}
    run = timed(get_, seconds)
    if workload.key == "latency-50":
        return {"p50": run.p50_ms * 1e3, "p99": run.p99_ms * 1e3}
    return {"ops": run.per_second}


def fill(cluster: Server) -> None:
    """Set the keys of a cluster that :func:`measure` reads. Raises RuntimeError if it fails."""
    _run(cluster, 50, _CLUSTER_SET, None, _FILLING)


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
    hits = _hits(server)
    run = _run(server, clients, command, cpu, wanted)
    found = _hits(server) - hits
    if command[0] == "GET" and found < wanted:
        raise RuntimeError(f"{PROGRAM} found {found} keys with {wanted} GETs")
    return run


def _hits(server: Server) -> int:
    """How many keys were found so far, on all nodes."""
    found = 0
    for place in members(server):
        with admin(place) as client:
            found += client.info("stats")["keyspace_hits"]
    return found


def _run(
    server: Server, clients: int, command: tuple[str, ...], cpu: int | None, requests: int
) -> _Run:
    arguments = [PROGRAM, "-h", server.host, "-p", str(server.port), "--csv"]
    arguments += ["-c", str(clients), "-n", str(requests), "-r", str(KEYS)]
    if server.nodes:
        # One thread as everywhere; it would take one for each node.
        arguments += ["--cluster", "--threads", "1"]
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
