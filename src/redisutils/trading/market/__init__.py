"""Market data: quotes, order books, live feeds, trades and bars."""

from __future__ import annotations

from redisutils.trading.market import checksums
from redisutils.trading.market.applying import Channels
from redisutils.trading.market.bars import Bar, fill, merge
from redisutils.trading.market.book import Book, BookDelta, BookSnapshot, BookState, Checksum
from redisutils.trading.market.books import BookLevel, BookView, BookWriter
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.frames import to_arrow, to_pandas, to_polars
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.latest import Latest
from redisutils.trading.market.prices import Price
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Policy, Subscription, Update
from redisutils.trading.market.tape import find_tape, read_tape, simulate_tape
from redisutils.trading.market.tape_form import Retention
from redisutils.trading.market.tape_state import Written
from redisutils.trading.market.ticks import Ticks
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.market.writer import QuoteWriter, WriteFailure, WriterStats

__all__ = [
    "Bar",
    "Book",
    "BookDelta",
    "BookLevel",
    "BookSnapshot",
    "BookState",
    "BookView",
    "BookWriter",
    "Channels",
    "Checksum",
    "Interval",
    "Latest",
    "MarketData",
    "Policy",
    "Price",
    "Quote",
    "QuoteWriter",
    "Retention",
    "Subscription",
    "Ticks",
    "Trade",
    "TradeBust",
    "Update",
    "WriteFailure",
    "WriterStats",
    "Written",
    "checksums",
    "fill",
    "find_tape",
    "merge",
    "read_tape",
    "simulate_tape",
    "to_arrow",
    "to_pandas",
    "to_polars",
]
