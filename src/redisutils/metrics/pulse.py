"""The event loop's own lag, and what the process costs: measured beside the commands.

Ten times a second the loop is asked to do nothing, and how late it comes to it is its lag: what
every answer, timer and task of the program waits as well. Once a second the pools of the loop note
where their counters stand, from which rates are read.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import weakref
from contextvars import Context
from time import monotonic, perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final, Protocol

from redisutils.metrics.events import HARMLESS
from redisutils.metrics.latency import LatencyHistogram

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import ProcessMetrics

__all__ = ["Pulse", "Ticked"]

logger = logging.getLogger("redisutils.pool")

_BEAT: Final = 0.1
"""Seconds from one look at the loop to the next."""

_BEATS_A_TICK: Final = 10


class Ticked(Protocol):
    """Is told once a second. Must be weakly referable."""

    def tick(self, now: float) -> None:
        """It is ``now`` (``time.monotonic``)."""


class Pulse:
    """Of one event loop, for all the pools in it; it beats while there are any."""

    __slots__ = (
        "__weakref__",
        "_beats",
        "_collector",
        "_context",
        "_due",
        "_failing",
        "_loop",
        "_ticked",
        "_timer",
        "lag",
    )

    _beats: int
    _collector: _Collector
    _context: Context
    _due: float
    _failing: weakref.WeakSet[Ticked]
    _loop: asyncio.AbstractEventLoop
    _ticked: weakref.WeakSet[Ticked]
    _timer: asyncio.TimerHandle | None
    lag: LatencyHistogram

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Pulse:
        """The one of ``loop``."""
        pulse = _known.get(id(loop))
        if pulse is None or pulse._loop is not loop:
            pulse = _known[id(loop)] = cls()
            pulse._loop = loop
            pulse._ticked = weakref.WeakSet()
            pulse._failing = weakref.WeakSet()
            pulse._timer = None
            pulse._collector = _collector()
            pulse._context = Context()  # nobody's
            pulse._beats = 0
            pulse._due = 0.0
            pulse.lag = LatencyHistogram()
        return pulse

    def join(self, ticked: Ticked) -> None:
        """Tell ``ticked`` from now on, until it leaves or is gone."""
        if not self._ticked:
            self._later(monotonic())
        self._ticked.add(ticked)

    def leave(self, ticked: Ticked) -> None:
        """Tell it no more."""
        self._ticked.discard(ticked)

    def read(self) -> ProcessMetrics:
        """What has been measured."""
        from redisutils.metrics.snapshot import ProcessMetrics

        return ProcessMetrics(
            loop_lag=self.lag.snapshot(),
            gc_pauses=self._collector.pauses.snapshot(),
            memory=_resident(),
            cpu_seconds=process_time(),
        )

    def _later(self, now: float) -> None:
        self._due = now + _BEAT
        if self._timer is not None:
            self._timer.cancel()  # of those who have left just now: one beats, and not two
        # The timer must not keep us, and with us the loop's pools, alive.
        self._timer = self._loop.call_later(_BEAT, _beat, weakref.ref(self), context=self._context)

    def beat(self) -> None:
        """Look how late it is."""
        if not self._ticked:
            return  # and begin again with the next to join
        now = monotonic()
        self.lag.record(max(0.0, now - self._due))
        self._later(now)  # before all that could fail
        self._beats += 1
        if self._beats % _BEATS_A_TICK == 0:
            for ticked in list(self._ticked):
                self._tick(ticked, now)

    def _tick(self, ticked: Ticked, now: float) -> None:
        """What one of them raises is told once, and nothing to the others."""
        try:
            ticked.tick(now)
        except Exception:
            if ticked not in self._failing:
                self._failing.add(ticked)
                with HARMLESS:
                    logger.exception("counting what came in the last second failed")


def _beat(pulse: weakref.ref[Pulse]) -> None:
    alive = pulse()
    if alive is not None:
        alive.beat()


class _Collector:
    """Listens to the garbage collector for as long as a pulse beats."""

    __slots__ = ("__weakref__", "_began", "_listener", "pauses")

    def __init__(self) -> None:
        self.pauses = LatencyHistogram()
        self._began = 0.0
        # What stands in gc.callbacks must not keep us: it is taken out when we are gone.
        us = weakref.ref(self)

        def listener(phase: str, _: dict[str, int]) -> None:
            alive = us()
            if alive is not None:
                alive._collecting(phase)

        gc.callbacks.append(listener)
        weakref.finalize(self, _forget, listener)

    def _collecting(self, phase: str) -> None:
        if phase == "start":
            self._began = perf_counter()
        elif self._began:
            self.pauses.record(perf_counter() - self._began)


def _forget(listener: Any) -> None:
    if listener in gc.callbacks:
        gc.callbacks.remove(listener)


_known: weakref.WeakValueDictionary[int, Pulse] = weakref.WeakValueDictionary()
_listening: weakref.WeakValueDictionary[str, _Collector] = weakref.WeakValueDictionary()


def _collector() -> _Collector:
    """The process's."""
    collector = _listening.get("gc")
    if collector is None:
        collector = _listening["gc"] = _Collector()
    return collector


_PAGE: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0


def _resident() -> int | None:
    """Resident bytes, where /proc tells."""
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except OSError:
        return None
