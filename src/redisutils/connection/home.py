"""Where connections live: an event loop, in its thread and its process.

Staying awake
-------------
An answer from the same machine or rack takes some tens of microseconds. To sleep until it is there
and be woken takes as long again, more where the processor is a virtual one, and about as much of
its time as polling. So while few commands are in flight the loop is kept turning, which polls its
sockets without sleeping, until the first answer is there or ``AWAKE`` has passed. All else in the
loop runs as ever meanwhile.

A connection on which nothing came in time lets the loop sleep the next ``ASLEEP`` times, and then
tries once more: clients of a distant server nearly always sleep.

These times are read from ``perf_counter``: ``monotonic`` may tick every 16 ms only, on Windows.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from contextvars import Context
from threading import get_ident
from time import perf_counter
from typing import Final

__all__ = ["ASLEEP", "AWAKE", "Home"]

AWAKE: Final = 100e-6
"""Seconds for which the loop is kept turning for an answer."""

ASLEEP: Final = 32
"""How often it is not, after it was in vain."""


class Home:
    """One event loop, for all the connections in it."""

    __slots__ = ("__weakref__", "_context", "_turning", "awake_until", "forked", "loop", "thread")

    _context: Context
    _turning: bool
    awake_until: float
    """When to sleep at the latest (``time.perf_counter``)."""
    forked: bool
    """Whether this is a child of the process in which the loop was made."""
    loop: asyncio.AbstractEventLoop
    thread: int
    """The thread that runs the loop, while a connection hands out replies; else 0. Who is in it
    then is in the loop, which costs less to find out than ``get_running_loop()``: that is a
    system call before Python 3.12."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Home:
        """The one of ``loop``."""
        home = _known.get(id(loop))  # which is its own for as long as its home lives
        if home is None:
            home = _known[id(loop)] = cls()
            home.loop = loop
            home.forked = False
            home.thread = 0
            home.awake_until = 0.0
            home._turning = False
            home._context = Context()  # nobody's; a copy for each turn would cost
        return home

    def is_here(self) -> bool:
        """Whether the caller runs in this loop. ``Connection.submit`` says the same inline."""
        return get_ident() == self.thread or asyncio.get_running_loop() is self.loop

    def stay_awake(self) -> float:
        """Keep the loop turning for ``AWAKE`` from now on, unless :meth:`sleep` ends that.

        Returns until when.
        """
        until = self.awake_until = perf_counter() + AWAKE
        if not self._turning:
            self._turning = True
            self.loop.call_soon(self._turn, context=self._context)
        return until

    def sleep(self, until: float) -> None:
        """Whoever asked to stay awake until ``until`` need not any more."""
        if self.awake_until == until:  # nobody has asked since
            self.awake_until = 0.0

    def _turn(self) -> None:
        if perf_counter() < self.awake_until:
            self.loop.call_soon(self._turn, context=self._context)
        else:
            self._turning = False


_known: weakref.WeakValueDictionary[int, Home] = weakref.WeakValueDictionary()


def _forked() -> None:
    """In a child: no loop of its parent's is its own, even if it was forked by a woken task."""
    for home in _known.values():
        home.forked = True
        home.thread = 0
    _known.clear()  # what the child opens is its own, in the same loop too


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
