"""Holding back on the word of one sentinel.

A single sentinel moves nothing. But the first to know of a failover is a single one, too, and each
write to the old primary from then on may be lost. So what one says makes us suspicious for a while:
nothing is written until the others have said the same, or it has taken that back, or the while is
over; and whose word turned out to be nothing is not believed alone for a time.

================================================ =================================
what one sentinel says                            how long we suspect at most
================================================ =================================
it is about to promote a replica (``PROMOTING``)  ``PROMOTION`` seconds
another primary, in its news or of a later epoch  ``RUMOUR`` seconds
================================================ =================================
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Final

from redisutils.topology.sentinel.answers import Answer
from redisutils.topology.sentinel.informant import Informant

__all__ = ["PROMOTION", "RUMOUR", "Suspicion"]

PROMOTION: Final = 3.0
"""A promoted replica says so within a second: it is asked every second by who promotes it."""

RUMOUR: Final = 1.0
"""What one sentinel knows the others hear within some tenths of a second."""

DISTRUST: Final = 60.0
"""Seconds for which the word of one who has raised a false alarm does not count alone."""


class Suspicion:
    """See the module's docstring."""

    def __init__(self) -> None:
        self.on_begun: Callable[[str], None] = lambda _: None
        """Called with the reason when nothing may be written any more."""
        self.on_over: Callable[[], None] = lambda: None
        """Called when it may again: the primary is where it was."""
        self.why = ""
        """The reason of the last one."""
        self._of: Informant | None = None
        self._since = self._until = 0.0

    def __bool__(self) -> bool:
        """Whether nothing may be written at this moment."""
        return self._of is not None

    def raised_by(self, informant: Informant) -> bool:
        """Whether this is whose word it stands on."""
        return informant is self._of

    def begin(self, informant: Informant, seconds: float, what: str) -> None:
        """One has said something. ``seconds`` is how long that is believed alone."""
        now = monotonic()
        if informant.distrusted_until > now:
            return
        until = now + seconds
        if self._of is None:
            self._of, self._since, self._until = informant, now, until
            self.why = f"{informant.options.peer} {what}"
            self.on_begun(self.why)
        elif informant is not self._of:  # nobody prolongs what he has begun
            self._until = min(max(self._until, until), self._since + PROMOTION)

    def review(self, contradicts: Callable[[Answer], bool]) -> str | None:
        """After a round: end it if who has raised it takes it back, or stands alone for too long.

        Args:
            contradicts: whether an answer still speaks against the primary.

        Returns what is to be told of it.
        """
        informant = self._of
        if informant is None:
            return None
        told, now = informant.answer, monotonic()
        if now >= self._until:
            informant.distrusted_until = now + DISTRUST
            self.settle()
            return f"{informant.options.peer} stands alone with what it says: not believed"
        asked_since = told is not None and informant.asked >= self._since
        if asked_since and told is not None and not (told.failing_over or contradicts(told)):
            self.settle()
        return None

    def settle(self) -> None:
        """It was nothing."""
        self.drop()
        self.on_over()

    def drop(self) -> None:
        """It was true, and others see to what follows from that."""
        self._of = None
