"""The tape on its way into the database: trades, and the quotes and books made around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from time import perf_counter
from typing import Final, NamedTuple

from redisutils.cli.demo.clock import TapeClock
from redisutils.cli.demo.figures import Timings
from redisutils.cli.demo.instruments import Instrument
from redisutils.cli.demo.keys import KEPT
from redisutils.cli.demo.ladder import DEPTH, Ladder
from redisutils.cli.demo.source import TapeError
from redisutils.cli.demo.venue import Venue
from redisutils.trading.market import (
    BookDelta,
    BookSnapshot,
    BookWriter,
    MarketData,
    Quote,
    QuoteWriter,
    Ticks,
    Trade,
)

__all__ = ["BATCH", "Feed", "Put"]

BATCH: Final = 24
"""Trades of one write at most. The traders take their turns between two of them: with much more,
the market would run away from every order."""
REMEMBERED: Final = 4096
"""Quotes of one instrument that are waited for by those who subscribe to it."""


class Put(NamedTuple):
    """A quote that was put, and when."""

    quote: Quote
    at: float


class _Line:
    """One instrument's part of it."""

    def __init__(self, instrument: Instrument, seed: int, writer: BookWriter) -> None:
        self.ladder = Ladder(instrument, seed)
        self.writer = writer
        self.opened = asyncio.Event()
        self.put: deque[Put] = deque(maxlen=REMEMBERED)
        self.trades = 0
        self.volume = Decimal(0)
        self.notional = Decimal(0)
        self.changes = 0
        self.quoted: Quote | None = None
        """The latest quote."""


class Feed:
    """Plays a tape, and remembers what it has sent.

    Args:
        trades: In the order in which they happened. The iterator is advanced on the event loop, a
            line at a time: a thread would hold the interpreter for longer stretches.
        speed: How many seconds of the tape pass in one second; None is as fast as it goes.
    """

    def __init__(
        self,
        instruments: dict[str, Instrument],
        trades: Iterator[Trade],
        *,
        clock: TapeClock,
        market: MarketData,
        ticks: Ticks,
        venue: Venue,
        timings: Timings,
        speed: float | None,
    ) -> None:
        self.lines = {
            symbol: _Line(one, place, market.book_writer(symbol, one.tick, depth=DEPTH, ttl=KEPT))
            for place, (symbol, one) in enumerate(instruments.items())
        }
        self.trades = 0
        self.behind_max = 0.0
        """Seconds by which a paced trade came too late, at most."""
        self._tape = trades
        self._clock = clock
        self._market, self._ticks, self._venue = market, ticks, venue
        self._timings = timings
        self._speed = speed
        self._stop = asyncio.Event()
        self._kept: Trade | None = None
        self._failed: TapeError | None = None

    async def first(self, symbol: str) -> None:
        """Wait until an instrument has a quote, or the feed has ended."""
        await self.lines[symbol].opened.wait()

    def stop(self) -> None:
        """End after what is being written."""
        self._stop.set()

    async def run(self) -> None:
        """Play the tape to its end, or until :meth:`stop`.

        Raises:
            TapeError: A line of it is no trade. What came before is written.
            redis.exceptions.RedisError: From the services, as it is.
        """
        try:
            async with self._market.writer() as writer:
                began, start = perf_counter(), self._clock()
                while batch := await self._batch(began, start):
                    await self._write(batch, writer)
                if self._failed is not None:
                    raise self._failed
        finally:
            for line in self.lines.values():
                line.opened.set()

    async def _batch(self, began: float, start: int) -> list[Trade]:
        """The next trades that are due together; none at the end."""
        batch: list[Trade] = []
        while len(batch) < BATCH and not self._stop.is_set():
            trade, self._kept = self._kept or self._next(), None
            if trade is None:
                break
            if self._speed is not None:
                due = began + (trade.ts_event - start) / 1e9 / self._speed
                if due > perf_counter() and batch:
                    self._kept = trade
                    break
                if not await self._due(due):
                    break
            batch.append(trade)
        return batch

    def _next(self) -> Trade | None:
        """None at the end; or at a line that is no trade, when what came before is yet to go."""
        try:
            return next(self._tape, None)
        except TapeError as error:
            self._failed = error
            return None

    async def _due(self, moment: float) -> bool:
        """Wait for a moment; False when stopped before."""
        wait = moment - perf_counter()
        if wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._stop.wait()
        self.behind_max = max(self.behind_max, perf_counter() - moment)
        return not self._stop.is_set()

    async def _write(self, batch: list[Trade], writer: QuoteWriter) -> None:
        touched: dict[str, _Line] = {}
        for trade in batch:
            line = touched[trade.instrument] = self.lines[trade.instrument]
            self._clock.reach(trade.ts_event)
            line.ladder.trade(trade)
            line.trades += 1
            line.volume += trade.quantity
            line.notional += trade.quantity * trade.price
            bid, bid_size, ask, ask_size = line.ladder.top()
            quote = line.quoted = Quote(
                instrument=trade.instrument,
                bid=bid,
                bid_size=bid_size,
                ask=ask,
                ask_size=ask_size,
                ts_event=trade.ts_event,
                ts_recv=trade.ts_recv,
                seq=trade.seq,
            )
            line.put.append(Put(quote, perf_counter()))
            await writer.put(quote)
            self._venue.trade(trade)
        self.trades += len(batch)
        started = perf_counter()
        await asyncio.gather(self._ticks.write(batch), *map(self._change, touched.values()))
        self._timings.note("tape written", perf_counter() - started)
        if any(not line.opened.is_set() for line in touched.values()):
            await writer.flush()
            for line in touched.values():
                line.opened.set()

    async def _change(self, line: _Line) -> None:
        """Let the book follow: what has changed since it last did, as one change."""
        bids, asks = line.ladder.changes()
        now = self._clock()
        if not line.changes:
            line.changes = 1
            await line.writer.snapshot(
                BookSnapshot(bids=bids, asks=asks, seq=1, ts_event=now, ts_recv=now)
            )
        elif bids or asks:
            line.changes += 1
            await line.writer.apply(
                BookDelta(bids=bids, asks=asks, seq=line.changes, ts_event=now, ts_recv=now)
            )
