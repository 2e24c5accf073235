"""Eight processes that execute the orders of one account leave it as one process would."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from redisutils.testing import EmbeddedServer
from redisutils.trading.codec import Codec
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.records import Applied, ExecutionReport
from redisutils.trading.orders.service import Orders
from redisutils.trading.portfolio.records import Position

from .ours import pool_at
from .trading_worker import INSTRUMENTS, NOW, ORDERS, TRADES, place_all, reports

WORKERS = 8
SEED = 3


async def run_workers(url: str) -> list[dict[str, int]]:
    """What each process did, all of them at the same time."""
    here = Path(__file__).parent.parent
    environment = {**os.environ, "PYTHONPATH": f"{here / 'src'}:{here}"}
    processes = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.trading_worker", url),
            *map(str, (worker, WORKERS, SEED)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=environment,
            cwd=here,
        )
        for worker in range(WORKERS)
    ]
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    told = await asyncio.gather(*(process.communicate(b"go\n") for process in processes))
    assert [process.returncode for process in processes] == [0] * WORKERS
    return [json.loads(out) for out, _ in told]


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_eight_processes_equal_one(clean_server: EmbeddedServer) -> None:
    counts = await run_workers(clean_server.url)
    every = reports(SEED)
    assert sum(one["applied"] for one in counts) == len(every) > ORDERS * TRADES
    assert sum(one["duplicates"] for one in counts) > ORDERS * TRADES // 4
    assert sum(one["refused"] for one in counts) == 0
    async with pool_at(clean_server) as pool:
        together = Orders(pool, account="A")
        alone = Orders(pool, account="B")
        await place_all(alone)
        # One after the other, in the order in which the eight came to be written.
        order_of = [
            event.message.exec_id
            async for event in together.replay()
            if isinstance(event, Event) and isinstance(event.message, ExecutionReport)
        ]
        assert sorted(order_of) == sorted(one.exec_id for one in every)
        by_id = {one.exec_id: one for one in every}
        results = await alone.apply_all(by_id[exec_id] for exec_id in order_of)
        assert all(isinstance(one, Applied) and not one.duplicate for one in results)
        executed = {one.exec_ref_id or one.exec_id: one for one in every}  # as it is at last
        for number in range(ORDERS):
            names: Any = await together.get(f"O{number}"), await alone.get(f"O{number}")
            assert replace(names[0], ts_recv=0) == replace(names[1], ts_recv=0)
            mine = [one for one in executed.values() if one.cl_ord_id == f"O{number}"]
            assert names[0].cum_qty == sum(one.last_qty or 0 for one in mine)
            assert names[0].ts_event == NOW
        positions = Codec(Position)
        for instrument in INSTRUMENTS:
            held = [
                positions.decode(await pool.client.hget(f"ord:{{{name}}}:pos:{instrument}", "r"))  # type: ignore[arg-type]  # bytes
                for name in "AB"
            ]
            assert held[0] == held[1]
            assert held[0].cash + held[0].cost == held[0].realised
            assert held[0].fees == {"": Decimal("0.01") * ORDERS * TRADES / len(INSTRUMENTS)}
