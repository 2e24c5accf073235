"""An account's positions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import time_ns
from typing import Any, get_args

from redisutils import RedisPool
from redisutils.trading.codec import Encoding
from redisutils.trading.errors import InvalidValue, UnreadableRecord
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.ledger import Ledger
from redisutils.trading.ledger.outbox import checked_outbox
from redisutils.trading.ledger.service import LedgerService
from redisutils.trading.names import checked_name
from redisutils.trading.pools import checked_pool
from redisutils.trading.portfolio.adjusting import Adjust, checked_adjustment
from redisutils.trading.portfolio.books import Positions
from redisutils.trading.portfolio.reconciling import Difference, Holding, differences
from redisutils.trading.portfolio.records import Adjustment, Method, Position
from redisutils.trading.portfolio.valuing import Prices, Valuation, valued
from redisutils.trading.scripts import Scripts, load
from redisutils.trading.texts import shown
from redisutils.trading.times import checked_age

__all__ = ["Portfolio"]


class Portfolio(LedgerService):
    """The positions of an account. Executions change them, in the same step as their order
    (:class:`~redisutils.trading.Orders`); what no execution makes is an adjustment.

    A position stands under ``ord:{A}:pos:<instrument>``, A being the account; ``ord:{A}:pos`` is a
    set of the instruments. Nothing here touches other keys: who keeps a plain
    ``HSET portfolio:user123 BTCUSD 10.5`` for others to read may go on, by ``pool.client``.

    :param pool: an open pool.
    :param account: whose positions.
    :param method: of positions that are opened from now on; one that is there keeps its own, which
        it tells (``Position.method``).
    :param prefix, encoding, outbox, clock: as :class:`~redisutils.trading.Orders` has them.
    :raises InvalidValue: one of these cannot be meant.
    """

    def __init__(
        self,
        pool: RedisPool,
        *,
        account: str,
        prefix: str = "",
        method: Method = "average",
        encoding: Encoding = "json",
        outbox: int = 1_000_000,
        clock: Callable[[], int] = time_ns,
    ) -> None:
        pool = checked_pool(pool)
        if method not in get_args(Method):
            raise InvalidValue(f"method={method!r} must be one of {', '.join(get_args(Method))}")
        self._keys = Keys(account, prefix)
        self._clock = clock
        self._books = Positions(self._keys, encoding, method)
        super().__init__("positions", Ledger.of(pool, self._keys, checked_outbox(outbox)))
        self._client = pool.lane("ledger", read_from="primary")
        self._scripts = Scripts(pool, lane="ledger")
        self._read = load("ledger_read")

    def __repr__(self) -> str:
        return f"<Portfolio {self._keys.account} {self._ledger!r}>"

    async def position(self, instrument: str) -> Position | None:
        """What is held of an instrument, flat too; None if it was never ordered nor transferred."""
        key = self._keys.position(checked_name("instrument", instrument))
        text: Any = await self._client.hget(key, "r")
        return None if text is None else self._books.kind.codec.decode(text, key)

    async def positions(self) -> dict[str, Position]:
        """All positions by instrument, flat ones too, as they are at one moment."""
        names: Any = await self._client.smembers(self._keys.positions)
        if not names:
            return {}
        instruments = sorted(name.decode() for name in names)
        keys = [self._keys.position(name) for name in instruments]
        found = await self._scripts.run(self._read, keys, ["r"] * len(keys))
        positions: dict[str, Position] = {}
        for name, key, reply in zip(instruments, keys, found, strict=True):
            if isinstance(reply, Exception):
                raise UnreadableRecord(f"no Position of ours under {key}: {reply}")
            if reply[1] is not None:
                positions[name] = self._books.kind.codec.decode(reply[1], key)
        return positions

    async def adjust(self, event: Adjustment) -> Position:
        """Make an adjustment. The same one again (by its id) changes nothing.

        :returns: the position, as it is by now.
        :raises InvalidValue: it cannot be meant, or not of this position.
        :raises Conflict: another adjustment has this id.
        :raises UnknownPosition: the instrument was never ordered nor transferred.
        """
        return await self._submit(Adjust(self._books, checked_adjustment(event, self._clock())))

    async def reconcile(self, statement: Iterable[Holding]) -> list[Difference]:
        """Compare the positions with a broker's statement.

        :returns: every difference; nothing is changed.
        :raises InvalidValue: the statement names an instrument twice.
        """
        return differences(await self.positions(), statement)

    async def value(self, market: Prices, *, max_age: float | None = None) -> Valuation:
        """What the positions are worth.

        :param market: where prices come from.
        :param max_age: seconds after which a price is told to be stale; it still counts. The
            market data then prefer a quote that is fresh to a trade that is not.
        :raises InvalidValue: ``max_age`` is no number of seconds above 0.
        """
        if not callable(getattr(market, "prices", None)):
            raise InvalidValue(
                f"market={shown(market)} must have prices(instruments), as MarketData has"
            )
        checked_age(max_age)
        positions = await self.positions()
        held = [name for name, position in positions.items() if position.qty]
        prices = await market.prices(held, max_age=max_age) if held else {}
        return valued(positions.values(), prices, self._clock(), max_age)
