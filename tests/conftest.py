"""What the tests stand on: real servers, a faulty network and two event loops.

Every asynchronous test runs on asyncio in debug mode and on uvloop; one that needs a single loop
says ``@pytest.mark.asyncio(loop_factories=["asyncio"])``. Every test that asks for a server runs
against each kind found on this machine. One server of a kind serves the whole session; tests
that kill, freeze or configure a server start one of their own with ``start_server``.
"""

from __future__ import annotations

import asyncio
import asyncio.constants
import gc
import importlib
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import redis
import uvloop

from redisutils import RedisPool
from redisutils.testing import EmbeddedCluster, EmbeddedServer, FaultProxy
from redisutils.testing.plugin import chosen_servers
from redisutils.trading import MarketData

from .clusters import empty
from .ours import pool_at
from .surroundings import Setenv, clear, dotenv_in, env_of

StartServer = Callable[..., Awaitable[EmbeddedServer]]


_ONE_LOOP = (
    *("test_cluster_", "test_reading_", "test_sentinel_", "test_check_cluster"),
    "test_trading_",
)
"""What these look at is above the event loop, and much of it: they run on uvloop alone."""

_ONE_KIND = frozenset(
    f"test_{name}.py"
    for name in (
        *("cluster_checkouts", "cluster_checkouts_failover", "cluster_faces"),
        *("cluster_keyspace", "cluster_pubsub"),
        *("cluster_scripts", "cluster_seeds", "reading_cluster", "reading_failover"),
        *("reading_sentinels", "sentinel_fence", "sentinel_hold", "sentinel_watch"),
        *("trading_bench", "trading_busts", "trading_market_cluster", "trading_orders"),
        *("trading_portfolio", "trading_processes"),
        "trading_replay",
    )
)
"""What these look at is ours and not the servers': they run against the first kind alone, and with
``--redis-server=redis`` against the other."""

_LONG = (
    *("test_cluster_failover.py", "test_sentinel_failover.py", "test_cluster_group.py"),
    *("test_cli_bench.py", "test_recovery.py", "test_docs.py", "test_dashboard.py", "test_top.py"),
    *("test_breaker.py", "test_examples.py", "test_demo_cluster.py", "test_reading_cluster.py"),
)
"""The files that take longest, which the processes of a run begin with: none is then left to one
process when all others are done."""

_CROWDED = "redis_py"
"""What starts eight processes of its own comes last, when it takes the time of no other test."""

# In debug mode each future remembers the stack that it was made in: ten frames take 30 µs.
vars(asyncio.constants)["DEBUG_STACK_DEPTH"] = 1


class DebugEventLoop(asyncio.SelectorEventLoop):
    """asyncio's loop, always in debug mode: the runner would switch it off after creation."""

    def set_debug(self, enabled: bool) -> None:
        super().set_debug(True)


def pytest_configure(config: pytest.Config) -> None:
    # xdist would begin with the files of the most tests, and end with those of few that take long.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}

    def place(item: pytest.Item) -> int:
        others = len(places) + (item.path.parent.name == _CROWDED)
        return places.get(item.path.name, others)

    items.sort(key=place)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """What stays until the end, thousands of tests foremost, is no garbage: a collection would look
    at it for a quarter of a second, while some test's budget runs out.

    Not before Hypothesis is there: while it is imported it asks the collector who refers to what,
    and what is frozen is not looked at.
    """
    importlib.import_module("hypothesis")
    gc.collect()
    gc.freeze()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
        "asyncio": DebugEventLoop,
        "uvloop": uvloop.new_event_loop,
    }
    named = [mark for mark in item.iter_markers("asyncio") if "loop_factories" in mark.kwargs]
    if item.path.name.startswith(_ONE_LOOP) and not named:
        del loops["asyncio"]
    return loops


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No private server, nor its directory, may outlive the session that started it."""
    tmp_path_factory.getbasetemp()  # is looked up once, and belongs where it always is
    # Short, since the path of a Unix socket may have about 100 characters.
    root = tempfile.mkdtemp(prefix="ru-")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", root)
        patch.setenv("TMPDIR", root)
        yield
    left = sorted(entry.name for entry in Path(root).glob("redisutils-*"))
    processes = processes_in(root)
    shutil.rmtree(root, ignore_errors=True)
    assert not left, f"directories of private servers are left: {left}"
    assert not processes, f"private servers still run: {processes}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """``server_kind``: ``"valkey"`` and ``"redis"`` in turn, as far as they are there and
    ``--redis-server`` allows. Our plugin's fixtures stand on the same choice; those below last for
    a session and know more of the server than users need, so they are not the plugin's."""
    if "server_kind" in metafunc.fixturenames:
        kinds = chosen_servers(metafunc.config)
        if metafunc.definition.path.name in _ONE_KIND:
            kinds = kinds[:1]
        ids = [Path(kind).name for kind in kinds]
        metafunc.parametrize("server_kind", kinds, ids=ids, scope="session")


@pytest.fixture(scope="session")
def server(server_kind: str) -> Iterator[EmbeddedServer]:
    """The session's server of this kind: on a port and a Unix socket, with a password."""
    with EmbeddedServer(server_kind, config={"enable-debug-command": "local"}) as server:
        yield server


@pytest.fixture(scope="session")
def admin(server: EmbeddedServer) -> Iterator[redis.Redis]:
    """redis-py's blocking client, to look at the server by a way that we did not build."""
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        yield client


@pytest.fixture
def clean_server(server: EmbeddedServer, admin: redis.Redis) -> Iterator[EmbeddedServer]:
    """The session's server, empty."""
    admin.flushall()
    admin.script_flush()
    yield server
    server.process.signal(signal.SIGCONT)  # whatever the test did, the next one finds it awake


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    """Of the session's server, which is empty."""
    async with pool_at(clean_server) as pool:
        yield pool


@pytest.fixture
async def market(pool: RedisPool) -> AsyncIterator[MarketData]:
    """Of ``pool``."""
    async with MarketData(pool) as market:
        yield market


@pytest.fixture(scope="session")
def session_clusters() -> Iterator[Callable[[str], EmbeddedCluster]]:
    """Starts a cluster of a kind for who first asks for it, which takes 2 s. Files ask for one
    kind and the other in turn, and a fixture with parameters would start one at each change."""
    with ExitStack() as stack:
        yield cache(lambda kind: stack.enter_context(EmbeddedCluster(3, 0, kind)))


@pytest.fixture(scope="session")
def session_cluster(
    server_kind: str, session_clusters: Callable[[str], EmbeddedCluster]
) -> EmbeddedCluster:
    """The session's cluster of this kind: three primaries."""
    return session_clusters(server_kind)


@pytest.fixture
def cluster(session_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """The session's cluster, empty. Tests leave its nodes running, its slots where they are, and
    no trace of a node that joined and left: whoever adds one has a ``session_cluster`` of his own.

    A test that failed with the cluster half changed is followed by a cluster that starts anew.
    """
    if len(session_cluster.members) != 3:
        session_cluster.__exit__(None, None, None)
        session_cluster.__enter__()
    empty(session_cluster)
    return session_cluster


@pytest.fixture
async def start_server(server_kind: str) -> AsyncIterator[StartServer]:
    """Starts servers of the test's own: ``await start_server(appendonly=True)``."""
    started: list[EmbeddedServer] = []

    async def start(**options: Any) -> EmbeddedServer:
        server = EmbeddedServer(server_kind, **options)
        started.append(server)
        await server.start()
        return server

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def proxy(clean_server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    """A faulty network before the session's server, emptied."""
    async with FaultProxy(clean_server.host, clean_server.port) as proxy:
        yield proxy


@pytest.fixture
def empty_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No REDIS_ variable and no .env but what a test puts there."""
    clear(monkeypatch, tmp_path)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    """See ``env_of``."""
    return env_of(monkeypatch)


@pytest.fixture
def dotenv(tmp_path: Path) -> Setenv:
    """See ``dotenv_in``."""
    return dotenv_in(tmp_path)


def processes_in(root: str) -> list[str]:
    """Processes whose working directory is under ``root``; where the system tells (Linux)."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "cwd").startswith(root):
                found.append(process.name)
        except OSError:
            continue  # It is somebody else's, or has just ended.
    return found
