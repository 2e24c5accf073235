"""The head of a packed command: its name, and the slot of its key, at C's speed."""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

from redisutils.commands import lookup
from redisutils.connection.packing import unpack
from redisutils.topology.cluster.keys import keyed_first, slot_of

__all__ = ["HEAD", "KEYED", "READS", "SEEN", "SHORT", "named_slot", "simple_slot", "slot_of_first"]

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


class _Reads(dict[bytes, bool | None]):
    """By a command's name on the wire: whether it only reads, and a replica may answer it. None: it
    reads, and only the primary may."""

    def __missing__(self, name: bytes) -> bool | None:
        command = lookup((name,))
        known = command.read_anywhere or (None if command.readonly else False)
        if len(self) >= _MOST_NAMES:
            self.clear()
        self[name] = known
        return known


READS: Final = _Reads()


def slot_of_first(payload: bytes) -> int:
    """The slot of a command's first argument, however long it is."""
    return slot_of(unpack(payload)[0][1])


SHORT: Final = 64
"""Bytes of a command up to which ``SEEN`` may know it."""

SEEN: Final[dict[bytes, int]] = {}
"""The slots of short commands of two words, GET and the like, that were met: nothing but their key
is in them, and a program asks for the same keys again and again. To look here first, with a
command of fewer than ``SHORT`` bytes, takes a tenth of the time of :func:`simple_slot`."""

_MOST_SEEN: Final = 4096


def simple_slot(payload: bytes) -> int | None:
    """The slot of a command whose only key is its first argument; None for every other. Half a
    microsecond."""
    parts = (payload if len(payload) <= HEAD else payload[:HEAD]).split(b"\r\n", 4)
    if not KEYED[parts[2]]:
        return None
    try:
        size = int(parts[3][1:])
        key = parts[4][:size]
    except (IndexError, ValueError):  # without a key: for a server to refuse
        return None
    if len(key) < size:  # it reaches beyond the head
        return slot_of_first(payload)
    slot = slot_of(key) if b"{" in key else crc_hqx(key, 0) & 16383
    if len(payload) < SHORT and parts[0] == b"*2":
        if len(SEEN) >= _MOST_SEEN:
            SEEN.clear()
        SEEN[payload] = slot
    return slot


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
