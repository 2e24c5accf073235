"""The other side: a venue that executes orders against the tape, and keeps books of its own.

Every trade of the tape may fill orders whose limit it reaches, the oldest first, up to its volume
and at its price. What the venue tells is what an execution report tells, with its own totals; so
two parties keep count of everything, and can be compared.
"""

from __future__ import annotations

from asyncio import Queue
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from redisutils.trading import CancelReject, ExecType, ExecutionReport, Order, OrdStatus
from redisutils.trading.market import Trade

__all__ = ["NAME", "PATIENCE", "Account", "Inbox", "Nudge", "Venue"]

NAME: Final = "SIM"
PATIENCE: Final = 25
"""Trades of its instrument that an order rests for before its trader is asked what to do."""
FEE: Final = Decimal("0.85")
"""For each unit executed, in dollars."""
EXECUTIONS_A_DAY: Final = 20_000
"""Reports of one trade date. What is known of them is kept by date: a new one now and then bounds
it however long the run lasts."""
ZERO: Final = Decimal(0)


class Nudge:
    """Says to a trader that an order has rested for long, or that the venue closes."""


Inbox = Queue[ExecutionReport | CancelReject | Nudge]


@dataclass(slots=True)
class Account:
    """What the venue knows of one instrument's executions. Exact sums."""

    fills: int = 0
    bought: Decimal = ZERO
    sold: Decimal = ZERO
    paid: Decimal = ZERO
    """Σ quantity times price of what was bought; ``got`` the same of what was sold."""
    got: Decimal = ZERO
    fees: Decimal = ZERO

    @property
    def qty(self) -> Decimal:
        """What is held."""
        return self.bought - self.sold

    @property
    def volume(self) -> Decimal:
        """All that was executed."""
        return self.bought + self.sold


@dataclass(slots=True)
class _Resting:
    order: Order
    inbox: Inbox
    cl_ord_id: str
    price: Decimal
    cum_qty: Decimal = ZERO
    rested: int = 0

    @property
    def leaves_qty(self) -> Decimal:
        return self.order.order_qty - self.cum_qty

    @property
    def status(self) -> OrdStatus:
        if not self.leaves_qty:
            return OrdStatus.FILLED
        return OrdStatus.PARTIALLY_FILLED if self.cum_qty else OrdStatus.NEW


@dataclass(slots=True)
class Venue:
    """See the module's docstring.

    Args:
        clock: The present, ns since 1970 UTC.
    """

    clock: Callable[[], int]
    accounts: dict[str, Account] = field(default_factory=dict)
    reports: int = 0
    """All reports and rejects sent."""
    closed: bool = False
    _resting: dict[str, dict[str, _Resting]] = field(default_factory=dict)
    """By instrument and the order's first ClOrdID, the oldest first."""

    @property
    def trade_date(self) -> str:
        """Of what is reported now."""
        day = self.reports // EXECUTIONS_A_DAY
        began = datetime.fromtimestamp(self.clock() // 10**9, UTC)
        return f"{began + timedelta(days=day):%Y%m%d}"

    def submit(self, order: Order, inbox: Inbox) -> None:
        """Take a new limit order; what becomes of it goes to ``inbox``."""
        assert order.price is not None
        resting = _Resting(order, inbox, order.id, order.price)
        self._resting.setdefault(order.instrument, {})[order.id] = resting
        self._tell(resting, ExecType.NEW, OrdStatus.NEW, venue_order_id=f"V{self.reports}")
        if self.closed:
            inbox.put_nowait(Nudge())

    def replace(self, order: Order, cl_ord_id: str, price: Decimal, inbox: Inbox) -> None:
        """Change an order's price, or refuse to, when nothing is left of it."""
        resting = self._asked(order, cl_ord_id, inbox)
        if resting is not None:
            names = {"cl_ord_id": cl_ord_id, "orig_cl_ord_id": resting.cl_ord_id, "price": price}
            self._tell(resting, ExecType.PENDING_REPLACE, OrdStatus.PENDING_REPLACE, **names)
            resting.cl_ord_id, resting.price = cl_ord_id, price
            self._tell(resting, ExecType.REPLACED, resting.status, **names)

    def cancel(self, order: Order, cl_ord_id: str, inbox: Inbox) -> None:
        """Cancel an order, or refuse to, when nothing is left of it."""
        resting = self._asked(order, cl_ord_id, inbox)
        if resting is not None:
            names = {"cl_ord_id": cl_ord_id, "orig_cl_ord_id": resting.cl_ord_id}
            self._tell(resting, ExecType.PENDING_CANCEL, OrdStatus.PENDING_CANCEL, **names)
            del self._resting[order.instrument][order.id]
            self._tell(resting, ExecType.CANCELED, OrdStatus.CANCELED, leaves_qty=ZERO, **names)

    def trade(self, trade: Trade) -> None:
        """Execute what this trade of the tape reaches."""
        book = self._resting.get(trade.instrument)
        if not book:
            return
        left = trade.quantity
        for resting in list(book.values()):
            resting.rested += 1
            if resting.rested % PATIENCE == 0:
                resting.inbox.put_nowait(Nudge())
            gap = trade.price - resting.price
            if not left or (gap > 0 if resting.order.buys else gap < 0):
                continue
            quantity = min(left, resting.leaves_qty)
            left -= quantity
            self._fill(resting, quantity, trade.price)
            if not resting.leaves_qty:
                del book[resting.order.id]

    def close(self) -> None:
        """Take no more trades, and ask everybody to cancel what rests."""
        self.closed = True
        for book in self._resting.values():
            for resting in book.values():
                resting.inbox.put_nowait(Nudge())

    def _fill(self, resting: _Resting, quantity: Decimal, price: Decimal) -> None:
        resting.cum_qty += quantity
        account = self.accounts.setdefault(resting.order.instrument, Account())
        worth = quantity * price * resting.order.multiplier
        fee = FEE * quantity
        account.fills += 1
        account.fees += fee
        if resting.order.buys:
            account.bought += quantity
            account.paid += worth
        else:
            account.sold += quantity
            account.got += worth
        told = {"last_qty": quantity, "last_px": price, "fee": fee}
        self._tell(resting, ExecType.TRADE, resting.status, **told)

    def _tell(self, resting: _Resting, kind: ExecType, status: OrdStatus, **fields: Any) -> None:
        now = self.clock()
        told: dict[str, Any] = {
            "cl_ord_id": resting.cl_ord_id,
            "leaves_qty": resting.leaves_qty,
            **fields,
        }
        report = ExecutionReport(
            exec_id=f"X{self.reports}",
            exec_type=kind,
            trade_date=self.trade_date,
            venue=NAME,
            ts_event=now,
            ts_recv=now,
            ord_status=status,
            order_qty=resting.order.order_qty,
            cum_qty=resting.cum_qty,
            **told,
        )
        self.reports += 1
        resting.inbox.put_nowait(report)

    def _asked(self, order: Order, cl_ord_id: str, inbox: Inbox) -> _Resting | None:
        """The order that a request is about; None and a refusal if nothing is left of it."""
        resting = self._resting.get(order.instrument, {}).get(order.id)
        if resting is None:
            now = self.clock()
            refusal = CancelReject(
                cl_ord_id=cl_ord_id,
                orig_cl_ord_id=order.id,
                trade_date=self.trade_date,
                venue=NAME,
                ts_event=now,
                ts_recv=now,
                reason="0",  # too late
            )
            self.reports += 1
            inbox.put_nowait(refusal)
        return resting
