"""The frame: what the dashboard and ``redisutils top`` draw, one each second.

A frame is plain data, ready for JSON. Durations are seconds, sizes bytes, rates per second, and all
of them speak of the interval that the frame ends, unless they are gauges. What is unknown, or was
not measured since nothing happened, is None. The keys are always there.
"""

from __future__ import annotations

from typing import Literal, TypedDict

__all__ = [
    "BreakerFrame",
    "CommandFrame",
    "ErrorFrame",
    "Frame",
    "HealthFrame",
    "LaneFrame",
    "LatencyFrame",
    "NodeFrame",
    "PoolFrame",
    "ProcessFrame",
    "RetryFrame",
    "ServerFrame",
    "SlowFrame",
    "SplitFrame",
    "Status",
    "ThroughputFrame",
]

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
    server: str
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
    """What the server says of itself; None what it does not say. See
    :class:`redisutils.topology.facts.ServerFacts`."""

    kind: Literal["valkey", "redis"]
    version: str | None
    role: Literal["primary", "replica"] | None
    uptime: float | None
    used_memory: int | None
    maxmemory: int | None
    """0: no limit but the machine's."""
    eviction_policy: str | None
    clients: int | None
    maxclients: int | None
    ops: float | None
    hit_rate: float | None
    """0 to 1."""
    replicas: int | None
    replication_lag: float | None
    loading: bool | None
    persistence: Literal["ok", "failing", "off"] | None
    keys: int | None


class NodeFrame(TypedDict):
    """One of several servers. What others tell of one that nobody speaks to is there, too."""

    endpoint: str
    role: Literal["primary", "replica"] | None
    status: Status | None
    """Its own; None of one that was not asked."""
    reachable: bool
    connected: bool
    """Whether this program has a connection to it."""
    slots: float | None
    """Of a primary in a cluster: the part of all slots that it owns, 0 to 1."""
    ranges: str
    """Those slots."""
    follows: str | None
    """Of a replica: its primary."""
    zone: str | None
    rate: float
    """Commands per second that it answered this program."""
    p99: float | None
    in_flight: int
    waiting: int
    """Callers that wait for a connection to it."""
    size: int
    """Connections to it."""
    breaker: str
    lag: float | None
    """Of a replica: seconds since its primary heard of it, or it of its primary."""
    behind: int | None
    """Of a replica: bytes that it has not acknowledged."""


class Frame(TypedDict):
    """See the module's docstring."""

    at: float
    """When it was made (``time.time``)."""
    seconds: float
    """The interval that it ends."""
    endpoint: str
    closed: bool
    """Whether the pool is closed: it is the last frame, then."""
    sidecar: bool
    """Whether the pool is a monitor's own (``redisutils serve``), and not that of a program."""
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
    """Of several, all together."""
    nodes: list[NodeFrame]
    """Of several servers each, primaries with their replicas after them; empty of a single one."""
    nodes_in_all: int
    """How many there are: the largest of clusters are not told of whole."""
