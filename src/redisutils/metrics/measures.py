"""Where measured commands are counted: in all, by part, by command, and the slowest."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, cast

from redisutils.metrics.latency import LatencyHistogram, LatencySnapshot
from redisutils.metrics.slow import SlowLog
from redisutils.metrics.split import PARTS, Composition, Split, Sums, band_of

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import CommandMetrics

__all__ = ["Measures", "PartMeasures"]


CODES: Final = 32
"""Codes of one command that are told apart: scripts can make up others without end."""

_NO_SUMS: Final = (0.0,) * 6
"""How many commands, and the sum of each part: see ``split.Sums``."""


class _Calls:
    """Calls of one command."""

    __slots__ = ("errors", "latency", "sums")

    def __init__(self) -> None:
        self.latency = LatencyHistogram()
        self.sums = list(_NO_SUMS)
        self.errors: Counter[str] = Counter()


class Measures:
    """Of one pool. Fixed memory: by the buckets of its histograms and the commands there are."""

    __slots__ = ("_by_command", "_parts", "_sums", "_total", "slow")

    def __init__(self) -> None:
        self._total = LatencyHistogram()
        self._parts = tuple(LatencyHistogram() for _ in PARTS)
        self._sums: dict[int, list[float]] = {}
        self._by_command: dict[str, _Calls] = {}
        self.slow = SlowLog()

    def record(
        self,
        command: str,
        wait: float,
        queue: float,
        wire: float,
        loop: float,
        parse: float,
        times: int,
        apart: bool = False,
    ) -> None:
        """Count a command for ``times`` commands that took as long. Some 5 µs: see
        :mod:`redisutils.metrics.meter` for how seldom.

        Args:
            command: one of a bounded number of names.
            wait, queue, wire, loop, parse: seconds, see :mod:`redisutils.metrics.split`.
            apart: it waited for others because it was told to, which says nothing of how long
                commands take: it is counted among those of its name only.
        """
        seconds = wait + queue + wire + loop + parse
        calls = self._by_command.get(command)
        if calls is None:
            calls = self._calls(command)
        calls.latency.record(seconds, times)
        _add(calls.sums, wait, queue, wire, loop, parse, times)
        if apart:
            return
        self._total.record(seconds, times)
        of_wait, of_queue, of_wire, of_loop, of_parse = self._parts
        of_wait.record(wait, times)
        of_queue.record(queue, times)
        of_wire.record(wire, times)
        of_loop.record(loop, times)
        of_parse.record(parse, times)
        band = band_of(seconds)
        sums = self._sums.get(band)
        if sums is None:
            sums = self._sums[band] = list(_NO_SUMS)
        _add(sums, wait, queue, wire, loop, parse, times)

    def refused(self, command: str, code: str) -> None:
        """The server answered a call of ``command`` with an error that begins with ``code``."""
        errors = self._calls(command).errors
        errors[code if code in errors or len(errors) < CODES else "OTHER"] += 1

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
        from redisutils.metrics.snapshot import CommandMetrics

        found = {}
        for name, calls in sorted(self._by_command.items()):
            latency = calls.latency.snapshot()
            answered, *parts = calls.sums
            split = Split(*(part / (answered or 1.0) for part in parts))
            found[name] = CommandMetrics(latency, split, MappingProxyType(dict(calls.errors)))
        return found


class PartMeasures(Measures):
    """Of one server of many. What is measured of it is counted in the whole, once; of its own it
    knows no more than how long its commands took.

    Args:
        whole: the measures of all the servers together.
    """

    __slots__ = ("_whole",)

    def __init__(self, whole: Measures) -> None:
        super().__init__()
        self._whole = whole
        self.slow = whole.slow

    def record(
        self,
        command: str,
        wait: float,
        queue: float,
        wire: float,
        loop: float,
        parse: float,
        times: int,
        apart: bool = False,
    ) -> None:
        """As of the whole."""
        self._whole.record(command, wait, queue, wire, loop, parse, times, apart)
        if not apart:
            self._total.record(wait + queue + wire + loop + parse, times)

    def refused(self, command: str, code: str) -> None:
        """As of the whole."""
        self._whole.refused(command, code)


def _add(
    sums: list[float],
    wait: float,
    queue: float,
    wire: float,
    loop: float,
    parse: float,
    times: int,
) -> None:
    """Add ``times`` commands to what is summed up: see ``split.Sums``."""
    sums[0] += times
    sums[1] += wait * times
    sums[2] += queue * times
    sums[3] += wire * times
    sums[4] += loop * times
    sums[5] += parse * times
