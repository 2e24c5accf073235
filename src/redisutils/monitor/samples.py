"""Where the samples of each exported metric are read from: see :mod:`redisutils.monitor.catalogue`.

What is counted by a name that may come from outside (a lane's, the code of an error reply) is told
of so many names at most; the rest is told together as ``OTHER``. What an alert waits for is told
from the beginning, as 0: Prometheus cannot see a counter rise that was not there before.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeAlias

from redisutils.metrics import LaneMetrics, LatencySnapshot, MetricsSnapshot
from redisutils.monitor.reading import Reading
from redisutils.version import VERSION

__all__ = [
    "Read",
    "Sample",
    "age",
    "breaker",
    "by_command",
    "by_part",
    "errors",
    "failures",
    "info",
    "lanes",
    "one",
    "refusals",
    "retries",
    "valid",
    "whole",
]

Sample: TypeAlias = tuple[tuple[str, ...], float | LatencySnapshot]
"""The values of a metric's labels, and its value; a histogram's is what it is made of."""

Read: TypeAlias = Callable[[Reading], Iterable[Sample]]

OTHER: Final = "OTHER"

_MOST: Final = 32
"""Names that one label has at most, where nothing else bounds them."""

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
"""What the first word of an error reply looks like. A script can answer anything."""

_FAILURES: Final = (
    ("AuthenticationFailed", "NOT_SENT"),
    ("CircuitOpen", "NOT_SENT"),
    ("CommandTimeout", "NOT_SENT"),
    ("CommandTimeout", "UNKNOWN"),
    ("ConnectFailed", "NOT_SENT"),
    ("ConnectTimeout", "NOT_SENT"),
    ("ConnectionLost", "NOT_SENT"),
    ("ConnectionLost", "UNKNOWN"),
    ("PoolTimeout", "NOT_SENT"),
    ("ProtocolError", "NOT_SENT"),
    ("ProtocolError", "UNKNOWN"),
    ("ResponseError", "REJECTED"),
    ("ResponseError", "UNKNOWN"),
)
_ERRORS: Final = ("CommandTimeout", "ConnectFailed", "ConnectionLost", "ResponseError")
_RETRIES: Final = ("connect", "lost")


def valid(value: str) -> str:
    """``value`` as a label may have it: UTF-8 has no lone surrogates."""
    return value if value.isascii() else value.encode(errors="backslashreplace").decode()


def _bounded(counts: Mapping[str, int], fits: re.Pattern[str] | None = None) -> dict[str, int]:
    """``counts`` under ``_MOST`` names and OTHER. Counters keep their names in the order in which
    they came, so that what was told apart once always is."""
    told: dict[str, int] = {}
    for given, count in counts.items():
        name = valid(given)
        fit = len(told) < _MOST and (fits is None or fits.fullmatch(name))
        known = name if fit or name in told else OTHER
        told[known] = told.get(known, 0) + count
    return told


def one(read: Callable[[MetricsSnapshot], float | None]) -> Read:
    """A single value, if there is one."""

    def sample(reading: Reading) -> Iterable[Sample]:
        value = read(reading.snapshot)
        return () if value is None else (((), value),)

    return sample


def whole(read: Callable[[MetricsSnapshot], LatencySnapshot]) -> Read:
    """A single histogram."""
    return lambda reading: (((), read(reading.snapshot)),)


def _counted(
    read: Callable[[MetricsSnapshot], Mapping[str, int]], expected: tuple[str, ...]
) -> Read:
    """Counts by name, those of ``expected`` from the beginning."""

    def samples(reading: Reading) -> Iterable[Sample]:
        told = _bounded({**dict.fromkeys(expected, 0), **read(reading.snapshot)})
        return (((name,), count) for name, count in told.items())

    return samples


errors: Final = _counted(lambda s: s.errors, _ERRORS)
retries: Final = _counted(lambda s: s.retries, _RETRIES)


def lanes(read: Callable[[LaneMetrics], int]) -> Read:
    """A lane's figure. Single-connection clients have lanes too, all of one name."""

    def samples(reading: Reading) -> Iterable[Sample]:
        sums: dict[str, int] = {}
        for lane in reading.snapshot.lanes:
            sums[lane.name] = sums.get(lane.name, 0) + read(lane)
        return (((name,), value) for name, value in _bounded(sums).items())

    return samples


def by_command(reading: Reading) -> Iterable[Sample]:
    """How long each command took."""
    return (((name,), each.latency) for name, each in reading.snapshot.by_command.items())


def by_part(reading: Reading) -> Iterable[Sample]:
    """How long each part of a command took."""
    return (((part,), latency) for part, latency in reading.snapshot.parts.items())


def refusals(reading: Reading) -> Iterable[Sample]:
    """Error replies by command and code."""
    return (
        ((name, code), count)
        for name, each in reading.snapshot.by_command.items()
        for code, count in _bounded(each.errors, _CODE).items()
    )


def failures(reading: Reading) -> Iterable[Sample]:
    """What callers were told."""
    return {**dict.fromkeys(_FAILURES, 0), **reading.snapshot.failures}.items()


def breaker(reading: Reading) -> Iterable[Sample]:
    """Which state the circuit breaker is in."""
    now = reading.snapshot.breaker.state
    return (((state,), float(state == now)) for state in ("closed", "open", "half-open"))


def age(reading: Reading) -> Iterable[Sample]:
    """For how long the event loop has not answered."""
    return (((), reading.age),)


def info(_: Reading) -> Iterable[Sample]:
    """What this is."""
    return (((VERSION, platform.python_version()), 1.0),)
