"""The keys of a cluster's workloads, beside those of ``benchmarks/server.py``, which lie all over
the slots.

Imports next to nothing: the processes that measure load it.
"""

from __future__ import annotations

from redis.crc import key_slot

from benchmarks.server import KEYS, PREFIX, Node, key_name, small_value

MOVING_SLOTS = 8
"""How many slots move, in turn."""

_KEYS_PER_SLOT = 25


def tag(number: int) -> str:
    """The hash tag of the keys in a slot that moves."""
    return f"{{{PREFIX}moving-{number}}}"


def keys_of_slot(number: int) -> list[str]:
    """The keys that move with one slot."""
    return [f"{tag(number)}{index:03d}" for index in range(_KEYS_PER_SLOT)]


def moving() -> list[tuple[str, bytes]]:
    """All keys that move with their values, those of a slot apart from one another."""
    slots = [keys_of_slot(number) for number in range(MOVING_SLOTS)]
    names = [name for together in zip(*slots, strict=True) for name in together]
    return [(name, small_value(KEYS + number)) for number, name in enumerate(names)]


def split(victim: Node) -> tuple[list[tuple[str, bytes]], list[str]]:
    """Of the usual keys those of other nodes, with their values, and those of ``victim``."""
    healthy, lost = [], []
    for number in range(KEYS):
        name = key_name(number)
        if victim.first_slot <= key_slot(name.encode()) <= victim.last_slot:
            lost.append(name)
        else:
            healthy.append((name, small_value(number)))
    return healthy, lost
