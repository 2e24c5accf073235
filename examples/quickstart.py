"""Open a pool, use its client, look at its figures.

Without REDIS_URL a private server is started for the run (needs the extra "embedded").
"""

import asyncio
import os

from redisutils import create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        await pool.client.set("trading:price:BTCUSD", "50000.0", ex=60)
        price = await pool.client.get("trading:price:BTCUSD")
        print("price:", price)

        # Any number of tasks may share the client. What they issue in one turn of the
        # event loop leaves in one write.
        counts = await asyncio.gather(*(pool.client.incr("visits") for _ in range(100)))
        print("counted to:", max(counts))

        metrics = pool.metrics()
        print(f"{metrics.commands} commands, p99 {metrics.latency.p99 * 1000:.2f} ms")
        print(pool.status())
        await pool.client.delete("trading:price:BTCUSD", "visits")


asyncio.run(main())
