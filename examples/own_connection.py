"""Check out a connection of your own, for what depends on the state of a connection.

Here: WATCH, which makes a transaction fail if somebody else changed the key meanwhile.
"""

import asyncio
import os

from redisutils import create_redis_pool

URL = os.environ.get("REDIS_URL", "embedded://")


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        await pool.client.set("balance", "100")

        async with pool.get() as conn:
            await conn.execute("WATCH", "balance")
            balance = int(await conn.execute("GET", "balance"))

            await pool.client.set("balance", "500")  # somebody else is faster

            await conn.execute("MULTI")
            await conn.execute("SET", "balance", balance - 30)
            print("first try:", await conn.execute("EXEC"))  # None: nothing was written

            await conn.execute("WATCH", "balance")
            balance = int(await conn.execute("GET", "balance"))
            await conn.execute("MULTI")
            await conn.execute("SET", "balance", balance - 30)
            await conn.execute("EXEC")

        # The connection is back in the pool, and clean.
        print("balance:", int(await pool.client.get("balance") or 0))
        await pool.client.delete("balance")


asyncio.run(main())
