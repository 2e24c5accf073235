"""What happens, as it happens: the tasks, the death, and all that is shown of them."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections import Counter
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from redisutils import Redis
from redisutils.cli.demo.failover.book import FAILURES, Book, Findings
from redisutils.cli.demo.failover.killing import Killing
from redisutils.cli.demo.stage import Stage
from redisutils.errors import outcome_of

__all__ = ["Event", "Story"]

REST: Final = 0.01
"""Seconds that a task rests between two writes, on average. The servers share the machine with us,
and need some of it to elect one of them."""

PATIENCE: Final = 15.0
"""Seconds for which the end is put off when nobody has taken over yet."""

SEEN: Final = 2.0
"""Seconds that one sees all well again before the dead one is brought back."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line."""

    at: float
    """Seconds since the beginning."""
    words: str
    style: str = ""


class Story:
    """See the module's docstring.

    Args:
        client: shared by all tasks.
        stage: the servers.
        tasks: how many write.
    """

    def __init__(self, client: Redis, stage: Stage, tasks: int) -> None:
        self.findings = Findings()
        self.errors: Counter[str] = Counter()
        """What tasks were told, and how often."""
        self.events: list[Event] = []
        self.began = perf_counter()
        prefix = f"trading:demo-{secrets.token_hex(4)}"
        self.books = [Book(number, prefix, self.findings) for number in range(tasks)]
        victim = stage.owner(self.books[0].list_key)
        self.killing = Killing(victim, stage.successors(victim))
        self.unread = 0
        """Tasks whose list could not be read in the end."""
        self.first_success: float | None = None
        """When a write was first acknowledged where the primary had died, by who took over."""
        self._stage = stage
        self._client = client
        self._stop = asyncio.Event()
        for book in self.books:
            book.bereaved = stage.owner(book.list_key) is victim

    @property
    def acknowledged(self) -> int:
        """Writes, so far."""
        return sum(book.acknowledged for book in self.books)

    @property
    def refused(self) -> int:
        """Writes that certainly were not executed."""
        return sum(book.refused for book in self.books)

    @property
    def unknown(self) -> int:
        """Writes of which nobody knows yet."""
        return sum(book.unknown for book in self.books)

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return perf_counter() - self.began

    def longest(self, bereaved: bool) -> float:
        """Seconds that a write took at most since the death."""
        return max((b.longest for b in self.books if b.bereaved is bereaved), default=0.0)

    @property
    def right(self) -> bool:
        """Whether nothing happened that must not."""
        return not (self.findings.faults or self.unread) and self.first_success is not None

    def stop(self) -> None:
        """Let every task finish the write it is in."""
        self._stop.set()

    def tell(self, words: str, style: str = "") -> None:
        """Something has happened."""
        self.events.append(Event(self.elapsed, words, style))

    async def run(self, seconds: float, kill_after: float) -> None:
        """Write for so long, and kill a primary meanwhile; then read what is there.

        Args:
            seconds: until the end, which is put off for ``PATIENCE`` seconds at most when nobody
                has taken over by then.
            kill_after: until a primary is killed.
        """
        await asyncio.gather(*(book.begin(self._client) for book in self.books))
        self.began = perf_counter()
        asyncio.get_running_loop().call_later(seconds, self._time_is_up, PATIENCE)
        killer = asyncio.create_task(self._kill(kill_after))
        killer.add_done_callback(self._killed)
        try:
            async with asyncio.TaskGroup() as group:
                for book in self.books:
                    group.create_task(self._work(book))
        finally:
            killer.cancel()
            await asyncio.wait({killer})
        if not killer.cancelled():
            killer.result()
        self.tell("the tasks have stopped; reading back what the servers hold")
        until = self.killing.lost_until
        readings = (book.verify(self._client, until) for book in self.books)
        for error in await asyncio.gather(*readings, return_exceptions=True):
            if isinstance(error, FAILURES):
                self.unread += 1
                self._failed(error)
            elif error is not None:
                raise error

    async def clean(self) -> None:
        """Delete all keys of the run."""
        for book in self.books:
            try:
                await book.delete(self._client)
            except FAILURES as error:
                self._failed(error)

    async def _work(self, book: Book) -> None:
        while not self._stop.is_set():
            error = await book.write(self._client)
            if error is not None:
                self._failed(error)
            elected = self.killing.elected_at
            if (
                self.first_success is None
                and elected is not None
                and book.bereaved
                and book.last_success >= elected - 0.05  # it may be seen before the election is
            ):
                self.first_success = book.last_success
                late = max(0.0, self.first_success - elected)
                self.tell(f"first write acknowledged there, {late * 1000:.0f} ms later", "green")
            await asyncio.sleep(REST * 2 * random.random())

    async def _kill(self, after: float) -> None:
        await asyncio.sleep(after)
        killing = self.killing
        hit = sum(book.bereaved for book in self.books)
        where = self._stage.told(killing.victim)
        self.tell(
            f"kill -9 of the primary {where}: {hit} of {len(self.books)} tasks write there",
            "bold red",
        )

        def died(at: float) -> None:
            for book in self.books:
                book.killed_at = at

        await killing.kill(died)
        assert killing.elected is not None
        assert killing.elected_at is not None
        assert killing.killed_at is not None
        took = killing.elected_at - killing.killed_at
        self.tell(
            f"{self._stage.told(killing.elected)} is elected, {took:.2f} s after the death",
            "yellow",
        )
        await asyncio.sleep(SEEN)
        await killing.bring_back()
        self.tell(f"{where} is started again, and follows who took over")

    def _time_is_up(self, patience: float) -> None:
        orphaned = self.killing.killed_at is not None and self.first_success is None
        if orphaned and patience > 0:
            asyncio.get_running_loop().call_later(0.1, self._time_is_up, patience - 0.1)
        else:
            self.stop()

    def _killed(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self.stop()  # which raises it

    def _failed(self, error: BaseException) -> None:
        outcome = outcome_of(error)
        self.errors[f"{type(error).__name__} ({outcome.name if outcome else 'unsaid'})"] += 1
