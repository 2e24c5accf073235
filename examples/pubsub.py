"""Publish and subscribe. A subscriber takes a connection from the pool by itself."""

import asyncio
import os

from redisutils import create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")
EVENTS = 5


async def main() -> None:
    async with create_redis_pool(url=URL) as pool, pool.client.pubsub() as pubsub:
        await pubsub.subscribe("fills:BTCUSD")
        received = 0
        async for message in pubsub.listen():
            if message["type"] == "subscribe":
                # Only now: what is published before the server confirmed is not received.
                for number in range(EVENTS):
                    await pool.client.publish("fills:BTCUSD", f"fill {number}")
            elif message["type"] == "message":
                print("received:", message["data"].decode())
                received += 1
                if received == EVENTS:
                    break


asyncio.run(main())
