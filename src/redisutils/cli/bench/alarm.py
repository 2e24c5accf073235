"""Waking tasks at moments that are finer than an event loop's timers.

Those of asyncio and uvloop know milliseconds: at 10,000 arrivals a second each would come up to ten
places late, and the generator would measure itself. On Linux the kernel's own timer is asked, by a
file descriptor that the loop watches; elsewhere the loop turns idly through the last milliseconds.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections import deque
from time import perf_counter
from typing import Final

__all__ = ["Alarm"]

_COARSE: Final = 0.002
"""Seconds by which a loop's own timer may be late, and some more."""

_CLOCK_MONOTONIC: Final = 1  # the one of perf_counter, on Linux
_ABSOLUTE: Final = 1


class Alarm:
    """Wakes those who wait, in the order of their moments.

    It belongs to the running loop; :meth:`close` wakes everybody who is left.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[bool]]] = deque()
        self._closed = False
        self._timer = _Timer.make()
        if self._timer is not None:
            self._loop.add_reader(self._timer.fileno, self._ring)

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def wait(self, when: float) -> asyncio.Future[bool]:
        """True at ``when`` (of ``perf_counter``); False if it was closed before.

        Each moment must not be earlier than the one before.
        """
        future: asyncio.Future[bool] = self._loop.create_future()
        if self._closed:
            future.set_result(False)
            return future
        self._waiting.append((when, future))
        if len(self._waiting) == 1:
            self._set(when)
        return future

    def close(self) -> None:
        """Nobody waits any more. A second call does nothing."""
        self._closed = True
        while self._waiting:
            _, future = self._waiting.popleft()
            if not future.done():
                future.set_result(False)
        if self._timer is not None:
            self._loop.remove_reader(self._timer.fileno)
            self._timer.close()
            self._timer = None

    def _set(self, when: float) -> None:
        if self._timer is not None:
            self._timer.set(when)
        elif (away := when - perf_counter()) > _COARSE:
            self._loop.call_later(away - _COARSE, self._ring)
        else:
            self._loop.call_soon(self._ring)

    def _ring(self) -> None:
        waiting = self._waiting
        now = perf_counter()
        while waiting and waiting[0][0] <= now:
            _, future = waiting.popleft()
            if not future.done():
                future.set_result(True)
        if waiting:
            self._set(waiting[0][0])
        elif self._timer is not None:
            self._timer.set(0.0)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class _Timer:
    """Linux' timerfd: readable from its moment on, until it is set anew."""

    def __init__(self, libc: ctypes.CDLL, fileno: int) -> None:
        self._settime = libc.timerfd_settime
        self._spec = _Itimerspec()
        self.fileno = fileno

    @classmethod
    def make(cls) -> _Timer | None:
        """None where there is no such thing."""
        if sys.platform != "linux":
            return None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fileno = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return None
        return cls(libc, fileno) if fileno >= 0 else None

    def set(self, when: float) -> None:
        """Be readable at ``when``; 0 for never."""
        value = self._spec.value
        value.seconds = int(when)
        value.nanoseconds = int((when - int(when)) * 1e9)
        self._settime(self.fileno, _ABSOLUTE, ctypes.byref(self._spec), None)

    def close(self) -> None:
        os.close(self.fileno)
