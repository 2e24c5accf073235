"""Runs pytest over redis-py's tests in processes of their own and reads what they report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from . import selection, servers

HERE = Path(__file__).resolve().parent
CLIENTS = ("redisutils", "redis-py")
PROTOCOLS = ("default", "2", "3")
TEST_SECONDS = 20
PROCESS_SECONDS = 300
# Most of the time of these tests is waiting (blocking commands, expiring locks).
WORKERS = 8


@dataclass(frozen=True)
class Job:
    """One pytest process: these tests, with this client, on this kind of server."""

    client: str
    server: str
    protocol: str
    tests: tuple[str, ...]
    keyword: str = ""


@dataclass(frozen=True)
class Wanted:
    """What to run: passes are pairs of a kind of server and a protocol."""

    client: str
    passes: tuple[tuple[str, str], ...]
    keyword: str = ""


@dataclass
class Outcome:
    """What became of the tests of one or several jobs."""

    collected: set[str] = field(default_factory=set)
    passed: set[str] = field(default_factory=set)
    skipped: set[str] = field(default_factory=set)
    failed: dict[str, str] = field(default_factory=dict)
    traces: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def add(self, other: Outcome) -> None:
        """Take in the outcome of another job."""
        self.collected |= other.collected
        self.passed |= other.passed
        self.skipped |= other.skipped
        self.failed |= other.failed
        self.traces |= other.traces
        self.broken += other.broken
        self.used |= other.used
        self.seconds += other.seconds


def run_all(jobs: Sequence[Job], folder: Path) -> list[Outcome]:
    """Run the jobs, a few at a time, each on a fresh server; ``folder`` holds redis-py's tests."""
    with ThreadPoolExecutor(WORKERS) as workers:
        return list(workers.map(lambda job: run(job, folder), jobs))


def collect(wanted: Wanted, folder: Path) -> dict[tuple[str, str], Outcome]:
    """Run every group for every pass; returns the outcome of each pass."""
    work = [
        (one, Job(wanted.client, *one, tests, wanted.keyword))
        for tests in selection.GROUPS.values()
        for one in wanted.passes
    ]
    results = run_all([job for _, job in work], folder)
    return {
        one: merged(result for (key, _), result in zip(work, results, strict=True) if key == one)
        for one in wanted.passes
    }


def run(job: Job, folder: Path) -> Outcome:
    """Run one job to its end."""
    with (
        tempfile.TemporaryDirectory(prefix="redisutils-compat-") as scratch,
        servers.running(job.server) as port,
        servers.reserved_port() as spare,
    ):
        report = Path(scratch, "report.jsonl")
        report.touch()
        options = {
            "client": job.client,
            "report": str(report),
            "deselect": sorted(selection.DESELECTED),
            "seconds": TEST_SECONDS,
            # redis-py's default port; a proxy's; and two on which nobody may listen.
            "redirect": {6379: port, 5380: spare, 6390: 1, 9999: 1},
        }
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--no-header",
            "--tb=native",
            "-p",
            "pytest_asyncio.plugin",
        ]
        command += ["-p", "redisutils_compat", "-p", "no:cacheprovider"]
        command += ["-c", str(HERE / "inside" / "pytest.ini"), f"--rootdir={folder}"]
        command += [f"--redis-url=redis://127.0.0.1:{port}/0"]
        command += [f"--redis-mod-url=redis://127.0.0.1:{port}/0"]
        command += [f"--protocol={job.protocol}"] if job.protocol != "default" else []
        command += ["-k", job.keyword] if job.keyword else []
        command += [f"{selection.FOLDER}/{test}" for test in job.tests]
        return _read(report, _run(command, folder, options))


def _run(command: list[str], folder: Path, options: dict[str, object]) -> str:
    """Run pytest; returns what is wrong with the process itself, or nothing."""
    paths = [str(HERE / "inside"), os.environ.get("PYTHONPATH", "")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "REDISUTILS_COMPAT": json.dumps(options),
    }
    environment.pop("PYTEST_ADDOPTS", None)
    # What configures our client outside must not reach into the tests.
    for name in [name for name in environment if name.startswith("REDIS_")]:
        del environment[name]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PROCESS_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"pytest did not end within {PROCESS_SECONDS} s"
    # 0: all passed, 1: some failed, 5: nothing left to run; anything else is not about tests.
    return "" if done.returncode in (0, 1, 5) else f"pytest ended oddly:\n{done.stdout[-4000:]}"


def _read(report: Path, trouble: str) -> Outcome:
    outcome = Outcome(broken=[trouble] if trouble else [])
    for text in report.read_text(encoding="utf-8").splitlines():
        line = json.loads(text)
        if "collected" in line:
            outcome.collected.update(line["collected"])
            outcome.used.update(line["used"])
        elif "broken" in line:
            outcome.broken.append(f"{line['broken']}: {line['why']}")
        else:
            _note(outcome, line)
    for name in outcome.collected - outcome.passed - outcome.skipped - outcome.failed.keys():
        outcome.failed[name] = "never ended: the process died or hung"
    return outcome


def _note(outcome: Outcome, line: dict[str, str | float]) -> None:
    name = str(line["test"])
    outcome.seconds += float(line["seconds"])
    if line["outcome"] == "failed":
        outcome.passed.discard(name)
        outcome.failed[name] = f"{line['when']}: {line.get('why', '')}"
        outcome.traces[name] = str(line.get("trace", ""))
    elif line["outcome"] == "skipped":
        outcome.skipped.add(name)
    elif name not in outcome.failed:
        outcome.passed.add(name)


def merged(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the outcomes as one."""
    total = Outcome()
    for outcome in outcomes:
        total.add(outcome)
    return total
