"""What happens when a server comes back and everybody connects at once.

All clients lose their connections at the same moment, since the server was killed, and try again
by one of several policies. Until the server is back they are refused at once. Then it works as
Valkey 9 and Redis 7.4 do: in each turn of its loop it accepts a few, serves them, and looks after
those who are connected already. Meanwhile the kernel lets so many more wait as the backlog has room
for and drops the rest, whose kernels try again after 1 s, 2 s, 4 s.

Left out: the commands themselves, lost packets, and that a refused attempt costs anything.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from redisutils.pool.scouting import SCOUT_AFTER, SCOUT_FOR
from redisutils.retry import Backoff, Reconnecting, RetryPolicy

BACKLOG = 511
"""``tcp-backlog``, by default."""

PER_TURN, PER_TURN_TLS = 10, 1
"""``max-new-connections-per-cycle`` and ``max-new-tls-connections-per-cycle``, by default. Older
servers accept up to 1,000 in a turn."""

_BASE, _CAP = 0.1, 5.0
"""Seconds: REDIS_RETRY_DELAY_MS and REDIS_RETRY_MAX_DELAY_MS by default."""

_SPREAD = 0.002
"""Seconds within which clients hear that the server has died."""

_TRIP = 0.0002
"""Seconds there and back."""


@dataclass(frozen=True)
class Policy:
    """How a client tries again."""

    title: str
    make: Callable[[], Callable[[float], float]]
    """A client's own memory: called with the time of a failure, it says how long to wait."""
    timeout: float = 30.0
    """Seconds after which an attempt is given up."""
    scouts: bool = False
    """Whether a younger attempt goes beside one that takes long."""


def _every(seconds: float) -> Callable[[], Callable[[float], float]]:
    return lambda: lambda _now: seconds


def _doubling(jitter: Callable[[], float]) -> Callable[[], Callable[[float], float]]:
    def make() -> Callable[[float], float]:
        backoff = Backoff(_BASE, _CAP)
        failures = 0

        def pause(_now: float) -> float:
            nonlocal failures
            failures += 1
            return backoff.delay(failures, jitter)

        return pause

    return make


def _ours() -> Callable[[float], float]:
    reconnecting = Reconnecting()
    policy = RetryPolicy("safe", 5, Backoff(_BASE, _CAP))

    def pause(now: float) -> float:
        reconnecting.failed(policy, now)
        return reconnecting.pause

    return pause


POLICIES = (
    Policy("every 50 ms", _every(0.05)),
    Policy("every second", _every(1.0)),
    Policy("every second, giving up after 0.25 s", _every(1.0), timeout=0.25),
    Policy("doubling, no jitter", _doubling(lambda: 1.0)),
    Policy("doubling, full jitter", _doubling(random.random)),
    Policy("redisutils", _ours, scouts=True),
)


@dataclass
class Outcome:
    """What came of it. Seconds after the server's return, where times are meant."""

    attempts: int = 0
    refused: int = 0
    dropped: int = 0
    wasted: int = 0
    """Connections that the server prepared for clients who had given up."""
    peak: int = 0
    """Attempts in 10 ms, at most, once the server was back."""
    busy: float = 0.0
    """For how long the server had connections to prepare without a break, at most."""
    half: float = 0.0
    """Until half of the clients are connected."""
    last: float = 0.0
    """Until all are."""
    waiting: list[tuple[float, int]] = field(default_factory=list)
    """How many clients were without a connection, by time; 0 is the server's return."""


@dataclass(eq=False)
class _Attempt:
    pod: int
    lane: int | None
    """None for a scout."""
    begun: float
    over: bool = False
    """It was served, refused, or given up."""
    tries: int = 0
    """Of the kernel."""


class Storm:
    """One run.

    Args:
        policy: of all clients.
        pods: how many.
        lanes: of each.
        down: seconds for which the server is gone.
        connect: seconds that a connection takes of it.
        per_turn: how many it accepts in a turn.
        seed: of what is left to chance, but for the policy's own.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        pods: int,
        lanes: int,
        down: float,
        connect: float,
        per_turn: int,
        seed: int,
    ) -> None:
        self._policy = policy
        self._down = down
        self._connect = connect
        self._per_turn = per_turn
        self._busy_since = 0.0
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self._now = 0.0
        self._queue: deque[_Attempt] = deque()
        self._busy = False
        self._arrivals: dict[int, int] = {}
        self.outcome = Outcome()
        self._waiting: list[dict[int, _Attempt | None]] = [
            dict.fromkeys(range(lanes)) for _ in range(pods)
        ]
        self._scout: list[_Attempt | None] = [None] * pods
        self._missing = self._all = pods * lanes
        self._pauses = {(pod, lane): policy.make() for pod in range(pods) for lane in range(lanes)}

    def run(self) -> Outcome:
        """Until everybody is connected, or a minute after the return."""
        for pod, waiting in enumerate(self._waiting):
            for lane in waiting:
                self._later(self._chance.random() * _SPREAD, self._begin, pod, lane)
        while self._events and self._missing:
            self._now, _, act = heapq.heappop(self._events)
            if self._now > self._down + 60:
                break
            act()
        if self._busy:
            self.outcome.busy = max(self.outcome.busy, self._now - self._busy_since)
        self.outcome.peak = max(self._arrivals.values(), default=0)
        if self._missing:
            self.outcome.last = float("inf")
        return self.outcome

    def _later(self, pause: float, act: Callable[..., None], *args: object) -> None:
        self._number += 1  # of two at the same moment the first goes first
        heapq.heappush(self._events, (self._now + pause, self._number, lambda: act(*args)))

    # -- clients -----------------------------------------------------------------------

    def _begin(self, pod: int, lane: int) -> None:
        if lane not in self._waiting[pod]:
            return
        attempt = _Attempt(pod, lane, self._now)
        self._waiting[pod][lane] = attempt
        self._knock(attempt)
        self._later(self._policy.timeout, self._give_up, attempt)
        if self._policy.scouts:
            self._later(SCOUT_AFTER, self._send_scout, attempt)

    def _send_scout(self, behind: _Attempt) -> None:
        pod = behind.pod
        latest = self._scout[pod]
        if behind.over or (latest is not None and not latest.over):
            return
        scout = self._scout[pod] = _Attempt(pod, None, self._now)
        self._knock(scout)
        self._later(SCOUT_FOR, self._give_up, scout)

    def _give_up(self, attempt: _Attempt) -> None:
        if attempt.over:
            return
        attempt.over = True
        if attempt.lane is not None:
            self._failed(attempt)
            return
        for waiting in self._waiting[attempt.pod].values():
            if waiting is not None and not waiting.over:
                self._send_scout(waiting)
                return

    def _failed(self, attempt: _Attempt) -> None:
        assert attempt.lane is not None
        pause = self._pauses[attempt.pod, attempt.lane](self._now)
        self._later(pause + self._chance.random() * _TRIP, self._begin, attempt.pod, attempt.lane)

    def _connected(self, attempt: _Attempt) -> None:
        waiting = self._waiting[attempt.pod]
        lane = attempt.lane
        if lane is None:
            # The oldest has its connection, and the others begin anew.
            alive = [lane for lane, other in waiting.items() if other and not other.over]
            lane, others = alive[0], alive[1:]
            for other in alive:
                taken = waiting[other]
                assert taken is not None
                taken.over = True
            for other in others:
                self._later(0.0, self._begin, attempt.pod, other)
        del waiting[lane]
        self._missing -= 1
        since = self._now - self._down
        if self._missing * 2 >= self._all:
            self.outcome.half = since
        self.outcome.last = since
        self.outcome.waiting.append((since, self._missing))

    # -- the server --------------------------------------------------------------------

    def _knock(self, attempt: _Attempt) -> None:
        if attempt.over:
            return
        self.outcome.attempts += 1
        if self._now < self._down:
            self.outcome.refused += 1
            attempt.over = True
            if attempt.lane is not None:
                self._failed(attempt)
            return
        bin_ = int(self._now * 100)
        self._arrivals[bin_] = self._arrivals.get(bin_, 0) + 1
        if len(self._queue) >= BACKLOG:
            self.outcome.dropped += 1
            attempt.tries += 1
            self._later(2.0 ** (attempt.tries - 1), self._knock, attempt)
            return
        self._queue.append(attempt)
        if not self._busy:
            self._busy = True
            self._busy_since = self._now
            self._later(_TRIP, self._accept)

    def _accept(self) -> None:
        """A turn of the server's loop."""
        batch = [self._queue.popleft() for _ in range(min(self._per_turn, len(self._queue)))]
        if not batch:
            self._busy = False
            self.outcome.busy = max(self.outcome.busy, self._now - self._busy_since)
            return
        for number, attempt in enumerate(batch, 1):
            self._later(number * self._connect, self._serve, attempt)
        self._later(len(batch) * self._connect, self._accept)

    def _serve(self, attempt: _Attempt) -> None:
        if attempt.over:
            self.outcome.wasted += 1
            return
        attempt.over = True
        self._connected(attempt)
