"""One program for one server, for a primary behind sentinels and for a cluster.

It runs on what REDIS_URL, or REDIS_MODE with REDIS_NODES, names. Without them it starts servers of
each kind, and kills the one that holds its first key.
"""

# redis-py types a pipeline's methods as if they had to be awaited. They do not: they queue.
# mypy: disable-error-code="unused-awaitable"

import asyncio
import os
from collections.abc import Awaitable, Callable

from redisutils import RedisPool, create_redis_pool
from redisutils.testing import EmbeddedCluster, EmbeddedSentinels, EmbeddedServer

# What is in braces decides where a key lies: all keys of an account are together.
ACCOUNTS = ["{acct:1}", "{acct:2}", "{acct:3}"]
ORDERS = 20

# Calls wait for a failover, however busy this machine is, and never fail before their time is up:
PATIENCE = 30.0  # seconds, and no circuit breaker


async def trade(pool: RedisPool, failover: Callable[[], Awaitable[None]] | None = None) -> None:
    """The program. It neither knows nor asks what kind of servers it is on."""
    client = pool.client
    for account in ACCOUNTS:
        async with client.pipeline(transaction=True) as pipe:
            pipe.set(f"{account}:cash", 1000)
            pipe.set(f"{account}:orders", 0)
            await pipe.execute()
        print(f"  {account}:* is at {await place(pool, account)}")

    for number in range(ORDERS):
        if number == ORDERS // 2 and failover is not None:
            await failover()
        # To set the same value twice is harmless, so this is repeated where it has to be.
        orders = (client.set(f"{account}:order:{number}", "new") for account in ACCOUNTS)
        await asyncio.gather(*orders)

    print(f"  {ACCOUNTS[0]}:* is at {await place(pool, ACCOUNTS[0])} in the end")
    keys = [f"{account}:order:{number}" for account in ACCOUNTS for number in range(ORDERS)]
    print(f"  orders written: {len(keys)}, found: {await client.exists(*keys)}")
    for account in ACCOUNTS:
        await client.delete(f"{account}:cash", f"{account}:orders")
    await client.delete(*keys)


async def place(pool: RedisPool, key: str) -> str:
    """The port of the server that holds a key, as that server has it."""
    async with pool.get(key=key) as conn:
        return f"port {(await conn.info('server'))['tcp_port']}"


async def one_server() -> None:
    async with EmbeddedServer() as server, create_redis_pool(url=server.url) as pool:
        print("one server:")
        await trade(pool)


async def sentinels() -> None:
    async with (
        EmbeddedSentinels(replicas=1) as group,
        create_redis_pool(
            mode="sentinel",
            nodes=group.addresses,
            sentinel_master=group.master_name,
            sentinel_password=group.sentinel_password,
            password=group.password,
            command_timeout=PATIENCE,
            circuit_breaker_seconds=0,
        ) as pool,
    ):

        async def failover() -> None:
            await group.wait_in_sync()  # what the replica does not have yet would be lost
            await group.primary.kill()
            print("  the primary was killed")

        print("sentinels:")
        await trade(pool, failover)


async def cluster() -> None:
    async with (
        EmbeddedCluster(primaries=3, replicas=1) as group,
        create_redis_pool(
            mode="cluster",
            nodes=[(node.host, node.port) for node in group.nodes],
            password=group.password,
            command_timeout=PATIENCE,
            circuit_breaker_seconds=0,
        ) as pool,
    ):

        async def failover() -> None:
            await group.wait_in_sync()
            await group.node_for(ACCOUNTS[0]).kill()
            print(f"  the primary of {ACCOUNTS[0]}:* was killed")

        print("cluster:")
        await trade(pool, failover)


async def main() -> None:
    if any(os.environ.get(name) for name in ("REDIS_URL", "REDIS_HOST", "REDIS_NODES")):
        async with create_redis_pool() as pool:
            print("what the environment names:")
            await trade(pool)
        return
    await one_server()
    await sentinels()
    await cluster()


asyncio.run(main())
