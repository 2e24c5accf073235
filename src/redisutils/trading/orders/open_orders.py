"""The open orders of an account, by their indexes and in pages."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

from redisutils.trading.ledger.ledger import GROUP
from redisutils.trading.orders.books import Books
from redisutils.trading.orders.records import Order

__all__ = ["OpenOrders"]


class OpenOrders:
    """Reads them.

    :param client: that asks primaries.
    """

    __slots__ = ("_books", "_client", "_keys")

    def __init__(self, client: Any, books: Books) -> None:
        self._client = client
        self._books = books
        self._keys = books.keys

    async def orders(self, instrument: str | None, page: int) -> AsyncGenerator[Order, None]:
        """All, or those of an instrument; each as it was when its page was read."""
        pages = self._open_ids(page) if instrument is None else self._open_ids_in(instrument, page)
        async for ids in pages:
            pipe: Any = self._client.pipeline(transaction=False)
            for order_id in ids:
                pipe.hget(self._keys.order(order_id), "r")
            for order_id, text in zip(ids, await pipe.execute(), strict=True):
                if text is not None:
                    order = self._books.orders.codec.decode(text, self._keys.order(order_id))
                    if order.is_open:
                        yield order

    async def _open_ids(self, page: int) -> AsyncGenerator[list[str], None]:
        # What was opened by one commit has one score: at most GROUP orders.
        score, seen = 0.0, set[bytes]()
        while True:
            found: Any = await self._client.zrange(
                self._keys.open,
                score,
                "+inf",
                byscore=True,
                offset=0,
                num=page + GROUP,
                withscores=True,
            )
            fresh = [(name, at) for name, at in found if name not in seen]
            if fresh:
                yield [name.decode() for name, _ in fresh]
            if len(found) < page + GROUP:
                return
            score = found[-1][1]
            seen = {name for name, at in found if at == score}

    async def _open_ids_in(self, instrument: str, page: int) -> AsyncGenerator[list[str], None]:
        cursor = 0
        while True:
            found: Any = await self._client.sscan(
                self._keys.open_in(instrument), cursor, count=page
            )
            cursor, names = found
            if names:
                yield [name.decode() for name in dict.fromkeys(names)]
            if not cursor:
                return
