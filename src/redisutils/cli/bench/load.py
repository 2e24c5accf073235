"""The generator.

*Closed loop*: each task sends its next command when the last one is answered. A server that stalls
is asked less, so that its stall hardly shows: right for the question how much it can do, wrong for
the question how long callers wait.

*Open loop*: commands are due by the clock, whether or not earlier ones have been answered, as those
of independent users are. Response time is counted from when a command was **due**, so that what
waited behind a stall counts with all of its wait (no coordinated omission); service time from when
it was sent. At most ``tasks`` are under way. What is due and not sent is a number, not memory.

The next calls are dealt in small batches: a task takes one, makes it and notes how long it took,
and nothing else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from math import gcd
from random import Random
from time import perf_counter
from typing import Any, Final, Literal

from redis.exceptions import RedisError

from redisutils import Redis
from redisutils.cli.bench.alarm import Alarm
from redisutils.cli.bench.data import Data
from redisutils.cli.bench.figures import LATE, Figures, Row
from redisutils.cli.drawing import stacked
from redisutils.errors import RedisUtilsError

__all__ = ["DRAIN", "Arrivals", "Load", "Plan", "Schedule"]

Arrivals = Literal["poisson", "constant"]

BATCH: Final = 64
"""Commands dealt at a time: bounds the pause that this makes, some 40 µs."""

FOLD_EVERY: Final = 16
"""Batches after which durations enter their histograms, in some 0.1 ms. Oftener costs more."""

DRAIN: Final = 2.0
"""Seconds after the end in which what was due before may still be started."""

PAUSE: Final = 0.01
"""Seconds that a task waits after a failure: those that fail at once would stop the event loop."""

WHEEL: Final = 4096
"""Places on the wheel that commands are drawn from, at most."""

STEPS: Final = 64
"""Of different age, in which calls that were never started are counted."""

_FAILURES: Final = (RedisError, RedisUtilsError, OSError)

Call = Callable[..., Any]
Words = tuple[Any, ...]
_Way = tuple[Call, Callable[[], Words], Row]
"""What to call, what gives its arguments, and where it is counted."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, and how."""

    mix: dict[str, int]
    tasks: int
    pipeline: int = 1
    rate: float | None = None
    """Commands per second; None for as many as there can be."""
    arrivals: Arrivals = "poisson"

    @property
    def rows(self) -> tuple[str, ...]:
        """What is told apart: pipelines are answered as one."""
        return tuple(self.mix) if self.pipeline == 1 else (f"pipeline of {self.pipeline:,}",)


class Schedule:
    """When calls are due: ``rate`` a second from ``begin`` until ``end``."""

    def __init__(self, plan: Plan, begin: float, end: float, random: Random) -> None:
        assert plan.rate is not None
        self.rate = plan.rate / plan.pipeline
        self.end = end
        self.dealt = 0
        self._begin = self._last = begin
        self._gap = random.expovariate if plan.arrivals == "poisson" else None

    def __iter__(self) -> Schedule:
        return self

    def __next__(self) -> float:
        if self._gap is None:
            # Not by adding gaps: their errors would add up.
            due = self._begin + self.dealt / self.rate
        else:
            due = self._last + self._gap(self.rate)
        if due >= self.end:
            self._last = self.end  # nothing is owed any more
            raise StopIteration
        self._last = due
        self.dealt += 1
        return due

    def owed(self, now: float) -> int:
        """About how many are due at ``now`` and not dealt."""
        return max(0, int((min(now, self.end) - self._last) * self.rate))

    def ages(self, now: float, count: int) -> Iterator[tuple[float, int]]:
        """How long those have been due at ``now`` that are owed, each with how many."""
        oldest, youngest = now - self._last, now - min(now, self.end)
        for step, some in enumerate(stacked([1.0] * STEPS, count)):
            if some:
                yield oldest + (youngest - oldest) * (step + 0.5) / STEPS, some


class Load:
    """One run of the generator.

    Args:
        client: of the pool that carries it.
        data: what the commands work on.
        plan: what to send.
        figures: where it is counted.
        seed: of the order of the commands and of their arrivals; None for any.
    """

    def __init__(
        self, client: Redis, data: Data, plan: Plan, figures: Figures, *, seed: int | None = None
    ) -> None:
        self.figures = figures
        self._client = client
        self._plan = plan
        self._random = Random(seed)
        self._weights = list(accumulate(plan.mix.values()))
        self._batches = 0
        self._deck: deque[tuple[float, Call, Words, Row]] = deque()
        self._stopped = False
        self._schedule: Schedule | None = None
        self._alarm: Alarm | None = None
        self._ways: list[_Way] = []
        self._dealers = [data.dealer(name) for name in plan.mix]
        if plan.pipeline == 1:
            for name, dealer in zip(plan.mix, self._dealers, strict=True):
                row = figures.rows[name]
                if name == "get":  # the way that programs go, which is a shorter one
                    self._ways.append((client.get, data.key_dealer("string"), row))
                else:
                    self._ways.append((client.execute_command, dealer, row))
        # To draw from equal ones is twice as quick.
        self._wheel = _spread(self._ways, list(plan.mix.values())) if self._ways else []

    # -- life ----------------------------------------------------------------------------

    async def run(self, seconds: float) -> None:
        """Send commands for so long, and wait for their answers. Once.

        What was due and was never sent is counted with the time that it had waited.
        """
        loop = asyncio.get_running_loop()
        begin = perf_counter()
        work, patience = self._work, seconds
        timers = []
        if self._plan.rate is not None:
            self._schedule = Schedule(self._plan, begin, begin + seconds, self._random)
            self._alarm = Alarm()
            work, patience = self._work_on_time, seconds + DRAIN
            timers.append(loop.call_later(seconds, self._note_behind))
        timers.append(loop.call_later(patience, self._end))
        tasks = [asyncio.create_task(work()) for _ in range(self._plan.tasks)]
        try:
            await asyncio.gather(*tasks)
        finally:
            ended = perf_counter()
            self._end()
            for timer in timers:
                timer.cancel()
            for task in tasks:
                task.cancel()
            self.figures.fold()
            if self._schedule is not None:
                ended = min(ended, self._schedule.end)
            self.figures.seconds = ended - begin

    def stop(self) -> None:
        """Start nothing more; :meth:`run` returns when what is under way has been answered."""
        if self._schedule is not None:
            self._schedule.end = min(self._schedule.end, perf_counter())
            self._note_behind()
        self._end()

    def backlog(self) -> int:
        """Calls that are due and have not been started."""
        if self._schedule is None or self._stopped:
            return 0
        now = perf_counter()
        for place, card in enumerate(self._deck):
            if card[0] > now:
                return place
        return len(self._deck) + self._schedule.owed(now)

    def _note_behind(self) -> None:
        if not self._stopped:
            self.figures.behind = self.backlog()

    def _end(self) -> None:
        if self._stopped:
            return
        if self._schedule is not None and self._alarm is not None:
            self._give_up(self._schedule)
            self._alarm.close()
        self._stopped = True
        self._deck.clear()

    def _give_up(self, schedule: Schedule) -> None:
        """Count what is due and not started as having taken until now: it would take longer."""
        now, figures = perf_counter(), self.figures
        overdue = [card for card in self._deck if card[0] <= min(now, schedule.end)]
        owed = 0 if len(overdue) < len(self._deck) else schedule.owed(now)
        for due, _, _, row in overdue:
            row.response.record(now - due)
        rows = list(figures.rows.values())
        weights = list(self._plan.mix.values()) if self._ways else [1]
        for row, count in zip(rows, stacked(weights, owed), strict=True):
            for age, some in schedule.ages(now, count):
                row.response.record(age, some)
        figures.unstarted = len(overdue) + owed
        ahead = len(self._deck) - len(overdue) + (self._alarm.waiting if self._alarm else 0)
        figures.due = schedule.dealt - ahead + owed

    # -- dealing -------------------------------------------------------------------------

    def _deal(self) -> bool:
        """Put the next few calls on the deck; False when there are no more."""
        if self._stopped:
            return False
        self._batches += 1
        if self._batches % FOLD_EVERY == 0:
            self.figures.fold()
        drawn = self._drawn() if self._ways else self._pipelines()
        if self._schedule is None:
            self._deck.extend([(0.0, call, deal(), row) for call, deal, row in drawn])
        else:
            # In this order: zip must not take a moment for which there is no call.
            due = zip(drawn, self._schedule, strict=False)
            self._deck.extend([(moment, call, deal(), row) for (call, deal, row), moment in due])
        return bool(self._deck)

    def _drawn(self) -> list[_Way]:
        if self._wheel:
            return self._random.choices(self._wheel, k=BATCH)
        return self._random.choices(self._ways, cum_weights=self._weights, k=BATCH)

    def _pipelines(self) -> list[_Way]:
        (row,) = self.figures.rows.values()

        def deal() -> Words:
            length = self._plan.pipeline
            dealers = self._random.choices(self._dealers, cum_weights=self._weights, k=length)
            return ([deal() for deal in dealers],)

        return [(self._send_pipeline, deal, row)] * max(1, BATCH // self._plan.pipeline)

    async def _send_pipeline(self, commands: list[Words]) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            await pipe.execute()  # raises the first error there is

    # -- a task --------------------------------------------------------------------------

    async def _work(self) -> None:
        take, clock = self._deck.popleft, perf_counter
        while True:
            try:
                _, call, words, row = take()
            except IndexError:
                if self._deal():
                    continue
                return
            began = clock()
            try:
                await call(*words)
            except _FAILURES as error:
                self.figures.fail(row, error, clock() - began, None)
                await asyncio.sleep(PAUSE)
                continue
            row.took(clock() - began)

    async def _work_on_time(self) -> None:
        take, clock, figures, alarm = self._deck.popleft, perf_counter, self.figures, self._alarm
        assert alarm is not None
        lag = figures.lag.pending.append
        while True:
            try:
                due, call, words, row = take()
            except IndexError:
                if self._deal():
                    continue
                return
            began = clock()
            if began < due:
                if not await alarm.wait(due):
                    return
                began = clock()
                lag(began - due)
            elif began - due > LATE:
                figures.busy += 1
            try:
                await call(*words)
            except _FAILURES as error:
                done = clock()
                figures.fail(row, error, done - began, done - due)
                await asyncio.sleep(PAUSE)
                continue
            done = clock()
            row.took(done - began)
            row.waited(done - due)


def _spread(ways: list[_Way], weights: list[int]) -> list[_Way]:
    """Each as many times as it weighs; nothing if that were too many."""
    common = gcd(*weights)
    if sum(weights) // common > WHEEL:
        return []
    pairs = zip(ways, weights, strict=True)
    return [way for way, weight in pairs for _ in range(weight // common)]
