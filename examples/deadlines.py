"""Deadlines: one time budget for all that a command does, waiting and retrying included."""

import asyncio
import os
from time import perf_counter

from redis.exceptions import TimeoutError as RedisTimeoutError

from redisutils import create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        await pool.client.set("price", "50000.0")

        # A view of the same client on the same connections: as cheap as it looks.
        quick = pool.client.with_timeout(0.05)
        print("in time:", await quick.get("price"))

        await pool.client.client_pause(300)  # the server answers nobody for 300 ms
        started = perf_counter()
        try:
            await quick.get("price")
        except RedisTimeoutError as error:
            took = perf_counter() - started
            print(f"gave up: {type(error).__name__} after {took * 1000:.0f} ms")

        # Giving up disturbed nobody. The late answer is dropped, not mistaken for another's.
        print("afterwards:", await pool.client.get("price"))
        await pool.client.delete("price")


asyncio.run(main())
