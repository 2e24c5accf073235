"""Two servers: one that is emptied after each measurement, and one where many orders are open."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import redis
import uvloop

from benchmarks.contenders import load
from benchmarks.contenders.trading import ROSTER
from benchmarks.contenders.trading.base import TradingClient
from benchmarks.hosting import admin, describe, running, seed
from benchmarks.machine import Cores
from benchmarks.server import Server
from benchmarks.suite import Stage
from benchmarks.trading.orders import OPEN, orders
from benchmarks.trading.ticks import origin, tape
from benchmarks.trading.workloads import START
from benchmarks.workloads import Workload
from redisutils.trading import TradingError


class TradingStage(Stage):
    """``desk`` for everything but the start with open orders, which is at ``archive``."""

    def __init__(self, desk: Server, archive: Server, ticks: str) -> None:
        self._desk = desk
        self._archive = archive
        self._ticks = ticks
        self._here = desk
        self._placed: set[str] = set()

    def server_for(self, contender: str) -> Server:
        """The one where the present workload is at home. A contender that comes to the archive for
        the first time places its orders there, once for all rounds."""
        if self._here is self._archive and contender not in self._placed:
            try:
                uvloop.run(_place(contender, self._archive))
            except (redis.RedisError, TradingError, OSError) as error:
                raise RuntimeError(f"the orders could not be placed: {error}") from error
            self._placed.add(contender)
        return self._here

    def describe(self) -> str:
        """Name and version."""
        return describe(self._desk)

    def facts(self) -> dict[str, str]:
        """What the ticks are, too."""
        return {**super().facts(), "ticks": self._ticks}

    @contextmanager
    def around(self, workload: Workload[Any]) -> Iterator[None]:
        """What it has written goes."""
        self._here = self._archive if workload.key == START else self._desk
        try:
            yield
        finally:
            with admin(self._desk) as client:
                client.flushall()
                seed(client)


async def _place(contender: str, server: Server) -> None:
    client = load(ROSTER[contender].adapter)(server, tasks=1)
    assert isinstance(client, TradingClient)
    await client.open()
    try:
        await client.place(orders(OPEN))
    finally:
        await client.close()


@contextmanager
def stage(_url: str | None, cores: Cores) -> Iterator[TradingStage]:
    """Both servers on one core."""
    ticks = origin(tape())
    print(f"Ticks: {ticks}.", file=sys.stderr, flush=True)
    with ExitStack() as stack:
        desk = stack.enter_context(running(None, cores.server))
        archive = stack.enter_context(running(None, cores.server))
        yield TradingStage(desk, archive, ticks)
