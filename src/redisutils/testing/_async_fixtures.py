"""The plugin's asynchronous fixtures, registered when pytest-asyncio is there.

They work in its strict and its automatic mode. As in ``plugin.py``, what is heavy is imported
when a test asks for it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from redisutils import RedisPool

    from .server import EmbeddedServer
    from .server_proxy import ServerProxy


@pytest_asyncio.fixture
async def redis_pool(redis_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    """An open RedisPool of redis_server, closed after the test.

    Where it connects to is fixed; all else (sizes, timeouts, retries) is as REDIS_* says.
    """
    from redisutils import create_redis_pool

    async with create_redis_pool(
        host=redis_server.host,
        port=redis_server.port,
        username="default",
        password=redis_server.password,
        database=0,
        tls_enabled=False,
    ) as pool:
        yield pool


@pytest_asyncio.fixture
async def fault_proxy(redis_server: EmbeddedServer) -> AsyncIterator[ServerProxy]:
    """A fault proxy before redis_server; clients reach it by its url."""
    from .server_proxy import ServerProxy

    async with ServerProxy(redis_server) as proxy:
        yield proxy
