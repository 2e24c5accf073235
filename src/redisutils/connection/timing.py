"""How long the answers of one connection took, and in which parts.

Nearly all that is known of a command's parts is known of many at once: a write takes all that a
turn of the loop has issued, a read brings the answers to many. So the moments of writes are kept
and the moment of the read is known, and a command that is measured (see
:mod:`redisutils.metrics.meter`) looks up its own.
"""

from __future__ import annotations

from bisect import bisect_left
from time import monotonic
from typing import Any, Final

from redisutils.connection.naming import blocks, command_name, slow_command
from redisutils.connection.packing import OwnPayload
from redisutils.connection.reply import Batch, Issued, Reply
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.split import Split

__all__ = ["Timing"]

_NONE: Final[frozenset[str]] = frozenset()


class Timing:
    """See the module's docstring.

    Args:
        peer: whose answers.
        metrics: where it is counted.
    """

    __slots__ = (
        "__weakref__",
        "_metrics",
        "_peer",
        "_slow_names",
        "_slow_read",
        "_stands_for",
        "skip",
        "slow",
        "whole",
        "writes",
    )

    def __init__(self, peer: str, metrics: PoolMetrics) -> None:
        self._peer = peer
        self.count_into(metrics)
        self.whole = False
        """Whether all answers of the present read are measured."""
        self.skip = 0
        """Of the answers to come, how many go by until the next is measured."""
        self._stands_for = 1
        self._slow_read = 0.0
        self._slow_names: frozenset[str] = _NONE  # which most connections have for good
        self.writes: list[tuple[int, float]] = []
        """(How many replies had been asked for when it left, the moment) of each write, from the
        last on that was measured."""

    def count_into(self, metrics: PoolMetrics) -> None:
        """Count there from now on."""
        self._metrics = metrics
        self.slow = metrics.measures.slow
        metrics.meter.join(self)

    def hurry(self, skip: int) -> None:
        """Measure an answer after ``skip`` more, unless it is due sooner. It stands for those that
        have gone by until then, and no more."""
        if self.skip > skip:
            self._stands_for -= self.skip - skip
            self.skip = skip

    def measure_all(self, waited: float) -> None:
        """Measure all answers of the present read: the oldest command that is owed one ``waited``
        longer for it than the slowest that are remembered (``slow.floor``)."""
        self.whole = True
        self._metrics.meter.slow(waited)

    def note(
        self,
        reply: Issued | Reply,
        answer: Any,
        place: int,
        *,
        received: float,
        began: float,
    ) -> int:
        """The answer to ``reply`` has just been parsed: measure it if a caller waited for it.

        Args:
            place: the how-manieth of all replies that were asked for on this connection it is.
            received: when the read came that completed it.
            began: when its parsing did.

        Returns how many answers on the next is to be measured: 1 for the very next.
        """
        ended = monotonic()
        if isinstance(reply, tuple):
            _, payload, _, issued, _ = reply
            sent = issued
        else:
            payload, issued, sent = reply.payload, reply.issued, reply.sent
        name = command_name(payload, isinstance(reply, Batch))
        apart = blocks(name, payload)
        written = self._written(place, sent)  # in any case: it forgets the writes before
        if type(payload) is OwnPayload and not apart:
            return 1  # nobody waited: the next one is measured instead, and stands for as many
        wait = sent - issued
        queue = written - sent
        wire = max(0.0, received - written)  # where clocks tick coarsely
        loop = began - received
        parse = ended - began
        measures = self._metrics.measures
        slow = self.slow
        if ended - issued > slow.floor and not apart and self._is_new(name, received):
            split = Split(wait, queue, wire, loop, parse)
            plain = slow.plain_keys
            slow.add(slow_command(name, payload, answer, split, server=self._peer, plain=plain))
        if self.whole:  # it stands for itself alone, since the others are measured, too
            measures.record(name, wait, queue, wire, loop, parse, 1, apart)
            if self._metrics.meter.spend():
                return 1
            self.whole = False
            return 1 + self.skip
        measures.record(name, wait, queue, wire, loop, parse, self._stands_for, apart)
        gap = self._stands_for = self._metrics.meter.draw(ended)
        return gap

    def _is_new(self, name: str, received: float) -> bool:
        """Whether no other command of this name was slow in the same read. One that holds up the
        server makes all slow that are in flight with it, and shall not drown among them."""
        if received != self._slow_read:
            self._slow_read = received
            self._slow_names = _NONE
        if name in self._slow_names:
            return False
        self._slow_names |= {name}
        return True

    def _written(self, place: int, sent: float) -> float:
        """When the reply at ``place``, handed to the connection at ``sent``, was written."""
        writes = self.writes
        passed = bisect_left(writes, (place,))
        del writes[:passed]
        return max(writes[0][1], sent) if writes else sent
