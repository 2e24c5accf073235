"""One instrument's updates in their order, for all who read them. Does no I/O.

Each update has a number. A feed that has just been subscribed to, for the first time or again after
a loss, does not know what it has missed: it holds what comes until the state in the database, which
has the number of the last update, is read. Then

==============================  =================================================================
what was held begins            it goes on with
==============================  =================================================================
right after the last one        what was held: nothing was missed
later, not after the state      what was held; the number between tells what was missed
after the state, or is empty    the state, after what was missed; then what was held
==============================  =================================================================

A new epoch says that the count began anew: the instrument was silent for longer than its values
live, or another server took over, which had not heard of the last updates. If the connection was
there all the time, and the count begins at 1, nothing was missed. Else something may have been:
nobody knows how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Sink, Update

__all__ = ["Feed", "Message", "State"]

_HELD: Final = 10_000
"""Quotes held while the state is read; with more the oldest go, and count as missed."""


_UNKNOWN: Final = -1
"""An epoch of which the next update tells nothing."""


class Message(NamedTuple):
    """What was published at once."""

    epoch: int
    number: int
    """Of the last of the quotes."""
    quotes: Sequence[Quote]


class State(NamedTuple):
    """What the database has."""

    epoch: int
    number: int
    quote: Quote


class Feed:
    """See the module's docstring."""

    __slots__ = ("_epoch", "_held", "_number", "crowded", "current", "live", "sinks")

    def __init__(self) -> None:
        self.sinks: tuple[Sink, ...] = ()
        """Never changed, but replaced: a reader may leave while others are being told."""
        self.crowded = False
        """Whether a reader had better come to its turn before more is heard."""
        self.current: Update | None = None
        """The last one; None before the first, and while it is unknown whether it is still so."""
        self.live = False
        """Whether what comes is passed on: the state was read after the last loss."""
        self._epoch: int | None = None
        self._number = 0
        self._held: list[Message] = []

    def lost(self) -> None:
        """Nothing comes any more, until it has :meth:`begun` again."""
        self.live = False

    def begun(self) -> None:
        """The server has confirmed that what is published from now on will come."""
        self.live = False
        self._held.clear()

    def heard(self, message: Message) -> None:
        """Something was published."""
        if self.live:
            self._pass(message, whole=True)
            return
        self._held.append(message)
        while len(self._held) > 1 and sum(len(one.quotes) for one in self._held) > _HELD:
            del self._held[0]

    def spoiled(self) -> None:
        """Something was published that cannot be read. What comes next has a gap before it."""
        if self._epoch is not None:
            self._epoch = _UNKNOWN

    def read(self, state: State | None) -> None:
        """The state, read after :meth:`begun`; None: there is none."""
        held, self._held = self._held, []
        self.live = True
        first_time = self._epoch is None
        if state is not None:
            ahead = next((one for one in held if one.epoch == state.epoch), None)
            begins = None if ahead is None else ahead.number - len(ahead.quotes) + 1
            if first_time:
                self._publish([state.quote], state.epoch, state.number, gap=False, missed=0)
            elif state.epoch == self._epoch and state.number < self._number:
                # Another server took over, which does not have the last updates: it counts again
                # from where it was.
                self._publish([state.quote], state.epoch, state.number, gap=True, missed=None)
            elif begins is None or begins > state.number:
                self._pass(Message(state.epoch, state.number, [state.quote]), whole=False)
        elif not first_time:
            self._epoch = _UNKNOWN  # what there was has expired, and perhaps something after it
        for message in held:
            if state is None or message.epoch >= state.epoch:
                self._pass(message, whole=False)
        if state is not None and self.current is not None:
            for sink in self.sinks:  # who came meanwhile, and would hear nothing if nothing is new
                if not sink.begun:
                    sink.extend((self.current.alone(),), gap=False)

    def _pass(self, message: Message, *, whole: bool) -> None:
        """Publish what is new in a message.

        :param whole: nothing can have been missed but what the count tells.
        """
        epoch, number, quotes = message
        first = number - len(quotes) + 1
        gap, missed = False, 0
        unknown: int | None = 0
        if epoch == self._epoch:
            if number <= self._number:
                return
            if first <= self._number:
                quotes = quotes[self._number - first + 1 :]
            else:
                missed = first - self._number - 1
                gap = missed > 0
            unknown = missed
        elif self._epoch is not None and not (whole and first == 1 and self._epoch != _UNKNOWN):
            gap, unknown = True, None
        self._publish(quotes, epoch, number, gap=gap, missed=unknown)

    def _publish(
        self, quotes: Sequence[Quote], epoch: int, number: int, *, gap: bool, missed: int | None
    ) -> None:
        self._epoch, self._number = epoch, number
        first = number - len(quotes) + 1
        updates = [Update(quote, at) for at, quote in enumerate(quotes, first)]
        if gap:
            updates[0] = Update(quotes[0], first, gap=True, missed=missed)
        self.current = updates[-1]
        for sink in self.sinks:
            if sink.extend(updates, gap):
                self.crowded = True

    def end(self, error: BaseException | None = None) -> None:
        """No more will come."""
        for sink in self.sinks:
            sink.end(error)
        self.sinks = ()
