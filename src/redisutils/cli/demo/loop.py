"""All desks at work, the subscriber who receives what they publish, and the closing check."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from time import perf_counter
from typing import Final

from redis.exceptions import RedisError

from redisutils import Redis
from redisutils.cli.demo.desk import Checks, Desk, EventsLost
from redisutils.cli.demo.figures import Timings
from redisutils.cli.demo.market import Trade
from redisutils.cli.demo.tape import TapeError
from redisutils.errors import RedisUtilsError, outcome_of

__all__ = ["TradingLoop"]

RENEW_EVERY: Final = 600.0
"""Seconds between renewals of the portfolios' TTL."""

_FAILURES: Final = (RedisError, RedisUtilsError)
"""What a command may raise."""


class TradingLoop:
    """Desks that share one client and one source of trades.

    Each trade goes to exactly one desk, in the source's order. Keys and channels carry a
    random run name, so that neither other runs nor other programs are touched.

    Args:
        client: Shared by all desks, and the source of the subscriber's connection.
        trades: Where trades come from. It is advanced on the event loop, a line or a
            random number at a time: a thread for that would hold the interpreter for
            longer stretches, and show up in the latencies.
        tasks: How many desks.
        speed: How many seconds of the source pass in one second; None is as fast as it goes.
        run: The run's name; random by default.
    """

    def __init__(
        self,
        client: Redis,
        trades: Iterator[Trade],
        *,
        tasks: int,
        speed: float | None = None,
        run: str | None = None,
    ) -> None:
        self.prefix = f"trading:demo-{run or secrets.token_hex(4)}"
        self.checks = Checks()
        self.timings = Timings()
        self.errors: Counter[str] = Counter()
        """What ended desks, the subscriber or the source before their time, and how often:
        a server that dies says the same to all of them."""
        self.ticker: dict[str, Trade] = {}
        """The latest trade of each symbol."""
        self.behind_max = 0.0
        """Seconds by which a paced trade came too late, at most."""
        self.seconds = 0.0
        """How long the desks were at work, once they are done."""
        self.desks = [
            Desk(number, self.prefix, self.checks, self.timings) for number in range(tasks)
        ]
        self._client = client
        self._trades = trades
        self._speed = speed
        self._started = 0.0
        self._stop = asyncio.Event()

    @property
    def trades(self) -> int:
        """Trades begun so far."""
        return sum(desk.trades for desk in self.desks)

    @property
    def published(self) -> int:
        """Events published so far."""
        return sum(desk.published for desk in self.desks)

    @property
    def received(self) -> int:
        """Events received so far, each the one that had to come next."""
        return sum(desk.received for desk in self.desks)

    @property
    def lost(self) -> int:
        """Events that did not arrive."""
        return sum(desk.lost for desk in self.desks)

    @property
    def right(self) -> bool:
        """Whether something was traded, all values read back were right, and nothing was lost."""
        return bool(self.trades) and not (
            self.checks.wrong or self.errors or self.published != self.received
        )

    def stop(self) -> None:
        """Let every desk finish the trade it is in, and take no other."""
        self._stop.set()

    async def run(self, seconds: float | None = None) -> None:
        """Trade until the source ends or :meth:`stop` is called, and check what is stored then.

        What fails on the way stands in ``errors``; nothing of it is raised.

        Args:
            seconds: Stop after so long; None for no limit.
        """
        try:
            async with self._subscribed():
                self._started = perf_counter()
                if seconds is not None:
                    asyncio.get_running_loop().call_later(seconds, self.stop)
                renewing = asyncio.create_task(self._renew())
                try:
                    async with asyncio.TaskGroup() as group:
                        for desk in self.desks:
                            group.create_task(self._desk(desk))
                finally:
                    renewing.cancel()
                    self.seconds = perf_counter() - self._started
        except _FAILURES as error:
            self._note("subscribing", error)

    async def clean(self) -> None:
        """Delete all keys of the run. What fails stands in ``errors``."""
        async with asyncio.TaskGroup() as group:
            for desk in self.desks:
                group.create_task(self._delete(desk))

    async def _desk(self, desk: Desk) -> None:
        try:
            while (trade := await self._take()) is not None:
                await desk.trade(self._client, trade)
            await desk.events_below(1)
            await desk.verify(self._client)
        except EventsLost as error:
            self.errors[str(error)] += 1
        except _FAILURES as error:
            # What the last write did is not known for sure, so neither is this desk's ledger.
            self._note("trading", error)

    async def _take(self) -> Trade | None:
        """The next trade when it is due; None when there is no more, or time to stop."""
        if self._stop.is_set():
            return None
        try:
            trade = next(self._trades, None)
        except TapeError as error:
            # The iterator has ended with it, and so will the other desks.
            self.errors[str(error)] += 1
            return None
        if trade is not None:
            if self._speed is not None and not await self._due(trade.at / self._speed):
                return None
            self.ticker[trade.symbol] = trade
        return trade

    async def _delete(self, desk: Desk) -> None:
        try:
            await desk.delete(self._client)
        except _FAILURES as error:
            self._note("deleting the run's keys", error)

    async def _due(self, after: float) -> bool:
        """Wait until ``after`` seconds of the run have passed; False when stopped before."""
        wait = self._started + after - perf_counter()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stop.wait()
        self.behind_max = max(self.behind_max, perf_counter() - self._started - after)
        return not self._stop.is_set()

    @contextlib.asynccontextmanager
    async def _subscribed(self) -> AsyncIterator[None]:
        """Receive the desks' events for as long as the context lasts."""
        confirmed = asyncio.Event()
        receiver = asyncio.create_task(self._receive(confirmed))
        try:
            waiter = asyncio.create_task(confirmed.wait())
            await asyncio.wait({waiter, receiver}, return_when=asyncio.FIRST_COMPLETED)
            waiter.cancel()
            if receiver.done():
                receiver.result()
            yield
        finally:
            receiver.cancel()
            await asyncio.wait({receiver})
            if not receiver.cancelled():
                receiver.exception()  # raised above, if it has one; or it would be logged too

    async def _receive(self, confirmed: asyncio.Event) -> None:
        desks = {desk.channel.encode(): desk for desk in self.desks}
        awaited = len(desks)
        async with self._client.pubsub() as pubsub:
            await pubsub.subscribe(*desks)
            try:
                async for message in pubsub.listen():
                    if message["type"] == "message":
                        desks[message["channel"]].receive(message["data"])
                    elif message["type"] == "subscribe":
                        awaited -= 1
                        if not awaited:
                            confirmed.set()
            except _FAILURES as error:
                if not confirmed.is_set():
                    raise
                self._note("subscriber", error)
                self.stop()

    async def _renew(self) -> None:
        """Keep the portfolios alive for as long as the run lasts, and not much longer."""
        while True:
            await asyncio.sleep(RENEW_EVERY)
            for desk in self.desks:
                try:
                    await desk.renew(self._client)
                except _FAILURES as error:
                    self._note("renewing a portfolio", error)

    def _note(self, where: str, error: Exception) -> None:
        outcome = outcome_of(error)
        told = f" (the command was: {outcome.value})" if outcome else ""
        self.errors[f"{where}: {type(error).__name__}: {error}{told}"] += 1
