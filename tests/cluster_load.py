"""Work for a cluster whose every answer is known beforehand: nothing may be lost, doubled or out
of order, whatever happens to the cluster meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from time import monotonic
from types import TracebackType
from typing import Any, Self

from redis.exceptions import RedisError

from redisutils import Outcome, outcome_of

__all__ = ["Load", "Worker"]


class Worker:
    """One caller with keys of its own, on which nobody else writes: a counter, a list, a value.

    Args:
        client: of the cluster.
        name: the keys' prefix.
        seed: of what it does next.
        complain: told what must not be.
        lossy: whether the servers may lose what they have acknowledged.
    """

    def __init__(
        self,
        client: Any,
        name: str,
        seed: int,
        complain: Callable[[str], None],
        *,
        lossy: bool = False,
    ) -> None:
        self.name = name
        self.successes: list[float] = []
        """When each turn that failed in nothing ended (``time.monotonic``)."""
        self.failures: list[tuple[float, RedisError]] = []
        """When, and what the caller saw."""
        self.turns: Counter[str] = Counter()
        self._client = client
        self._complain = complain
        self._lossy = lossy
        self._dice = random.Random(seed)
        self._counted: list[tuple[int, float]] = []
        self._perhaps = 0  # increments of which it is not known
        self._next = 0
        self._pushed: dict[int, float | None] = {}  # when acknowledged; None: not known
        self._values = {0}  # that a read may find; 0: there is none
        self._number = 0

    @property
    def keys(self) -> Sequence[str]:
        """The counter, the list and the value."""
        return [f"{kind}:{self.name}" for kind in ("count", "list", "value")]

    async def turn(self) -> None:
        """Do one thing."""
        kinds: list[Callable[[], Awaitable[None]]] = [
            *(self.count, self.push, self.write, self.read),
            *(self.push_together, self.pipe),
        ]
        kind = self._dice.choice(kinds)
        try:
            await kind()
        except RedisError as error:
            self.failures.append((monotonic(), error))
            if outcome_of(error) is None:
                self._complain(f"{kind.__name__} of {self.name} has no outcome: {error!r}")
        else:
            self.successes.append(monotonic())
            self.turns[kind.__name__] += 1

    # --- what it does ---

    async def count(self) -> None:
        try:
            self._has_counted(await self._client.incr(self.keys[0]))
        except RedisError as error:
            self._perhaps += _perhaps(error)
            raise

    def _has_counted(self, value: object) -> None:
        if not isinstance(value, int) or value > len(self._counted) + 1 + self._perhaps:
            self._complain(f"INCR of {self.name} answered {value}, and was done less often")
        else:
            self._counted.append((value, monotonic()))

    async def push(self) -> None:
        await self._push()

    async def push_together(self) -> None:
        """Several at once, in the order in which they are issued."""
        done = await asyncio.gather(*(self._push() for _ in range(4)), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error

    async def _push(self) -> None:
        number = self._number_pushed()
        try:
            await self._client.rpush(self.keys[1], number)
        except RedisError as error:
            if _perhaps(error):
                self._pushed[number] = None
            raise
        self._pushed[number] = monotonic()

    def _number_pushed(self) -> int:
        self._next += 1
        return self._next

    async def write(self) -> None:
        self._number += 1
        number = self._number
        try:
            await self._client.set(self.keys[2], number)
        except RedisError as error:
            if _perhaps(error):
                self._values.add(number)
            raise
        self._values = {number}

    async def read(self) -> None:
        found = await self._client.get(self.keys[2])
        value = 0 if found is None else int(found)
        possible = range(self._number + 1) if self._lossy else self._values
        if value not in possible:
            self._complain(f"GET of {self.name} found {value}, not one of {self._values}")

    async def pipe(self) -> None:
        """All of it as one pipeline, over several nodes."""
        pipe = self._client.pipeline(transaction=False)
        counter, pushed, _ = self.keys
        number = self._number_pushed()
        pipe.incr(counter).rpush(pushed, number).get(f"never:{self.name}").incr(counter)
        try:
            answers = await pipe.execute(raise_on_error=False)
        except RedisError as error:
            self._perhaps += 2 * _perhaps(error)
            if _perhaps(error):
                self._pushed[number] = None
            raise
        failed = None
        for place, answer in enumerate(answers):
            if isinstance(answer, RedisError):
                failed = answer
                if place == 1 and _perhaps(answer):
                    self._pushed[number] = None
                elif place != 2:
                    self._perhaps += _perhaps(answer)
            elif place == 1:
                self._pushed[number] = monotonic()
            elif place == 2:
                if answer is not None:
                    self._complain(f"GET of what is not there found {answer!r}")
            else:
                self._has_counted(answer)
        if failed is not None:
            raise failed

    # --- what is there in the end ---

    async def audit(self, lost_before: float = 0.0) -> None:
        """Compare with what the cluster has.

        Args:
            lost_before: what was acknowledged before that (``time.monotonic``) may be gone, since
                the servers have lost it; nothing else may be.
        """
        counter, pushed, _ = self.keys
        value = int(await self._client.get(counter) or 0)
        kept = [count for count, at in self._counted if at > lost_before]
        if any(after <= before for before, after in pairwise(kept)):
            self._complain(f"INCR of {self.name} answered {_around(kept)}")
        if not len(kept) <= value <= len(self._counted) + self._perhaps:
            self._complain(
                f"the counter of {self.name} is {value}: {len(kept)} and more were acknowledged, "
                f"{self._perhaps} may have been"
            )
        there = [int(one) for one in await self._client.lrange(pushed, 0, -1)]
        known = [one for one in there if self._pushed.get(one) is not None]
        if len(set(there)) != len(there):
            self._complain(f"the list of {self.name} has something twice: {there}")
        if known != sorted(known):
            self._complain(f"the list of {self.name} is out of order: {_around(known)}")
        for one in set(there) - self._pushed.keys():
            self._complain(f"the list of {self.name} has {one}, which was not done")
        gone = {
            one
            for one, at in self._pushed.items()
            if at is not None and at > lost_before and one not in there
        }
        if gone:
            self._complain(f"the list of {self.name} has lost {sorted(gone)}")


class Load:
    """Many workers at once, within the block.

    ::

        async with Load(pool.client, 50) as load:
            ...  # what happens to the cluster
        await load.audit()
        assert load.complaints == []
        assert load.errors == []

    Args:
        client: of the cluster.
        workers: how many, or their names: with a hash tag, all that one does is in one slot.
        pause: seconds between two turns of each, on average.
        seed: of what they do.
        lossy: whether the servers may lose what they have acknowledged.
    """

    def __init__(
        self,
        client: Any,
        workers: int | Sequence[str] = 50,
        *,
        pause: float = 0.005,
        seed: int = 0,
        lossy: bool = False,
    ) -> None:
        self.complaints: list[str] = []
        names = [str(number) for number in range(workers)] if isinstance(workers, int) else workers
        self.workers = [
            Worker(client, name, seed * 1000 + number, self.complaints.append, lossy=lossy)
            for number, name in enumerate(names)
        ]
        self._pause = pause
        self._dice = random.Random(seed)
        self._ended = False
        self._tasks: list[asyncio.Task[None]] = []

    def of(self, owns: Callable[[str], bool]) -> list[Worker]:
        """Those whose name is ``owns``."""
        return [worker for worker in self.workers if owns(worker.name)]

    @property
    def errors(self) -> list[str]:
        """What the callers saw, in words."""
        return [
            f"{type(error).__name__}: {error}"[:400]
            for worker in self.workers
            for _, error in worker.failures
        ]

    @property
    def done(self) -> int:
        """Turns without a failure until now."""
        return sum(len(worker.successes) for worker in self.workers)

    async def goes_on(self, turns: int, patience: float = 20.0) -> None:
        """Wait until each worker has done so many more."""
        wanted = [(worker, len(worker.successes) + turns) for worker in self.workers]
        deadline = monotonic() + patience
        while any(len(worker.successes) < most for worker, most in wanted):
            assert monotonic() < deadline, f"not {turns} turns within {patience} s"
            await asyncio.sleep(0.01)

    async def audit(self, lost_before: float = 0.0) -> None:
        """End the work, and see ``Worker.audit``."""
        await self._end()
        for worker in self.workers:
            await worker.audit(lost_before)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work(worker)) for worker in self.workers]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        else:
            await self._end()

    async def _end(self) -> None:
        """Let each worker end its turn."""
        self._ended = True
        await asyncio.gather(*self._tasks)

    async def _work(self, worker: Worker) -> None:
        while not self._ended:
            await worker.turn()
            await asyncio.sleep(self._dice.uniform(0, 2 * self._pause))


def _perhaps(error: RedisError) -> bool:
    """Whether it may have been executed."""
    return outcome_of(error) is Outcome.UNKNOWN


def _around(numbers: Sequence[int]) -> Sequence[int]:
    """Where the first is out of order."""
    for place in range(1, len(numbers)):
        if numbers[place] < numbers[place - 1]:
            return numbers[max(0, place - 5) : place + 5]
    return numbers
