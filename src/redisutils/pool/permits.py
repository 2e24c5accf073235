"""Permits, handed out first come first served.

A permit that is given back goes to the longest waiter in the same step, so that nobody who happens
to run next can take it from him. A waiter that is cancelled as he is handed one gives it on.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from math import inf

__all__ = ["Permits"]


class Permits:
    """See the module's docstring.

    Args:
        count: how many there are.
    """

    __slots__ = ("_debt", "_waiters", "count", "free")

    def __init__(self, count: int) -> None:
        self.count = count
        self.free = count
        # In the order of arrival; any of them can leave in one step.
        self._waiters: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._debt = 0  # permits that no longer exist, still held

    @property
    def held(self) -> int:
        """Permits that somebody has, those that no longer exist included."""
        return self.count + self._debt - self.free

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiters)

    def take(self) -> bool:
        """Take one if one is free, and so nobody waits. Returns whether it was."""
        if not self.free:
            return False
        self.free -= 1
        return True

    async def wait(self, timeout: float, late: Callable[[], Exception]) -> None:
        """Until one is handed to us.

        Args:
            timeout: seconds; ``inf`` for no bound.
            late: what to raise when they are over.
        """
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        timer = None
        if timeout != inf:
            timer = loop.call_later(timeout, self._expire, waiter, late)
        self._waiters[waiter] = None
        try:
            await waiter
        except BaseException:
            if waiter in self._waiters:
                del self._waiters[waiter]
            elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.give()  # handed over as we were cancelled: on to the next
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def give(self) -> None:
        """Give one back: to the longest waiter who still wants it, else to whoever comes."""
        if self._debt:
            self._debt -= 1
            return
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_result(None)
                return
        self.free += 1

    def resize(self, count: int) -> None:
        """Let there be ``count`` from now on: free ones go now, others when they come back."""
        grown = count - self.count
        self.count = count
        if grown < 0:
            gone = min(self.free, -grown)
            self.free -= gone
            self._debt += -grown - gone
        else:
            for _ in range(grown):
                self.give()

    def refuse(self, error: Callable[[], Exception]) -> None:
        """Those who wait are told an ``error`` each."""
        while self._waiters:
            waiter, _ = self._waiters.popitem(last=False)
            if not waiter.done():
                waiter.set_exception(error())

    def _expire(self, waiter: asyncio.Future[None], late: Callable[[], Exception]) -> None:
        if not waiter.done():
            self._waiters.pop(waiter, None)  # who is told of other waiters is none of them
            waiter.set_exception(late())
