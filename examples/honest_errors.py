"""Errors that say whether the write happened."""

import asyncio
import os

from redis.exceptions import RedisError

from redisutils import Redis, create_redis_pool
from redisutils.errors import Outcome, outcome_of

URL = os.environ.get("REDIS_URL", "embedded://")


async def buy(client: Redis, lots: object, patience: float = 10.0) -> None:
    try:
        await client.with_timeout(patience).execute_command(
            "HINCRBY", "portfolio:bob", "position:ES", lots
        )
    except RedisError as error:
        print(f"{type(error).__name__}: {outcome_of(error)}")
        match outcome_of(error):
            case Outcome.NOT_SENT:
                print("  nothing was written: trying again is safe")
            case Outcome.REJECTED:
                print("  the server refused: trying again would not help")
            case Outcome.UNKNOWN:
                position = await client.hget("portfolio:bob", "position:ES")
                print("  written, not confirmed: read it back before trying again:", position)


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        await pool.client.hset("portfolio:bob", "position:ES", "3")

        await buy(pool.client, ["not", "a", "number"])  # cannot be encoded
        await buy(pool.client, "many")  # not an integer, says the server

        await pool.client.client_pause(300, all=False)  # writes wait for 300 ms
        await buy(pool.client, 1, patience=0.05)

        print("position in the end:", await pool.client.hget("portfolio:bob", "position:ES"))
        await pool.client.delete("portfolio:bob")


asyncio.run(main())
