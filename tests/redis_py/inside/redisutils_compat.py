"""The pytest plugin inside a run of redis-py's tests: puts our client in, and reports.

Loaded with ``-p`` before redis-py's conftest, in a process of its own. Options come in
REDISUTILS_COMPAT, a JSON object: ``client`` (redisutils or redis-py), ``report`` (the file to
write), ``redirect`` (port to port), ``deselect`` (test names), ``seconds`` (limit per test).
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import io
import json
import os
import signal
import sys
import tracemalloc
import types
from collections.abc import Generator
from typing import Any

import pytest
import redis.asyncio

OPTIONS: dict[str, Any] = json.loads(os.environ["REDISUTILS_COMPAT"])


def _put_our_client_in() -> None:
    """Replace the public names. ``redis.asyncio.client.Redis`` stays: ours inherits from it."""
    from redisutils import Redis

    for name, value in {"Redis": Redis, "StrictRedis": Redis, "from_url": Redis.from_url}.items():
        setattr(redis.asyncio, name, value)


def _redirect(ports: dict[int, int]) -> None:
    """Send connections and listeners on fixed loopback ports to private ones.

    A few tests speak to localhost:6379 whatever --redis-url says, and one listens on a fixed port;
    they must neither meet a stranger's server nor one another.
    """
    base: Any = asyncio.base_events.BaseEventLoop
    connect, serve = base.create_connection, base.create_server
    loopback = ("localhost", "127.0.0.1", "::1")

    async def create_connection(
        self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        port = ports.get(port, port) if host in loopback else port
        return await connect(self, factory, host, port, **options)

    async def create_server(
        self: Any, factory: Any, host: Any = None, port: Any = None, **options: Any
    ) -> Any:
        port = ports.get(port, port) if host in loopback else port
        return await serve(self, factory, host, port, **options)

    base.create_connection = create_connection
    base.create_server = create_server


def _stand_in_for_redis_entraid() -> None:
    """Let tests/entraid_utils.py be imported; the tests that need the real thing are deselected."""
    if importlib.util.find_spec("redis_entraid") is not None:
        return

    class Anything(types.ModuleType):
        def __getattr__(self, name: str) -> None:
            if name.startswith("__"):
                raise AttributeError(name)

    for name in ("redis_entraid", "redis_entraid.cred_provider", "redis_entraid.identity_provider"):
        sys.modules[name] = Anything(name)


def pytest_configure(config: pytest.Config) -> None:
    """Prepare the process before redis-py's conftest and tests are imported."""
    if OPTIONS["client"] == "redisutils":
        _put_our_client_in()
    _redirect({int(old): new for old, new in OPTIONS["redirect"].items()})
    _stand_in_for_redis_entraid()
    # redis-py's conftest traces every allocation, which doubles the time and shows nothing here.
    tracer: Any = tracemalloc
    tracer.start = tracer.stop = lambda *_: None


def name_of(item: pytest.Item) -> str:
    """Return what we call a test: ``test_pubsub.py::TestX::test_y[pool]``."""
    return item.nodeid.removeprefix("tests/test_asyncio/")


def _covers(entry: str, name: str) -> bool:
    """Whether an entry (a module, class, test or one of its variants) names this test."""
    return name == entry or name.startswith((f"{entry}::", f"{entry}["))


@pytest.hookimpl(trylast=True)  # -k has done its work by then
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Drop what selection.py deselects, and what needs a cluster or modules."""
    used: set[str] = set()
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        entries = [one for one in OPTIONS["deselect"] if _covers(one, name_of(item))]
        used.update(entries)
        elsewhere = item.get_closest_marker("onlycluster") or item.get_closest_marker("redismod")
        (dropped if entries or elsewhere else kept).append(item)
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)
    REPORT.write({"collected": [name_of(item) for item in kept], "used": sorted(used)})


class Overdue(BaseException):
    """A test ran past its limit. Not an Exception, so that no retry loop swallows it."""


def _overdue(number: int, frame: object) -> None:
    waiting = io.StringIO()
    with contextlib.suppress(RuntimeError):  # no loop is running: a blocking call then
        for task in asyncio.all_tasks():
            task.print_stack(file=waiting)
    raise Overdue(f"no end after {OPTIONS['seconds']} s; {waiting.getvalue()}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, object, object]:
    """Limit the time of each test; the alarm repeats, for a teardown may hang as well."""
    signal.signal(signal.SIGALRM, _overdue)
    signal.setitimer(signal.ITIMER_REAL, OPTIONS["seconds"], 5.0)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


class _Report:
    """One JSON object a line, on disk at once: a process that dies takes nothing with it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def write(self, line: dict[str, object]) -> None:
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


REPORT = _Report(OPTIONS["report"])


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported is a failure of the whole run."""
    if report.failed:
        REPORT.write({"broken": report.nodeid, "why": str(report.longrepr)})


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write the outcome of each phase but the uneventful ones."""
    if report.when != "call" and report.passed:
        return
    line: dict[str, object] = {
        "test": report.nodeid.removeprefix("tests/test_asyncio/"),
        # A test that upstream expects to fail, but that passes with redis-py, is to pass with ours.
        "outcome": "failed" if report.skipped and hasattr(report, "wasxfail") else report.outcome,
        "when": report.when,
        "seconds": round(report.duration, 3),
    }
    if line["outcome"] == "failed":
        crash = getattr(report.longrepr, "reprcrash", None)
        line["why"] = crash.message if crash is not None else str(report.longrepr)
        line["trace"] = report.longreprtext
    REPORT.write(line)
