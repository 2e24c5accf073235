"""Trades made up for the tests."""

from __future__ import annotations

import random
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from redisutils.trading.market.bars import Bar, bar_of
from redisutils.trading.market.intervals import Interval
from redisutils.trading.market.trade import Trade
from redisutils.trading.times import SECOND

__all__ = ["MINUTE", "NOON", "a_tape", "bars_of", "trade"]

MINUTE = 60 * SECOND

NOON = 1_699_963_200 * SECOND
"""2023-11-14 12:00 UTC, a Tuesday."""


def trade(seq: int, price: str = "100", quantity: str = "1", at: int = NOON, **more: Any) -> Trade:
    """A trade ``at`` a moment."""
    return Trade(
        **{"instrument": "ES", **more},
        price=Decimal(price),
        quantity=Decimal(quantity),
        ts_event=at,
        ts_recv=at,
        seq=seq,
    )


def a_tape(count: int, seed: int = 1, late: float = 0.0, **more: Any) -> list[Trade]:
    """A walk of prices over about a minute for each hundred trades.

    :param late: the share of trades that come up to two minutes late.
    """
    rng = random.Random(seed)
    now, ticks, trades = NOON, 6400, []
    for seq in range(1, count + 1):
        now += rng.choice((0, 0, 83_000_000, SECOND, SECOND + 1))
        ticks += rng.choice((-1, 0, 0, 1))
        at = now - rng.randrange(2 * MINUTE) if rng.random() < late else now
        price = Decimal(ticks) / 4
        trades.append(trade(seq, str(price), str(rng.randint(1, 40)), at, **more))
    return trades


def bars_of(trades: Iterable[Trade], interval: str) -> list[Bar]:
    """All bars of trades, from scratch."""
    kind = Interval.of(interval)
    inside: dict[int, list[Trade]] = {}
    for each in trades:
        inside.setdefault(kind.start(each.ts_event), []).append(each)
    bars = (bar_of(inside[start], kind) for start in sorted(inside))
    return [bar for bar in bars if bar is not None]
