"""What this program has written lately, so that it reads its own writes.

A write counts from the moment it is issued until ``seconds`` after it was answered. Of a lane's,
nothing is done when the answer comes: the next read of the slot finds that it has, and counts from
then, which is later and so on the safe side. To note one takes a tenth of a microsecond. Those on
connections of callers' own, which have no order among each other, are noted when they are issued
and again when they are answered. At most one entry for each slot is kept.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any
from weakref import ref

__all__ = ["Writes"]


class Writes:
    """Of one lane, whose commands for one slot are answered in their order; or of all others.

    Args:
        seconds: for how long after a write its slot is read from the primary.
        clock: seconds, such as ``time.monotonic``.
    """

    __slots__ = ("_clock", "_last", "_seconds")

    def __init__(self, seconds: float, clock: Callable[[], float] = monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        # The last write, or when it was found to be over. Not the future itself: its result may
        # be large, and is its caller's alone.
        self._last: dict[int | None, ref[Future[Any]] | float] = {}

    def __len__(self) -> int:
        return len(self._last)

    def note(self, slot: int | None, answer: Future[Any]) -> None:
        """What is answered by ``answer`` may change keys of ``slot``, or of all for None."""
        self._last[slot] = ref(answer)

    def note_of_others(self, slots: Iterable[int | None], answer: Future[Any]) -> None:
        """The same of something that was issued on no lane."""

        def note(_: object = None) -> None:
            self._last.update(dict.fromkeys(slots, self._clock()))

        note()
        answer.add_done_callback(note)

    def absorb(self, gone: Writes) -> None:
        """Remember what another, whose lane is closed, has noted lately."""
        now = self._clock()
        self._last.update((slot, now) for slot in list(gone._last) if gone._is_recent(slot))

    def recent(self, slot: int) -> bool:
        """Whether ``slot`` is to be read from its primary."""
        return bool(self._last) and (self._is_recent(slot) or self._is_recent(None))

    def _is_recent(self, slot: int | None) -> bool:
        last = self._last.get(slot)
        if last is None:
            return False
        now = self._clock()
        if not isinstance(last, float):
            answer = last()
            if answer is None or answer.done():
                self._last[slot] = now
            return True
        if now - last < self._seconds:
            return True
        del self._last[slot]
        return False
