"""One timer for all the deadlines of a connection."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import inf
from typing import Final

__all__ = ["FOREVER", "Alarm"]

FOREVER: Final = 10 * 365 * 86_400.0
"""The budget, in seconds, of what has none. A number, so that timers can hold it."""


class Alarm:
    """Rings once, never later than it was asked to.

    Args:
        ring: called then; the alarm is off when it is.
    """

    __slots__ = ("_handle", "_loop", "_ring", "at", "span")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self.at = inf
        """When it rings (``time.monotonic``); ``inf`` while it is off."""
        self.span = inf
        """What has at least this budget, in seconds, cannot be due before it rings: it was set
        for so long after an earlier moment."""

    def set(self, at: float, now: float) -> None:
        """Ring at ``at`` instead. Both are ``time.monotonic``."""
        self.off()
        self.at = at
        self.span = at - now
        if at != inf:
            self._handle = self._loop.call_later(max(0.0, at - now), self._rung)

    def off(self) -> None:
        """Do not ring."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self.at = self.span = inf

    def _rung(self) -> None:
        self._handle = None
        self.at = self.span = inf
        self._ring()
