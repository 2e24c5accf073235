"""Where load goes in a cluster: popularity of symbols and accounts, hash tags, slots, nodes.

Every command costs the same here; memory and the number of keys are another matter.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

from redis.crc import key_slot

SLOTS = 16384

SYMBOLS = 500
ACCOUNTS = 200
QUEUES = 8
SESSIONS = 2_000
COPIES = 4
"""Of the keys of a hot symbol that is read from copies."""
HOT = 10
"""How many symbols have copies."""

# Of all commands. In market data a symbol's commands are further split over its keys.
MARKET, ORDERS, SESSIONS_SHARE, QUEUE_SHARE, LIMITS = 0.70, 0.15, 0.05, 0.05, 0.05

# Of a symbol's commands: quotes read and written, trades, bars, and the two sides of the book.
_QUOTE_READS, _QUOTE_WRITES = 0.40, 0.08
_REST = {"t": 0.08, "bar:1m": 0.04}
_BOOK = {"b": 0.15, "a": 0.15, "m": 0.10}

SYMBOL_EXPONENT = 1.0
ACCOUNT_EXPONENT = 0.7


def zipf(count: int, exponent: float) -> list[float]:
    """Shares by rank, 1 in all: each is proportional to rank ** -exponent."""
    weights = [rank**-exponent for rank in range(1, count + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


@cache
def slot(key: str) -> int:
    """The slot of a key, by its hash tag if it has one."""
    return key_slot(key.encode())


Keys = Iterator[tuple[str, float]]
"""Keys with their shares of all commands."""


def _quote(name: str, share: float) -> Keys:
    yield name, share * (_QUOTE_READS + _QUOTE_WRITES)


def by_symbol(symbol: str, _rank: int, share: float) -> Keys:
    """A symbol's market data and book share its tag, and so a slot."""
    yield f"md:{{{symbol}}}:q", share


def by_service(symbol: str, _rank: int, share: float) -> Keys:
    """Market data and book each have a tag of their own: what changes together stays together."""
    market = _QUOTE_READS + _QUOTE_WRITES + sum(_REST.values())
    yield f"md:{{md.{symbol}}}:q", share * market
    yield f"ob:{{ob.{symbol}}}:b", share * sum(_BOOK.values())


def no_tags(symbol: str, _rank: int, share: float) -> Keys:
    """Every key by itself: no script or transaction can change two of them at once."""
    yield from _quote(f"md:{symbol}:q", share)
    for part, weight in _REST.items():
        yield f"md:{symbol}:{part}", share * weight
    for part, weight in _BOOK.items():
        yield f"ob:{symbol}:{part}", share * weight


def with_copies(symbol: str, rank: int, share: float) -> Keys:
    """By service, and the quotes of the hottest symbols are written to copies for their readers,
    each in a slot of its own."""
    if rank >= HOT:
        yield from by_service(symbol, rank, share)
        return
    yield f"md:{{md.{symbol}}}:t", share * sum(_REST.values())
    for copy in range(COPIES):
        yield f"md:{{md.{symbol}.{copy}}}:q", share * (_QUOTE_READS / COPIES + _QUOTE_WRITES)
    yield f"ob:{{ob.{symbol}}}:b", share * sum(_BOOK.values())


def one_tag(symbol: str, _rank: int, share: float) -> Keys:
    """All market data under one tag, so that any of it can be read by one MGET: the mistake."""
    yield f"{{md}}:{symbol}:q", share


@dataclass(frozen=True)
class Naming:
    """A way to name the keys of market data."""

    title: str
    example: str
    keys: Callable[[str, int, float], Keys]


NAMINGS = (
    Naming("one tag for a service", "{md}:BTCUSD:q", one_tag),
    Naming("a tag per symbol", "md:{BTCUSD}:q, ob:{BTCUSD}:b", by_symbol),
    Naming("a tag per symbol and service", "md:{md.BTCUSD}:q, ob:{ob.BTCUSD}:b", by_service),
    Naming("the same, hot quotes in 4 copies", "md:{md.BTCUSD.3}:q", with_copies),
    Naming("no tags", "md:BTCUSD:q, ob:BTCUSD:b", no_tags),
)


def load(naming: Naming, seed: int) -> dict[int, float]:
    """Each slot's share of all commands, for symbols with names of this seed. More than 1 together
    where a write goes to several copies."""
    chance = random.Random(seed)

    def name(length: int) -> str:
        return "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=length))

    slots: dict[int, float] = defaultdict(float)
    for rank, share in enumerate(zipf(SYMBOLS, SYMBOL_EXPONENT)):
        for key, weight in naming.keys(name(6), rank, share * MARKET):
            slots[slot(key)] += weight
    for share in zipf(ACCOUNTS, ACCOUNT_EXPONENT):
        # Orders, positions and executions change in one script: one slot for an account.
        account = name(8)
        slots[slot(f"ord:{{{account}}}:open")] += share * ORDERS
        slots[slot(f"rl:{{{account}}}:orders")] += share * LIMITS
    for number in range(QUEUES):
        slots[slot(f"q:{{{name(5)}{number}}}:s")] += QUEUE_SHARE / QUEUES
    for _ in range(SESSIONS):
        slots[slot(f"sess:{chance.getrandbits(256):x}")] += SESSIONS_SHARE / SESSIONS
    return slots


def busiest_node(slots: dict[int, float], nodes: int) -> float:
    """The share of the busiest of ``nodes`` primaries, which have the slots in equal ranges."""
    shares = [0.0] * nodes
    for number, weight in slots.items():
        shares[number * nodes // SLOTS] += weight
    return max(shares)


@dataclass(frozen=True)
class Spread:
    """Over many sets of names: median and 95th percentile."""

    median: float
    p95: float


def spread(values: list[float]) -> Spread:
    """Of ``values``."""
    ordered = sorted(values)
    return Spread(ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100])
