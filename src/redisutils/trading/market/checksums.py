"""Checksums of order books, as venues publish them: CRC32 of the digits of the best levels.

They are made of prices and quantities as they came over the wire: trailing zeros count.
"""

from __future__ import annotations

from itertools import zip_longest
from zlib import crc32

from redisutils.trading.market.book import Book

__all__ = ["kraken", "okx"]


def kraken(book: Book) -> int:
    """Kraken's, of ten levels: offers, then bids; each price and quantity without its point and
    without leading zeros. https://docs.kraken.com/api/docs/guides/spot-ws-book-v2"""
    parts = [
        text.replace(".", "").lstrip("0")
        for level in (*book.asks(10), *book.bids(10))
        for text in level
    ]
    return crc32("".join(parts).encode())


def okx(book: Book) -> int:
    """OKX's, of 25 levels: bid, offer, bid, offer, with colons between, as a signed number.

    Its JSON channels have sent 0 in the place of it since June 2026: leave ``checksum`` out there
    and give ``prev``, the venue's ``prevSeqId``.
    https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel"""
    parts = [
        text
        for pair in zip_longest(book.bids(25), book.asks(25))
        for level in pair
        if level is not None
        for text in level
    ]
    value = crc32(":".join(parts).encode())
    return value - 2**32 if value >= 2**31 else value
