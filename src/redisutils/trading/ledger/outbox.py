"""What happened to an account, in order and without gaps, or with a word about each gap."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import msgspec
from redis.exceptions import RedisError

from redisutils import RedisPool
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    PoolTimeout,
    code_of,
)
from redisutils.retry import TRANSIENT, Backoff
from redisutils.trading.errors import InvalidValue
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.texts import shown

__all__ = ["Entry", "Gap", "Mark", "Outbox", "checked_mark", "checked_outbox"]

PAGE = 500

PATIENCE = 1.0
"""Seconds for which a subscriber waits for news before it looks whether the outbox is still the one
that it knows."""

_PASSING = (ConnectionLost, CommandTimeout, ConnectFailed, PoolTimeout)
_PASSING_CODES = TRANSIENT | {"UNBLOCKED"}
"""UNBLOCKED is told to who waits at a primary that becomes a replica."""
_BACKOFF = Backoff(0.05, 1.0)


class Gap(msgspec.Struct, frozen=True):
    """What is told next does not follow from what was told before.

    ``expected`` is the number that was to come, ``found`` the one that does. When ``found`` is the
    larger, those between are not kept any more. Else the server has lost what it had told (a
    failover to a replica that was behind, FLUSHALL) and may have told other things since: of what
    was made of the events before, nobody knows how much ever happened. Either way: read the orders
    and positions as they are, and go on from here.
    """

    expected: int
    found: int


class Entry(msgspec.Struct, frozen=True):
    """An event as it is stored: its number, the names of the commits of the event before it and of
    its own, and its fields."""

    seq: int
    before: str
    commit: str
    fields: dict[bytes, bytes]


class Mark(NamedTuple):
    """Where somebody is in an outbox: after the event with this number, of this commit; "" if that
    is not known, and then only the numbers tell of a loss."""

    seq: int
    commit: str = ""

    def __str__(self) -> str:
        return f"{self.seq}-{self.commit}"


LARGEST = 10**15
"""Events that an outbox may be told to keep at most: Redis takes it, and nobody has them."""


def checked_outbox(value: object) -> int:
    """About how many events an outbox keeps.

    :raises InvalidValue: it is no such number.
    """
    if type(value) is int and 1 <= value <= LARGEST:
        return value
    raise InvalidValue(f"outbox={shown(value)} must be an int: events, 1 to {LARGEST}")


_MARK = re.compile(r"([0-9]{1,16})-([0-9a-f]{1,64})", re.ASCII)


def checked_mark(value: object) -> Mark:
    """The place that somebody names.

    :raises InvalidValue: it is neither an event's number nor its mark.
    """
    if type(value) is int and 0 <= value < 10**16:
        return Mark(value)
    if isinstance(value, str) and (found := _MARK.fullmatch(value)):
        return Mark(int(found[1]), found[2])
    raise InvalidValue(
        f"after={shown(value)} must be an event's seq, its mark, or 0 for what is before the first "
        "(the events of an order's history have no mark: take their seq)"
    )


class Outbox:
    """Reads what happened to an account."""

    __slots__ = ("_client", "_keys")

    def __init__(self, pool: RedisPool, keys: Keys) -> None:
        # A replica may be behind, which would look like a gap.
        self._client = pool.lane("outbox", read_from="primary")
        self._keys = keys

    async def head(self) -> Mark:
        """Where the last event is; 0 before the first."""
        found: Any = await self._client.hmget(self._keys.meta, ["seq", "tip"])
        seq, commit = found
        return Mark(int(seq or 0), (commit or b"").decode())

    async def entries(self, after: Mark) -> AsyncGenerator[Entry | Gap, None]:
        """What is kept, from after an event to its present end."""
        head, last = await self.head(), after
        while True:
            found: Any = await self._client.xrange(
                self._keys.events, min=f"({last.seq}-0", count=PAGE
            )
            for entry in _entries(found):
                if gap := _gap(last, entry):
                    yield gap
                last = Mark(entry.seq, entry.commit)
                yield entry
            if len(found) < PAGE:
                break
        # What came in since the head was read is no loss.
        if (last == after or last.seq < head.seq) and (gap := _missing(last, head)):
            yield gap

    async def history(self, key: str, *fields: bytes) -> AsyncGenerator[Entry, None]:
        """What is in a history, from its beginning to its present end.

        :param fields: whose values it has, after the event's number.
        """
        size, at = len(fields) + 1, 0
        while True:
            found: Any = await self._client.lrange(key, at, at + PAGE * size - 1)
            for first in range(0, len(found), size):
                seq, *values = found[first : first + size]
                yield Entry(int(seq), "", "", dict(zip(fields, values, strict=True)))
            if len(found) < PAGE * size:
                return
            at += PAGE * size

    async def follow(self, after: Mark | None) -> AsyncGenerator[Entry | Gap, None]:
        """What happens, from after an event (None: from now) and without an end.

        It waits on a connection of its own. A lost connection is replaced, a server that loads or
        becomes a replica is waited for, and nothing is missed.

        :raises PoolClosed: the pool was closed.
        """
        begun, failures = False, 0
        last = after
        while True:
            try:
                found: list[Entry] = []
                if last is None:
                    last = await self.head()
                elif not begun or not (found := await self._news(last)):
                    head = await self.head()
                    # What was written since _news() looked is no loss.
                    if head.seq <= last.seq or not await self._news(last, None):
                        gap, last = _missing(last, head), head
                        if gap is not None:
                            yield gap
                begun, failures = True, 0
            except RedisError as error:
                if not isinstance(error, _PASSING) and code_of(error) not in _PASSING_CODES:
                    raise
                failures += 1
                await asyncio.sleep(_BACKOFF.delay(failures))
                continue
            for entry in found:
                if gap := _gap(last, entry):
                    yield gap
                last = Mark(entry.seq, entry.commit)
                yield entry

    async def _news(self, last: Mark, block: int | None = int(PATIENCE * 1000)) -> list[Entry]:
        stream = self._keys.events
        found: Any = await self._client.xread({stream: f"{last.seq}-0"}, count=PAGE, block=block)
        if not found:
            return []
        (_, entries) = found[0] if isinstance(found, list) else next(iter(found.items()))
        return _entries(entries)


def _gap(last: Mark, entry: Entry) -> Gap | None:
    """Whether this entry is not the one after the last."""
    follows = entry.seq == last.seq + 1 and (not last.commit or entry.before == last.commit)
    return None if follows else Gap(last.seq + 1, entry.seq)


def _missing(last: Mark, head: Mark) -> Gap | None:
    """Whether what comes after the head will not follow the last that was seen, with nothing
    between them in the stream."""
    if head.seq == last.seq and (not last.commit or head.commit == last.commit):
        return None
    return Gap(last.seq + 1, head.seq + 1)


def _entries(found: Any) -> list[Entry]:
    entries = []
    for key, fields in found:
        before, _, commit = fields.pop(b"c", b"").decode().partition(" ")
        entries.append(Entry(int(key.partition(b"-")[0]), before, commit, fields))
    return entries
