"""Lanes: order flow on a socket of its own, never behind bulk reads."""

import asyncio
import os
from time import perf_counter

from redisutils import Redis, create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")
ORDERS = 200


async def slowest(client: Redis) -> float:
    """Write orders one after another; the slowest one, in milliseconds."""
    worst = 0.0
    for number in range(ORDERS):
        started = perf_counter()
        await client.hset("orders", str(number), "new")
        worst = max(worst, perf_counter() - started)
    return worst * 1000


async def bulk_reads(client: Redis) -> None:
    while True:
        await asyncio.gather(*(client.get("history") for _ in range(20)))


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        await pool.client.set("history", b"x" * 200_000)
        noise = asyncio.create_task(bulk_reads(pool.client))
        try:
            print(f"orders among the bulk reads: slowest {await slowest(pool.client):.2f} ms")
            print(
                f"orders on their own lane:    slowest {await slowest(pool.lane('orders')):.2f} ms"
            )
        finally:
            noise.cancel()
            await asyncio.wait({noise})
        print("orders written:", await pool.client.hlen("orders"))
        await pool.client.delete("history", "orders")


asyncio.run(main())
