"""A trading day: tape, traders and screen at work on one pool, and the closing check."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from itertools import chain
from time import perf_counter
from typing import Final

from redis.exceptions import RedisError

from redisutils import RedisPool
from redisutils.cli.demo.blotter import Blotter
from redisutils.cli.demo.checks import Checks
from redisutils.cli.demo.clock import TapeClock
from redisutils.cli.demo.feed import Feed
from redisutils.cli.demo.figures import Timings
from redisutils.cli.demo.instruments import Instrument
from redisutils.cli.demo.keys import KEPT, RETENTION, RunKeys
from redisutils.cli.demo.source import TapeError
from redisutils.cli.demo.statement import INTERVAL, Line, draw_up
from redisutils.cli.demo.trader import Desk, Trader
from redisutils.cli.demo.venue import Venue
from redisutils.errors import RedisUtilsError, outcome_of
from redisutils.trading import Orders, Portfolio
from redisutils.trading.market import MarketData, Retention, Ticks, Trade

__all__ = ["TradingDay"]

ACCOUNT: Final = "demo"
RENEW_EVERY: Final = 5.0
"""Seconds between two times that the account's keys are told how long to live: new ones come."""
HISTORY: Final = 10_000
"""Trades of each instrument, and events of the account, that are kept."""

_FAILURES: Final = (RedisError, RedisUtilsError)
"""What a service may raise."""


class TradingDay:
    """Traders who share one account, on a market that a tape makes.

    All keys carry a random run name, so that neither other runs nor other programs are touched.

    Args:
        pool: Shared by all.
        instruments: What the trades are in.
        trades: Where they come from.
        tasks: How many traders.
        speed: How many seconds of the tape pass in one second; None is as fast as it goes.
        run: The run's name; random by default.
    """

    def __init__(
        self,
        pool: RedisPool,
        instruments: dict[str, Instrument],
        trades: Iterator[Trade],
        *,
        tasks: int,
        speed: float | None = None,
        run: str | None = None,
    ) -> None:
        self.prefix = f"trading:demo-{run or secrets.token_hex(4)}:"
        self.checks = Checks()
        self.timings = Timings()
        self.errors: Counter[str] = Counter()
        """What ended traders, the feed or the screen before their time, and how often: a server
        that dies says the same to all of them."""
        self.statement: list[Line] = []
        """What was sent, against what is stored; once they are done."""
        self.seconds = 0.0
        """How long they were at work, once they are done."""
        self._pool = pool
        self._client = pool.client
        self.instruments = instruments
        first = self._first(trades)
        self.clock = clock = TapeClock(first[0].ts_event if first else 10**18, speed)
        market = MarketData(pool, prefix=self.prefix, ttl=KEPT, clock=clock)
        self.ticks = Ticks(
            pool,
            prefix=self.prefix,
            intervals=(INTERVAL,),
            retention=Retention(trades=HISTORY, latest=KEPT, idle=KEPT),
            clock=clock,
        )
        orders = Orders(
            pool,
            account=ACCOUNT,
            prefix=self.prefix,
            retention=RETENTION,
            outbox=HISTORY,
            clock=clock,
        )
        self.portfolio = Portfolio(
            pool, account=ACCOUNT, prefix=self.prefix, outbox=HISTORY, clock=clock
        )
        venue = Venue(clock)
        self.feed = Feed(
            instruments,
            chain(first, trades),
            clock=clock,
            market=market,
            ticks=self.ticks,
            venue=venue,
            timings=self.timings,
            speed=speed,
        )
        self.keys = RunKeys(self.prefix, ACCOUNT, list(instruments), (INTERVAL,))
        self.desk = Desk(market, orders, venue, self.feed, self.keys, self.checks, self.timings)
        self.blotter = Blotter(self.desk, self.portfolio)
        self._traders = [
            Trader(number, list(instruments.values())[number % len(instruments)], self.desk)
            for number in range(tasks)
        ]

    @property
    def trades(self) -> int:
        """Trades of the tape so far."""
        return self.feed.trades

    @property
    def lost(self) -> int:
        """Events of the account that did not arrive."""
        return self.blotter.lost

    @property
    def fills(self) -> int:
        """Executions of our orders."""
        return sum(account.fills for account in self.desk.venue.accounts.values())

    @property
    def right(self) -> bool:
        """Whether something was traded, all values were right, nothing was lost, and the ledger
        balances."""
        return bool(self.trades and self.statement) and not (
            self.checks.wrong or self.errors or self.lost
        )

    def stop(self) -> None:
        """End the tape; the traders cancel what rests, and go."""
        self.feed.stop()

    async def run(self, seconds: float | None = None) -> None:
        """Trade until the tape ends or :meth:`stop` is called, and check what is stored then.

        What fails on the way stands in ``errors``; nothing of it is raised.

        Args:
            seconds: Stop after so long; None for no limit.
        """
        async with self._followed():
            began = perf_counter()
            if seconds is not None:
                asyncio.get_running_loop().call_later(seconds, self.stop)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._feed())
                    for trader in self._traders:
                        group.create_task(self._noted("trading", trader.run()))
            finally:
                self.seconds = perf_counter() - began
            await self._noted("the closing check", self._close())

    async def clean(self) -> None:
        """Close the services, and delete all keys of the run. What fails stands in ``errors``."""
        for closing in (
            self.desk.orders.close,
            self.portfolio.close,
            self.ticks.aclose,
            self.desk.market.aclose,
        ):
            await self._noted("closing", closing())
        await self._noted("deleting the run's keys", self.keys.delete(self._client))

    async def _feed(self) -> None:
        try:
            await self._noted("the tape", self.feed.run())
        finally:
            self.desk.venue.close()

    async def _close(self) -> None:
        await self.blotter.all_events()
        self.statement = await draw_up(self.desk, self.portfolio, self.ticks, self.blotter)
        await self.blotter.read()

    @asynccontextmanager
    async def _followed(self) -> AsyncIterator[None]:
        """Receive what the database tells, for as long as the context lasts."""
        following = [
            asyncio.create_task(self._noted(what, work))
            for what, work in (
                ("the account's events", self.blotter.follow_orders()),
                *(
                    (f"quotes of {symbol}", self.blotter.follow_quotes(symbol))
                    for symbol in self.instruments
                ),
                ("the screen", self.blotter.keep_reading()),
                ("keeping the keys", self._renew()),
            )
        ]
        try:
            yield
        finally:
            for task in following:
                task.cancel()
            await asyncio.wait(following)

    async def _renew(self) -> None:
        while True:
            await asyncio.sleep(RENEW_EVERY)
            await self.keys.renew(self._client)

    async def _noted(self, where: str, work: Awaitable[None]) -> None:
        """Do it; what fails stands in ``errors``."""
        try:
            await work
        except TapeError as error:
            self.errors[str(error)] += 1
        except _FAILURES as error:
            # What the last write did is not known for sure, so neither are the venue's books.
            outcome = outcome_of(error)
            told = f" (the command was: {outcome.value})" if outcome else ""
            self.errors[f"{where}: {type(error).__name__}: {error}{told}"] += 1

    def _first(self, trades: Iterator[Trade]) -> list[Trade]:
        """The first trade, by which the clock is set; a tape may have none left."""
        try:
            return [trade for trade in (next(trades, None),) if trade is not None]
        except TapeError as error:
            self.errors[str(error)] += 1
            return []
