"""One trading task: the keys that only it writes, what must be in them, and the checks.

Because a desk owns its keys, whatever it reads back has exactly one right value. Its
ledger moves first, in the process; Redis is then told, asked, and compared.
"""

# redis-py types a pipeline's methods as if they had to be awaited. They do not: they queue.
# mypy: disable-error-code="unused-awaitable"

from __future__ import annotations

import asyncio
from collections import deque
from decimal import (
    Clamped,
    Context,
    Decimal,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
    Underflow,
)
from time import perf_counter
from typing import Final

from redisutils import Redis
from redisutils.cli.demo.figures import Timings
from redisutils.cli.demo.market import Trade

__all__ = ["EVENT_PATIENCE", "PRICE_TTL", "Checks", "Desk", "EventsLost"]

PRICE_TTL: Final = 60
"""Seconds that a cached price lives."""
PORTFOLIO_TTL: Final = 3600
"""Seconds that a portfolio outlives a run that was killed. A live run renews it."""
WINDOW: Final = 32
"""Events of one desk that may be under way. Without a bound, a subscriber slower than
the publishers would grow the server's buffer until the server cut it off."""
EVENT_PATIENCE: Final = 5.0
"""Seconds without an awaited event before it counts as lost."""

_MONEY: Final = Context(
    prec=60,
    traps=[Clamped, DivisionByZero, Inexact, InvalidOperation, Overflow, Underflow],
)
"""Money is exact or it is an error."""


class EventsLost(Exception):
    """A desk's events stopped arriving, so it cannot go on."""


class Checks:
    """Values compared, and what was wrong with them. Shared by all desks."""

    def __init__(self) -> None:
        self.compared = 0
        self.wrong = 0
        self.examples: list[str] = []
        """The first few mismatches, in words."""

    def equal(self, what: str, expected: object, found: object) -> None:
        """Count one comparison, and a mismatch if there is one."""
        self.compared += 1
        if expected != found:
            self.mismatch(f"{what}: expected {expected!r}, found {found!r}")

    def mismatch(self, words: str) -> None:
        """Count a mismatch that was found in another way."""
        self.wrong += 1
        if len(self.examples) < 5:
            self.examples.append(words)


class Desk:
    """Trades one after another, checking everything; see :meth:`trade`.

    Args:
        number: Which desk this is; part of its keys.
        prefix: What its keys begin with; no other program may use it.
        checks: Where comparisons are counted.
        timings: Where round trips are noted.
    """

    def __init__(self, number: int, prefix: str, checks: Checks, timings: Timings) -> None:
        self.name = f"{number:04d}"
        self.portfolio_key = f"{prefix}:portfolio:{self.name}"
        self.channel = f"{prefix}:fills:{self.name}"
        self.trades = 0
        self.published = 0
        self.received = 0
        self.lost = 0
        self._prefix = prefix
        self._checks = checks
        self._timings = timings
        self._cash = Decimal(0)
        self._last: dict[str, Decimal] = {}
        self._positions: dict[str, int] = {}
        self._book: dict[bytes, bytes] = {}
        """The ledger as the portfolio hash must read."""
        self._prices: dict[str, tuple[bytes, float]] = {}
        """Price key → its value, and when it was last written."""
        self._awaited: deque[tuple[bytes, float]] = deque()
        """Events published and not yet received, oldest first, and when each was published."""
        self._news = asyncio.Event()

    async def renew(self, client: Redis) -> None:
        """Let the portfolio live for another ``PORTFOLIO_TTL``."""
        await client.expire(self.portfolio_key, PORTFOLIO_TTL)

    async def delete(self, client: Redis) -> None:
        """Delete every key this desk has written, one by one: they live in different slots."""
        for key in (self.portfolio_key, *self._prices):
            await client.delete(key)

    async def trade(self, client: Redis, trade: Trade) -> None:
        """Cache the price and read it; update the portfolio and read it; publish the fill.

        Raises:
            redis.exceptions.RedisError: From the client, as it is.
            EventsLost: This desk's earlier events do not come back.
        """
        checks, symbol = self._checks, trade.symbol
        lots = self._fill(trade)
        price = str(trade.price)
        price_key = f"{self._prefix}:price:{symbol}:{self.name}"

        started = perf_counter()
        self._prices[price_key] = price.encode(), started
        await client.set(price_key, price, ex=PRICE_TTL)
        written = perf_counter()
        cached = await client.get(price_key)
        read = perf_counter()
        checks.equal(price_key, price.encode(), cached)

        # One transaction: nobody may see the position without the cash that paid for it.
        async with client.pipeline(transaction=True) as pipe:
            pipe.hincrby(self.portfolio_key, f"position:{symbol}", lots)
            pipe.hincrby(self.portfolio_key, "trades", 1)
            pipe.hset(
                self.portfolio_key, mapping={"cash": str(self._cash), f"last:{symbol}": price}
            )
            if self.trades == 1:
                pipe.expire(self.portfolio_key, PORTFOLIO_TTL)
            replies = await pipe.execute()
        updated = perf_counter()
        book = await client.hgetall(self.portfolio_key)
        self._timings.trips(
            written - started, read - written, updated - read, perf_counter() - updated
        )
        checks.equal(
            f"{self.portfolio_key} after HINCRBY",
            [self._positions[symbol], self.trades],
            replies[:2],
        )
        checks.equal(self.portfolio_key, self._book, book)

        await self._publish(client, f"{symbol} {lots:+d} {price}")

    def _fill(self, trade: Trade) -> int:
        """Move the ledger by one trade; how many lots were bought (or sold, if negative)."""
        symbol = trade.symbol
        # A tape does not name the aggressor. The tick rule guesses it: down is a sale.
        lots = -trade.lots if trade.price < self._last.get(symbol, trade.price) else trade.lots
        self._last[symbol] = trade.price
        self._positions[symbol] = self._positions.get(symbol, 0) + lots
        self._cash = _MONEY.subtract(self._cash, _MONEY.multiply(trade.price, Decimal(lots)))
        self.trades += 1
        book = self._book
        book[f"position:{symbol}".encode()] = b"%d" % self._positions[symbol]
        book[f"last:{symbol}".encode()] = str(trade.price).encode()
        book[b"cash"] = str(self._cash).encode()
        book[b"trades"] = b"%d" % self.trades
        return lots

    async def _publish(self, client: Redis, fill: str) -> None:
        if len(self._awaited) >= WINDOW:
            await self.events_below(WINDOW)
        event = f"{self.published} {fill}"
        # Awaited from before it leaves: it may arrive earlier than PUBLISH's own reply.
        self._awaited.append((event.encode(), perf_counter()))
        self.published += 1
        await client.publish(self.channel, event)

    def receive(self, event: bytes) -> None:
        """Compare an event of this desk's channel with the next one that must come."""
        now = perf_counter()
        awaited = self._awaited
        # Nearly always the first. If it is a later one, those before it are lost.
        place = next((n for n, (expected, _) in enumerate(awaited) if event == expected), None)
        if place is None:
            self._checks.mismatch(f"{self.channel}: {event!r} came again, late, or from elsewhere")
            return
        for _ in range(place):
            awaited.popleft()
        published = awaited.popleft()[1]
        self.lost += place
        self.received += 1
        self._checks.compared += 1
        self._timings.event(now - published)
        self._news.set()

    async def events_below(self, count: int) -> None:
        """Wait until fewer than ``count`` events are under way.

        Raises:
            EventsLost: None came for ``EVENT_PATIENCE`` seconds. Those under way are
                counted as lost.
        """
        while len(self._awaited) >= count:
            self._news.clear()
            try:
                async with asyncio.timeout(EVENT_PATIENCE):
                    await self._news.wait()
            except TimeoutError:
                missing = len(self._awaited)
                self.lost += missing
                self._awaited.clear()
                raise EventsLost(
                    f"desk {self.name}: {missing} events did not arrive in {EVENT_PATIENCE:g} s"
                ) from None

    async def verify(self, client: Redis) -> None:
        """Compare all that is stored with the ledger once more, after the last trade."""
        if not self.trades:
            return
        self._checks.equal(
            f"{self.portfolio_key} at the end",
            self._book,
            await client.hgetall(self.portfolio_key),
        )
        for key, (price, written) in self._prices.items():
            found = await client.get(key)
            age = perf_counter() - written
            # Around its expiry a price may be there or not; a second either way is allowed.
            gone_is_right, gone_is_wrong = age > PRICE_TTL + 1, age < PRICE_TTL - 1
            if found is None and not gone_is_wrong:
                self._checks.compared += 1
            elif found is not None and gone_is_right:
                self._checks.mismatch(f"{key}: still there {age:.0f} s after it was written")
            else:
                self._checks.equal(f"{key} at the end", price, found)
