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

__all__ = ["TRANSIENT", "Backoff", "RetryMode", "RetryPolicy"]

LONGEST_PAUSE: Final = 1.0
"""Seconds between two attempts to connect, at most."""

RetryMode = Literal["safe", "never", "always"]

TRANSIENT: Final = frozenset(
    {"LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY"}
)
"""Codes with which a server refuses a command that it may accept a moment later.

MOVED and ASK are not here: on one server no waiting mends them. Whoever knows
several servers follows them.
"""


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

    def connect_delay(self, failures: int, rand: Callable[[], float] = random.random) -> float:
        """Seconds to wait after so many attempts to connect in a row were in vain.

        Half of the backoff's bound is certain, and half is left to chance: with none of it
        certain, ``max_retries`` might be over in no time, and who waits would be given up after a
        blink of an outage. The bound ends at ``LONGEST_PAUSE``, or at the backoff's base if that
        is more: however long the server was gone, it is found soon after it is back.
        """
        backoff = self.backoff
        longest = min(backoff.cap, max(LONGEST_PAUSE, backoff.base))
        return Backoff(backoff.base, longest).delay(failures, lambda: (1.0 + rand()) / 2)

    def may_resend(self, repeatable: Callable[[], bool]) -> bool:
        """Whether a command may be sent again that was written and not answered."""
        return self.mode == "always" or (self.mode == "safe" and repeatable())

    def may_repeat_rejected(self, code: str) -> bool:
        """Whether a command may be sent again that the server refused with ``code``."""
        return self.mode != "never" and code in TRANSIENT
