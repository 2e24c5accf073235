"""An application of the monitor in a test, over HTTP where it streams, and what it complains of."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import httpx
import pytest
import uvicorn.server

from redisutils import RedisPool
from redisutils.cli.serve.hosting import Host, addresses, listen
from redisutils.monitor.app import MonitorApp, monitor_app
from redisutils.monitor.feed import Feed

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])  # for what is the same on any


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged that somebody should look at; not that the machine was busy, which asyncio
    says in debug mode."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.msg != "Executing %s took %.3f seconds"
    ]


def taking(writer: asyncio.StreamWriter) -> asyncio.Transport:
    """Where a client pauses taking what it is sent: streams do not tell that it can."""
    return cast(asyncio.Transport, writer.transport)


def quick(pool: RedisPool) -> MonitorApp:
    """One that makes frames more often, for tests that wait for some."""
    app = monitor_app(pool)
    app.feed = Feed(pool, interval=0.05)
    return app


@asynccontextmanager
async def hosted(app: MonitorApp, *, buffer: int | None = None) -> AsyncIterator[str]:
    """On a real socket, for what streams; the system keeps some ``buffer`` bytes for a client."""
    sockets = listen(addresses("127.0.0.1"), 0)
    if buffer is not None:
        sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    # uvicorn looks ten times a second whether it is to end: most of what a test would take.
    impatient = SimpleNamespace(**vars(asyncio))
    impatient.sleep = lambda seconds: asyncio.sleep(seconds / 20)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(uvicorn.server, "asyncio", impatient)
        async with Host(app, sockets, any_name=False) as host:
            yield host.url


Browse = Callable[..., httpx.AsyncClient]


@asynccontextmanager
async def browsing() -> AsyncIterator[Browse]:
    """Clients of an application, without a network."""
    async with AsyncExitStack() as stack:
        apps: list[Any] = []

        def open_(app: Any, base: str = "http://localhost:9121", **options: Any) -> Any:
            apps.append(app)
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            client = httpx.AsyncClient(transport=transport, base_url=base, **options)
            stack.push_async_exit(client)
            return client

        yield open_
        for app in apps:
            if isinstance(app, MonitorApp):
                await app.stop()


async def events(response: httpx.Response) -> AsyncGenerator[tuple[str, Any]]:
    """(event, data) as they come."""
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)
