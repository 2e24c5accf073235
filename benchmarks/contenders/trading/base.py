"""What the workloads of trading ask of a contender."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from benchmarks.contenders.base import Contender
from benchmarks.trading.ticks import Tick
from redisutils.trading.market.trade import Trade

Policy = Literal["conflate", "drop", "block"]


@dataclass(frozen=True)
class Writing:
    """A writer of quotes."""

    put: Callable[[Any], Awaitable[Any]]
    """Takes a quote. It goes out now or later."""
    flush: Callable[[], Awaitable[Any]]
    """Returns when all that was put has been answered by the server."""
    sent: Callable[[], int]
    """How many of those that were put have gone out."""


class OneBar(NamedTuple):
    """What a bar comes to, whoever made it."""

    start: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    notional: Decimal
    trades: int


class NewOrder(NamedTuple):
    """An order to be placed."""

    id: str
    instrument: str
    buys: bool


class Filled(NamedTuple):
    """An execution, before a contender makes its own report of it."""

    exec_id: str
    order: NewOrder
    trade: Trade


class Executed(NamedTuple):
    """What executions have come to: sums over all orders, and what is held."""

    qty: Decimal
    notional: Decimal
    held: dict[str, Decimal]


class TradingClient(Contender):
    """Somebody's way of keeping market data and orders.

    Methods that are called for each tick are the library's own bound methods where their arguments
    allow it. What a contender makes of a tick or an execution is made before it is timed.
    """

    client: Any
    """It has redis-py's methods."""
    latest: Callable[[str], Awaitable[Any]]
    """The newest quote of an instrument."""
    latest_of: Callable[[Sequence[str]], Awaitable[Mapping[str, Any]]]
    """The newest quotes of many, by instrument."""
    apply: Callable[[Any], Awaitable[Any]]
    """Applies one execution to its order and position."""
    apply_all: Callable[[Sequence[Any]], Awaitable[Any]]
    """Applies many, in their order."""
    publish: Callable[..., Awaitable[Any]]
    """Writes quotes and publishes each; returns when the server has them."""
    write_trades: Callable[[Sequence[Trade]], Awaitable[Any]]
    """Keeps trades, the latest of them and bars of a minute."""

    # -- quotes ----------------------------------------------------------------------------

    @abstractmethod
    def quote(self, tick: Tick) -> Any:
        """What ``put`` and ``publish`` take."""

    @abstractmethod
    def writing(self, *, conflate: bool) -> AbstractAsyncContextManager[Writing]:
        """A writer; with ``conflate``, what is overtaken while it waits is left out."""

    @abstractmethod
    def bid(self, reply: Any) -> Decimal | None:
        """The bid that ``latest`` told."""

    @abstractmethod
    def feed(self, instrument: str, policy: Policy) -> AbstractAsyncContextManager[Feed]:
        """One more subscriber in this process; what was published since it was entered reaches
        it."""

    # -- trades ----------------------------------------------------------------------------

    @abstractmethod
    async def bars(self, instrument: str) -> list[OneBar]:
        """All bars by time, read from the server."""

    # -- orders ----------------------------------------------------------------------------

    @abstractmethod
    async def place(self, orders: Sequence[NewOrder]) -> None:
        """Place orders that never fill, and have them acknowledged."""

    @abstractmethod
    def report(self, filled: Filled) -> Any:
        """What ``apply`` takes."""

    @abstractmethod
    async def executed(self, orders: Sequence[NewOrder]) -> Executed:
        """What has become of orders and positions, read from the server."""

    @abstractmethod
    def open_orders(self) -> AsyncIterator[Any]:
        """All open orders, as a program that starts wants them. Each has its ``id``."""


@dataclass(frozen=True)
class Feed:
    """A subscriber's end of a feed."""

    quotes: AsyncIterator[Any]
    """Each has its ``seq``."""
    left_out: Callable[[], int]
    """How many updates it was too slow for."""
