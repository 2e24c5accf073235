"""Quotes: a hash for each instrument, and a message for each quote.

It leaves out: that of two quotes the newer one wins (an older one that comes late replaces it);
numbers, by which subscribers see what they missed; a bound on what waits; checks of what is
written; what to do when a pipeline fails.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any, NamedTuple

_TTL = 60_000
"""ms, as ours."""

_BATCH = 512
"""Quotes of one pipeline, as of one call of ours."""

_TURN = 256
"""Quotes that are put without a pause."""


class Quote(NamedTuple):
    """A bid and an offer."""

    instrument: str
    bid: Decimal
    bid_size: Decimal
    ask: Decimal
    ask_size: Decimal
    ts_event: int
    ts_recv: int
    seq: int


def key_of(instrument: str) -> str:
    """The hash, and the channel."""
    return f"quote:{instrument}"


def read(data: bytes) -> Quote:
    """What :meth:`Quotes.write` published."""
    found = json.loads(data)
    return Quote(
        found["instrument"],
        Decimal(found["bid"]),
        Decimal(found["bid_size"]),
        Decimal(found["ask"]),
        Decimal(found["ask_size"]),
        found["ts_event"],
        found["ts_recv"],
        found["seq"],
    )


class Quotes:
    """Writes and reads them."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def write(self, quotes: Iterable[Quote]) -> None:
        """All of them in one pipeline: HSET, PEXPIRE and PUBLISH of each."""
        pipe = self._client.pipeline(transaction=False)
        for quote in quotes:
            fields = {
                "instrument": quote.instrument,
                "bid": str(quote.bid),
                "bid_size": str(quote.bid_size),
                "ask": str(quote.ask),
                "ask_size": str(quote.ask_size),
                "ts_event": quote.ts_event,
                "ts_recv": quote.ts_recv,
                "seq": quote.seq,
            }
            key = key_of(quote.instrument)
            pipe.hset(key, mapping=fields)
            pipe.pexpire(key, _TTL)
            pipe.publish(key, json.dumps(fields))
        await pipe.execute()

    async def latest(self, instrument: str) -> Quote | None:
        """The newest quote."""
        return _from_hash(await self._client.hgetall(key_of(instrument)))

    async def latest_of(self, instruments: Sequence[str]) -> dict[str, Quote | None]:
        """Those of many, in one pipeline."""
        pipe = self._client.pipeline(transaction=False)
        for instrument in instruments:
            pipe.hgetall(key_of(instrument))
        found = await pipe.execute()
        return {name: _from_hash(fields) for name, fields in zip(instruments, found, strict=True)}

    @asynccontextmanager
    async def writer(self, *, conflate: bool) -> AsyncIterator[Writer]:
        """A writer, whose task ends with it."""
        writer = Writer(self, conflate=conflate)
        sending = asyncio.create_task(writer.run())
        try:
            yield writer
            await writer.flush()
        finally:
            sending.cancel()
            with suppress(asyncio.CancelledError):
                await sending


class Writer:
    """Takes quotes, and a task writes them; of each instrument the newest alone, or all."""

    def __init__(self, quotes: Quotes, *, conflate: bool) -> None:
        self._quotes = quotes
        self._conflate = conflate
        self._newest: dict[str, Quote] = {}
        self._all: list[Quote] = []
        self._some = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._turn = 0
        self.sent = 0

    async def put(self, quote: Quote) -> None:
        """Take one; with all to be sent, wait while a pipeline's worth waits."""
        if self._conflate:
            self._newest[quote.instrument] = quote
        else:
            self._all.append(quote)
        self._some.set()
        self._idle.clear()
        self._turn += 1
        if self._turn >= _TURN:
            self._turn = 0
            await asyncio.sleep(0)
        if len(self._all) >= _BATCH:
            await self._idle.wait()

    async def flush(self) -> None:
        """Wait until nothing waits."""
        await self._idle.wait()

    async def run(self) -> None:
        """Send what waits, again and again."""
        while True:
            await self._some.wait()
            self._some.clear()
            quotes = list(self._newest.values()) if self._conflate else self._all
            self._newest, self._all = {}, []
            await self._quotes.write(quotes)
            self.sent += len(quotes)
            if not self._newest and not self._all:
                self._idle.set()


def _from_hash(fields: dict[bytes, bytes]) -> Quote | None:
    if not fields:
        return None
    return Quote(
        fields[b"instrument"].decode(),
        Decimal(fields[b"bid"].decode()),
        Decimal(fields[b"bid_size"].decode()),
        Decimal(fields[b"ask"].decode()),
        Decimal(fields[b"ask_size"].decode()),
        int(fields[b"ts_event"]),
        int(fields[b"ts_recv"]),
        int(fields[b"seq"]),
    )
