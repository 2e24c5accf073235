"""What a trading platform keeps in Redis, exact and atomic. Extra ``trading``."""

from __future__ import annotations

from redisutils.trading.errors import (
    Conflict,
    IllegalTransition,
    InvalidValue,
    LedgerClosed,
    Overfill,
    TradingError,
    UnknownExecution,
    UnknownOrder,
    UnknownPosition,
    UnreadableRecord,
)
from redisutils.trading.ledger.outbox import Gap
from redisutils.trading.orders.events import Event
from redisutils.trading.orders.records import (
    Applied,
    CancelReject,
    ExecutionReport,
    Order,
    OrderRequest,
)
from redisutils.trading.orders.service import Orders
from redisutils.trading.orders.terms import ExecType, OrdStatus, Side
from redisutils.trading.portfolio.reconciling import Difference, Holding
from redisutils.trading.portfolio.records import Adjustment, Lot, Position
from redisutils.trading.portfolio.service import Portfolio
from redisutils.trading.portfolio.valuing import Priced, Prices, Totals, Valuation, Valued

__all__ = [
    "Adjustment",
    "Applied",
    "CancelReject",
    "Conflict",
    "Difference",
    "Event",
    "ExecType",
    "ExecutionReport",
    "Gap",
    "Holding",
    "IllegalTransition",
    "InvalidValue",
    "LedgerClosed",
    "Lot",
    "OrdStatus",
    "Order",
    "OrderRequest",
    "Orders",
    "Overfill",
    "Portfolio",
    "Position",
    "Priced",
    "Prices",
    "Side",
    "Totals",
    "TradingError",
    "UnknownExecution",
    "UnknownOrder",
    "UnknownPosition",
    "UnreadableRecord",
    "Valuation",
    "Valued",
]
