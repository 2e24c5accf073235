"""The frame: what the dashboard and ``redisutils top`` draw, one each second.

A frame is plain data, ready for JSON. Durations are seconds, sizes bytes, rates per second, and all
of them speak of the interval that the frame ends, unless they are gauges. What is unknown, or was
not measured since nothing happened, is None. The keys are always there.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import frexp
from typing import Any, Final, Literal, TypedDict

from redisutils.metrics import (
    CommandMetrics,
    LatencySnapshot,
    MetricsSnapshot,
    SlowCommand,
    Split,
)

__all__ = [
    "COMMANDS",
    "BreakerFrame",
    "CommandFrame",
    "ErrorFrame",
    "Frame",
    "HealthFrame",
    "LaneFrame",
    "LatencyFrame",
    "PoolFrame",
    "ProcessFrame",
    "RetryFrame",
    "ServerFrame",
    "SlowFrame",
    "SplitFrame",
    "ThroughputFrame",
    "make_frame",
]

COMMANDS: Final = 12
"""Commands that a frame tells of: the busiest."""

_KINDS: Final = 20
"""Kinds of errors and of retries that a frame tells of."""

_BANDS: Final = 4
"""Bands of the heat map in each power of two."""

Status = Literal["healthy", "degraded", "unhealthy"]


class HealthFrame(TypedDict):
    """What the latest health check has found."""

    status: Status
    reasons: list[str]
    round_trip: float | None


class ThroughputFrame(TypedDict):
    """Per second."""

    commands: float
    failures: float
    bytes_in: float
    bytes_out: float


class LatencyFrame(TypedDict):
    """None when nothing was measured. ``count`` is an estimate when there is much to do: see
    :mod:`redisutils.metrics.meter`."""

    count: int
    mean: float | None
    p50: float | None
    p95: float | None
    p99: float | None
    p999: float | None
    max: float | None


class SplitFrame(TypedDict):
    """A latency by its parts: see :mod:`redisutils.metrics.split`."""

    wait: float | None
    queue: float | None
    wire: float | None
    loop: float | None
    parse: float | None


class PoolFrame(TypedDict):
    """Connections, and who waits for one."""

    max_size: int
    size: int
    in_use: int
    waiting: int


class LaneFrame(TypedDict):
    """See :class:`redisutils.metrics.LaneMetrics`."""

    name: str
    connected: bool
    in_flight: int
    waiting: int
    blocked: bool


class ErrorFrame(TypedDict):
    """What callers were told."""

    name: str
    outcome: str
    rate: float
    total: int


class RetryFrame(TypedDict):
    """Commands sent again, by reason."""

    reason: str
    rate: float
    total: int


class CommandFrame(TypedDict):
    """One of the busiest commands."""

    name: str
    rate: float
    mean: float | None
    p50: float | None
    p99: float | None
    errors: float
    """Error replies per second."""
    split: SplitFrame
    """The mean of each part."""


class SlowFrame(TypedDict):
    """See :class:`redisutils.metrics.SlowCommand`."""

    at: float
    command: str
    key: str | None
    request_bytes: int
    reply_size: int | None
    seconds: float
    split: SplitFrame


class BreakerFrame(TypedDict):
    """See :class:`redisutils.metrics.BreakerStatus`."""

    state: str
    seconds: float
    failures: int
    trips: int
    refused: int
    error: str | None


class ProcessFrame(TypedDict):
    """The program's own share."""

    loop_lag_p50: float | None
    loop_lag_p99: float | None
    loop_lag_max: float | None
    gc_pauses: float
    """Per second."""
    gc_pause_max: float | None
    memory: int | None
    cpu: float
    """Share of one core: 1.0 is all of it."""


class ServerFrame(TypedDict):
    """What the server says of itself; None what it does not say."""

    kind: Literal["valkey", "redis"]
    version: str | None
    role: str | None
    uptime: float | None
    used_memory: int | None
    maxmemory: int | None
    """0: no limit but the machine's."""
    eviction_policy: str | None
    clients: int | None
    maxclients: int | None
    ops: float | None
    hit_rate: float | None
    """0 to 1, of the lookups since the facts were last asked; None: there were none."""
    replicas: int | None
    replication_lag: float | None
    """Seconds since the replica that is farthest behind, or this one, last heard of the other."""
    loading: bool | None
    persistence: Literal["ok", "failing", "off"] | None
    keys: int | None


class Frame(TypedDict):
    """See the module's docstring."""

    at: float
    """When it was made (``time.time``)."""
    seconds: float
    """The interval that it ends."""
    endpoint: str
    closed: bool
    """Whether the pool is closed: it is the last frame, then."""
    health: HealthFrame
    throughput: ThroughputFrame
    latency: LatencyFrame
    split: dict[str, SplitFrame]
    """By ``mean``, ``p50``, ``p95``, ``p99``, ``p999``."""
    heat: list[tuple[float, int]]
    """Commands by latency: (upper bound, count), ascending, 4 bands for each power of two."""
    pool: PoolFrame
    in_flight: int
    in_flight_bytes: int
    lanes: list[LaneFrame]
    errors: list[ErrorFrame]
    """Most at the moment first, then most in all."""
    retries: list[RetryFrame]
    commands: list[CommandFrame]
    """Busiest first."""
    slow: list[SlowFrame]
    """Slowest first."""
    breaker: BreakerFrame
    process: ProcessFrame
    server: ServerFrame | None


def make_frame(
    before: MetricsSnapshot,
    now: MetricsSnapshot,
    *,
    at: float,
    health: HealthFrame,
    server: ServerFrame | None = None,
    closed: bool = False,
) -> Frame:
    """The frame of what happened between two snapshots of one pool.

    Args:
        at: ``time.time()`` when ``now`` was taken.
        closed: whether the pool is closed.
    """
    delta = now.since(before)
    seconds = max(delta.seconds, 1e-6)
    parts = delta.composition
    measured = bool(parts.latency.count)
    return {
        "at": round(at, 3),
        "seconds": _seconds(seconds),
        "endpoint": now.endpoint,
        "closed": closed,
        "health": health,
        "throughput": {
            "commands": _rate(delta.commands, seconds),
            "failures": _rate(sum(delta.failures.values()), seconds),
            "bytes_in": _rate(delta.bytes_in, seconds),
            "bytes_out": _rate(delta.bytes_out, seconds),
        },
        "latency": _latency(delta.latency),
        "split": {
            "mean": _split(parts.mean(), measured),
            "p50": _split(parts.at(50), measured),
            "p95": _split(parts.at(95), measured),
            "p99": _split(parts.at(99), measured),
            "p999": _split(parts.at(99.9), measured),
        },
        "heat": _heat(delta.latency),
        "pool": {
            "max_size": now.max_size,
            "size": now.size,
            "in_use": now.in_use,
            "waiting": now.waiting,
        },
        "in_flight": now.in_flight,
        "in_flight_bytes": now.in_flight_bytes,
        "lanes": [
            {
                "name": lane.name,
                "connected": lane.connected,
                "in_flight": lane.in_flight,
                "waiting": lane.waiting,
                "blocked": lane.blocked,
            }
            for lane in now.lanes
        ],
        "errors": [
            {"name": name, "outcome": outcome, "rate": rate, "total": total}
            for (name, outcome), rate, total in _counted(now.failures, delta.failures, seconds)
        ],
        "retries": [
            {"reason": reason, "rate": rate, "total": total}
            for reason, rate, total in _counted(now.retries, delta.retries, seconds)
        ],
        "commands": _commands(delta.by_command, seconds),
        "slow": [_slow(command) for command in now.slow],
        "breaker": {
            "state": now.breaker.state,
            "seconds": _seconds(now.breaker.seconds),
            "failures": now.breaker.failures,
            "trips": now.breaker.trips,
            "refused": now.breaker.refused,
            "error": now.breaker.error,
        },
        "process": _process(delta, seconds),
        "server": server,
    }


def _seconds(seconds: float) -> float:
    """To the tenth of a microsecond: what is more is noise, and fills the wire."""
    return round(seconds, 7)


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 3)


def _latency(latency: LatencySnapshot) -> LatencyFrame:
    if not latency.count:
        return {
            "count": 0,
            "mean": None,
            "p50": None,
            "p95": None,
            "p99": None,
            "p999": None,
            "max": None,
        }
    return {
        "count": latency.count,
        "mean": _seconds(latency.mean),
        "p50": _seconds(latency.p50),
        "p95": _seconds(latency.p95),
        "p99": _seconds(latency.p99),
        "p999": _seconds(latency.p999),
        "max": _seconds(latency.max),
    }


def _split(split: Split, measured: bool) -> SplitFrame:
    if not measured:
        return {"wait": None, "queue": None, "wire": None, "loop": None, "parse": None}
    return {
        "wait": _seconds(split.wait),
        "queue": _seconds(split.queue),
        "wire": _seconds(split.wire),
        "loop": _seconds(split.loop),
        "parse": _seconds(split.parse),
    }


def _heat(latency: LatencySnapshot) -> list[tuple[float, int]]:
    bands: dict[float, int] = {}
    for seconds, count in latency.spread():
        bound = _band(seconds)
        bands[bound] = bands.get(bound, 0) + count
    return list(bands.items())


def _band(seconds: float) -> float:
    """Where the band of ``seconds`` ends."""
    fraction, exponent = frexp(seconds)  # a fraction from a half to 1
    step = int((2 * fraction - 1) * _BANDS) + 1
    return float((1 + step / _BANDS) * 2.0 ** (exponent - 1))


def _counted(
    totals: Mapping[Any, int], more: Mapping[Any, int], seconds: float
) -> list[tuple[Any, float, int]]:
    """(what, rate, total), the most first."""
    found = [(what, _rate(more.get(what, 0), seconds), total) for what, total in totals.items()]
    found.sort(key=lambda row: (-row[1], -row[2], row[0]))
    return found[:_KINDS]


def _commands(by_command: Mapping[str, CommandMetrics], seconds: float) -> list[CommandFrame]:
    busy = [
        (name, calls, sum(calls.errors.values()))
        for name, calls in by_command.items()
        if calls.latency.count or calls.errors
    ]
    busy.sort(key=lambda row: (-row[1].latency.count, -row[2], row[0]))
    found: list[CommandFrame] = []
    for name, calls, errors in busy[:COMMANDS]:
        latency = _latency(calls.latency)
        found.append(
            {
                "name": name,
                "rate": _rate(calls.latency.count, seconds),
                "mean": latency["mean"],
                "p50": latency["p50"],
                "p99": latency["p99"],
                "errors": _rate(errors, seconds),
                "split": _split(calls.split, bool(calls.latency.count)),
            }
        )
    return found


def _slow(command: SlowCommand) -> SlowFrame:
    return {
        "at": round(command.at, 3),
        "command": command.command,
        "key": command.key,
        "request_bytes": command.request_bytes,
        "reply_size": command.reply_size,
        "seconds": _seconds(command.seconds),
        "split": _split(command.split, measured=True),
    }


def _process(delta: MetricsSnapshot, seconds: float) -> ProcessFrame:
    process = delta.process
    lag, pauses = _latency(process.loop_lag), _latency(process.gc_pauses)
    return {
        "loop_lag_p50": lag["p50"],
        "loop_lag_p99": lag["p99"],
        "loop_lag_max": lag["max"],
        "gc_pauses": _rate(pauses["count"], seconds),
        "gc_pause_max": pauses["max"],
        "memory": process.memory,
        "cpu": round(process.cpu_seconds / seconds, 4),
    }
