"""What a run leaves in the database: every key by its name, so that nothing is searched for."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Final

from redisutils import Redis
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.market import Interval
from redisutils.trading.market.instruments import Instrument
from redisutils.trading.market.tape_form import TapeKeys

__all__ = ["KEPT", "RETENTION", "RunKeys"]

RETENTION: Final = 5
"""Seconds for which the orders service keeps what is closed; executions for twice as long."""
KEPT: Final = 3600
"""Seconds that all else outlives a run that was killed: the market data see to it, the account's
keys are renewed."""
PAGE: Final = 500


class RunKeys:
    """The keys of one run, of which the account's are in one slot and each instrument's in another.

    Args:
        prefix: What all of them begin with; no other program may use it.
        account: Whose orders.
        symbols: The instruments.
        intervals: Of the bars that are kept.
    """

    def __init__(
        self, prefix: str, account: str, symbols: Sequence[str], intervals: Sequence[str]
    ) -> None:
        keys = self._keys = Keys(account, prefix)
        self._account = [keys.events, keys.meta, keys.open, keys.positions]
        self._account += [*map(keys.position, symbols), *map(keys.open_in, symbols)]
        self._dates: dict[str, None] = {}
        self._orders: dict[str, list[str]] = {}
        self._open: set[str] = set()
        self._closed: deque[tuple[float, str]] = deque()
        self._market: list[list[str]] = []
        parsed = [Interval.of(interval) for interval in intervals]
        for symbol in symbols:
            known = Instrument(prefix, symbol)
            self._market.append([known.quote, known.history])
            self._market.append(list(known.book))
            self._market.append(TapeKeys(prefix, symbol, parsed).every)

    def opened(self, order_id: str) -> None:
        """An order is placed."""
        keys = self._keys
        self._open.add(order_id)
        self._orders[order_id] = [
            keys.order(order_id), keys.history(order_id), keys.links(order_id),
        ]  # fmt: skip

    def asked(self, order_id: str, cl_ord_id: str) -> None:
        """A later ClOrdID of it."""
        self._orders[order_id].append(self._keys.cl_ord_id(cl_ord_id))

    def executed(self, trade_date: str) -> None:
        """A report of this date is applied."""
        if trade_date not in self._dates:
            self._dates[trade_date] = None
            if len(self._dates) > 100:  # the first of them have long expired
                del self._dates[next(iter(self._dates))]

    def closed(self, order_id: str) -> None:
        """It is closed, and will be gone by itself; what is gone is forgotten here."""
        now = monotonic()
        self._open.discard(order_id)
        self._closed.append((now, order_id))
        while now - self._closed[0][0] > RETENTION + 5:
            self._orders.pop(self._closed.popleft()[1], None)

    async def renew(self, client: Redis) -> None:
        """Let the account's keys live for another ``KEPT``: by themselves they would for ever."""
        still_open = [key for order_id in self._open for key in self._orders[order_id]]
        for key in (*self._account, *still_open):
            await client.expire(key, KEPT)

    async def delete(self, client: Redis) -> None:
        """Delete all of them."""
        for keys in self._all():
            for start in range(0, len(keys), PAGE):
                await client.unlink(*keys[start : start + PAGE])

    def _all(self) -> Iterable[list[str]]:
        yield from self._market
        account = [*self._account, *map(self._keys.executions, self._dates)]
        yield account + [key for keys in self._orders.values() for key in keys]
