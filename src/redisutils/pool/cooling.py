"""What a server has refused for the moment, until it may be repeated.

A refused command must not run after a later one on one of its keys, or the two would have
changed places. Whether a later one has run is known when all that was in flight with it has been
answered; so it waits at least that long. Then it is repeated, and if it has been overtaken it
fails with what the server said. Commands that only read may change places among themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from redisutils.commands import keys_of, lookup
from redisutils.connection.packing import unpack
from redisutils.connection.reply import Reply
from redisutils.errors import Outcome, outcome_of

__all__ = ["Cooling"]

_PRUNE_AT: Final = 1024
"""Commands sent during one pause at which those that no longer matter are forgotten."""


class Cooling:
    """One pause, from the first refusal until what was refused is repeated.

    Args:
        first: the command whose refusal began it.
        in_flight: what was sent after that and is not answered, oldest first.
    """

    __slots__ = ("_given_up", "_keys", "_prune_at", "_refused", "_sent", "awaited")

    def __init__(self, first: Reply, in_flight: Iterable[Reply]) -> None:
        self._sent = [first, *in_flight]
        self._refused: dict[Reply, Any] = {}
        self._given_up: set[Reply] = set()
        self._keys: set[bytes] = set()
        self._prune_at = 2 * len(self._sent) + _PRUNE_AT
        self.awaited: Reply | None = None
        """The command whose answer ends the wait."""

    def refuse(self, reply: Reply, value: Any) -> None:
        """The server refused ``reply`` with ``value``; it is to be repeated."""
        self._refused[reply] = value
        self._keys |= _keys(reply)

    def give_up(self, reply: Reply) -> None:
        """The server refused ``reply``, which will not be repeated. It did not run."""
        self._given_up.add(reply)

    def holds_back(self, reply: Reply) -> bool:
        """Whether a command that is issued now must wait behind one that was refused. If not, it
        is about to be sent. O(its keys)."""
        keys = _keys(reply)
        if not keys.isdisjoint(self._keys):
            self._keys |= keys
            return True
        self._sent.append(reply)
        if len(self._sent) >= self._prune_at:
            self._prune()
        return False

    def unanswered(self) -> Reply | None:
        """The last command that was sent whose fate is open. O(sent) at worst, once or twice a
        pause."""
        for reply in reversed(self._sent):
            if not reply.done() and reply not in self._refused:
                return reply
        return None

    def overtaken(self) -> list[tuple[Reply, Any]]:
        """The commands that cannot be repeated in their order, and their refusals. O(sent)."""
        late = []
        read: set[bytes] = set()
        written: set[bytes] = set()
        for reply in reversed(self._sent):
            if reply in self._refused:
                reads, writes = _touched(reply)
                in_order = written.isdisjoint(reads | writes) and read.isdisjoint(writes)
                if not (in_order or reply.done()):
                    late.append((reply, self._refused[reply]))
            elif self._may_have_run(reply):
                reads, writes = _touched(reply)
                read |= reads
                written |= writes
        return late

    def _may_have_run(self, reply: Reply) -> bool:
        if not reply.done() or reply in self._given_up:
            return False
        if reply.cancelled():
            return True
        error = reply.exception()
        return error is None or outcome_of(error) is not Outcome.NOT_SENT

    def _prune(self) -> None:
        """Forget what has run and touches nothing that was refused. Answers come in order: all
        that was sent before an answered command has been answered."""
        answered = 0
        for position, reply in enumerate(self._sent):
            if reply.done() and not reply.cancelled() and reply.exception() is None:
                answered = position
        self._sent[:answered] = [
            reply
            for reply in self._sent[:answered]
            if reply in self._refused or not self._keys.isdisjoint(_keys(reply))
        ]
        self._prune_at = 2 * len(self._sent) + _PRUNE_AT


def _touched(reply: Reply) -> tuple[set[bytes], set[bytes]]:
    """The keys that a command reads, and those that it may write."""
    reads: set[bytes] = set()
    writes: set[bytes] = set()
    for words in unpack(reply.payload):
        (reads if lookup(words).readonly else writes).update(keys_of(words))
    return reads, writes


def _keys(reply: Reply) -> set[bytes]:
    return {key for words in unpack(reply.payload) for key in keys_of(words)}
