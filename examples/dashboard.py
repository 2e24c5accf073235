"""The live dashboard of your own pool, mounted in your own application.

With SECONDS=600 it lasts long enough to look at: open the address that it prints.
"""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import urlopen

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from redisutils import create_redis_pool
from redisutils.monitor.app import monitor_app

URL = os.environ.get("REDIS_URL", "embedded://")
SECONDS = float(os.environ.get("SECONDS", "1"))

pool = create_redis_pool(url=URL)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with pool:
        yield


async def price(request: Request) -> PlainTextResponse:
    await pool.client.set("price:BTCUSD", "50000.0")
    return PlainTextResponse(await pool.client.get("price:BTCUSD"))


app = Starlette(
    lifespan=lifespan,
    # Where others can reach it, give it a token: monitor_app(pool, token=…).
    routes=[Route("/price", price), Mount("/redis", monitor_app(pool))],
)


async def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0))  # any free port
    port = listening.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    print(f"dashboard: http://127.0.0.1:{port}/redis/")

    def ask(path: str) -> bytes:
        with urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            content: bytes = answer.read()
            return content

    print("price:", await asyncio.to_thread(ask, "/price"))
    print("ready:", json.loads(await asyncio.to_thread(ask, "/redis/readyz"))["ready"])
    frame = json.loads(await asyncio.to_thread(ask, "/redis/api/frame"))
    print("health:", frame["health"]["status"])

    await asyncio.sleep(SECONDS)
    server.should_exit = True
    await serving


asyncio.run(main())
