"""What is known of an order, and what is told about it.

Quantities are ``Decimal``, in the instrument's units; prices in its currency; moments nanoseconds
since 1970 UTC, the event's by the venue's clock (``ts_event``), the receipt by ours (``ts_recv``).
"""

from __future__ import annotations

from decimal import Context, Decimal

from redisutils.trading.codec import Part, Record
from redisutils.trading.money import ARITHMETIC, ZERO
from redisutils.trading.orders.terms import BUYS, FINAL, MULTI_DAY, ExecType, OrdStatus, Side

__all__ = [
    "Applied",
    "CancelReject",
    "Executed",
    "ExecutionReport",
    "Fill",
    "Order",
    "OrderRequest",
    "Pending",
]

_ONE = Decimal(1)
_DISPLAY = Context(prec=28)


class Pending(Part, frozen=True, kw_only=True):
    """A request to cancel or replace an order that is not answered yet.

    ``told`` is False until the venue has reported that it is pending: only then the order's status
    says so.
    """

    cl_ord_id: str
    replaces: bool
    order_qty: Decimal | None = None
    price: Decimal | None = None
    told: bool = False


class Order(Record, frozen=True, kw_only=True):
    """An order as of its last event. Its size does not depend on how often it was executed.

    ``id`` is the ClOrdID that it was placed with; ``cl_ord_id`` the last one of its chain that was
    accepted. ``notional`` is the sum of quantity times price over all live executions. ``closed``
    and ``halted`` are the states that quantities do not tell: 3, 4, 8, B or C, and 7 or 9.
    ``overfill_qty`` is what was executed beyond the order's quantity and recorded apart.
    ``splits`` counts the corporate actions that restated its quantities. ``links`` is how many
    ClOrdIDs its chain has beside the first; ``content`` stands for what it was placed with.
    """

    id: str
    cl_ord_id: str
    instrument: str
    side: Side
    order_qty: Decimal
    price: Decimal | None = None
    ord_type: str = ""
    time_in_force: str = "0"
    currency: str = ""
    multiplier: Decimal = _ONE
    cash_order_qty: Decimal | None = None
    venue: str = ""
    venue_order_id: str = ""
    note: str = ""
    content: str = ""

    status: OrdStatus = OrdStatus.PENDING_NEW
    cum_qty: Decimal = ZERO
    notional: Decimal = ZERO
    overfill_qty: Decimal = ZERO
    acknowledged: bool = False
    closed: str = ""
    halted: str = ""
    pending: tuple[Pending, ...] = ()
    splits: int = 0
    links: int = 0
    ts_placed: int = 0
    ts_event: int = 0
    ts_recv: int = 0

    @property
    def leaves_qty(self) -> Decimal:
        """LeavesQty (151): what may still be executed; 0 when the order is closed, and when it is
        done for the only day that it was for."""
        if (
            self.status in FINAL
            or self.closed in FINAL
            or (self.closed == OrdStatus.DONE_FOR_DAY and not self.is_multi_day)
        ):
            return ZERO
        return max(ARITHMETIC.subtract(self.order_qty, self.cum_qty), ZERO)

    @property
    def avg_px(self) -> Decimal:
        """AvgPx (6), to 28 digits; 0 if nothing was executed. What is exact is ``notional``."""
        return _DISPLAY.divide(self.notional, self.cum_qty) if self.cum_qty else ZERO

    @property
    def is_multi_day(self) -> bool:
        """Whether it lives on when it is done for day."""
        return self.time_in_force in MULTI_DAY

    @property
    def is_open(self) -> bool:
        """Whether the venue still has something to say about it, but for corrections."""
        status = self.status
        if status is OrdStatus.DONE_FOR_DAY:
            return self.is_multi_day and not ZERO < self.order_qty <= self.cum_qty
        return status is not OrdStatus.FILLED and status not in FINAL

    @property
    def buys(self) -> bool:
        """Whether its executions add to the position."""
        return self.side in BUYS


class ExecutionReport(Record, frozen=True, kw_only=True):
    """An ExecutionReport (35=8), in FIX's terms.

    It is the same report as another with the same venue, account, trade date and ``exec_id``;
    without a ``venue`` it is its order's.
    ``exec_ref_id`` is for busts and corrections: the ExecID of any execution in the chain of the
    one that is meant, of ``ref_trade_date`` (without it, of this report's trade date).
    ``ord_status``, ``cum_qty``, ``leaves_qty``, ``avg_px`` and ``order_qty`` are compared with what
    follows from the executions. ``fee`` is added to the position's fees, in ``fee_currency``
    (without it, the order's); a rebate is negative.

    An order that was not placed here comes into being by a report of PendingNew, New or Rejected
    with ``instrument``, ``side`` and ``order_qty``.
    """

    exec_id: str
    exec_type: ExecType
    cl_ord_id: str
    trade_date: str
    ts_event: int
    ts_recv: int
    venue: str = ""
    orig_cl_ord_id: str = ""
    exec_ref_id: str = ""
    ref_trade_date: str = ""
    venue_order_id: str = ""

    last_qty: Decimal | None = None
    last_px: Decimal | None = None
    ord_status: OrdStatus | None = None
    order_qty: Decimal | None = None
    cum_qty: Decimal | None = None
    leaves_qty: Decimal | None = None
    avg_px: Decimal | None = None
    price: Decimal | None = None
    restatement_reason: str = ""
    fee: Decimal | None = None
    fee_currency: str = ""

    instrument: str = ""
    side: Side | None = None
    ord_type: str = ""
    time_in_force: str = "0"
    currency: str = ""
    multiplier: Decimal = _ONE
    text: str = ""


class CancelReject(Record, frozen=True, kw_only=True):
    """An OrderCancelReject (35=9): a request to cancel or replace was refused.

    ``cl_ord_id`` is the request's. ``reason`` is CxlRejReason (102).
    """

    cl_ord_id: str
    trade_date: str
    ts_event: int
    ts_recv: int
    venue: str = ""
    orig_cl_ord_id: str = ""
    ord_status: OrdStatus | None = None
    reason: str = ""
    text: str = ""


class Fill(Part, frozen=True, kw_only=True):
    """What an execution is after its corrections; kept at the first of their chain.

    ``apart`` means that it was beyond its order's quantity and is not counted in it. ``splits`` is
    how often the order had been split when it was executed, ``held_splits`` how often the position.
    ``closed`` is how much of it closed what was held, and ``earned`` what was realised by that.
    """

    order_id: str
    qty: Decimal
    px: Decimal
    live: bool = True
    apart: bool = False
    splits: int = 0
    held_splits: int = 0
    closed: Decimal = ZERO
    earned: Decimal = ZERO


class OrderRequest(Record, frozen=True, kw_only=True):
    """A request to cancel (35=F) or replace (35=G) an order, as it was sent."""

    cl_ord_id: str
    orig_cl_ord_id: str
    replaces: bool
    ts_event: int
    ts_recv: int
    order_qty: Decimal | None = None
    price: Decimal | None = None


class Applied(Part, frozen=True, kw_only=True):
    """What a report made of its order.

    ``drift`` tells in what the report's own totals differ from these. ``duplicate`` is True when it
    had been applied before; the rest is then what it was at that time.
    """

    order_id: str
    status: OrdStatus
    order_qty: Decimal
    cum_qty: Decimal
    leaves_qty: Decimal
    notional: Decimal
    drift: tuple[str, ...] = ()
    duplicate: bool = False

    @property
    def avg_px(self) -> Decimal:
        """As :attr:`Order.avg_px`."""
        return _DISPLAY.divide(self.notional, self.cum_qty) if self.cum_qty else ZERO


class Executed(Record, frozen=True, kw_only=True):
    """What is kept of a report under its ExecID: by ``content`` another one is told from it, ``by``
    says which call wrote it. ``root`` is where the first of its chain is, if it corrects one."""

    content: str
    by: str
    applied: Applied
    root: tuple[str, str] | None = None
    fill: Fill | None = None
