"""Pipelines: many commands in one write, and all or nothing where that matters."""

# redis-py types a pipeline's methods as if they had to be awaited. They do not: they queue.
# mypy: disable-error-code="unused-awaitable"

import asyncio
import os

from redisutils import create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")
PRICES = {"BTCUSD": "50000.0", "ETHUSD": "2500.00", "XAUUSD": "2350.10"}


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        # Plain: saves round trips, promises nothing else.
        async with pool.client.pipeline(transaction=False) as pipe:
            for symbol, price in PRICES.items():
                pipe.set(f"price:{symbol}", price, ex=60)
                pipe.get(f"price:{symbol}")
            print("plain:", await pipe.execute())

        # A transaction: nobody sees the position without the cash that paid for it.
        async with pool.client.pipeline(transaction=True) as pipe:
            pipe.hincrby("portfolio:alice", "position:BTCUSD", 2)
            pipe.hset("portfolio:alice", "cash", "-100000.0")
            pipe.hgetall("portfolio:alice")
            print("transaction:", (await pipe.execute())[-1])

        await asyncio.gather(
            pool.client.delete("portfolio:alice"),
            *(pool.client.delete(f"price:{symbol}") for symbol in PRICES),
        )


asyncio.run(main())
