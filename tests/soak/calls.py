"""Every call into the library goes through here: timed, held to its budget, its outcome counted."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count
from time import monotonic
from typing import Any, Final, Literal, NamedTuple

from redis.exceptions import BusyLoadingError, NoScriptError, RedisError, WatchError

from redisutils import Outcome, RedisUtilsError, outcome_of

__all__ = ["Calls", "Kind", "Pulse", "name_of"]

SLACK: Final = 0.25
"""How far past its budget a call may end, s, on top of what the loop itself was late: on a machine
that others use, too."""

_BEAT: Final = 0.01

_PASSING: Final = (BusyLoadingError, NoScriptError, RedisUtilsError)
"""The only refusals that a server has a reason for which was killed a moment ago, and ours for
whom it went on refusing until there was no time left."""

Complain = Callable[[str], None]

Kind = Literal["plain", "waiting", "hurried"]
"""``"waiting"``: it lasts as long as it wants to, and says nothing about latency. ``"hurried"``:
it has so little time that to fail is nothing to be counted."""


class Pulse:
    """How late the event loop is: the lag of a task that wants to run every 10 ms."""

    def __init__(self) -> None:
        self.total = 0.0
        """All lags together, s."""
        self.worst = 0.0
        """The longest since it was last set to 0, s."""
        self._due = monotonic()

    async def beat(self) -> None:
        while True:
            self._due = monotonic() + _BEAT
            await asyncio.sleep(_BEAT)
            lag = max(0.0, monotonic() - self._due)
            self.total += lag
            self.worst = max(self.worst, lag)

    def lost(self) -> float:
        """Time that the loop has lost until now, s; what it is just losing included."""
        return self.total + max(0.0, monotonic() - self._due)


class _Open(NamedTuple):
    what: str
    started: float
    budget: float
    lost: float


class Calls:
    """Args:
    pulse: of the loop that they are made on.
    complain: told what must not be.
    """

    def __init__(self, pulse: Pulse, complain: Complain) -> None:
        self.outcomes: Counter[str] = Counter()
        """How all calls ended so far: ``"done"``, ``"cancelled"``, ``"conflict"`` (WATCH),
        ``"hurried"`` or the name of an Outcome."""
        self.latencies: list[float] = []
        """Of calls that are done, s. Whoever reads them clears them."""
        self.worst_overrun = 0.0
        """How far past its budget a call has ended at most, s."""
        self._pulse = pulse
        self._complain = complain
        self._numbers = count()
        self._open: dict[int, _Open] = {}

    async def make(
        self, what: str, awaitable: Awaitable[Any], budget: float, kind: Kind = "plain"
    ) -> Any:
        """Await it. Raises what it raises; complains when that is later than it may be."""
        number = next(self._numbers)
        call = _Open(what, monotonic(), budget, self._pulse.lost())
        self._open[number] = call
        outcome = "done"
        try:
            return await awaitable
        except asyncio.CancelledError:
            outcome = "cancelled"
            raise
        except RedisError as error:
            outcome = self._judge(what, error)
            if kind == "hurried":
                outcome = kind
            raise
        finally:
            self.outcomes[outcome] += 1
            if outcome == "done" and kind == "plain":
                self.latencies.append(monotonic() - call.started)
            if self._open.pop(number, None) is not None:  # it may have been reported already
                self._bound(call, "took")

    def look_for_hung(self) -> None:
        """Complain of every call that has not ended in time."""
        for number, call in list(self._open.items()):
            if self._bound(call, "has not ended after"):
                del self._open[number]

    @property
    def open(self) -> int:
        return len(self._open)

    def _bound(self, call: _Open, verb: str) -> bool:
        took = monotonic() - call.started
        overrun = took - call.budget - (self._pulse.lost() - call.lost)
        self.worst_overrun = max(self.worst_overrun, overrun)
        if overrun <= SLACK:
            return False
        self._complain(f"{call.what} {verb} {took:.2f} s with a budget of {call.budget:.2f} s")
        return True

    def _judge(self, what: str, error: RedisError) -> str:
        outcome = name_of(error)
        if outcome == "none":
            self._complain(f"{what} failed without an outcome: {error!r}")
        if outcome == Outcome.EXECUTED.name or (
            outcome == Outcome.REJECTED.name and not isinstance(error, _PASSING)
        ):
            self._complain(f"{what} failed for no reason of the weather: {error!r}")
        return outcome


def name_of(error: BaseException) -> str:
    """How a call ended that raised it."""
    if isinstance(error, WatchError):
        return "conflict"
    outcome = outcome_of(error)
    return "none" if outcome is None else outcome.name
