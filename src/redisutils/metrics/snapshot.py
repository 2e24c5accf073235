"""``pool.metrics()``: what a pool has counted, frozen.

Counts run since the pool was opened; two snapshots subtracted (:meth:`MetricsSnapshot.since`)
tell what happened in between. Durations are seconds, sizes bytes.

Who makes one of these imports this file only then: their classes take some milliseconds to build
and half a megabyte, and many a program never asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from redisutils.metrics.breaking import BreakerStatus
from redisutils.metrics.latency import LatencySnapshot
from redisutils.metrics.reading import ReadMetrics
from redisutils.metrics.slow import SlowCommand
from redisutils.metrics.split import Composition, Split

__all__ = [
    "BreakerStatus",
    "CommandMetrics",
    "LaneMetrics",
    "MetricsSnapshot",
    "NodeMetrics",
    "ProcessMetrics",
    "Rates",
    "SlowCommand",
]

_K = TypeVar("_K")


@dataclass(frozen=True, slots=True)
class CommandMetrics:
    """Calls of one command, such as ``GET`` or ``CLIENT LIST``.

    ``PIPELINE`` and ``TRANSACTION`` stand for what was issued together and answered together;
    ``OTHER`` for commands that are not in the table of commands.
    """

    latency: LatencySnapshot
    """``latency.count`` is how many were answered: see :mod:`redisutils.metrics.meter` for what
    that means above some thousands a second."""
    split: Split
    """The mean of each part."""
    errors: Mapping[str, int]
    """Error replies by the first word: ``{"WRONGTYPE": 3}``."""

    def since(self, earlier: CommandMetrics) -> CommandMetrics:
        """The calls after ``earlier``, of the same pool."""
        latency = self.latency.since(earlier.latency)
        before, now = earlier.latency.count, self.latency.count
        parts = (
            max(0.0, (mine * now - theirs * before) / latency.count) if latency.count else 0.0
            for mine, theirs in zip(
                self.split.as_dict().values(), earlier.split.as_dict().values(), strict=True
            )
        )
        return CommandMetrics(latency, Split(*parts), _less(self.errors, earlier.errors))


@dataclass(frozen=True, slots=True)
class LaneMetrics:
    """One lane at one moment."""

    name: str
    connected: bool
    in_flight: int
    """Commands written or about to be, and not answered."""
    waiting: int
    """Commands that wait: for a connection, for room on it, or to be repeated."""
    blocked: bool
    """Whether it is at a bound of what may be in flight."""
    endpoint: str = ""
    """The server that it leads to."""


@dataclass(frozen=True, slots=True)
class NodeMetrics:
    """One of the servers behind a pool; behind one that speaks to a single server, that one.

    What it tells is in the figures of the whole, too, but where it is said otherwise as there.
    """

    endpoint: str
    """``host:port``, or a path."""
    began: float
    """Since when is counted (``time.monotonic``): a server that has left and come back counts
    from then on."""
    commands: int
    errors: int
    """Troubles met, of any class."""
    latency: LatencySnapshot
    max_size: int
    size: int
    in_use: int
    waiting: int
    in_flight: int
    connected: bool
    """Whether there is any connection to it."""
    breaker: BreakerStatus
    role: Literal["primary", "replica"] | None = None
    """What it was when last heard of; None where nobody asks."""

    def since(self, earlier: NodeMetrics | None) -> NodeMetrics:
        """What was counted after ``earlier``, if that was of the same time that it was known; all
        of it if not."""
        if earlier is None or earlier.began != self.began:
            return self
        return replace(
            self,
            commands=self.commands - earlier.commands,
            errors=self.errors - earlier.errors,
            latency=self.latency.since(earlier.latency),
        )


@dataclass(frozen=True, slots=True)
class ProcessMetrics:
    """What the process and the event loop do to every command."""

    loop_lag: LatencySnapshot
    """How late the event loop runs what is due, asked ten times a second."""
    gc_pauses: LatencySnapshot
    """Pauses of the garbage collector, of any generation."""
    memory: int | None
    """Resident bytes; None where the system does not tell."""
    cpu_seconds: float
    """User and system time of the process."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Per second."""

    commands: float
    failures: float
    """Commands and checkouts that raised."""
    bytes_in: float
    bytes_out: float


@dataclass(frozen=True, slots=True)
class MetricsSnapshot:
    """See the module's docstring."""

    endpoint: str
    """The server: ``host:port``, or a path; of many, what they are."""
    at: float
    """When it was taken (``time.monotonic``)."""
    seconds: float
    """How long has been counted: since the pool was opened, or since the earlier snapshot."""

    commands: int
    """Replies received, error replies included; each command of a pipeline counts. Exact."""
    latency: LatencySnapshot
    """From issuing a command to handing over its answer: one sample a command, and one a
    pipeline. See :mod:`redisutils.metrics.meter`. Without commands that block (BLPOP, …), which
    wait as long as they are told to: they are in ``by_command``; and without what the pool asks by
    itself, to look after its connections and its server."""
    parts: Mapping[str, LatencySnapshot]
    """The same by part: ``wait``, ``queue``, ``wire``, ``loop``, ``parse``. See
    :mod:`redisutils.metrics.split`."""
    composition: Composition
    """What the commands at a percentile are made of."""
    by_command: Mapping[str, CommandMetrics]
    rates: Mapping[int, Rates]
    """Over the last 1, 10 and 60 seconds."""
    slow: tuple[SlowCommand, ...]
    """The slowest of the last minutes, slowest first."""

    errors: Mapping[str, int]
    """Troubles met, by class name: error replies, lost connections, failed attempts to connect.
    Each counts once, however many commands it concerns, and whether or not a retry mended it."""
    failures: Mapping[tuple[str, str], int]
    """What callers were told: by (class name, outcome), such as
    ``("CommandTimeout", "UNKNOWN")``."""
    unknown_writes: int
    """Failures with outcome UNKNOWN of commands that change something: what may have happened."""
    retries: Mapping[str, int]
    """Commands sent again or queued anew, by reason: an error code such as ``LOADING``,
    ``lost`` (connection died), ``connect`` (no connection could be made)."""
    timeouts: int
    """Commands whose budget ran out."""
    bytes_in: int
    bytes_out: int

    max_size: int
    """Connections that the pool may have."""
    size: int
    """Connections that it has."""
    in_use: int
    """Connections in use, lanes included, and on their way to a caller."""
    waiting: int
    """Callers that wait for a connection."""
    utilisation: float
    """``in_use`` by ``max_size``: 0 to 1."""
    waits: int
    """Checkouts that had to wait for a connection."""
    wait_time: LatencySnapshot
    """How long those waited who had to."""
    connections_created: int
    connections_recycled: int
    connections_discarded: int
    connections_lost: int
    """Connections that died in use: lanes come back by themselves."""
    in_flight: int
    """Commands written or about to be, and not answered, on all connections."""
    in_flight_bytes: int
    """Their size."""
    lanes: tuple[LaneMetrics, ...]
    breaker: BreakerStatus
    """Of many servers, that of the worst; trips and refusals are those of all."""
    nodes: tuple[NodeMetrics, ...]
    """Each server by itself."""
    background_errors: int
    """Failures inside the pool's own background tasks: logged, never fatal."""
    process: ProcessMetrics
    reads: ReadMetrics = ReadMetrics()
    failovers: int = 0
    """How often another server has taken a primary's place. 0 of one server."""
    """Where reads went that replicas may answer."""

    def since(self, earlier: MetricsSnapshot) -> MetricsSnapshot:
        """What was counted after ``earlier``, of the same pool; gauges, rates and the slow
        commands stay as they are."""
        nothing = CommandMetrics(LATENCY_OF_NONE, Split(), {})
        nodes = {node.endpoint: node for node in earlier.nodes}
        composition = self.composition.since(earlier.composition)
        return replace(
            self,
            seconds=self.at - earlier.at,
            commands=self.commands - earlier.commands,
            latency=composition.latency,
            parts={part: now.since(earlier.parts[part]) for part, now in self.parts.items()},
            composition=composition,
            by_command={
                name: now.since(earlier.by_command.get(name, nothing))
                for name, now in self.by_command.items()
            },
            errors=_less(self.errors, earlier.errors),
            failures=_less(self.failures, earlier.failures),
            unknown_writes=self.unknown_writes - earlier.unknown_writes,
            retries=_less(self.retries, earlier.retries),
            timeouts=self.timeouts - earlier.timeouts,
            bytes_in=self.bytes_in - earlier.bytes_in,
            bytes_out=self.bytes_out - earlier.bytes_out,
            waits=self.waits - earlier.waits,
            wait_time=self.wait_time.since(earlier.wait_time),
            connections_created=self.connections_created - earlier.connections_created,
            connections_recycled=self.connections_recycled - earlier.connections_recycled,
            connections_discarded=self.connections_discarded - earlier.connections_discarded,
            connections_lost=self.connections_lost - earlier.connections_lost,
            nodes=tuple(node.since(nodes.get(node.endpoint)) for node in self.nodes),
            background_errors=self.background_errors - earlier.background_errors,
            reads=self.reads.since(earlier.reads),
            failovers=self.failovers - earlier.failovers,
            process=replace(
                self.process,
                loop_lag=self.process.loop_lag.since(earlier.process.loop_lag),
                gc_pauses=self.process.gc_pauses.since(earlier.process.gc_pauses),
                cpu_seconds=self.process.cpu_seconds - earlier.process.cpu_seconds,
            ),
        )


LATENCY_OF_NONE = LatencySnapshot(0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, {})


def _less(now: Mapping[_K, int], earlier: Mapping[_K, int]) -> dict[_K, int]:
    """What is more, by key; keys of which there is no more are left out."""
    return {key: more for key, n in now.items() if (more := n - earlier.get(key, 0)) > 0}
