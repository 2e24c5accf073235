"""Orders flow on while servers die, forget their scripts, and give their slots away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.orders.service import Orders
from redisutils.trading.portfolio.service import Portfolio

from .clusters import cluster_pool, other_primary, told
from .conftest import StartServer
from .ours import pool_at, until
from .trading import Flow

NAMES = [f"O{number}" for number in range(8)]
PATIENT: dict[str, Any] = {
    "retry_delay_ms": 5,
    "retry_max_delay_ms": 20,
    "command_timeout": 10,
    "max_retries": 500,
}


async def test_a_server_that_is_killed_and_has_written_all_down(start_server: StartServer) -> None:
    server = await start_server(appendonly=True)
    async with pool_at(server, **PATIENT) as pool:
        flow = Flow(Orders(pool, account="A"), NAMES, 30)
        running = asyncio.create_task(flow.run())
        for _ in range(2):
            await flow.goes_on()
            await server.kill()
            await server.restart()
        await running
        await flow.check(Portfolio(pool, account="A"))


async def test_servers_that_forget_their_scripts(start_server: StartServer) -> None:
    server = await start_server()
    async with pool_at(server) as pool:
        flow = Flow(Orders(pool, account="A"), NAMES, 30)
        running = asyncio.create_task(flow.run())
        while not running.done():
            await pool.client.script_flush()
            await flow.goes_on(5)
        await running
        await flow.check(Portfolio(pool, account="A"))


def refused(*nodes: EmbeddedServer) -> bool:
    return any("errorstat_TRYAGAIN" in told(node, "INFO", "errorstats") for node in nodes)


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_slot_that_moves(cluster: EmbeddedCluster) -> None:
    """To a server that does not know the scripts, and back; half way, keys are here and there."""
    key = Keys("A").events
    home, away = cluster.node_for(key), other_primary(cluster, key)
    async with cluster_pool(cluster, **PATIENT) as pool:
        flow = Flow(Orders(pool, account="A"), NAMES, 30)
        running = asyncio.create_task(flow.run())
        for to in (away, home, away, home):
            await flow.goes_on()
            told(to, "SCRIPT", "FLUSH")
            await cluster.move_slot(cluster.slot_of(key), to)
        await flow.goes_on()
        async with cluster.migrating(cluster.slot_of(key), away) as migration:
            await migration.move_keys(Keys("A").order("O1"), Keys("A").events)
            for node in (home, away):
                told(node, "CONFIG", "RESETSTAT")
            await until(lambda: running.done() or refused(home, away), "a refusal")
        await running
        await flow.check(Portfolio(pool, account="A"))
    await cluster.move_slot(cluster.slot_of(key), home)
