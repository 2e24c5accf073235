"""valkey-py, with libvalkey where that is installed, which it finds by itself."""

from __future__ import annotations

from functools import partial

from valkey.asyncio import ConnectionPool, Valkey

from benchmarks.contenders.pooled import PooledClient


class ValkeyPy(PooledClient):
    """``valkey.asyncio.Valkey`` on a pool of the right size."""

    async def open(self) -> None:
        self.pool = ConnectionPool(
            host=self.server.host,
            port=self.server.port,
            username=self.server.username,
            password=self.server.password,
            max_connections=self.pool_size(),
        )
        # It asks for the name of the command to come, and does nothing with it.
        self.take = partial(self.pool.get_connection, "GET")
        self.use(Valkey(connection_pool=self.pool))
