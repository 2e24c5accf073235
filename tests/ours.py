"""Our clients and pools for a server of the tests, and waiting for what will be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from types import CodeType
from typing import Any

from redisutils import Redis, RedisPool, create_redis_pool
from redisutils.metrics import SlowCommand, Split
from redisutils.metrics.slow import KEPT
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.topology.standalone import Standalone

Place = EmbeddedServer | FaultProxy


def client_at(server: EmbeddedServer, at: Place | None = None, **options: Any) -> Redis:
    """A client of ``server``, by way of ``at`` (a proxy) if given."""
    place = at or server
    given = {"host": place.host, "port": place.port, "password": server.password}
    return Redis(**{**given, **options})


def pool_at(server: EmbeddedServer, at: Place | None = None, **settings: Any) -> RedisPool:
    """A pool of ``server``, not open yet, by way of ``at`` (a proxy) if given."""
    place = at or server
    given = {"host": place.host, "port": place.port, "password": server.password}
    return create_redis_pool(**{**given, **settings})


def standalone(pool: RedisPool) -> Standalone:
    """What a pool of one server stands on."""
    server = pool.server
    assert isinstance(server, Standalone)
    return server


async def until(condition: Callable[[], object], what: str = "it", patience: float = 5.0) -> None:
    """Wait until ``condition()`` is true, which nobody tells us."""
    deadline = monotonic() + patience
    while not condition():
        assert monotonic() < deadline, f"{what} has not come about within {patience} s"
        await asyncio.sleep(0.002)


def fill_the_figures(pool: RedisPool) -> None:
    """Let histograms and the log of slow commands be as large as they can become."""
    measures = pool.server.metrics.measures
    for command in ("PING", "GET", "SET", "LPUSH", "PIPELINE"):
        for step in range(1000):
            part = 1e-7 * 1.02**step
            measures.record(command, part, part, part, part, part, 1)
    now = monotonic()
    measures.slow._clock = lambda: now  # no new minute begins, whose log would fill anew
    measures.slow.turn()
    slow = SlowCommand(0.0, "GET", None, 20, 1, 1e4, Split())
    for _ in range(KEPT):
        measures.slow.add(slow)


def clients_named(admin: Any, name: str) -> list[dict[str, Any]]:
    """The server's own list of its connections with that name."""
    return [client for client in admin.client_list() if client["name"] == name]


def piped(client: Redis, transaction: bool, *commands: tuple[Any, ...]) -> Any:
    """A pipeline with these commands in it, by name."""
    pipe: Any = client.pipeline(transaction=transaction)
    for command in commands:
        pipe.execute_command(*command)
    return pipe


def code_of(task: asyncio.Task[Any]) -> CodeType:
    coroutine: Any = task.get_coro()
    code: CodeType = coroutine.cr_code
    return code


def our_tasks() -> set[asyncio.Task[Any]]:
    """All but the proxy's, which has some for each connection."""
    return {
        task for task in asyncio.all_tasks() if not code_of(task).co_filename.endswith("_relay.py")
    }
