"""Which commands a run issues: ``--mix`` and ``--size`` read, and each command explained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["MAX_SIZE", "OPERATIONS", "Operation", "parse_mix", "parse_size"]

MAX_SIZE: Final = 16_000_000
"""Bytes of a value, at most."""

MAX_WEIGHT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Operation:
    """One command of a mix."""

    name: str
    command: str
    """As it is sent."""
    space: str | None
    """The kind of keys it works on: see :mod:`redisutils.cli.bench.data`."""


OPERATIONS: Final = {
    operation.name: operation
    for operation in (
        Operation("get", "GET of a value that is there", "string"),
        Operation("set", "SET with a TTL", "string"),
        Operation("mget", "MGET of 10 values", "string"),
        Operation("incr", "INCR", "counter"),
        Operation("hset", "HSET of one of 10 fields", "hash"),
        Operation("hgetall", "HGETALL of 10 fields", "hash"),
        Operation("lpush", "LPUSH; the lists are kept short by LTRIM", "list"),
        Operation("rpop", "RPOP; of an empty list when there are no full ones", "list"),
        Operation("zadd", "ZADD of one of 100 members", "zset"),
        Operation("zrange", "ZRANGE of the first 10 of 100 members", "zset"),
        Operation("xadd", "XADD; the streams are kept short by MAXLEN ~", "stream"),
        Operation("publish", "PUBLISH to a channel that nobody hears", None),
        Operation("ping", "PING", None),
    )
}
"""What a mix may contain. None of it reads or writes what is not the run's own."""


def parse_mix(text: str) -> dict[str, int]:
    """``get=8,set=2`` as weights by name; a name alone weighs 1.

    Raises:
        ValueError: in words for whoever typed it.
    """
    known = ", ".join(OPERATIONS)
    weights: dict[str, int] = {}
    for item in text.split(","):
        name, _, told = (part.strip().lower() for part in item.partition("="))
        if name not in OPERATIONS:
            raise ValueError(f"{name!r} is no command of the mix; there are {known}")
        if name in weights:
            raise ValueError(f"{name} is given twice")
        if "=" in item and not re.fullmatch(r"[0-9]{1,7}", told):
            raise ValueError(f"{item.strip()!r}: the weight must be a whole number, as in {name}=8")
        weights[name] = int(told) if told else 1
        if not 1 <= weights[name] <= MAX_WEIGHT:
            raise ValueError(f"{item.strip()!r}: the weight must be from 1 to {MAX_WEIGHT:,}")
    return weights


def parse_size(text: str) -> tuple[int, int]:
    """``100``, ``1k`` or ``100-1k`` as the least and the greatest number of bytes. k is 1,000 and
    m a million.

    Raises:
        ValueError: in words for whoever typed it.
    """
    first, dash, second = text.strip().lower().partition("-")
    low = _bytes(first, text)
    high = _bytes(second, text) if dash else low
    if low > high:
        raise ValueError(f"{text!r}: the first of a range must not be the larger one")
    return low, high


def _bytes(text: str, whole: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9})([km]?)b?", text.strip())
    if found is None:
        raise ValueError(f"{whole!r} is no size; right are 100, 1k, 100-1000 or 1k-64k")
    count = int(found[1]) * {"": 1, "k": 1000, "m": 1_000_000}[found[2]]
    if not 1 <= count <= MAX_SIZE:
        raise ValueError(f"{whole!r}: a value has from 1 to {MAX_SIZE:,} bytes")
    return count
