"""What a server has refused for the moment, until it may be repeated.

Phases
------
==========  ==================================================  ============================
phase       meanwhile                                           ends when
==========  ==================================================  ============================
pause       what touches a refused key waits; the rest is sent  the backoff is over
settling    everything waits                                    all that was sent is answered
trial       as in the pause; the first refused command on each  it was accepted: the end; or
            key is repeated                                     refused again: a pause
==========  ==================================================  ============================

Order
-----
A refused command must not run after a later one on one of its keys, or the two would have
changed places. Those that were in flight behind it as it was refused may have run: that is known
after settling, and then it fails with what the server said. From then on nothing can overtake it.
Commands that only read may change places among themselves.
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
"""Commands sent meanwhile at which those that no longer matter are forgotten."""


class Cooling:
    """The books of one such time, from the first refusal on. What waits is kept by the lane.

    Args:
        first: the command whose refusal began it.
        in_flight: what was sent after that and is not answered, oldest first.
    """

    __slots__ = (
        "_given_up",
        "_keys",
        "_prune_at",
        "_refused",
        "_sent",
        "_trial",
        "_waiting",
        "awaited",
    )

    def __init__(self, first: Reply, in_flight: Iterable[Reply]) -> None:
        self._sent = [first, *in_flight]
        self._trial: list[Reply] | None = None
        self._refused: dict[Reply, Any] = {}
        self._given_up: set[Reply] = set()
        self._waiting: dict[Reply, set[bytes]] = {}
        self._keys: set[bytes] = set()
        self._prune_at = 2 * len(self._sent) + _PRUNE_AT
        self.awaited: Reply | None = None
        """The command whose answer ends the phase; for the lane to note."""

    @property
    def trying(self) -> bool:
        """Whether this is a trial."""
        return self._trial is not None

    def refuse(self, reply: Reply, value: Any) -> None:
        """The server refused ``reply`` with ``value``; it is to be repeated."""
        self._refused[reply] = value
        self._wait(reply, _keys(reply))

    def give_up(self, reply: Reply) -> None:
        """The server refused ``reply``, which will not be repeated. It did not run."""
        self._given_up.add(reply)

    def holds_back(self, reply: Reply) -> bool:
        """Whether a command that is issued now must wait for one that was refused. If not, it is
        about to be sent. O(its keys)."""
        keys = _keys(reply)
        if not keys.isdisjoint(self._keys):
            self._wait(reply, keys)
            return True
        self._sent.append(reply)
        if len(self._sent) >= self._prune_at:
            self._prune()
        return False

    def _wait(self, reply: Reply, keys: set[bytes]) -> None:
        self._waiting[reply] = keys
        self._keys |= keys

    def settle(self) -> None:
        """Begin to settle: the pause is over."""
        self._trial = None

    def unanswered(self) -> Reply | None:
        """The last command that has to be answered before this phase may end. O(sent) at worst,
        once or twice a phase."""
        for reply in reversed(self._sent if self._trial is None else self._trial):
            if not reply.done() and reply not in self._refused:
                return reply
        return None

    def overtaken(self) -> list[tuple[Reply, Any]]:
        """After settling, the commands that cannot be repeated in their order, and what the server
        said to them. O(sent)."""
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

    def try_again(self, waiting: Iterable[Reply]) -> list[Reply]:
        """Begin a trial.

        Args:
            waiting: all that waits, in the order in which it was issued.

        Returns what to send now: the refused commands before which nothing waits on their keys.
        """
        trial: list[Reply] = []
        before: set[bytes] = set()
        for reply in waiting:
            keys = self._waiting.get(reply)
            if keys is None:  # it came while nothing was looked at
                keys = _keys(reply)
                self._wait(reply, keys)
            if reply in self._refused and keys.isdisjoint(before):
                trial.append(reply)
                del self._refused[reply], self._waiting[reply]
            before |= keys
        self._trial = trial
        self._sent = list(trial)
        self._given_up.clear()
        return trial

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
