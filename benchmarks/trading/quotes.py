"""How writing and reading quotes is measured. In the end the server must have what was written."""

from __future__ import annotations

import asyncio
from itertools import islice
from statistics import median
from typing import Any

from benchmarks.box import Box, Worker
from benchmarks.contenders.trading.base import TradingClient
from benchmarks.measures import SAMPLE, expect, getters, throughput
from benchmarks.trading.material import ready
from benchmarks.trading.ticks import INSTRUMENTS, ticks

_TURNS = 5
"""Pairs of boxes, of quotes and of plain GETs."""

_REFRESH = 0.01
"""Seconds after which there is a new quote of each instrument."""


async def write(
    client: TradingClient, _tasks: int, warmup: Box, box: Box, *, conflate: bool, laps: int
) -> dict[str, float]:
    """One task puts quotes as fast as it may, until the time is up or the tape has been gone
    through ``laps`` times. Counted is what was put, and timed until all of it is answered. ``sent``
    is how many of them went out, in hundredths."""
    quotes = ready(map(client.quote, ticks(laps)))
    source, taken = iter(quotes), 0
    async with client.writing(conflate=conflate) as writer:

        async def work(box: Box) -> int:
            nonlocal taken
            put, done = writer.put, 0
            for quote in source:
                await put(quote)
                done += 1
                if box.over:
                    break
            await writer.flush()
            taken += done
            return done

        await warmup.run([work])
        before, sent = taken, writer.sent()
        rate = await box.run([work])
        share = (writer.sent() - sent) / max(1, taken - before)
    for quote in quotes[max(0, taken - len(INSTRUMENTS)) : taken]:
        expect(client.bid(await client.latest(quote.instrument)), quote.bid)
    return {"ops": rate, "sent": 100 * share}


async def latest(client: TradingClient, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """The newest quotes, one at a time, all over the instruments; and in turns with it plain GETs
    by the same client. ``share`` is what comes of the one, in hundredths of the other."""
    bids = await _written(client)
    of_quotes, of_values = _readers(client, tasks, bids), getters(client.get, tasks)
    await warmup.run(of_quotes)
    await Box(warmup.seconds).run(of_values)
    part = max(0.05, box.seconds / _TURNS / 2)
    rates, shares = [], []
    for turn in range(_TURNS):
        found = {}
        for quotes in (True, False) if turn % 2 else (False, True):  # neither is always the first
            found[quotes] = await Box(part).run(of_quotes if quotes else of_values)
        rates.append(found[True])
        shares.append(found[True] / found[False])
    return {"ops": median(rates), "share": 100 * median(shares)}


async def latest_while_written(
    client: TradingClient, tasks: int, warmup: Box, box: Box
) -> dict[str, float]:
    """The same while each of them changes a hundred times a second."""
    await _written(client)
    quotes = ready(map(client.quote, ticks()))
    source = iter(quotes)
    readers = _readers(client, tasks)

    async with client.writing(conflate=True) as writer:

        async def refresh() -> None:
            while True:
                for quote in islice(source, len(INSTRUMENTS)):
                    await writer.put(quote)
                await asyncio.sleep(_REFRESH)

        refreshing = asyncio.create_task(refresh())
        try:
            return await throughput(readers, warmup, box)
        finally:
            refreshing.cancel()
            await asyncio.wait([refreshing])


async def latest_of_many(
    client: TradingClient, tasks: int, warmup: Box, box: Box
) -> dict[str, float]:
    """The newest quotes of all instruments at once; counts quotes."""
    bids = await _written(client)

    async def work(box: Box) -> int:
        done = 0
        while not (done and box.over):
            found = await client.latest_of(INSTRUMENTS)
            expect({name: client.bid(reply) for name, reply in found.items()}, bids)
            done += len(found)
        return done

    return await throughput([work] * tasks, warmup, box)


async def _written(client: TradingClient) -> dict[str, Any]:
    """A quote of each instrument is there. Their bids."""
    some = list(islice(ticks(), len(INSTRUMENTS)))
    await client.publish([client.quote(tick) for tick in some])
    return {tick.instrument: tick.bid for tick in some}


def _readers(client: TradingClient, tasks: int, bids: dict[str, Any] | None = None) -> list[Worker]:
    """So many tasks that each read one quote after the other; ``bids`` are what they must find."""
    call, bid = client.latest, client.bid

    def worker(task: int) -> Worker:
        first = task * 7 % len(INSTRUMENTS)
        names = INSTRUMENTS[first:] + INSTRUMENTS[:first]

        async def work(box: Box) -> int:
            done = 0
            while True:
                for name in names:
                    reply = await call(name)
                    if not done & SAMPLE:
                        found = bid(reply)
                        expect(found, bids[name] if bids is not None else found or "a quote")
                    done += 1
                    if box.over:
                        return done

        return work

    return [worker(task) for task in range(tasks)]
