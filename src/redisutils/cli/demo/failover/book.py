"""One task's writes, each with a number of its own, and what became of it.

A write is a number that is pushed to a list. It is acknowledged, or refused (it is certain that it
was not executed), or unknown (the connection was lost before the answer). In the end the list is
read, and tells for certain: what was acknowledged must be there, once and in order, but for what
the servers themselves have lost; what was refused must not be; what is unknown may be.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from itertools import pairwise
from time import perf_counter
from typing import Final

from redis.exceptions import RedisError

from redisutils import Redis
from redisutils.errors import Outcome, RedisUtilsError, outcome_of

__all__ = ["DYING", "FAILURES", "Book", "Findings"]

FAILURES: Final = (RedisError, RedisUtilsError)
"""What a command may raise."""

ACKNOWLEDGED, REFUSED, UNKNOWN = 1, 2, 3

DYING: Final = 0.25
"""Seconds for which an answer may lie in a socket whose server is dead."""

TTL: Final = 3600
"""Seconds that the keys outlive a run that was killed."""


@dataclass
class Findings:
    """What the servers hold, against what they had said."""

    acknowledged: int = 0
    refused: int = 0
    unknown: int = 0
    kept: int = 0
    """Of those acknowledged, that are there."""
    done: int = 0
    """Of those unknown, that are there."""
    lost_by_servers: int = 0
    """Acknowledged by the primary that died, before it had passed them on."""
    lost: int = 0
    """Acknowledged otherwise, and gone: there is no excuse for that."""
    doubled: int = 0
    undead: int = 0
    """Refused, and there."""
    out_of_order: int = 0
    wrong: int = 0
    """Answers that were another's, or older than what was acknowledged."""
    rolled_back: int = 0
    """Answers older than what the dead primary had acknowledged."""
    examples: list[str] = field(default_factory=list)
    """The first few of what must not be."""

    @property
    def faults(self) -> int:
        """What must not be."""
        return self.lost + self.doubled + self.undead + self.out_of_order + self.wrong

    def fault(self, words: str) -> None:
        """Remember what one of them was."""
        if len(self.examples) < 5:
            self.examples.append(words)


class Book:
    """See the module's docstring.

    Args:
        number: which task it is of.
        prefix: what its keys begin with; no other program may use it.
        findings: where wrong answers are counted.
    """

    def __init__(self, number: int, prefix: str, findings: Findings) -> None:
        self.name = f"{number:04d}"
        # Both in one slot: they share a fate.
        self.list_key = f"{prefix}:{{{self.name}}}:fills"
        self.price_key = f"{prefix}:{{{self.name}}}:price"
        self.bereaved = False
        """Whether its keys live where the primary is killed."""
        self.killed_at: float | None = None
        """When that was (``time.perf_counter``)."""
        self.fates = bytearray()
        self.acknowledged = 0
        self.refused = 0
        self.unknown = 0
        self.last_success = 0.0
        """When a write was last acknowledged."""
        self.longest = 0.0
        """Seconds that a write has taken at most, since the death."""
        self._times = array("d")
        self._findings = findings
        self._priced = -1

    async def write(self, client: Redis) -> BaseException | None:
        """Write a number, then a price, and read the price. Returns what failed."""
        number = len(self.fates)
        self.fates.append(UNKNOWN)
        self._times.append(0.0)
        began = perf_counter()
        try:
            await client.rpush(self.list_key, number)
            now = self._times[number] = self.last_success = perf_counter()
            self.fates[number] = ACKNOWLEDGED
            self.acknowledged += 1
            if self.killed_at is not None:
                self.longest = max(self.longest, now - began)
            await client.set(self.price_key, f"{self.name} {number}", ex=TTL)
            self._priced = number
            self._compare(await client.get(self.price_key))
        except FAILURES as error:
            if self.fates[number] == UNKNOWN:
                if outcome_of(error) is Outcome.UNKNOWN:
                    self.unknown += 1
                else:
                    self.fates[number] = REFUSED
                    self.refused += 1
            return error
        return None

    def _compare(self, told: object) -> None:
        right = f"{self.name} {self._priced}".encode()
        if told == right:
            return
        whose, _, number = told.decode().partition(" ") if isinstance(told, bytes) else ("", "", "")
        own = told is None or (whose == self.name and number.isdigit())
        old = own and (told is None or int(number) < self._priced)
        # What the primary that died said last may have died with it.
        died = self.bereaved and self.killed_at is not None
        if old and died and self._times[self._priced] < (self.killed_at or 0.0) + DYING:
            self._findings.rolled_back += 1
            return
        self._findings.wrong += 1
        self._findings.fault(f"{self.price_key}: expected {right!r}, found {told!r}")

    async def verify(self, client: Redis, lost_until: float | None) -> None:
        """Compare all that is stored with what was said.

        Args:
            lost_until: until when an acknowledgement may have come from the primary that died
                (``time.perf_counter``); None if none did.
        """
        found = self._findings
        stored = [int(number) for number in await client.lrange(self.list_key, 0, -1)]
        there = set(stored)
        found.doubled += (twice := len(stored) - len(there))
        if twice:
            found.fault(f"{self.list_key}: {twice} numbers are there twice")
        if (disorder := sum(b < a for a, b in pairwise(stored))) and not twice:
            found.out_of_order += disorder
            found.fault(f"{self.list_key}: {disorder} numbers stand before an earlier one")
        for number, fate in enumerate(self.fates):
            here = number in there
            if fate == ACKNOWLEDGED:
                found.acknowledged += 1
                found.kept += here
                if not here:
                    self._missing(number, lost_until)
            elif fate == REFUSED:
                found.refused += 1
                found.undead += here
                if here:
                    found.fault(f"{self.list_key}: {number} was refused, and is there")
            else:
                found.unknown += 1
                found.done += here

    def _missing(self, number: int, lost_until: float | None) -> None:
        excused = self.bereaved and lost_until is not None and self._times[number] <= lost_until
        if excused:
            self._findings.lost_by_servers += 1
        else:
            self._findings.lost += 1
            self._findings.fault(f"{self.list_key}: {number} was acknowledged, and is not there")

    async def begin(self, client: Redis) -> None:
        """Let the list end by itself one day."""
        await client.rpush(self.list_key, 0)
        await client.expire(self.list_key, TTL)
        self.fates.append(ACKNOWLEDGED)
        self._times.append(perf_counter())
        self.acknowledged += 1

    async def delete(self, client: Redis) -> None:
        """Delete its keys."""
        await client.delete(self.list_key, self.price_key)
