"""The tape's time, which the services go by: a tape of last year is then as fresh as today's."""

from __future__ import annotations

from time import perf_counter

__all__ = ["TapeClock"]


class TapeClock:
    """Shows when the latest trade happened; and between trades of a tape that is replayed at a
    given speed, how long ago that is.

    Args:
        start: ns since 1970 UTC.
        speed: Seconds of the tape in one second; None: as they come.
    """

    def __init__(self, start: int, speed: float | None = None) -> None:
        self._at = start
        self._since = perf_counter()
        self._speed = speed or 0.0

    def __call__(self) -> int:
        """The present, ns."""
        return self._at + int((perf_counter() - self._since) * self._speed * 1e9)

    def reach(self, moment: int) -> None:
        """A trade of this moment is there. Time never goes backwards."""
        self._at = max(moment, self())
        self._since = perf_counter()
