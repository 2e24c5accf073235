"""What happened to an account, in order and without gaps, or with a word about each gap."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from redisutils import RedisPool
from redisutils.errors import CommandTimeout, ConnectFailed, ConnectionLost, PoolTimeout
from redisutils.retry import Backoff
from redisutils.trading.ledger.keys import Keys

__all__ = ["Entry", "Gap", "Outbox"]

PAGE = 500

PATIENCE = 1.0
"""Seconds for which a subscriber waits for news before it looks whether the outbox is still the one
that it knows."""

_PASSING = (ConnectionLost, CommandTimeout, ConnectFailed, PoolTimeout)
_BACKOFF = Backoff(0.05, 1.0)


class Gap(msgspec.Struct, frozen=True):
    """What is told next is not the event after the one before.

    ``expected`` is the number that was to come, ``found`` the one that does. When ``found`` is the
    larger, those between are not kept any more; when it is the smaller, the server has lost what it
    had told before (a failover), and what was made of the events from ``found`` on never happened.
    Either way: read the orders and positions as they are, and go on from here.
    """

    expected: int
    found: int


class Entry(msgspec.Struct, frozen=True):
    """An event as it is stored: its number and fields."""

    seq: int
    fields: dict[bytes, bytes]


class Outbox:
    """Reads what happened to an account."""

    __slots__ = ("_client", "_keys")

    def __init__(self, pool: RedisPool, keys: Keys) -> None:
        # A replica may be behind, which would look like a gap.
        self._client = pool.lane("outbox", read_from="primary")
        self._keys = keys

    async def seq(self) -> int:
        """The number of the last event; 0 before the first."""
        return int(await self._client.hget(self._keys.meta, "seq") or 0)

    async def entries(self, after: int = 0) -> AsyncGenerator[Entry, None]:
        """What is kept, from after an event's number to its present end."""
        last = f"{after}-0"
        while True:
            found: Any = await self._client.xrange(self._keys.events, min=f"({last}", count=PAGE)
            for entry in _entries(found):
                yield entry
            if len(found) < PAGE:
                return
            last = found[-1][0].decode()

    async def history(self, key: str, *fields: bytes) -> AsyncGenerator[Entry, None]:
        """What is in a history, from its beginning to its present end.

        :param fields: whose values it has, after the event's number.
        """
        size, at = len(fields) + 1, 0
        while True:
            found: Any = await self._client.lrange(key, at, at + PAGE * size - 1)
            for first in range(0, len(found), size):
                seq, *values = found[first : first + size]
                yield Entry(int(seq), dict(zip(fields, values, strict=True)))
            if len(found) < PAGE * size:
                return
            at += PAGE * size

    async def follow(self, after: int | None) -> AsyncGenerator[Entry | Gap, None]:
        """What happens, from after an event's number (None: from now) and without an end.

        It waits on a connection of its own. A lost connection is replaced, and nothing is missed.

        :raises PoolClosed: the pool was closed.
        """
        begun, failures = False, 0
        last = after
        while True:
            try:
                found: list[Entry] = []
                if last is None:
                    last = await self.seq()
                elif not begun or not (found := await self._news(last)):
                    gap = await self._lost(last)
                    if gap is not None:
                        yield gap
                        last = gap.found - 1
                begun, failures = True, 0
            except _PASSING:
                failures += 1
                await asyncio.sleep(_BACKOFF.delay(failures))
                continue
            for entry in found:
                if entry.seq != last + 1:
                    yield Gap(last + 1, entry.seq)
                last = entry.seq
                yield entry

    async def _news(self, last: int, block: int | None = int(PATIENCE * 1000)) -> list[Entry]:
        stream = self._keys.events
        found: Any = await self._client.xread({stream: f"{last}-0"}, count=PAGE, block=block)
        if not found:
            return []
        (_, entries) = found[0] if isinstance(found, list) else next(iter(found.items()))
        return _entries(entries)

    async def _lost(self, last: int) -> Gap | None:
        """Whether the outbox is another than it was."""
        seq = await self.seq()
        if seq < last:
            return Gap(last + 1, seq + 1)
        if seq > last and not await self._news(last, None):
            return Gap(last + 1, seq + 1)  # the stream itself is gone
        return None


def _entries(found: Any) -> list[Entry]:
    return [Entry(int(key.partition(b"-")[0]), fields) for key, fields in found]
