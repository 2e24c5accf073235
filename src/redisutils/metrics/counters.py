"""The live counters behind a ``MetricsSnapshot``. One event loop only: no lock."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop, Future
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping
from time import monotonic
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from redisutils.errors import CircuitOpen, CommandTimeout, Outcome, RedisUtilsError, outcome_of
from redisutils.metrics.breaking import BreakerStatus
from redisutils.metrics.events import EventLog
from redisutils.metrics.latency import LatencyHistogram
from redisutils.metrics.measures import Measures, PartMeasures
from redisutils.metrics.meter import Meter
from redisutils.metrics.observer import Observer
from redisutils.metrics.pulse import Pulse
from redisutils.metrics.reading import ReadCounts

if TYPE_CHECKING:
    from redisutils.metrics.snapshot import LaneMetrics, MetricsSnapshot, NodeMetrics, Rates

__all__ = ["WINDOWS", "Gauges", "PoolMetrics"]

WINDOWS: Final = (1, 10, 60)
"""Seconds over which rates are told."""


_SUMMED: Final = (
    "commands",
    "unknown_writes",
    "timeouts",
    "bytes_in",
    "bytes_out",
    "connections_created",
    "connections_recycled",
    "connections_discarded",
    "connections_lost",
    "waits",
    "trips",
    "failovers",
    "background_errors",
)
"""Of ``PoolMetrics``, what two of them come to by adding."""

_REFUSAL: Final = CircuitOpen.__name__


class Gauges(NamedTuple):
    """What a pool knows at one moment and need not count. See ``MetricsSnapshot``."""

    endpoint: str
    max_size: int = 0
    size: int = 0
    in_use: int = 0
    waiting: int = 0
    uncounted: int = 0
    """Commands that are answered and not yet counted."""
    in_flight: int = 0
    in_flight_bytes: int = 0
    lanes: tuple[LaneMetrics, ...] = ()
    breaker: BreakerStatus = BreakerStatus()
    role: Literal["primary", "replica"] | None = None


class Repeated(Protocol):
    """The reply that a command is owed, however often it is sent."""

    @property
    def future(self) -> Future[Any]: ...

    @property
    def attempts(self) -> int: ...


class PoolMetrics:
    """See the module's docstring, and ``MetricsSnapshot`` for what each means.

    Args:
        loop: the event loop whose lag is told with it; None for counters that stand alone, such
            as those of a connection that is being opened.
        endpoint: the server's name, for log records.
        whole: of one server of many, what counts for all of them. Durations are measured there,
            by one meter: to measure costs the same however many servers there are, and a
            snapshot of them all hardly more than one of one. See :mod:`redisutils.metrics.merging`.
            A snapshot of the one has no durations but those of whole commands.
    """

    __slots__ = (
        "__weakref__",
        "_pulse",
        "_since",
        "_ticks",
        "_whole",
        "background_errors",
        "bytes_in",
        "bytes_out",
        "commands",
        "connections_created",
        "connections_discarded",
        "connections_lost",
        "connections_recycled",
        "errors",
        "events",
        "failovers",
        "failures",
        "measures",
        "meter",
        "observer",
        "reads",
        "retries",
        "timeouts",
        "trips",
        "unknown_writes",
        "wait_time",
        "waits",
    )

    measures: Measures
    meter: Meter
    wait_time: LatencyHistogram

    def __init__(
        self,
        loop: AbstractEventLoop | None = None,
        endpoint: str = "",
        whole: PoolMetrics | None = None,
    ) -> None:
        self.events = EventLog(endpoint)
        self._whole = whole
        self.measures = Measures() if whole is None else PartMeasures(whole.measures)
        self.meter = Meter() if whole is None else whole.meter
        self.commands = 0
        self.errors: Counter[str] = Counter()
        self.failures: Counter[tuple[str, str]] = Counter()
        self.retries: Counter[str] = Counter()
        self.reads = ReadCounts()
        self.unknown_writes = 0
        self.timeouts = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.connections_created = 0
        self.connections_recycled = 0
        self.connections_discarded = 0
        self.connections_lost = 0
        self.waits = 0
        self.wait_time = LatencyHistogram() if whole is None else whole.wait_time
        self.trips = 0
        self.failovers = 0
        self.background_errors = 0
        self.observer: Observer | None = None
        self._since = monotonic()
        # Where the counters stood, a second apart: (when, commands, failures, bytes in and out).
        self._ticks: deque[tuple[float, int, int, int, int]] = deque(maxlen=max(WINDOWS) + 1)
        self._ticks.append((self._since, 0, 0, 0, 0))
        self._pulse = None if loop is None else Pulse.of(loop)
        if self._pulse is not None:
            self._pulse.join(self)

    def close(self) -> None:
        """Nothing is counted any more; what has been can still be read."""
        if self._pulse is not None:
            self._pulse.leave(self)

    def failed(self, error: BaseException, may_write: Callable[[], bool] | None = None) -> None:
        """A caller is told ``error``.

        Args:
            may_write: asked whether its command changes anything; without it, it does not.
        """
        outcome = outcome_of(error)
        self.failures[type(error).__name__, _told(error)] += 1
        if outcome is Outcome.UNKNOWN and may_write is not None and may_write():
            self.unknown_writes += 1

    def lost(self, error: RedisUtilsError, owner: str, in_flight: int, hears_unasked: bool) -> None:
        """A connection has died that nobody wanted to end.

        Args:
            owner: whose it was: a lane's name, or empty.
            in_flight: commands that it owed an answer.
            hears_unasked: whether it was there to bring messages.
        """
        self.connections_lost += 1
        self.events.note(
            "lost",
            logging.WARNING if in_flight or hears_unasked else logging.INFO,
            "%s%s, %d in flight",
            f"{owner}: " if owner else "",
            error.message,
            in_flight,
            owner=owner,
            in_flight=in_flight,
            error=error.message,
        )

    def ran_out(self, error: CommandTimeout) -> None:
        """A command's budget is spent, and ``error`` is what its caller is told if it is still
        there."""
        self.timeouts += 1
        self.events.note(
            "budget_spent", logging.WARNING, "%s", error, outcome=_told(error), error=str(error)
        )

    def retried(
        self, reason: str, replies: Collection[Repeated] | None = None, pause: float = 0.0
    ) -> None:
        """Commands are sent again, or queued anew.

        Args:
            reason: see ``MetricsSnapshot.retries``.
            replies: what they are owed; None for one command of which each attempt has its own.
            pause: seconds that they wait at least.
        """
        commands = 1 if replies is None else len(replies)
        if not commands:
            return
        self.retries[reason] += commands
        self.events.note(
            "retried",
            logging.INFO,
            "%s: %d command%s to be sent again: %s",
            self.events.endpoint,
            commands,
            " is" if commands == 1 else "s are",
            reason,
            reason=reason,
            commands=commands,
        )
        if self.observer is not None:
            for reply in replies or ():
                self.observer.retried(reply.future, reason, reply.attempts, pause)

    @property
    def refused(self) -> int:
        """Calls that the circuit breaker has refused."""
        return sum(count for (error, _), count in self.failures.items() if error == _REFUSAL)

    def _add(self, other: PoolMetrics) -> None:
        """Count what ``other`` has counted. What was measured is in the whole already."""
        self.errors.update(other.errors)
        self.failures.update(other.failures)
        self.retries.update(other.retries)
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.reads.absorb(other.reads)
        self.background_errors += other.events.failed

    def adopt(self, left: PoolMetrics) -> None:
        """Count from now on what a server has counted that is gone, so that the whole, which had
        it in its sums and its rates, does not fall. To be called at once when it is no longer
        among those that are merged.

        Args:
            left: counters of one of our servers. They count nothing any more: it is closed.
        """
        assert left._whole is self, "what it has measured is counted elsewhere"
        stands = list(left._ticks)
        times = [when for when, *_ in stands]
        for at, (when, *ours) in enumerate(self._ticks):
            # All pools of a loop tick at the same time. Before its first it had counted nothing.
            theirs = stands[max(0, bisect_right(times, when) - 1)]
            commands, failures, received, sent = map(sum, zip(ours, theirs[1:], strict=True))
            self._ticks[at] = (when, commands, failures, received, sent)
        self._add(left)

    def together(self, parts: Collection[PoolMetrics]) -> PoolMetrics:
        """Counters with what these and their servers', ``parts``, have counted: to be read, and
        not to be counted on."""
        assert all(part._whole is self for part in parts), "they measure elsewhere"
        found = PoolMetrics(None, self.events.endpoint)
        found.measures = self.measures
        found.wait_time = self.wait_time
        found._pulse = self._pulse
        found._since = self._since
        for each in (self, *parts):
            found._add(each)
        return found

    def tick(self, now: float) -> None:
        """A second has passed."""
        self._ticks.append(self._stand(now))
        if self._whole is None:
            self.measures.slow.turn()
            self.meter.turn(now)
        self.events.tick(now)

    def _stand(self, now: float) -> tuple[float, int, int, int, int]:
        return now, self.commands, self.failures.total(), self.bytes_in, self.bytes_out

    def rates(self, now: float) -> dict[int, Rates]:
        """By the seconds of ``WINDOWS``; ``now`` is ``time.monotonic()``."""
        from redisutils.metrics.snapshot import Rates

        stand = self._stand(now)
        rates = {}
        for window in WINDOWS:
            # The latest stand that is old enough, or the oldest there is.
            old = self._ticks[0]
            for tick in self._ticks:
                if now - tick[0] < window - 0.05:
                    break
                old = tick
            span = max(now - old[0], 0.001)
            rates[window] = Rates(
                *((a - b) / span for a, b in zip(stand[1:], old[1:], strict=True))
            )
        return rates

    def node(self, gauges: Gauges) -> NodeMetrics:
        """A server by itself."""
        from redisutils.metrics.snapshot import NodeMetrics

        return NodeMetrics(
            endpoint=gauges.endpoint,
            began=self._since,
            commands=self.commands + gauges.uncounted,
            errors=self.errors.total(),
            latency=self.measures.latency(),
            max_size=gauges.max_size,
            size=gauges.size,
            in_use=gauges.in_use,
            waiting=gauges.waiting,
            in_flight=gauges.in_flight,
            connected=gauges.size > 0,
            breaker=gauges.breaker,
            role=gauges.role,
        )

    def snapshot(
        self,
        gauges: Gauges,
        nodes: tuple[NodeMetrics, ...] | None = None,
        rates: Mapping[int, Rates] | None = None,
    ) -> MetricsSnapshot:
        """All of it as it is now. O(buckets in use), some tenths of a millisecond.

        Args:
            nodes, rates: of many servers, who else can tell; for one they are its own.
        """
        from redisutils.metrics.snapshot import MetricsSnapshot

        assert self._pulse is not None  # nobody shows those that stand alone
        now = monotonic()
        latency = self.measures.latency()
        return MetricsSnapshot(
            endpoint=gauges.endpoint,
            at=now,
            seconds=now - self._since,
            commands=self.commands + gauges.uncounted,
            latency=latency,
            parts=MappingProxyType(self.measures.parts()),
            composition=self.measures.composition(latency),
            by_command=MappingProxyType(self.measures.by_command()),
            rates=MappingProxyType(self.rates(now) if rates is None else dict(rates)),
            slow=self.measures.slow.read(),
            errors=MappingProxyType(dict(self.errors)),
            failures=MappingProxyType(dict(self.failures)),
            retries=MappingProxyType(dict(self.retries)),
            unknown_writes=self.unknown_writes,
            timeouts=self.timeouts,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            max_size=gauges.max_size,
            size=gauges.size,
            in_use=gauges.in_use,
            waiting=gauges.waiting,
            utilisation=gauges.in_use / gauges.max_size if gauges.max_size else 0.0,
            waits=self.waits,
            wait_time=self.wait_time.snapshot(),
            connections_created=self.connections_created,
            connections_recycled=self.connections_recycled,
            connections_discarded=self.connections_discarded,
            connections_lost=self.connections_lost,
            in_flight=gauges.in_flight,
            in_flight_bytes=gauges.in_flight_bytes,
            lanes=gauges.lanes,
            breaker=gauges.breaker,
            nodes=(self.node(gauges),) if nodes is None else nodes,
            background_errors=self.background_errors + self.events.failed,
            process=self._pulse.read(),
            reads=self.reads.snapshot(),
            failovers=self.failovers,
        )


def _told(error: BaseException) -> str:
    """The outcome that an error tells, by name."""
    outcome = outcome_of(error)
    return "UNSAID" if outcome is None else outcome.name
