"""The head of a packed command: its name, and the slot of its key, at C's speed."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from redisutils.commands import lookup
from redisutils.connection.packing import unpack
from redisutils.topology.cluster.keys import keyed_first, slot_of

__all__ = ["HEAD", "KEYED", "READS", "named_slot", "simple_slot", "slot_of_first"]

HEAD: Final = 1024
"""Bytes of a command among which its key is looked for at first."""

_MOST_NAMES: Final = 2048


class _Keyed(dict[bytes, bool]):
    """By a command's name on the wire: whether its first argument is its only key, always."""

    def __missing__(self, name: bytes) -> bool:
        known = keyed_first(name)
        if len(self) >= _MOST_NAMES:  # callers can make us remember no more
            self.clear()
        self[name] = known
        return known


KEYED: Final = _Keyed()


class _Reads(dict[bytes, bool]):
    """By a command's name on the wire: whether it only reads, so that a replica may answer it."""

    def __missing__(self, name: bytes) -> bool:
        known = lookup((name,)).readonly
        if len(self) >= _MOST_NAMES:
            self.clear()
        self[name] = known
        return known


READS: Final = _Reads()


def slot_of_first(payload: bytes) -> int:
    """The slot of a command's first argument, however long it is."""
    return slot_of(unpack(payload)[0][1])


def simple_slot(payload: bytes) -> int | None:
    """The slot of a command whose only key is its first argument; None for every other. As
    ``ClusterLane.submit`` finds it."""
    parts = (payload if len(payload) <= HEAD else payload[:HEAD]).split(b"\r\n", 4)
    if not KEYED[parts[2]]:
        return None
    try:
        size = int(parts[3][1:])
        key = parts[4][:size]
    except (IndexError, ValueError):
        return None
    if len(key) < size:
        return slot_of_first(payload)
    return slot_of(key) if b"{" in key else crc_hqx(key, 0) & 16383


def named_slot(payload: bytes) -> tuple[bytes, int | None]:
    """A command's name as it is on the wire, and what :func:`simple_slot` tells."""
    parts = (payload if len(payload) <= HEAD else payload[:HEAD]).split(b"\r\n", 4)
    name = parts[2]
    if not KEYED[name]:
        return name, None
    try:
        size = int(parts[3][1:])
        key = parts[4][:size]
    except (IndexError, ValueError):
        return name, None
    if len(key) < size:
        return name, slot_of_first(payload)
    return name, slot_of(key) if b"{" in key else crc_hqx(key, 0) & 16383
