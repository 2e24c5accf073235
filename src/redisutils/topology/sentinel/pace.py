"""How often sentinels are asked."""

from __future__ import annotations

import random
from time import monotonic
from typing import Final

__all__ = ["QUIET", "URGENT", "WRONG", "Pace"]

QUIET: Final = 10.0
"""Seconds between rounds while all is well: news come by themselves."""

WRONG: Final = 1.0
"""Seconds between rounds while something is wrong."""

URGENT: Final = 0.1
"""Seconds between rounds while a failover is on."""

HASTE: Final = 5.0
"""Seconds for which it is urgent that a failover is on, or that one contradicts the others."""


class Pace:
    """Says when to ask next. Pauses vary by a quarter, so that a crowd of pools spreads."""

    def __init__(self) -> None:
        self._unsettled_since: float | None = None

    def pause(self, *, urgent: bool, unsettled: bool, wrong: bool) -> float:
        """Seconds until the next round.

        Args:
            urgent: somebody waits for what comes of it.
            unsettled: a failover is on, or one contradicts the others.
            wrong: anything else is wrong.
        """
        now = monotonic()
        if not unsettled:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = now
        recent = self._unsettled_since is not None and now - self._unsettled_since <= HASTE
        if urgent or recent:
            seconds = URGENT
        elif unsettled or wrong:
            seconds = WRONG
        else:
            seconds = QUIET
        return seconds * (0.75 + random.random() / 2)
