"""Which failure may be repeated, how often, and after how long.

The table (``retry="safe"``, the default):

==================================================== ========== ==========================
what happened                                        outcome    repeated?
==================================================== ========== ==========================
never written                                        NOT_SENT   yes, within its budget
the server answered with a code of ``TRANSIENT``     REJECTED   yes, within its budget
the server answered any other error                  REJECTED   no
written, and no reply came                           UNKNOWN    only read-only or idempotent
==================================================== ========== ==========================

Scripts, functions and commands that the table of commands does not know are never repeated after
a refusal: their own code may answer with such a code after it has done a part of its work.

``"never"`` repeats nothing. ``"always"`` repeats the last row whatever the command, and
may thus apply a write twice. Both are for those who ask.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "LONGEST_PAUSE",
    "TRANSIENT",
    "Backoff",
    "Reconnecting",
    "RetryMode",
    "RetryPolicy",
    "half_certain",
]

RetryMode = Literal["safe", "never", "always"]

TRANSIENT: Final = frozenset(
    {"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY"}
)
"""Codes with which a server refuses a command that it may accept a moment later.

MOVED and ASK are not here: on one server no waiting mends them. Whoever knows
several servers follows them.
"""


LONGEST_PAUSE: Final = 0.75
"""Seconds between two attempts to connect at most: a server that comes back is found within a
second, however long it was gone and whatever the backoff has grown to."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter: a random part of a doubling delay.

    Full jitter spreads a crowd of clients evenly, see "Exponential Backoff And Jitter",
    AWS Architecture Blog, 2015.
    """

    base: float
    """The bound of the first delay, in seconds."""
    cap: float
    """The bound of every delay, in seconds."""

    def delay(self, attempt: int, rand: Callable[[], float] = random.random) -> float:
        """Seconds to wait after attempt number ``attempt`` (from 1) was in vain."""
        # 2**63 is past any cap; a larger exponent would overflow a float in time.
        return rand() * min(self.cap, self.base * 2.0 ** min(attempt - 1, 63))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a lane repeats commands."""

    mode: RetryMode
    max_retries: int
    backoff: Backoff

    def may_resend(self, repeatable: Callable[[], bool]) -> bool:
        """Whether a command may be sent again that was written and not answered."""
        return self.mode == "always" or (self.mode == "safe" and repeatable())

    def may_repeat_rejected(self, code: str) -> bool:
        """Whether a command may be sent again that the server refused with ``code``."""
        return self.mode != "never" and code in TRANSIENT


def half_certain() -> float:
    """The part of a pause that is waited: a half to all of it. Full jitter might spend all retries
    in no time, and give up those who wait after a blink of an outage; half of it spreads a crowd as
    well."""
    return (1.0 + random.random()) / 2


class Reconnecting:
    """When to try to connect again, and which of the attempts count.

    The backoff says when the next attempt counts against ``max_retries``. Until then others are
    made, every ``LONGEST_PAUSE``, which cost nobody a retry: without them whoever comes when a
    server has been gone for long would wait for the backoff's cap after it has come back.
    """

    __slots__ = ("_due", "_next_counts", "attempts", "failures", "pause")

    def __init__(self) -> None:
        self.attempts = 0
        """How many have failed."""
        self.failures = 0
        """How many of these counted."""
        self.pause = 0.0
        """Seconds from the last failure until the next attempt."""
        self._due = 0.0
        self._next_counts = True

    def failed(self, policy: RetryPolicy, now: float, *, final: bool = False) -> bool:
        """An attempt has failed. Returns whether it counts.

        Args:
            now: ``time.monotonic()``.
            final: it counts in any case: no other would fare better.
        """
        self.attempts += 1
        counts = self._next_counts or final or policy.mode == "never"
        if counts:
            self.failures += 1
            self._due = now + policy.backoff.delay(self.failures, half_certain)
        left = max(0.0, self._due - now)
        self._next_counts = left <= LONGEST_PAUSE
        self.pause = left if self._next_counts else LONGEST_PAUSE * half_certain()
        return counts

    def times(self) -> str:
        """How often, for messages: ``"1 time"``."""
        return f"{self.attempts} time{'s' * (self.attempts != 1)}"
