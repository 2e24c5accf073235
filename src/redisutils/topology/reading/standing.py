"""How far a replica is behind its primary, in seconds.

Both tell how many bytes of the stream of replication they have (INFO replication,
https://valkey.io/commands/info/). Bytes say nothing of time, so the primary's offset is
remembered with the moment at which it was asked for: a replica that has as many bytes has all that
the primary had *then*, whatever came since. That moment is kept for each replica (``fresh_at``),
and what has passed since is a bound of its lag: never less than it really is, and more only by
the time between two looks.
"""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, NamedTuple

__all__ = ["Course", "Standing", "standing"]

_REMEMBERED: Final = 128
"""Offsets of a primary, one for each look: some minutes of them, or some tens of seconds where
``max_lag`` is short."""


class Standing(NamedTuple):
    """What a server tells of its replication."""

    primary: bool
    synchronized: bool
    """Whether it has the data at all: a replica that has just started may have nothing yet."""
    stream: str
    """Of which offsets count: its replication ID. Another one after a failover."""
    offset: int


def standing(info: str) -> Standing | None:
    """From the answer to INFO replication; None if a word is missing that is needed."""
    told: dict[str, str] = {}
    for line in info.splitlines():
        name, _, value = line.partition(":")
        told[name] = value
    primary = told.get("role") == "master"
    offset = told.get("master_repl_offset" if primary else "slave_repl_offset", "")
    stream = told.get("master_replid")
    if stream is None or not offset.isdigit():
        return None
    # With its link down a replica still tells how far it had come, unless it had no data.
    linked = primary or told.get("master_link_status") == "up"
    return Standing(primary, linked or int(offset) > 1, stream, int(offset))


class Course:
    """How far one primary was, and when."""

    __slots__ = ("_marks", "_stream")

    def __init__(self) -> None:
        self._stream = ""
        self._marks: deque[tuple[float, int]] = deque(maxlen=_REMEMBERED)

    def note(self, asked_at: float, told: Standing) -> None:
        """The primary, asked then, has told this."""
        if told.stream != self._stream:
            self._stream = told.stream
            self._marks.clear()
        self._marks.append((asked_at, told.offset))

    def fresh_at(self, told: Standing) -> float:
        """The last moment of which a replica that tells this has all; ``-inf`` if it is unknown.
        O(1) for one that keeps up."""
        if told.stream != self._stream:
            return -inf
        for when, offset in reversed(self._marks):
            if told.offset >= offset:
                return when
        return -inf
