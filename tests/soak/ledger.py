"""What was written, how each write ended, and what the server must hold because of it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError, WatchError

from redisutils import Outcome, outcome_of

__all__ = ["Ledger", "Tally", "surely_not_done"]


def surely_not_done(error: BaseException) -> bool:
    """Whether the error says that the server did nothing."""
    return isinstance(error, WatchError) or outcome_of(error) in {
        Outcome.NOT_SENT,
        Outcome.REJECTED,
    }


class Ledger:
    """Writes with names of their own to one list, by one caller.

    Args:
        key: of the list.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.unknown: set[str] = set()
        """Those that may have landed, or may yet."""
        self._issued = 0
        self._acknowledged: set[str] = set()
        self._refused: set[str] = set()

    def __len__(self) -> int:
        return len(self._acknowledged)

    def name(self) -> str:
        """A name for the next write. Names are in the order in which they are given."""
        self._issued += 1
        return f"{self.key}#{self._issued}"

    async def write(self, names: Sequence[str], awaitable: Awaitable[Any]) -> Any:
        """Await what writes ``names``, and remember how it ended. Raises what it raises."""
        try:
            result = await awaitable
        except asyncio.CancelledError:
            self.unknown.update(names)
            raise
        except RedisError as error:
            (self._refused if surely_not_done(error) else self.unknown).update(names)
            raise
        self._acknowledged.update(names)
        return result

    def audit(
        self, landed: Sequence[str], *, consumed: Sequence[str] = (), lost: int = 0
    ) -> Iterator[str]:
        """What is wrong with a list that holds ``landed``. The next audit begins anew: the list
        is to be removed.

        Args:
            landed: names in the order of the list.
            consumed: what was taken from it, in any order.
            lost: how many at most may have been taken by somebody who never learnt of it.
        """
        counts = Counter((*landed, *consumed))
        for name, times in counts.items():
            if times > 1:
                yield f"{name} is there {times} times"
            if name in self._refused:
                yield f"{name} was not done, as its error said, and is there"
            elif name not in self._acknowledged and name not in self.unknown:
                yield f"{name} is on {self.key} and was never written there"
        missing = sorted(self._acknowledged - counts.keys())
        if len(missing) > lost:
            yield f"{len(missing)} of {self.key} were acknowledged and are gone: {missing[:5]}"
        order = [_number(name) for name in landed if name in self._acknowledged]
        if order != sorted(order):
            yield f"{self.key} is out of order: {order[:50]}"
        self._acknowledged.clear()
        self.unknown.clear()
        self._refused.clear()


class Tally:
    """A number that one caller counts up.

    Args:
        key: of the number.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._last = 0
        self._acknowledged = 0
        self._unknown = 0

    async def count(self, awaitable: Awaitable[Any]) -> Iterator[str]:
        """Await an INCR; what is wrong with its reply. Raises what it raises."""
        try:
            value = await awaitable
        except asyncio.CancelledError:
            self._unknown += 1
            raise
        except RedisError as error:
            self._unknown += not surely_not_done(error)
            raise
        self._acknowledged += 1
        return self._judge(value)

    def audit(self, value: int) -> Iterator[str]:
        """What is wrong when the server has ``value`` in the end. Begins anew from there."""
        if not self._acknowledged <= value <= self._acknowledged + self._unknown:
            yield (
                f"{self.key} is {value} after {self._acknowledged} acknowledged INCRs and "
                f"{self._unknown} unknown ones"
            )
        self._last = self._acknowledged = value
        self._unknown = 0

    def _judge(self, value: Any) -> Iterator[str]:
        if not isinstance(value, int) or not (
            self._last < value <= self._acknowledged + self._unknown
        ):
            yield (
                f"{self.key} says {value!r} after {self._last}, with {self._acknowledged} "
                f"acknowledged and {self._unknown} unknown"
            )
        else:
            self._last = value


def _number(name: str) -> int:
    return int(name.rpartition("#")[2])
