"""How executions and the start with many open orders are measured."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from itertools import cycle, islice
from time import perf_counter, perf_counter_ns

from benchmarks.box import Box, Worker
from benchmarks.contenders.trading.base import Executed, Filled, NewOrder, TradingClient
from benchmarks.measures import expect
from benchmarks.trading.material import percentiles, ready
from benchmarks.trading.ticks import INSTRUMENTS, trades

ORDERS = 1_000
OPEN = 100_000

_BURST = 1_000
"""Executions that are handed over together."""

_EXECUTIONS = 100_000
"""Made ready; with all of them applied a measurement ends."""

_WALKS = ("scan", "keys")
"""Commands that go through all keys of a server."""


def orders(count: int) -> list[NewOrder]:
    """So many, the first half of which buy, over all instruments."""
    return [
        NewOrder(f"O{number:06d}", name, number < count / 2)
        for number, name in zip(range(count), cycle(INSTRUMENTS), strict=False)
    ]


def executions(of: Sequence[NewOrder], count: int = _EXECUTIONS) -> list[Filled]:
    """One for each trade of the tape, at its price and for its quantity, of one order after the
    other."""
    pairs = zip(cycle(of), trades(), strict=False)
    return [
        Filled(f"E{number}", order, trade)
        for number, (order, trade) in enumerate(islice(pairs, count))
    ]


def outcome(filled: Sequence[Filled]) -> Executed:
    """What executions come to, added up here."""
    held: dict[str, Decimal] = {}
    qty = notional = Decimal(0)
    for _, order, trade in filled:
        qty += trade.quantity
        notional += trade.quantity * trade.price
        signed = trade.quantity if order.buys else -trade.quantity
        held[order.instrument] = held.get(order.instrument, Decimal(0)) + signed
    return Executed(qty, notional, held)


async def one_by_one(client: TradingClient, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Each task hands over one execution, waits for its outcome, and so on; calls are timed, too.
    Then orders and positions must be what follows from the executions."""
    placed = orders(ORDERS)
    await client.place(placed)
    filled = executions(placed)
    source = iter(ready(map(client.report, filled)))
    applied = 0
    took: list[int] = []

    async def work(box: Box) -> int:
        nonlocal applied
        apply, done = client.apply, 0
        for report in source:
            began = perf_counter_ns()
            await apply(report)
            took.append(perf_counter_ns() - began)
            done += 1
            if box.over:
                break
        applied += done
        return done

    workers: list[Worker] = [work] * tasks
    await warmup.run(workers)
    took.clear()
    rate = await box.run(workers)
    expect(await client.executed(placed), outcome(filled[:applied]))
    return {"ops": rate, **percentiles(took)}


async def in_bursts(client: TradingClient, _tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Many handed over at once, as after a venue's session was interrupted."""
    placed = orders(ORDERS)
    await client.place(placed)
    filled = executions(placed)
    reports = ready(map(client.report, filled))
    applied = 0

    async def work(box: Box) -> int:
        nonlocal applied
        before = applied
        while applied < len(reports):
            burst = reports[applied : applied + _BURST]
            await client.apply_all(burst)
            applied += len(burst)
            if box.over:
                break
        return applied - before

    await warmup.run([work])
    rate = await box.run([work])
    expect(await client.executed(placed), outcome(filled[:applied]))
    return {"ops": rate}


async def start(client: TradingClient, _tasks: int, _warmup: Box, _box: Box) -> dict[str, float]:
    """Until a program that starts has all open orders, which are there already; and how often the
    server was made to walk through all its keys for it."""
    return await started(client, orders(OPEN))


async def started(client: TradingClient, placed: Sequence[NewOrder]) -> dict[str, float]:
    """The same with these orders open."""
    before = await _walks(client)
    began = perf_counter()
    found = [order async for order in client.open_orders()]
    took = perf_counter() - began
    expect(len(found), len(placed))
    expect({order.id for order in found} == {order.id for order in placed}, True)
    return {"seconds": took, "walks": await _walks(client) - before}


async def _walks(client: TradingClient) -> int:
    told = await client.client.info("commandstats")
    return sum(told.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in _WALKS)
