"""Our scripts on real servers: they are made known again, and run until their fate is known."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
import redis

from redisutils.errors import CommandTimeout, ConnectFailed, ConnectionLost, Outcome, outcome_of
from redisutils.testing import EmbeddedCluster, EmbeddedServer, FaultProxy
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.orders.service import Orders
from redisutils.trading.scripts import Script, Scripts, load

from .clusters import cluster_pool
from .conftest import StartServer
from .ours import pool_at
from .trading import fill, report

# Each run with the same arguments has its effect once.
ONCE = Script(
    "once",
    "if redis.call('SETNX', KEYS[1], ARGV[1]) == 1 then redis.call('INCR', KEYS[2]) end "
    "return redis.call('GET', KEYS[2])",
)
KEYS = ("{t}:a", "{t}:n")
QUICK: dict[str, Any] = {"retry_delay_ms": 5, "retry_max_delay_ms": 20}


async def test_a_server_that_forgot_is_told_again(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server) as pool:
        scripts = Scripts(pool, "ledger")
        for run in range(2):
            admin.script_flush()
            assert admin.script_exists(ONCE.sha) == [False]
            for name in "ab":
                assert await scripts.run(ONCE, ("{t}:" + name, KEYS[1]), ["1"]) is not None or run
            assert admin.script_exists(ONCE.sha) == [True]
        admin.config_resetstat()
        await asyncio.gather(*(scripts.run(ONCE, KEYS, ["1"]) for _ in range(20)))
        stats = admin.info("commandstats")
        assert stats["cmdstat_evalsha"]["calls"] == 20
        assert "cmdstat_eval" not in stats


@pytest.mark.parametrize("then", ["close", "reset"])
async def test_what_ran_but_was_not_answered_runs_again(
    server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis, then: Literal["close", "reset"]
) -> None:
    async with pool_at(server, proxy, **QUICK) as pool:
        scripts = Scripts(pool, "ledger")
        proxy.swallow_replies(1, lambda request: b"EVAL" in request, then)
        assert await scripts.run(ONCE, KEYS, ["1"]) == b"1"
        assert proxy.swallowed == 1
        assert admin.get(KEYS[1]) == "1"


async def test_a_fate_that_nobody_knows_is_told(
    server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    settings = QUICK | {"command_timeout": 0.3, "max_retries": 2}
    async with pool_at(server, proxy, **settings) as pool:
        scripts = Scripts(pool, "ledger")
        await scripts.run(ONCE, ("{t}:x", "{t}:y"), ["1"])
        proxy.swallow_replies(9, lambda request: b"EVAL" in request, "reset")
        with pytest.raises((ConnectionLost, CommandTimeout, ConnectFailed)) as failure:
            await scripts.run(ONCE, KEYS, ["1"])
        assert outcome_of(failure.value) is Outcome.UNKNOWN
        proxy.restore()
        assert await scripts.run(ONCE, KEYS, ["1"]) == b"1"


async def test_a_refusal_of_the_script_is_final(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server) as pool:
        admin.rpush(KEYS[0], "a list")
        with pytest.raises(redis.ResponseError, match=r"WRONGTYPE|wrong kind"):
            await Scripts(pool, "ledger").run(
                Script("wrong", "return redis.call('GET', KEYS[1])"), KEYS[:1], []
            )


async def test_a_server_that_restarted(start_server: StartServer) -> None:
    server = await start_server()
    async with pool_at(server, command_timeout=10, max_retries=100, **QUICK) as pool:
        scripts = Scripts(pool, "ledger")
        assert await scripts.run(ONCE, KEYS, ["1"]) == b"1"
        await server.kill()
        running = asyncio.create_task(scripts.run(ONCE, KEYS, ["1"]))
        await server.restart()
        assert await running == b"1"


def test_scripts_are_files_of_the_package() -> None:
    for name in ("ledger", "ledger_read"):
        script = load(name)
        assert script is load(name)
        assert repr(script) == f"<Script {name}>"
        assert script.source.startswith("-- ")


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_an_account_is_in_one_slot_of_a_cluster(cluster: EmbeddedCluster) -> None:
    keys = Keys("A", "paper:")
    async with cluster_pool(cluster) as pool:
        for account in ("A", "B", "C", "D"):
            async with Orders(pool, account=account, prefix="paper:") as orders:
                await orders.place(cl_ord_id="X", instrument="ABC", side="1", order_qty=10)
                results = await orders.apply_all([report("X"), fill("X", 3, 5), fill("X", 7, 6)])
                assert [str(getattr(one, "cum_qty", one)) for one in results] == ["0", "3", "10"]
                await orders.replace("X", cl_ord_id="Y", order_qty=20)
                assert [event.kind async for event in orders.history("Y")][-1] == (
                    "replace-requested"
                )
                assert [order.id async for order in orders.open_orders()] == []
        found: Any = await pool.client.keys("paper:ord:{A}:*")
        owner = cluster.node_for(keys.events)
        assert {cluster.node_for(key.decode()) for key in found} == {owner}
        assert len(found) == 9
        owners = {cluster.node_for(Keys(account, "paper:").events) for account in "ABCD"}
        assert len(owners) > 1
