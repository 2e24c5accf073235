"""MGET, MSET, DEL, UNLINK, EXISTS and TOUCH with keys of several slots: one command for each slot,
and their answers as one.

Not atomic: others may come between the parts, and of a write some parts may have been executed when
another fails. Its error says so. No other command is split: MSETNX and MSETEX set all of their keys
or none, and what moves or combines keys (RENAME, SUNION) needs them on one node.

A node refuses keys of several slots in one command even if it serves them all. Therefore the parts
are by slot, and those for one node can go there as one pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from hiredis import pack_command

from redisutils.topology.cluster.keys import shown, slot_of, the_slot
from redisutils.topology.cluster.partly import failure

__all__ = ["Part", "Split", "route", "split"]

_STEPS: Final = {b"MGET": 1, b"MSET": 2, b"DEL": 1, b"UNLINK": 1, b"EXISTS": 1, b"TOUCH": 1}


class Part(NamedTuple):
    """What goes to one slot."""

    slot: int

    payload: bytes
    """The packed command."""

    positions: list[int]
    """Which of the whole command's keys are in it, counted from 0."""


@dataclass(frozen=True, slots=True)
class Split:
    """A command in parts, in the order in which their slots appear in it."""

    name: str
    """In capitals."""

    keys: Sequence[bytes]
    """Of the whole command."""

    parts: list[Part]

    def merge(self, values: Sequence[Any]) -> Any:
        """The answer to the whole command.

        Args:
            values: The server's raw reply to each part, in their order, or the exception that is
                its answer.

        Raises:
            Exception: the first of these. Of a write it names the keys whose parts were executed,
                and its outcome is UNKNOWN if any was, or may have been.
        """
        if any(isinstance(value, Exception) for value in values):
            raise failure(
                f"{self.name}, split by slots, which are named by a key,",
                [
                    (shown(self.keys[part.positions[0]]), value)
                    for part, value in zip(self.parts, values, strict=True)
                ],
                writes=self.name not in ("MGET", "EXISTS"),
            )
        if self.name == "MSET":
            return values[0]
        if self.name != "MGET":
            return sum(values)
        merged: list[Any] = [None] * len(self.keys)
        for part, found in zip(self.parts, values, strict=True):
            for position, value in zip(part.positions, found, strict=True):
                merged[position] = value
        return merged


def route(words: Sequence[bytes]) -> int | Split | None:
    """Where a command goes: the slot of its keys, its parts, or None if it has no keys.

    Complexity: O(words).

    Raises:
        CrossSlot: its keys live in several slots, and it cannot be split.
    """
    step = _step(words)
    if step is None:
        return the_slot(words)
    keys = words[1::step]
    slots = list(map(slot_of, keys))
    if slots.count(slots[0]) == len(slots):
        return slots[0]
    positions: dict[int, list[int]] = {}
    for position, slot in enumerate(slots):
        positions.setdefault(slot, []).append(position)
    parts = []
    for slot, those in positions.items():
        if step == 1:
            command: list[Any] = [words[0], *[keys[position] for position in those]]
        else:
            command = [words[0]]
            for position in those:
                command += words[1 + 2 * position : 3 + 2 * position]
        parts.append(Part(slot, pack_command(tuple(command)), those))
    return Split(words[0].upper().decode(), keys, parts)


def split(words: Sequence[bytes]) -> Split | None:
    """The parts of a command whose keys live in several slots.

    None if they live in one, if it is none of the commands that can be split, or if it is not
    well-formed, which is for the server to say. Complexity: O(words).
    """
    if _step(words) is None:
        return None
    found = route(words)
    return found if isinstance(found, Split) else None


def _step(words: Sequence[bytes]) -> int | None:
    """From one key to the next; None of what is not to be split."""
    step = _STEPS.get(words[0].upper())
    if step is None or len(words) < 2 or (step == 2 and len(words) % 2 == 0):
        return None
    return step
