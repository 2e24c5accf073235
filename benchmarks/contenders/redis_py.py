"""redis-py, with hiredis, which it finds by itself."""

from __future__ import annotations

from redis.asyncio import ConnectionPool, Redis

from benchmarks.contenders.pooled import PooledClient


class RedisPy(PooledClient):
    """``redis.asyncio.Redis`` on a pool of the right size."""

    async def open(self) -> None:
        self.pool = ConnectionPool(
            host=self.server.host,
            port=self.server.port,
            username=self.server.username,
            password=self.server.password,
            max_connections=self.pool_size(),
        )
        self.take = self.pool.get_connection
        self.use(Redis(connection_pool=self.pool))
