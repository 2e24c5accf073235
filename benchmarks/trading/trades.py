"""How the keeping of trades is measured."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Context, Decimal, Inexact, localcontext
from time import perf_counter

from benchmarks.box import Box
from benchmarks.contenders.trading.base import OneBar, TradingClient
from benchmarks.measures import expect
from benchmarks.trading.material import ready
from benchmarks.trading.ticks import SYMBOL, trades
from redisutils.trading.market.trade import Trade

_CALL = 5_000
"""Trades of one call."""

_MINUTE = 60 * 10**9


async def keep(client: TradingClient, _tasks: int, _warmup: Box, _box: Box) -> dict[str, float]:
    """The whole tape once, however long a box is. Then the bars that the server has must be, to the
    last digit, those that follow from the file."""
    tape = ready(trades())
    began = perf_counter()
    for at in range(0, len(tape), _CALL):
        await client.write_trades(tape[at : at + _CALL])
    took = perf_counter() - began
    expect(await client.bars(SYMBOL), bars_of(tape))
    return {"ops": len(tape) / took}


def bars_of(tape: Sequence[Trade]) -> list[OneBar]:
    """Bars of a minute, added up by what adds up nothing else."""
    inside: dict[int, list[Trade]] = {}
    for trade in tape:
        inside.setdefault(trade.ts_event // _MINUTE * _MINUTE, []).append(trade)
    bars = []
    with localcontext(Context(prec=100, traps=[Inexact])):
        for start, group in sorted(inside.items()):
            group.sort(key=lambda trade: (trade.ts_event, trade.seq))
            prices = [trade.price for trade in group]
            volume = sum((trade.quantity for trade in group), Decimal(0))
            notional = sum((trade.price * trade.quantity for trade in group), Decimal(0))
            ends = prices[0], max(prices), min(prices), prices[-1]
            bars.append(OneBar(start, *ends, volume, notional, len(group)))
    return bars
