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

import asyncio
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Final

from redisutils.commands import keys_of, lookup
from redisutils.connection.packing import unpack
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import Outcome, outcome_of
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.parking import Parking

__all__ = ["Cooling"]

_PRUNE_AT: Final = 1024
"""Commands sent meanwhile at which those that no longer matter are forgotten."""


class Cooling:
    """One such time on one connection, from the first refusal on.

    Args:
        first: the command whose refusal began it.
        connection: what refused it. What is in flight there was sent after it.
        parked: where all that waits is kept, what was refused included.
        metrics: where it is counted that some fail.
        hold: called when all that is issued from then on has to wait.
        admit: called when it may be sent again, but for what :meth:`holds_back`.
        finish: called when nothing is left to be repeated.
    """

    __slots__ = (
        "_admit",
        "_awaited",
        "_connection",
        "_finish",
        "_given_up",
        "_hold",
        "_keys",
        "_metrics",
        "_parked",
        "_prune_at",
        "_refused",
        "_sent",
        "_settling",
        "_stopped",
        "_timer",
        "_trial",
        "_waiting",
    )

    def __init__(
        self,
        first: Reply,
        connection: Connection,
        parked: Parking,
        metrics: PoolMetrics,
        *,
        hold: Callable[[], None],
        admit: Callable[[Connection], None],
        finish: Callable[[Connection], None],
    ) -> None:
        self._connection = connection
        self._parked = parked
        self._metrics = metrics
        self._hold = hold
        self._admit = admit
        self._finish = finish
        self._sent = [first, *connection.owed()]
        self._trial: list[Reply] | None = None
        self._settling = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None  # runs in a pause
        self._awaited: Reply | None = None  # the command whose answer ends the phase
        self._refused: dict[Reply, Any] = {}
        self._given_up: set[Reply] = set()
        self._waiting: dict[Reply, set[bytes]] = {}
        self._keys: set[bytes] = set()
        self._prune_at = 2 * len(self._sent) + _PRUNE_AT

    # -- what the lane tells us ------------------------------------------------------

    def refuse(self, reply: Reply, value: Any, delay: float) -> None:
        """The server refused ``reply`` with ``value``; it is parked, to be repeated. If this ends
        a trial, or is the first time, the pause is ``delay`` seconds."""
        if self._timer is None and not self._settling:
            self._timer = self._connection.loop.call_later(delay, self._settle)
        self._refused[reply] = value
        self._wait(reply, _keys(reply))
        if self._awaited is reply:
            self._connection.loop.call_soon(self._advance)

    def give_up(self, reply: Reply) -> None:
        """The server refused ``reply``, which will not be repeated. It did not run."""
        self._given_up.add(reply)

    def forget(self, replies: Iterable[Reply]) -> None:
        """``replies`` are not parked any more: another server gets them."""
        for reply in replies:
            self._refused.pop(reply, None)
            self._waiting.pop(reply, None)
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

    def stop(self) -> None:
        """Repeat nothing any more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def drop_overtaken(self) -> None:
        """After settling, or when the connection is lost: what cannot be repeated in its order
        fails with what the server said. It is done then, and so is not sent."""
        for reply, refusal in self._overtaken():
            if isinstance(reply, Batch):
                for each in refusal:
                    if isinstance(each, Exception) and not reply.is_own:
                        self._metrics.failed(each)
                reply.future.set_result(refusal)
            else:
                reply.fail(refusal, self._metrics)

    # -- from phase to phase ---------------------------------------------------------

    def _settle(self) -> None:
        """The time has come to repeat what was refused, once all that was sent is answered."""
        self._timer = None
        self._hold()
        self._settling = True
        self._trial = None
        self._advance()

    def _advance(self, _: object = None) -> None:
        """Go on to the next phase if this one is over."""
        if self._stopped or self._timer is not None:
            return
        awaited = self._unanswered()
        if awaited is not None:
            if awaited is not self._awaited:
                self._awaited = awaited
                awaited.future.add_done_callback(self._advance)
        elif self._trial is not None or not self._try_again():
            self._finish(self._connection)

    def _try_again(self) -> bool:
        """Begin a trial: repeat what was refused. Returns False if there is nothing."""
        self.drop_overtaken()
        waiting = self._parked.take_all(monotonic())
        trial = self._choose(waiting)
        again = set(trial)
        self._parked.put_back([reply for reply in waiting if reply not in again])
        for reply in trial:
            self._connection.send(reply)
        if trial:
            self._admit(self._connection)
            self._advance()
        return bool(trial)

    # -- the books -------------------------------------------------------------------

    def _wait(self, reply: Reply, keys: set[bytes]) -> None:
        self._waiting[reply] = keys
        self._keys |= keys

    def _unanswered(self) -> Reply | None:
        """The last command that has to be answered before this phase may end. O(sent) at worst,
        once or twice a phase."""
        for reply in reversed(self._sent if self._trial is None else self._trial):
            if not (reply.done() or reply in self._refused or reply in self._given_up):
                return reply
        return None

    def _overtaken(self) -> list[tuple[Reply, Any]]:
        """The commands that cannot be repeated in their order, and what the server said to them.
        O(sent)."""
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
        if reply.future.cancelled():
            return True
        error = reply.future.exception()
        return error is None or outcome_of(error) is not Outcome.NOT_SENT

    def _choose(self, waiting: Iterable[Reply]) -> list[Reply]:
        """Open the books of a trial.

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
        self._settling = False
        self._trial = trial
        self._sent = list(trial)
        self._given_up.clear()
        return trial

    def _prune(self) -> None:
        """Forget what has run and touches nothing that was refused. Answers come in order: all
        that was sent before an answered command has been answered."""
        answered = 0
        for position, reply in enumerate(self._sent):
            if reply.done() and not reply.future.cancelled() and reply.future.exception() is None:
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
