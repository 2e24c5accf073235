"""Replays a tape into the server of ``REDIS_URL``, from where the last one stopped. Run as a
program, which tests kill."""

from __future__ import annotations

import sys
from itertools import islice

import uvloop

from redisutils import create_redis_pool
from redisutils.trading.market.tape import read_tape
from redisutils.trading.market.ticks import Ticks

INTERVALS = ("1s", "1m", "1d+22h")


async def replay(path: str, size: int) -> None:
    """Write what is not there yet, ``size`` trades at a time."""
    async with create_redis_pool() as pool:
        ticks = Ticks(pool, intervals=INTERVALS)
        tape = read_tape(path, "ES", after=await ticks.reached("ES"))
        while batch := list(islice(tape, size)):
            await ticks.write(batch)


if __name__ == "__main__":
    uvloop.run(replay(sys.argv[1], int(sys.argv[2])))
