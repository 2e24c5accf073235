"""SCAN over all primaries of a cluster, with a cursor that needs no memory of ours.

Theory of operation
-------------------
Each primary has its own cursor. The caller's cursor is a whole number that holds it, and where the
walk over the primaries is; like a server's own, it is 0 at the beginning and at the end, can be
kept anywhere for any time, and be gone on with from any client.

The walk goes from primary to primary in the order of the lowest slot that each serves. Thus all
slots below that of the present primary are done, and they stay done, whoever serves them later:
what came into being meanwhile, SCAN need not return (redis.io/commands/scan).

Slots may move, and replicas take over, between two calls. Two digests in the cursor tell of it:

* If the present primary is another one than before, or serves other slots, its own scan begins
  anew.
* If the slots that are still to be done are no longer the same ones, some of them may now be served
  by a primary that is done with. Therefore the walk is ordered anew, from the present slot on: by
  the lowest slot, not below that one, that each primary serves.

In both cases elements may come twice, which SCAN allows, and none is left out of what was there all
the time. What no cursor can tell of is a slot half-way: its keys move one by one before its owner
changes, and those that have gone to a primary that is done with are left out if their slot's owner
is done with too before it changes. The walk never goes back; while slots of the very primary that
it is at go on moving, it does not get on either.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple
from zlib import crc32

from hiredis import pack_command

from redisutils.topology.cluster.keys import slot_of

__all__ = ["Place", "Scanning", "cursor_in", "slot_of_pattern", "with_cursor"]


class Place(NamedTuple):
    """Where a walk is."""

    node: str
    """The primary to ask, by its id."""

    cursor: int
    """Its own cursor, with which to ask it."""

    slot: int
    """The lowest slot that it serves, of those from ``base`` on."""

    base: int
    """Slots below are done, whoever serves them."""

    only: bool = False
    """Whether no other primary is to be asked."""


class Scanning:
    """How SCAN walks over the primaries as they are at one time: make one for each map.

    Args:
        primaries: The ranges of slots, first and last, of each primary, by its id.
    """

    def __init__(self, primaries: Mapping[str, Iterable[tuple[int, int]]]) -> None:
        self._ranges = {node: sorted(ranges) for node, ranges in primaries.items()}
        starts = sorted(
            (first, last, node) for node, ranges in self._ranges.items() for first, last in ranges
        )
        self._firsts = [first for first, _, _ in starts]
        self._starts = starts

    def resume(self, cursor: int, only: int | None = None) -> Place | None:
        """Where to go on; None if nothing is left, in which case the answer is :data:`0` and no
        element.

        Complexity: O(ranges).

        Args:
            cursor: The caller's, as :func:`cursor_in` finds it.
            only: The one slot in which all that the caller looks for lives: see
                :func:`slot_of_pattern`.
        """
        base, slot, left, digest, own = _decoded(cursor)
        if only is not None and slot != only:
            base = slot = only
            own = 0
        node = self._owner(slot)
        if node is None or not cursor:
            # At the beginning, or nobody serves the slot any more: the next one that is served.
            return self._first(base, slot, only is not None)
        if only is None and left != self._left(base, slot):
            base = slot
        if digest != self._digest(node):
            own = 0
        return Place(node, own, slot, base, only is not None)

    def answer(self, place: Place, reply: Sequence[Any]) -> list[Any]:
        """The caller's answer.

        Args:
            place: What :meth:`resume` of this same object answered. If the map has been refreshed
                while the primary was asked, do not use its reply: resume the caller's cursor anew
                with the new map, or what moved away before it was asked is left out.
            reply: The primary's raw reply: its cursor and the elements.
        """
        found, elements = reply
        cursor = self._next(place, int(found))
        return [str(cursor) if isinstance(found, str) else b"%d" % cursor, elements]

    def _next(self, place: Place, own: int) -> int:
        node, _, slot, base, only = place
        if own == 0:
            after = None if only else self._after(base, slot)
            if after is None:
                return 0
            slot, node = after
        return _encoded(base, slot, self._left(base, slot), self._digest(node), own)

    def _first(self, base: int, slot: int, only: bool) -> Place | None:
        if only:
            node = self._owner(slot)
            return None if node is None else Place(node, 0, slot, base, only)
        # A slot without an owner does not lead on within the old order: what is after it does.
        at = bisect_left(self._firsts, slot)
        owner = self._owner(slot)
        if owner is not None:
            return Place(owner, 0, slot, slot)
        if at == len(self._starts):
            return None
        first, _, node = self._starts[at]
        return Place(node, 0, first, first)

    def _owner(self, slot: int) -> str | None:
        at = bisect_right(self._firsts, slot) - 1
        if at >= 0:
            _, last, node = self._starts[at]
            if slot <= last:
                return node
        return None

    def _order(self, base: int) -> list[tuple[int, str]]:
        """The primaries with slots from ``base`` on, each with the lowest of them."""
        found = []
        for node, ranges in self._ranges.items():
            lowest = min((max(first, base) for first, last in ranges if last >= base), default=None)
            if lowest is not None:
                found.append((lowest, node))
        return sorted(found)

    def _after(self, base: int, slot: int) -> tuple[int, str] | None:
        return next((each for each in self._order(base) if each[0] > slot), None)

    def _left(self, base: int, slot: int) -> int:
        """A digest of the slots that are not done while the walk is at ``slot``."""
        nodes = {node for lowest, node in self._order(base) if lowest >= slot}
        nodes.add(self._owner(slot) or "")
        # Adjoining ranges of different nodes count as one: who serves them does not matter.
        joined: list[int] = []
        for first, last, node in self._starts:
            if node in nodes and last >= base:
                if joined and joined[-1] == first - 1:
                    joined[-1] = last
                else:
                    joined += (max(first, base), last)
        return crc32(repr(joined).encode())

    def _digest(self, node: str) -> int:
        return crc32(f"{node} {self._ranges[node]}".encode())


# Of a cursor, from its highest bits on: base and slot, two digests, the primary's own.
_SLOT_BITS: Final = 14
_DIGEST_BITS: Final = 32
_OWN_BITS: Final = 64
_BITS: Final = (_SLOT_BITS, _SLOT_BITS, _DIGEST_BITS, _DIGEST_BITS, _OWN_BITS)


def _encoded(*fields: int) -> int:
    cursor = 0
    for bits, field in zip(_BITS, fields, strict=True):
        cursor = cursor << bits | field
    return cursor


def _decoded(cursor: int) -> list[int]:
    fields = []
    for bits in reversed(_BITS):
        fields.append(cursor & ((1 << bits) - 1))
        cursor >>= bits
    return fields[::-1]


def cursor_in(words: Sequence[bytes]) -> int | None:
    """The caller's cursor in a SCAN; None if it is none of ours, which the server is to refuse."""
    if len(words) > 1 and re.fullmatch(rb"[0-9]{1,48}", words[1]):
        cursor = int(words[1])
        if cursor < 1 << sum(_BITS):
            return cursor
    return None


def with_cursor(words: Sequence[bytes], cursor: int) -> bytes:
    """A SCAN for one primary: packed, with its own cursor and the caller's other arguments."""
    command: list[Any] = [words[0], cursor, *words[2:]]
    packed: bytes = pack_command(tuple(command))
    return packed


def slot_of_pattern(words: Sequence[bytes]) -> int | None:
    """The slot in which all keys live that a SCAN's MATCH can find; None if there may be several.

    It is known if the pattern has no wildcard at all, or none before the end of its hash tag: all
    keys that match begin with what is before the first wildcard.
    """
    pattern = None
    for at in range(2, len(words) - 1, 2):  # each option has one value
        if words[at].upper() == b"MATCH":
            pattern = words[at + 1]  # the last one counts
    if pattern is None:
        return None
    literal = re.split(rb"[*?\[\\]", pattern, maxsplit=1)[0]
    if literal == pattern:
        return slot_of(pattern)
    start = literal.find(b"{")
    end = literal.find(b"}", start + 1)
    return slot_of(literal) if 0 <= start < end - 1 else None
