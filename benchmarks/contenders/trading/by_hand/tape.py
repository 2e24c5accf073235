"""Trades: a stream of them, the latest as a hash, and bars of a minute that are added up here.

It leaves out: trades that are written twice, since a call is repeated or a program starts anew
(their sums would be wrong); late ones; those of other writers; busts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from benchmarks.contenders.trading.base import OneBar
from redisutils.trading.market.trade import Trade

_BATCH = 512
"""Trades of one transaction, as of one step of ours."""

_MINUTE = 60 * 10**9
_KEPT = 1_000_000


class Tape:
    """Writes and reads them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._bars: dict[tuple[str, int], OneBar] = {}

    async def write(self, trades: Sequence[Trade]) -> None:
        """In transactions: XADD of each, HSET of the last of each instrument and of its bars."""
        for at in range(0, len(trades), _BATCH):
            pipe = self._client.pipeline(transaction=True)
            bars: set[tuple[str, int]] = set()
            latest: dict[str, dict[str, Any]] = {}
            for trade in trades[at : at + _BATCH]:
                fields = {
                    "price": str(trade.price),
                    "quantity": str(trade.quantity),
                    "ts_event": trade.ts_event,
                    "ts_recv": trade.ts_recv,
                    "seq": trade.seq,
                }
                pipe.xadd(f"trades:{trade.instrument}", fields, maxlen=_KEPT, approximate=True)
                latest[trade.instrument] = fields
                bars.add(self._add(trade))
            for instrument, fields in latest.items():
                pipe.hset(f"trade:{instrument}", mapping=fields)
            for instrument, start in bars:
                bar = self._bars[instrument, start]
                pipe.hset(f"bars:{instrument}:1m", str(start), json.dumps(list(map(str, bar))))
            await pipe.execute()

    def _add(self, trade: Trade) -> tuple[str, int]:
        price, quantity = trade.price, trade.quantity
        start = trade.ts_event // _MINUTE * _MINUTE
        key = trade.instrument, start
        bar = self._bars.get(key)
        if bar is None:
            self._bars[key] = OneBar(
                start, price, price, price, price, quantity, price * quantity, 1
            )
        else:
            self._bars[key] = OneBar(
                start,
                bar.open,
                max(bar.high, price),
                min(bar.low, price),
                price,
                bar.volume + quantity,
                bar.notional + price * quantity,
                bar.trades + 1,
            )
        return key

    async def bars(self, instrument: str) -> list[OneBar]:
        """All bars by time."""
        found = await self._client.hvals(f"bars:{instrument}:1m")
        bars = []
        for text in found:
            start, *numbers, count = json.loads(text)
            opened, high, low, close, volume, notional = map(Decimal, numbers)
            bars.append(OneBar(int(start), opened, high, low, close, volume, notional, int(count)))
        return sorted(bars)
