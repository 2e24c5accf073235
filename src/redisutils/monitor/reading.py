"""A pool's snapshot for whoever exports it: from its event loop, from another thread, while it
closes and when it is closed.

A snapshot folds and copies what the loop goes on changing, so it is taken in the loop. From another
thread the loop is asked to, and has ``PATIENCE`` to come to it. If it does not, it hangs, and that
is worth more than anything else that could be told: the snapshot before stands in, and since when
the loop has been asked in vain.
When the loop has ended, or is the parent's of a process that was forked, nobody changes anything,
and it is taken at once.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextvars import Context
from dataclasses import dataclass
from math import inf
from threading import Lock
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary, ref

from redisutils.client.redis_pool import RedisPool
from redisutils.errors import PoolClosed
from redisutils.metrics import MetricsSnapshot
from redisutils.topology.server import Server

__all__ = ["PATIENCE", "Reader", "Reading"]

PATIENCE: Final = 1.0
"""Seconds that another thread's event loop has to answer."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A snapshot, and how old it is."""

    snapshot: MetricsSnapshot
    age: float
    """For how many seconds the event loop has been asked in vain; 0 while it answers."""


class Reader:
    """Of one pool, which it does not keep alive. Safe to use from any number of threads."""

    __slots__ = ("_asked", "_last", "_lock", "_pool", "_vain")

    def __init__(self, pool: RedisPool) -> None:
        self._pool = ref(pool)
        self._last: Reading | None = None
        self._asked = -inf  # when the last was taken, or could not be
        self._vain: float | None = None  # since when the loop has not answered
        self._lock = Lock()

    @classmethod
    def of(cls, pool: RedisPool) -> Reader:
        """The one of ``pool``."""
        with _making:
            reader = _readers.get(pool)
            if reader is None:
                reader = _readers[pool] = cls(pool)
            return reader

    def read(self, *, fresh_for: float = 0.0) -> Reading | None:
        """The pool as it is now; None while it was never open, or is gone.

        Blocks for as long as another thread's event loop takes to answer, ``PATIENCE`` at most.

        Args:
            fresh_for: seconds for which the last will do as well.
        """
        pool = self._pool()
        if pool is None:
            return None
        if monotonic() - self._asked >= fresh_for:
            try:
                server = pool.server
            except PoolClosed:
                return None
            begun = monotonic()
            taken, last = self._take(server), self._last
            self._asked = now = monotonic()
            if taken is not None:
                self._vain = None
                self._last = Reading(taken, 0.0)
            else:
                if self._vain is None:
                    self._vain = begun
                if last is not None:
                    self._last = Reading(last.snapshot, now - self._vain)
        return self._last

    def _take(self, server: Server) -> MetricsSnapshot | None:
        """A new snapshot; None if the event loop did not take one in time."""
        loop = server.loop
        if _running() is loop:
            return server.snapshot()
        if loop.is_running() and not server.forked:
            asked: Future[MetricsSnapshot] = Future()

            def answer() -> None:
                if asked.set_running_or_notify_cancel():  # or nobody waits any more
                    try:
                        asked.set_result(server.snapshot())
                    except BaseException as error:  # noqa: BLE001  # raised where it was asked for
                        asked.set_exception(error)

            try:
                loop.call_soon_threadsafe(answer, context=Context())
                return asked.result(PATIENCE)
            except TimeoutError:
                if asked.cancel() or not asked.done():
                    return None
                return asked.result()
            except RuntimeError:
                if not loop.is_closed():  # else it was closed meanwhile
                    raise
        with self._lock:
            return server.snapshot()


def _running() -> asyncio.AbstractEventLoop | None:
    """The event loop that the caller is in."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


_making: Final = Lock()
_readers: Final[WeakKeyDictionary[RedisPool, Reader]] = WeakKeyDictionary()
