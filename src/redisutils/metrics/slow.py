"""The slowest commands of the last minutes.

They are kept by the minute: of the last ``MINUTES``, the ``KEPT`` slowest of each, and shown are
the ``KEPT`` slowest of all. So the log forgets by itself, and holds no more than both together.

Of the commands of one name whose answers came in one read only the first is there: they waited
together, and for one reason.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

from redisutils.metrics.split import Split

__all__ = ["KEPT", "MINUTES", "SlowCommand", "SlowLog"]

MINUTES: Final = 5
"""Minutes after which a slow command is forgotten."""

KEPT: Final = 32
"""How many are shown."""


@dataclass(frozen=True, slots=True)
class SlowCommand:
    """One of the slowest of the last minutes."""

    at: float
    """When it was answered (``time.time``)."""
    command: str
    key: str | None
    """Its first key, or a hash of it: see ``RedisConfig.slow_log_keys``. None: it has none."""
    request_bytes: int
    reply_size: int | None
    """Bytes of a string, elements of a collection; None for what has no size."""
    seconds: float
    split: Split
    server: str = ""
    """Who answered, as messages name it: of many servers, which."""


class SlowLog:
    """See the module's docstring.

    Args:
        clock: seconds, such as ``time.monotonic``.
    """

    __slots__ = ("_clock", "_count", "_minute", "_minutes", "floor", "plain_keys")

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._minutes: dict[int, list[tuple[float, int, SlowCommand]]] = {}
        self._minute: list[tuple[float, int, SlowCommand]] = []
        self._count = 0  # tells those apart that took equally long
        self.plain_keys = False
        """Whether keys may be read in it; if not, hashes stand in their place."""
        self.floor = 0.0
        """Seconds: what did not take longer is not among the slowest of this minute."""
        self.turn()

    def add(self, command: SlowCommand) -> None:
        """Keep ``command`` if it is one of the slowest of this minute. O(log KEPT)."""
        self._count += 1
        entry = (command.seconds, self._count, command)
        minute = self._minute
        if len(minute) < KEPT:
            heapq.heappush(minute, entry)
        elif command.seconds > minute[0][0]:
            heapq.heapreplace(minute, entry)
        if len(minute) == KEPT:
            self.floor = minute[0][0]

    def turn(self) -> None:
        """Begin a new minute if it is time: to be called now and then, at least once a minute."""
        now = int(self._clock() // 60)
        if now not in self._minutes:
            self._minute = self._minutes[now] = []
            self.floor = 0.0
            for minute in [m for m in self._minutes if m <= now - MINUTES]:
                del self._minutes[minute]

    def read(self) -> tuple[SlowCommand, ...]:
        """The slowest, slowest first. O(all that is kept)."""
        self.turn()
        kept = (entry for minute in self._minutes.values() for entry in minute)
        return tuple(command for *_, command in heapq.nlargest(KEPT, kept))
