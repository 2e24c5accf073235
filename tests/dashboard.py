"""What the dashboard's tests stand on: a pool under load with its monitor, and a browser that
notices whatever a page does that it should not."""

from __future__ import annotations

import asyncio
import json
import random
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from redisutils import RedisUtilsError
from redisutils.monitor.app import MonitorApp, monitor_app
from redisutils.monitor.frame import Frame, NodeFrame
from redisutils.testing import EmbeddedServer
from tests.ours import pool_at

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route

T = TypeVar("T")

PATH: Final = "/some/where"
"""Where the application is mounted: nothing in the page may rely on the root."""

TOKEN: Final = "the-token-of-the-tests"

# What the page would rather not tell, it is asked for from its first moment on.
WATCH: Final = """
window.turns = [];
window.violations = [];
addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
addEventListener("DOMContentLoaded", () => {
  const note = () => turns.push([document.body.dataset.health, Date.now() / 1000]);
  new MutationObserver(note).observe(document.body, { attributeFilter: ["data-health"] });
});
"""


class Stage:
    """A server, a pool under load and the application, on an event loop in a thread of its own:
    the browser is driven from the test's."""

    def __init__(self, kind: str) -> None:
        self.server = EmbeddedServer(kind)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="stage")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._web: uvicorn.Server | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._working = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}{PATH}/"

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    def __enter__(self) -> Stage:
        self._thread.start()
        self.call(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self.call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @contextmanager
    def load(self) -> Iterator[None]:
        """Some thousand commands a second while this lasts."""
        self._loop.call_soon_threadsafe(self._working.set)
        yield
        self._loop.call_soon_threadsafe(self._working.clear)

    async def start_app(self, token: str | None = None) -> None:
        self._monitor: MonitorApp = monitor_app(self._pool, token=token)
        app = Starlette(routes=[Mount(PATH, self._monitor)])
        config = uvicorn.Config(
            app, port=self._port, log_config=None, lifespan="off", ws="none", access_log=False
        )
        self._web = uvicorn.Server(config)
        self._serving = self._loop.create_task(self._web.serve())
        while not self._web.started:
            assert not self._serving.done(), "the application has not come up"
            await asyncio.sleep(0.002)

    async def stop_app(self) -> None:
        assert self._web is not None
        await self._monitor.stop()
        self._web.should_exit = True
        await self._serving

    async def _open(self) -> None:
        await self.server.start()
        self._pool = await pool_at(self.server)
        self._tasks.append(self._loop.create_task(self._work()))
        await self.start_app()

    async def _close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.stop_app()
        await self._pool.close()
        await self.server.stop()

    async def _work(self) -> None:
        client = self._pool.client
        while await self._working.wait():
            calls = [client.set(f"key:{n}", n) if n % 4 else client.get("key:1") for n in range(50)]
            for result in await asyncio.gather(*calls, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, RedisUtilsError):
                    raise result
            await asyncio.sleep(0.02)


class Witness:
    """Sees what a page asks for, and what its console says."""

    def __init__(self, page: Page, origin: str) -> None:
        self.page = page
        self.strangers: list[str] = []
        self.complaints: list[str] = []
        self._origin = origin
        page.on("request", self._asked)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(self._origin):
            self.strangers.append(request.url)

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def check(self, *, server_was_away: bool = False) -> None:
        """Nothing came from elsewhere, and nobody has complained. A browser itself tells of each
        request that fails, which is none of the page's fault while its server is away."""
        assert not self.strangers, "the page asks others"
        assert not self.page.evaluate("violations"), "its own rules forbid what the page does"
        if server_was_away:
            self.complaints = [text for text in self.complaints if "Failed to load" not in text]
        assert not self.complaints, "the console has complaints"


@contextmanager
def opened(browser: Browser, url: str, **options: Any) -> Iterator[Witness]:
    """A page of a browser that has never been here."""
    with browser.new_context(**options) as context:
        context.add_init_script(WATCH)
        context.set_default_timeout(6000)
        witness = Witness(context.new_page(), url)
        witness.page.goto(url)
        yield witness


def play(page: Page, frames: list[Frame]) -> None:
    """Instead of the application's stream: these frames, and then its end, over and over."""
    body = f"event: history\ndata: {json.dumps(frames)}\n\n"

    def answer(route: Route) -> None:
        route.fulfill(body=body, content_type="text/event-stream")

    page.unroute_all()
    page.route("**/events", answer)
    page.reload()


def node(number: int, **changes: Any) -> NodeFrame:
    """One of the servers of a made-up cluster of 50."""
    frame: Any = {
        "endpoint": f"redis-{number}.example:6379",
        "role": "primary",
        "status": "healthy",
        "reachable": True,
        "connected": True,
        "slots": 0.02,
        "ranges": f"{number * 327}-{number * 327 + 326}",
        "follows": None,
        "zone": f"zone-{number % 3}",
        "rate": 900.0 + 7 * number,
        "p99": 0.0008,
        "in_flight": 3,
        "waiting": 0,
        "size": 2,
        "breaker": "closed",
        "lag": None,
        "behind": None,
    }
    frame.update(changes)
    made: NodeFrame = frame
    return made


def replica(number: int, of: int, **changes: Any) -> NodeFrame:
    """One that follows another, and is not read from."""
    told = {"role": "replica", "status": None, "connected": False, "slots": None, "ranges": ""}
    quiet = {"rate": 0.0, "p99": None, "in_flight": 0, "size": 0, "lag": 0.0, "behind": 120}
    return node(number, follows=node(of)["endpoint"], **{**told, **quiet, **changes})


def made_up(at: float, **changes: Any) -> Frame:
    """A frame of a busy second that never was."""
    chance = random.Random(at)
    base = 0.0002 * (1 + chance.random() / 4)
    parts = {"wait": 0.05, "queue": 0.05, "wire": 0.75, "loop": 0.1, "parse": 0.05}
    percentiles = {"mean": base, "p50": base, "p95": 3 * base, "p99": 5 * base, "p999": 20 * base}
    split = {
        name: {part: whole * share for part, share in parts.items()}
        for name, whole in percentiles.items()
    }
    frame: Any = {
        "at": at,
        "seconds": 1.0,
        "endpoint": "redis.example:6379",
        "closed": False,
        "sidecar": False,
        "health": {"status": "healthy", "reasons": [], "round_trip": 0.0003},
        "throughput": {"commands": 4e4, "failures": 0, "bytes_in": 1e6, "bytes_out": 2e6},
        "latency": {"count": 40000, "max": 40 * base, **percentiles},
        "split": split,
        "heat": [[0.00025, 9000], [0.0005, 30000], [0.008, 12]],
        "pool": {"max_size": 32, "size": 8, "in_use": 3, "waiting": 0},
        "in_flight": 12,
        "in_flight_bytes": 2400,
        "lanes": [
            {"name": "default", "connected": True, "in_flight": 9, "waiting": 0, "blocked": False}
        ],
        "errors": [{"name": "CommandTimeout", "outcome": "UNKNOWN", "rate": 1.0, "total": 4}],
        "retries": [{"reason": "LOADING", "rate": 0.5, "total": 2}],
        "commands": [
            {
                "name": name,
                "rate": rate,
                "mean": base,
                "p50": base,
                "p99": 5 * base,
                "errors": 0.0,
                "split": split["mean"],
            }
            for name, rate in (("GET", 3e4), ("SET", 9e3), ("EVALSHA", 1e3))
        ],
        "slow": [
            {
                "at": at - 5,
                "command": "KEYS",
                "server": "127.0.0.1:7000",
                "key": None,
                "request_bytes": 24,
                "reply_size": 881,
                "seconds": 0.084,
                "split": split["p999"],
            }
        ],
        "breaker": {
            "state": "closed",
            "seconds": 60.0,
            "failures": 0,
            "trips": 0,
            "refused": 0,
            "error": None,
        },
        "process": {
            "loop_lag_p50": 0.0001,
            "loop_lag_p99": 0.001,
            "loop_lag_max": 0.004,
            "gc_pauses": 1.0,
            "gc_pause_max": 0.002,
            "memory": 48_000_000,
            "cpu": 0.4,
        },
        "server": {
            "kind": "valkey",
            "version": "9.0.1",
            "role": "primary",
            "uptime": 86400.0,
            "used_memory": 1_200_000_000,
            "maxmemory": 4_000_000_000,
            "eviction_policy": "noeviction",
            "clients": 34,
            "maxclients": 10000,
            "ops": 41000.0,
            "hit_rate": 0.96,
            "replicas": 2,
            "replication_lag": 0.4,
            "loading": False,
            "persistence": "ok",
            "keys": 1204881,
        },
        "nodes": [],
        "nodes_in_all": 1,
    }
    frame.update(changes)
    made: Frame = frame
    return made
