"""Market data: quotes, order books, live feeds."""

from __future__ import annotations

from redisutils.trading.market.applying import Channels
from redisutils.trading.market.book import Book, BookDelta, BookSnapshot, BookState, Checksum
from redisutils.trading.market.books import BookLevel, BookView, BookWriter
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.latest import Latest
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Policy, Subscription, Update
from redisutils.trading.market.writer import QuoteWriter, WriteFailure, WriterStats

__all__ = [
    "Book",
    "BookDelta",
    "BookLevel",
    "BookSnapshot",
    "BookState",
    "BookView",
    "BookWriter",
    "Channels",
    "Checksum",
    "Latest",
    "MarketData",
    "Policy",
    "Quote",
    "QuoteWriter",
    "Subscription",
    "Update",
    "WriteFailure",
    "WriterStats",
]
