"""A task of ours in the background, which nobody awaits and anybody may cancel."""

from __future__ import annotations

import asyncio
from asyncio import AbstractEventLoop, Task, TimerHandle
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any

__all__ = ["Background"]


class Background:
    """See the module's docstring. Belongs to the event loop in which it is first begun.

    Some programs end by cancelling all tasks of their loop, ours among them. Where the loop goes on
    all the same, so does the work: it is begun anew a while later, by a timer, which a loop that
    ends drops without a word.

    Args:
        work: makes what is to be run. It sees to its own errors.
        pause: asked for the seconds after which it is begun anew when somebody has cancelled it.
    """

    __slots__ = ("_again", "_ended", "_pause", "_task", "_work")

    def __init__(
        self, work: Callable[[], Coroutine[Any, Any, None]], pause: Callable[[], float]
    ) -> None:
        self._work = work
        self._pause = pause
        self._task: Task[None] | None = None
        self._again: TimerHandle | None = None
        self._ended = False

    def begin(self) -> None:
        """Have it run, unless it does, or has been ended."""
        if self._ended or not (self._task is None or self._task.done()):
            return
        self._forget_timer()
        loop = asyncio.get_running_loop()
        # Nobody's context: it outlives who asked first.
        self._task = loop.create_task(self._work(), context=Context())
        self._task.add_done_callback(self._over)

    def _over(self, task: Task[None]) -> None:
        loop: AbstractEventLoop = task.get_loop()
        if task.cancelled() and not self._ended:
            self._again = loop.call_later(self._pause(), self.begin)

    def _forget_timer(self) -> None:
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def end(self) -> None:
        """Cancel it, for good."""
        self._ended = True
        self._forget_timer()
        if self._task is not None:
            self._task.cancel()

    async def ended(self) -> None:
        """Wait for the end of what was under way."""
        if self._task is not None:
            await asyncio.wait([self._task])
