"""Where measured commands are counted: in all, by part, by command, and the slowest."""

from __future__ import annotations

from array import array
from collections import Counter
from types import MappingProxyType
from typing import Final, cast

from redisutils.metrics.latency import LatencyHistogram, LatencySnapshot
from redisutils.metrics.slow import SlowLog
from redisutils.metrics.snapshot import CommandMetrics
from redisutils.metrics.split import PARTS, Composition, Split, Sums, band_of

__all__ = ["Measures"]


_NO_SUMS: Final = bytes(6 * 8)
"""How many commands, and the sum of each part: see ``split.Sums``."""


class _Calls:
    """Calls of one command."""

    __slots__ = ("errors", "latency", "sums")

    def __init__(self) -> None:
        self.latency = LatencyHistogram()
        self.sums = array("d", _NO_SUMS)
        self.errors: Counter[str] = Counter()


class Measures:
    """Of one pool. Fixed memory: by the buckets of its histograms and the commands there are."""

    __slots__ = ("_by_command", "_parts", "_sums", "_total", "slow")

    def __init__(self) -> None:
        self._total = LatencyHistogram()
        self._parts = tuple(LatencyHistogram() for _ in PARTS)
        self._sums: dict[int, array[float]] = {}
        self._by_command: dict[str, _Calls] = {}
        self.slow = SlowLog()

    def record(self, command: str, split: tuple[float, ...], times: int) -> None:
        """Count a command that took the five parts of ``split`` for ``times`` commands. About 4 µs:
        see :mod:`redisutils.metrics.meter` for how seldom.

        Args:
            command: one of a bounded number of names.
        """
        seconds = sum(split)
        self._total.record(seconds, times)
        calls = self._calls(command)
        calls.latency.record(seconds, times)
        band = band_of(seconds)
        sums = self._sums.get(band)
        if sums is None:
            sums = self._sums[band] = array("d", _NO_SUMS)
        sums[0] += times
        of_command = calls.sums
        of_command[0] += times
        for number, (part, took) in enumerate(zip(self._parts, split, strict=True)):
            part.record(took, times)
            weighed = took * times
            sums[number + 1] += weighed
            of_command[number + 1] += weighed

    def refused(self, command: str, code: str) -> None:
        """The server answered a call of ``command`` with an error that begins with ``code``."""
        self._calls(command).errors[code] += 1

    def _calls(self, command: str) -> _Calls:
        calls = self._by_command.get(command)
        if calls is None:
            calls = self._by_command[command] = _Calls()
        return calls

    # -- reading -----------------------------------------------------------------------

    def latency(self) -> LatencySnapshot:
        """Of whole commands."""
        return self._total.snapshot()

    def parts(self) -> dict[str, LatencySnapshot]:
        """The same by part."""
        return {name: part.snapshot() for name, part in zip(PARTS, self._parts, strict=True)}

    def composition(self, latency: LatencySnapshot) -> Composition:
        """The parts by how long the whole took, which is ``latency``."""
        sums = {band: cast(Sums, tuple(sums)) for band, sums in self._sums.items()}
        return Composition(latency, MappingProxyType(sums))

    def by_command(self) -> dict[str, CommandMetrics]:
        """The commands that have been called, by name."""
        found = {}
        for name, calls in sorted(self._by_command.items()):
            latency = calls.latency.snapshot()
            answered, *parts = calls.sums
            split = Split(*(part / (answered or 1.0) for part in parts))
            found[name] = CommandMetrics(latency, split, MappingProxyType(dict(calls.errors)))
        return found
