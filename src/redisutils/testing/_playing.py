"""How a timeline is played.

Steps happen in the order of the script, one after the other: one that takes its time, such as the
start of a server, puts off those after it. However it comes to an end (the script is over, a step
has failed, the block is left, the task is cancelled), every fault that still lasts is ended, the
latest first. Leaving interrupts no step, however often it is cancelled: a server that is being
started is started.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from .faults import Fault

__all__ = ["Event", "Playing"]


@dataclass(frozen=True)
class Event:
    """A fault begins or ends, ``moment`` seconds after the timeline's start."""

    moment: float
    fault: Fault
    what: Literal["begins", "ends"]

    def __str__(self) -> str:
        return f"{self.moment:8.3f} s  {self.fault} {self.what}"


class Playing:
    """A timeline that is being played: what ``async with timeline.on(proxy) as playing`` gives.

    Leaving the block ends the timeline, and raises what a step of it has raised.
    """

    def __init__(self, events: Sequence[Event], duration: float, proxy: Any) -> None:
        self._events = events
        self._duration = duration
        self._proxy = proxy
        self._log: list[Event] = []
        self._lasting: list[Fault] = []
        self._opened = asyncio.Event()
        self._leaving = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._start = 0.0

    def __repr__(self) -> str:
        state = "over" if self.over else "playing"
        return f"<Playing {state} events={len(self._log)}/{len(self._events)}>"

    @property
    def log(self) -> tuple[Event, ...]:
        """What has happened so far, with the moments at which it really did."""
        return tuple(self._log)

    @property
    def lasting(self) -> tuple[Fault, ...]:
        """The faults that have begun and not ended yet."""
        return tuple(self._lasting)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self._task is not None and self._task.done()

    async def wait(self) -> None:
        """Wait until the timeline is over. Raises what a step has raised."""
        if self._task is None:
            raise RuntimeError("the timeline is not played yet: use it in 'async with'")
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()

    async def __aenter__(self) -> Self:
        if self._task is not None:
            raise RuntimeError("it has been played already: call on() again")
        self._task = asyncio.create_task(self._play())
        opened = asyncio.create_task(self._opened.wait())
        try:
            await asyncio.wait([self._task, opened], return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._leave(self._task)
            raise
        finally:
            opened.cancel()
        if not self._opened.is_set():
            await self.wait()  # It is over at 0 already, or a step there has failed.
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._task is not None
        await self._leave(self._task)
        failure = None if self._task.cancelled() else self._task.exception()
        if failure is None or failure is error:
            return
        if error is None:
            raise failure
        error.add_note(f"before, the timeline had failed with {failure!r}")

    async def _leave(self, task: asyncio.Task[None]) -> None:
        self._leaving.set()
        cancelled: asyncio.CancelledError | None = None
        while not task.done():
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                cancelled = error  # The faults are ended first.
        if cancelled is not None:
            raise cancelled

    # --- the task ---

    async def _play(self) -> None:
        self._start = asyncio.get_running_loop().time()
        try:
            for event in self._events:
                if await self._left_before(event.moment):
                    return
                await (self._begin if event.what == "begins" else self._end)(event.fault)
            await self._left_before(self._duration)
        finally:
            async with AsyncExitStack() as stack:
                for fault in self._lasting:
                    stack.push_async_callback(self._end, fault)

    async def _left_before(self, moment: float) -> bool:
        if moment > 0:
            self._opened.set()
        try:
            async with asyncio.timeout_at(self._start + moment):
                return await self._leaving.wait()
        except TimeoutError:
            return False

    async def _begin(self, fault: Fault) -> None:
        if fault.lasts:
            self._lasting.append(fault)  # Cancelled half way, it is ended too.
        try:
            await self._happen(fault, "begins", fault.begin)
        except Exception:
            if fault.lasts:
                self._lasting.remove(fault)
            raise

    async def _end(self, fault: Fault) -> None:
        self._lasting.remove(fault)
        await self._happen(fault, "ends", fault.end)

    async def _happen(
        self, fault: Fault, what: Literal["begins", "ends"], action: Callable[[Any], object]
    ) -> None:
        moment = asyncio.get_running_loop().time() - self._start
        try:
            done = action(self._proxy)
            if inspect.isawaitable(done):
                await done
        except Exception as error:
            error.add_note(f"in a timeline, {moment:.3f} s after its start: {fault} {what}")
            raise
        self._log.append(Event(moment, fault, what))
