"""Every metric that is exported: its name, unit and meaning, and where it is read from.

Prometheus and OpenTelemetry are both fed from this table; ``docs/metrics.md`` says what to do when
one of them moves. Names follow Prometheus' rules: base units, which end the name; ``_total`` ends
the names of counters, and is left to the exporter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from redisutils.monitor.samples import (
    Read,
    age,
    breaker,
    by_command,
    by_part,
    errors,
    failures,
    info,
    lanes,
    one,
    refusals,
    retries,
    whole,
)

__all__ = ["BUCKETS", "CATALOGUE", "Described"]

BUCKETS: Final = (
    *(50e-6, 100e-6, 250e-6, 500e-6),
    *(1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 500e-3),
    *(1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds, in seconds, of every exported histogram. From what an answer takes within one
machine to the default budget of a command."""


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
    read: Read
    otel: str | None
    """OpenTelemetry's name; None where a conventional metric says the same, or the exporter."""


CATALOGUE: Final[tuple[Described, ...]] = (
    Described(
        "redisutils",
        "info",
        "",
        "The version of redisutils, and of Python.",
        ("version", "python"),
        info,
        None,
    ),
    # -- traffic
    Described(
        "redisutils_commands",
        "counter",
        "",
        "Replies received, error replies included; each command of a pipeline counts. Exact.",
        (),
        one(lambda s: s.commands),
        "redisutils.commands",
    ),
    Described(
        "redisutils_command_duration_seconds",
        "histogram",
        "seconds",
        "From issuing a command to handing over its answer; a pipeline is one. Measured on a "
        "sample of the commands above some thousands a second.",
        ("command",),
        by_command,
        "redisutils.command.duration",
    ),
    Described(
        "redisutils_command_part_duration_seconds",
        "histogram",
        "seconds",
        "The same by part: wait (for a connection), queue (to be written), wire (network and "
        "server), loop (to be parsed), parse.",
        ("part",),
        by_part,
        "redisutils.command.part.duration",
    ),
    Described(
        "redisutils_received_bytes",
        "counter",
        "bytes",
        "Bytes received from the server.",
        (),
        one(lambda s: s.bytes_in),
        "redisutils.received",
    ),
    Described(
        "redisutils_sent_bytes",
        "counter",
        "bytes",
        "Bytes sent to the server.",
        (),
        one(lambda s: s.bytes_out),
        "redisutils.sent",
    ),
    Described(
        "redisutils_in_flight_commands",
        "gauge",
        "",
        "Commands written or about to be, and not answered, on all connections.",
        (),
        one(lambda s: s.in_flight),
        "redisutils.in_flight.commands",
    ),
    Described(
        "redisutils_in_flight_bytes",
        "gauge",
        "bytes",
        "The size of the commands in flight.",
        (),
        one(lambda s: s.in_flight_bytes),
        "redisutils.in_flight.size",
    ),
    # -- what went wrong
    Described(
        "redisutils_failures",
        "counter",
        "",
        "What callers were told, by class of error and by what became of the command: NOT_SENT, "
        "REJECTED, UNKNOWN, EXECUTED; UNSAID by an error that is none of redisutils'.",
        ("error", "outcome"),
        failures,
        "redisutils.failures",
    ),
    Described(
        "redisutils_unknown_writes",
        "counter",
        "",
        "Commands that change something, were written, and of which nobody knows whether they were "
        "executed.",
        (),
        one(lambda s: s.unknown_writes),
        "redisutils.unknown_writes",
    ),
    Described(
        "redisutils_errors",
        "counter",
        "",
        "Troubles met: error replies, lost connections and attempts to connect that failed, each "
        "once however many commands it concerns, and whether or not a retry mended it.",
        ("error",),
        errors,
        "redisutils.errors",
    ),
    Described(
        "redisutils_command_errors",
        "counter",
        "",
        "Error replies by the command and by their first word, such as WRONGTYPE.",
        ("command", "code"),
        refusals,
        "redisutils.command.errors",
    ),
    Described(
        "redisutils_retries",
        "counter",
        "",
        "Commands sent again or queued anew: lost (the connection died), connect (none could be "
        "made), or the code of a passing refusal, such as LOADING.",
        ("reason",),
        retries,
        "redisutils.retries",
    ),
    Described(
        "redisutils_timeouts",
        "counter",
        "",
        "Commands whose time budget ran out.",
        (),
        one(lambda s: s.timeouts),
        "redisutils.timeouts",
    ),
    Described(
        "redisutils_background_errors",
        "counter",
        "",
        "Failures inside the pool's own background tasks.",
        (),
        one(lambda s: s.background_errors),
        "redisutils.background_errors",
    ),
    # -- the pool
    Described(
        "redisutils_pool_max_connections",
        "gauge",
        "",
        "Connections that the pool may have.",
        (),
        one(lambda s: s.max_size),
        None,
    ),
    Described(
        "redisutils_pool_connections",
        "gauge",
        "",
        "Connections that the pool has.",
        (),
        one(lambda s: s.size),
        None,
    ),
    Described(
        "redisutils_pool_in_use_connections",
        "gauge",
        "",
        "Connections in use, those of lanes included, and on their way to a caller.",
        (),
        one(lambda s: s.in_use),
        None,
    ),
    Described(
        "redisutils_pool_waiting_callers",
        "gauge",
        "",
        "Callers that wait for a connection of their own.",
        (),
        one(lambda s: s.waiting),
        None,
    ),
    Described(
        "redisutils_checkout_waits",
        "counter",
        "",
        "Checkouts that had to wait for a connection.",
        (),
        one(lambda s: s.waits),
        "redisutils.checkout.waits",
    ),
    Described(
        "redisutils_checkout_wait_duration_seconds",
        "histogram",
        "seconds",
        "How long checkouts waited that had to.",
        (),
        whole(lambda s: s.wait_time),
        "redisutils.checkout.wait.duration",
    ),
    Described(
        "redisutils_connections_created",
        "counter",
        "",
        "Connections opened.",
        (),
        one(lambda s: s.connections_created),
        "redisutils.connections.created",
    ),
    Described(
        "redisutils_connections_recycled",
        "counter",
        "",
        "Idle connections found fit and handed out again.",
        (),
        one(lambda s: s.connections_recycled),
        "redisutils.connections.recycled",
    ),
    Described(
        "redisutils_connections_discarded",
        "counter",
        "",
        "Connections closed instead of being handed out again.",
        (),
        one(lambda s: s.connections_discarded),
        "redisutils.connections.discarded",
    ),
    Described(
        "redisutils_connections_lost",
        "counter",
        "",
        "Connections that died in use.",
        (),
        one(lambda s: s.connections_lost),
        "redisutils.connections.lost",
    ),
    # -- lanes
    Described(
        "redisutils_lane_connected",
        "gauge",
        "",
        "1 if the lane has a connection, else 0; of lanes of one name, how many have.",
        ("lane",),
        lanes(lambda lane: int(lane.connected)),
        "redisutils.lane.connected",
    ),
    Described(
        "redisutils_lane_in_flight_commands",
        "gauge",
        "",
        "Commands written or about to be on the lane, and not answered.",
        ("lane",),
        lanes(lambda lane: lane.in_flight),
        "redisutils.lane.in_flight.commands",
    ),
    Described(
        "redisutils_lane_waiting_commands",
        "gauge",
        "",
        "Commands that wait in the lane: for a connection, for room on it, or to be repeated.",
        ("lane",),
        lanes(lambda lane: lane.waiting),
        "redisutils.lane.waiting.commands",
    ),
    Described(
        "redisutils_lane_blocked",
        "gauge",
        "",
        "1 while the lane is at a bound of what may be in flight, else 0.",
        ("lane",),
        lanes(lambda lane: int(lane.blocked)),
        "redisutils.lane.blocked",
    ),
    # -- the circuit breaker
    Described(
        "redisutils_breaker_state",
        "gauge",
        "",
        "1 for the state that the circuit breaker is in, 0 for the others.",
        ("state",),
        breaker,
        "redisutils.breaker.state",
    ),
    Described(
        "redisutils_breaker_failed_attempts",
        "gauge",
        "",
        "Attempts to connect that have failed since the server was last heard.",
        (),
        one(lambda s: s.breaker.failures),
        "redisutils.breaker.failed_attempts",
    ),
    Described(
        "redisutils_breaker_trips",
        "counter",
        "",
        "How often the circuit breaker has opened.",
        (),
        one(lambda s: s.breaker.trips),
        "redisutils.breaker.trips",
    ),
    Described(
        "redisutils_breaker_refused",
        "counter",
        "",
        "Calls that the circuit breaker has refused.",
        (),
        one(lambda s: s.breaker.refused),
        "redisutils.breaker.refused",
    ),
    # -- the process
    Described(
        "redisutils_loop_lag_seconds",
        "histogram",
        "seconds",
        "How late the event loop runs what is due, asked ten times a second.",
        (),
        whole(lambda s: s.process.loop_lag),
        "redisutils.loop.lag",
    ),
    Described(
        "redisutils_gc_pause_seconds",
        "histogram",
        "seconds",
        "Pauses of the garbage collector, of any generation.",
        (),
        whole(lambda s: s.process.gc_pauses),
        "redisutils.gc.pause",
    ),
    Described(
        "redisutils_process_resident_memory_bytes",
        "gauge",
        "bytes",
        "Resident memory of the process.",
        (),
        one(lambda s: s.process.memory),
        "redisutils.process.memory",
    ),
    Described(
        "redisutils_process_cpu_seconds",
        "counter",
        "seconds",
        "User and system time of the process.",
        (),
        one(lambda s: s.process.cpu_seconds),
        "redisutils.process.cpu",
    ),
    Described(
        "redisutils_snapshot_age_seconds",
        "gauge",
        "seconds",
        "0, or for how long the event loop has been asked for these figures in vain.",
        (),
        age,
        "redisutils.snapshot.age",
    ),
)
"""In the order in which they are exported."""
