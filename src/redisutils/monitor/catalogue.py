"""Every metric that is exported: its name, unit and meaning, and where it is read from.

Prometheus and OpenTelemetry are both fed from this table; ``docs/metrics.md`` says what to do when
one of them moves. Names follow Prometheus' rules: base units, which end the name; ``_total`` ends
the names of counters, and is left to the exporter.

What is counted by a name that may come from outside (a lane's, the code of an error reply) is told
of so many names at most; the rest is told together as ``OTHER``. What an alert waits for is told
from the beginning, as 0: Prometheus cannot see a counter rise that was not there before.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from redisutils.metrics import LaneMetrics, LatencySnapshot, MetricsSnapshot
from redisutils.monitor.reading import Reading
from redisutils.version import VERSION

__all__ = ["BUCKETS", "CATALOGUE", "Described", "Sample"]

BUCKETS: Final = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds, in seconds, of every exported histogram. From what an answer takes within one
machine to the default budget of a command."""

Sample = tuple[tuple[str, ...], float | LatencySnapshot]
"""The values of a metric's labels, and its value; a histogram's is what it is made of."""


@dataclass(frozen=True, slots=True)
class Described:
    """One metric."""

    name: str
    """Prometheus', without ``_total``."""
    kind: Literal["counter", "gauge", "histogram", "info"]
    unit: Literal["seconds", "bytes", ""]
    text: str
    labels: tuple[str, ...]
    """Its own; all of them have ``endpoint`` as well."""
    read: Callable[[Reading], Iterable[Sample]]
    otel: str | None
    """OpenTelemetry's name; None where a conventional metric says the same, or the exporter."""


OTHER: Final = "OTHER"

_MOST: Final = 32
"""Names that one label has at most, where nothing else bounds them."""

_CODE: Final = re.compile(r"[A-Z][A-Z0-9_-]{0,31}")
"""What the first word of an error reply looks like. A script can answer anything."""

_FAILURES: Final = (
    ("CircuitOpen", "NOT_SENT"),
    ("CommandTimeout", "NOT_SENT"),
    ("CommandTimeout", "UNKNOWN"),
    ("ConnectFailed", "NOT_SENT"),
    ("ConnectionLost", "NOT_SENT"),
    ("ConnectionLost", "UNKNOWN"),
    ("PoolTimeout", "NOT_SENT"),
    ("ResponseError", "REJECTED"),
)
_ERRORS: Final = ("CommandTimeout", "ConnectFailed", "ConnectionLost", "ResponseError")
_RETRIES: Final = ("connect", "lost")


def _bounded(counts: Mapping[str, int], fits: re.Pattern[str] | None = None) -> dict[str, int]:
    """``counts`` under ``_MOST`` names and OTHER. Counters keep their names in the order in which
    they came, so that what was told apart once always is."""
    told: dict[str, int] = {}
    for name, count in counts.items():
        known = name
        if name not in told and (
            len(told) >= _MOST or (fits is not None and not fits.fullmatch(name))
        ):
            known = OTHER
        told[known] = told.get(known, 0) + count
    return told


def _one(read: Callable[[MetricsSnapshot], float | None]) -> Callable[[Reading], Iterable[Sample]]:
    """A single value, if there is one."""

    def sample(reading: Reading) -> Iterable[Sample]:
        value = read(reading.snapshot)
        return () if value is None else (((), value),)

    return sample


def _whole(
    read: Callable[[MetricsSnapshot], LatencySnapshot],
) -> Callable[[Reading], Iterable[Sample]]:
    """A single histogram."""
    return lambda reading: (((), read(reading.snapshot)),)


def _counted(
    read: Callable[[MetricsSnapshot], Mapping[str, int]], expected: tuple[str, ...]
) -> Callable[[Reading], Iterable[Sample]]:
    """Counts by name, those of ``expected`` from the beginning."""

    def samples(reading: Reading) -> Iterable[Sample]:
        told = _bounded({**dict.fromkeys(expected, 0), **read(reading.snapshot)})
        return (((name,), count) for name, count in told.items())

    return samples


def _lanes(read: Callable[[LaneMetrics], int]) -> Callable[[Reading], Iterable[Sample]]:
    """A lane's figure. Single-connection clients have lanes too, all of one name."""

    def samples(reading: Reading) -> Iterable[Sample]:
        sums: dict[str, int] = {}
        for lane in reading.snapshot.lanes:
            sums[lane.name] = sums.get(lane.name, 0) + read(lane)
        return (((name,), value) for name, value in _bounded(sums).items())

    return samples


def _by_command(reading: Reading) -> Iterable[Sample]:
    return (((name,), each.latency) for name, each in reading.snapshot.by_command.items())


def _by_part(reading: Reading) -> Iterable[Sample]:
    return (((part,), latency) for part, latency in reading.snapshot.parts.items())


def _refusals(reading: Reading) -> Iterable[Sample]:
    return (
        ((name, code), count)
        for name, each in reading.snapshot.by_command.items()
        for code, count in _bounded(each.errors, _CODE).items()
    )


def _failures(reading: Reading) -> Iterable[Sample]:
    return {**dict.fromkeys(_FAILURES, 0), **reading.snapshot.failures}.items()


def _breaker(reading: Reading) -> Iterable[Sample]:
    now = reading.snapshot.breaker.state
    return (((state,), float(state == now)) for state in ("closed", "open", "half-open"))


def _age(reading: Reading) -> Iterable[Sample]:
    return (((), reading.age),)


def _info(_: Reading) -> Iterable[Sample]:
    return (((VERSION, platform.python_version()), 1.0),)


CATALOGUE: Final[tuple[Described, ...]] = (
    Described(
        "redisutils",
        "info",
        "",
        "The version of redisutils, and of Python.",
        ("version", "python"),
        _info,
        None,
    ),
    # -- traffic
    Described(
        "redisutils_commands",
        "counter",
        "",
        "Replies received, error replies included; each command of a pipeline counts. Exact.",
        (),
        _one(lambda s: s.commands),
        "redisutils.commands",
    ),
    Described(
        "redisutils_command_duration_seconds",
        "histogram",
        "seconds",
        "From issuing a command to handing over its answer; a pipeline is one. Measured on a "
        "sample of the commands above some thousands a second.",
        ("command",),
        _by_command,
        "redisutils.command.duration",
    ),
    Described(
        "redisutils_command_part_duration_seconds",
        "histogram",
        "seconds",
        "The same by part: wait (for a connection), queue (to be written), wire (network and "
        "server), loop (to be parsed), parse.",
        ("part",),
        _by_part,
        "redisutils.command.part.duration",
    ),
    Described(
        "redisutils_received_bytes",
        "counter",
        "bytes",
        "Bytes received from the server.",
        (),
        _one(lambda s: s.bytes_in),
        "redisutils.received",
    ),
    Described(
        "redisutils_sent_bytes",
        "counter",
        "bytes",
        "Bytes sent to the server.",
        (),
        _one(lambda s: s.bytes_out),
        "redisutils.sent",
    ),
    Described(
        "redisutils_in_flight_commands",
        "gauge",
        "",
        "Commands written or about to be, and not answered, on all connections.",
        (),
        _one(lambda s: s.in_flight),
        "redisutils.in_flight.commands",
    ),
    Described(
        "redisutils_in_flight_bytes",
        "gauge",
        "bytes",
        "The size of the commands in flight.",
        (),
        _one(lambda s: s.in_flight_bytes),
        "redisutils.in_flight.size",
    ),
    # -- what went wrong
    Described(
        "redisutils_failures",
        "counter",
        "",
        "What callers were told, by class of error and by what became of the command: NOT_SENT, "
        "REJECTED, UNKNOWN, EXECUTED.",
        ("error", "outcome"),
        _failures,
        "redisutils.failures",
    ),
    Described(
        "redisutils_errors",
        "counter",
        "",
        "Errors met, whether or not a retry mended them.",
        ("error",),
        _counted(lambda s: s.errors, _ERRORS),
        "redisutils.errors",
    ),
    Described(
        "redisutils_command_errors",
        "counter",
        "",
        "Error replies by the command and by their first word, such as WRONGTYPE.",
        ("command", "code"),
        _refusals,
        "redisutils.command.errors",
    ),
    Described(
        "redisutils_retries",
        "counter",
        "",
        "Commands sent again or queued anew: lost (the connection died), connect (none could be "
        "made), or the code of a passing refusal, such as LOADING.",
        ("reason",),
        _counted(lambda s: s.retries, _RETRIES),
        "redisutils.retries",
    ),
    Described(
        "redisutils_timeouts",
        "counter",
        "",
        "Commands whose time budget ran out.",
        (),
        _one(lambda s: s.timeouts),
        "redisutils.timeouts",
    ),
    Described(
        "redisutils_background_errors",
        "counter",
        "",
        "Failures inside the pool's own background tasks.",
        (),
        _one(lambda s: s.background_errors),
        "redisutils.background_errors",
    ),
    # -- the pool
    Described(
        "redisutils_pool_max_connections",
        "gauge",
        "",
        "Connections that the pool may have.",
        (),
        _one(lambda s: s.max_size),
        None,
    ),
    Described(
        "redisutils_pool_connections",
        "gauge",
        "",
        "Connections that the pool has.",
        (),
        _one(lambda s: s.size),
        None,
    ),
    Described(
        "redisutils_pool_in_use_connections",
        "gauge",
        "",
        "Connections in use, those of lanes included, and on their way to a caller.",
        (),
        _one(lambda s: s.in_use),
        None,
    ),
    Described(
        "redisutils_pool_waiting_callers",
        "gauge",
        "",
        "Callers that wait for a connection of their own.",
        (),
        _one(lambda s: s.waiting),
        None,
    ),
    Described(
        "redisutils_checkout_waits",
        "counter",
        "",
        "Checkouts that had to wait for a connection.",
        (),
        _one(lambda s: s.waits),
        "redisutils.checkout.waits",
    ),
    Described(
        "redisutils_checkout_wait_duration_seconds",
        "histogram",
        "seconds",
        "How long checkouts waited that had to.",
        (),
        _whole(lambda s: s.wait_time),
        "redisutils.checkout.wait.duration",
    ),
    Described(
        "redisutils_connections_created",
        "counter",
        "",
        "Connections opened.",
        (),
        _one(lambda s: s.connections_created),
        "redisutils.connections.created",
    ),
    Described(
        "redisutils_connections_recycled",
        "counter",
        "",
        "Idle connections found fit and handed out again.",
        (),
        _one(lambda s: s.connections_recycled),
        "redisutils.connections.recycled",
    ),
    Described(
        "redisutils_connections_discarded",
        "counter",
        "",
        "Connections closed instead of being handed out again.",
        (),
        _one(lambda s: s.connections_discarded),
        "redisutils.connections.discarded",
    ),
    Described(
        "redisutils_connections_lost",
        "counter",
        "",
        "Connections that died in use.",
        (),
        _one(lambda s: s.connections_lost),
        "redisutils.connections.lost",
    ),
    # -- lanes
    Described(
        "redisutils_lane_connected",
        "gauge",
        "",
        "1 if the lane has a connection, else 0; of lanes of one name, how many have.",
        ("lane",),
        _lanes(lambda lane: int(lane.connected)),
        "redisutils.lane.connected",
    ),
    Described(
        "redisutils_lane_in_flight_commands",
        "gauge",
        "",
        "Commands written or about to be on the lane, and not answered.",
        ("lane",),
        _lanes(lambda lane: lane.in_flight),
        "redisutils.lane.in_flight.commands",
    ),
    Described(
        "redisutils_lane_waiting_commands",
        "gauge",
        "",
        "Commands that wait in the lane: for a connection, for room on it, or to be repeated.",
        ("lane",),
        _lanes(lambda lane: lane.waiting),
        "redisutils.lane.waiting.commands",
    ),
    Described(
        "redisutils_lane_blocked",
        "gauge",
        "",
        "1 while the lane is at a bound of what may be in flight, else 0.",
        ("lane",),
        _lanes(lambda lane: int(lane.blocked)),
        "redisutils.lane.blocked",
    ),
    # -- the circuit breaker
    Described(
        "redisutils_breaker_state",
        "gauge",
        "",
        "1 for the state that the circuit breaker is in, 0 for the others.",
        ("state",),
        _breaker,
        "redisutils.breaker.state",
    ),
    Described(
        "redisutils_breaker_failed_attempts",
        "gauge",
        "",
        "Attempts to connect that have failed since the server was last heard.",
        (),
        _one(lambda s: s.breaker.failures),
        "redisutils.breaker.failed_attempts",
    ),
    Described(
        "redisutils_breaker_trips",
        "counter",
        "",
        "How often the circuit breaker has opened.",
        (),
        _one(lambda s: s.breaker.trips),
        "redisutils.breaker.trips",
    ),
    Described(
        "redisutils_breaker_refused",
        "counter",
        "",
        "Calls that the circuit breaker has refused.",
        (),
        _one(lambda s: s.breaker.refused),
        "redisutils.breaker.refused",
    ),
    # -- the process
    Described(
        "redisutils_loop_lag_seconds",
        "histogram",
        "seconds",
        "How late the event loop runs what is due, asked ten times a second.",
        (),
        _whole(lambda s: s.process.loop_lag),
        "redisutils.loop.lag",
    ),
    Described(
        "redisutils_gc_pause_seconds",
        "histogram",
        "seconds",
        "Pauses of the garbage collector, of any generation.",
        (),
        _whole(lambda s: s.process.gc_pauses),
        "redisutils.gc.pause",
    ),
    Described(
        "redisutils_process_resident_memory_bytes",
        "gauge",
        "bytes",
        "Resident memory of the process.",
        (),
        _one(lambda s: s.process.memory),
        "redisutils.process.memory",
    ),
    Described(
        "redisutils_process_cpu_seconds",
        "counter",
        "seconds",
        "User and system time of the process.",
        (),
        _one(lambda s: s.process.cpu_seconds),
        "redisutils.process.cpu",
    ),
    Described(
        "redisutils_snapshot_age_seconds",
        "gauge",
        "seconds",
        "How old these figures are: 0, or since when the event loop has not answered.",
        (),
        _age,
        "redisutils.snapshot.age",
    ),
)
"""In the order in which they are exported."""
