"""What is known of one server that has a copy of the data."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, Protocol

__all__ = ["Copy", "Figures", "Pace"]

_LOOKS: Final = 5
"""Looks of whose round trips the middle one is told: an outlier or two do not show, and what has
really changed does after three."""

_KEPT: Final = 64
"""Durations of which the p95 is told: of as many, three are above it."""

_ENOUGH: Final = 20
"""Durations before which nothing is told of them."""


class Pace:
    """How long one server takes to answer: the last durations, in seconds."""

    __slots__ = ("_at", "_durations", "_p95", "_stale")

    def __init__(self) -> None:
        self._durations: list[float] = []
        self._at = 0
        self._p95 = inf
        self._stale = 0

    def __len__(self) -> int:
        return len(self._durations)

    def note(self, seconds: float) -> None:
        """One more."""
        if len(self._durations) < _KEPT:
            self._durations.append(seconds)
        else:
            self._durations[self._at] = seconds
            self._at = (self._at + 1) % _KEPT
        self._stale += 1

    def p95(self) -> float:
        """What one in twenty exceeds; ``inf`` while too few are known. Computed anew after some
        more have come: O(``_KEPT``) then."""
        if len(self._durations) < _ENOUGH:
            return inf
        if self._stale > _KEPT // 8 or self._p95 == inf:
            self._stale = 0
            self._p95 = sorted(self._durations)[len(self._durations) * 95 // 100]
        return self._p95


class Figures:
    """See the module's docstring. Moments are those of ``time.monotonic``."""

    __slots__ = ("_looks", "fresh_at", "pace", "proven", "round_trip", "trouble", "zone")

    def __init__(self) -> None:
        self.proven = False
        """Whether it has answered when it was last asked. Who has not is not read from."""
        self.trouble = "it has not been heard yet"
        """Why it is not proven, or how far it has come is not known; empty if it is."""
        self.round_trip: float | None = None
        """Seconds, smoothed; None as long as it is not known."""
        self._looks: deque[float] = deque(maxlen=_LOOKS)
        self.fresh_at = -inf
        """It has all that its primary had at this moment."""
        self.zone: str | None = None
        """Its availability zone, if it tells."""
        self.pace = Pace()

    def answered(self, seconds: float | None = None) -> None:
        """It has, after so long; None if that says nothing of the way to it."""
        self.proven = True
        self.trouble = ""
        if seconds is not None:
            self._looks.append(seconds)
            self.round_trip = sorted(self._looks)[len(self._looks) // 2]

    def failed(self, why: str) -> None:
        """It was lost, or does not answer, or may not be read from."""
        self.proven = False
        self.trouble = why


class Copy(Protocol):
    """A server that has a copy of the data: a primary, or one of its replicas."""

    @property
    def figures(self) -> Figures: ...
