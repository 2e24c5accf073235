"""An instrument's history: a stream of its trades, in the order of their places in the source.

An entry's id is ``<ms>-<place>``, of which ``ms`` is the latest ``ts_event`` so far. So a late
trade's is after its own moment, by at most what the tape's state calls ``slack``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from redisutils import Redis
from redisutils.trading.market.tape_form import TapeForm, TapeKeys
from redisutils.trading.market.trade import Trade

__all__ = ["MILLISECOND", "PAGE", "backwards", "busted_in", "forwards"]

MILLISECOND = 1_000_000

PAGE = 1000
"""Entries that one command reads: about 150 kB."""


async def forwards(
    client: Redis,
    form: TapeForm,
    keys: TapeKeys,
    first: str = "-",
    last: str = "+",
    page: int = PAGE,
) -> AsyncIterator[tuple[int, Trade]]:
    """Trades as they came, each with the time part of its id, ms; busted ones too.

    :param first: the least id, as XRANGE has it.
    :param last: the greatest.
    :param page: how many one command reads.
    """
    decode, where = form.trades.decode, keys.history
    while True:
        entries: Any = await client.execute_command(
            "XRANGE", keys.history, first, last, "COUNT", page
        )
        for name, fields in entries:
            yield int(name.partition(b"-")[0]), decode(fields[b"r"], where)
        if len(entries) < page:
            return
        first = f"({entries[-1][0].decode()}"


async def backwards(
    client: Redis, form: TapeForm, keys: TapeKeys, page: int = 100
) -> AsyncIterator[tuple[int, Trade]]:
    """The same from the newest."""
    decode, where = form.trades.decode, keys.history
    last = "+"
    while True:
        entries: Any = await client.execute_command(
            "XREVRANGE", keys.history, last, "-", "COUNT", page
        )
        for name, fields in entries:
            yield int(name.partition(b"-")[0]), decode(fields[b"r"], where)
        if len(entries) < page:
            return
        last = f"({entries[-1][0].decode()}"


async def busted_in(client: Redis, keys: TapeKeys) -> frozenset[int]:
    """The places of all trades that were taken back and that history may still have."""
    return frozenset(map(int, await client.hkeys(keys.busts)))
