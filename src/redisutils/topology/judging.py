"""What a look at a server comes to: the report, by what was answered and by what has grown.

Counters tell nothing by themselves. So it is remembered where they stood at the looks of the last
``WINDOW`` seconds, the server's and our own, and what has grown since then is judged. What is
wrong, and how it is said, stands in :mod:`redisutils.topology.reasons`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.connection.words import cut
from redisutils.errors import CircuitOpen, RedisUtilsError, code_of
from redisutils.metrics.latency import LatencySnapshot
from redisutils.metrics.snapshot import MetricsSnapshot
from redisutils.pool.lane import Lane
from redisutils.pool.model import PoolStatus
from redisutils.pool.pool import Pool
from redisutils.topology import reasons as because
from redisutils.topology.facts import Info
from redisutils.topology.health import EndpointHealth, HealthReport
from redisutils.topology.reasons import Grown, Reason

__all__ = ["Judge", "Judged", "Look"]

WINDOW: Final = 10.0
"""Seconds over which it is told what has grown: since the last look, if that was earlier."""

_SPACING: Final = 0.5
"""Seconds between looks that are remembered."""


class Judged(Protocol):
    """A server with its pool."""

    options: ConnectOptions
    pool: Pool[Connection]

    def snapshot(self) -> MetricsSnapshot: ...

    def status(self) -> PoolStatus: ...


@dataclass(slots=True)
class Look:
    """What came of asking."""

    ping: Any = None
    """The answer, or the error reply."""
    round_trip: float | None = None
    ahead: float | None = None
    info: Info | None = None
    fresh: bool = False
    """Whether it had to connect first."""
    stuck: Lane | None = None
    """The lane that did not answer, when a connection of our own did."""
    shortage: str = ""
    """Who had the connections while it waited for one."""
    primaries: int = 0
    """Of the cluster that it is one of, if it is spoken to as if it were alone."""
    again: bool = False
    """Whether it was asked in words that the server does not know, and others may be better."""
    error: Exception | None = None
    """Why there is no answer."""


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where the counters stood at a look."""

    at: float
    failures: Mapping[tuple[str, str], int]
    read_only: int
    waits: int
    lag: LatencySnapshot
    info: Info | None


class Judge:
    """Judges the looks at one server, each by those before it.

    Args:
        server: what is looked at.
    """

    def __init__(self, server: Judged) -> None:
        self._server = server
        self._peer = server.options.peer
        self._stands: deque[_Stand] = deque([_stand(server.snapshot(), None)])

    def report(self, look: Look, refused: Mapping[str, str]) -> HealthReport:
        """What this look comes to, after those before it.

        Args:
            refused: the questions that this user may not ask, each with the server's words.
        """
        snapshot = self._server.snapshot()
        now = _stand(snapshot, look.info)
        before, grown = self._remember(now)
        found: dict[str, Reason] = {}
        for reason in self._wrong(look, snapshot, now, before, grown):
            known = found.get(reason.code)
            if known is None or (known.severity, reason.severity) == ("degraded", "unhealthy"):
                found[reason.code] = reason
        reasons = tuple(sorted(found.values(), key=lambda reason: reason.severity != "unhealthy"))
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if reasons:
            status = reasons[0].severity
        facts, notes = None, list(self._notes(refused))
        if look.info is not None and grown is not None:
            facts = look.info.facts(hit_rate=grown.hit_rate, clock_skew=look.ahead)
            notes += because.notes_of_server(self._peer, look.info, grown)
        return HealthReport(
            status=status,
            reasons=reasons,
            round_trip=look.round_trip,
            pool=self._server.status(),
            endpoints=(
                EndpointHealth(
                    self._peer, look.error is None, look.round_trip, facts, status=status
                ),
            ),
            notes=tuple(notes),
        )

    def _wrong(
        self,
        look: Look,
        snapshot: MetricsSnapshot,
        now: _Stand,
        before: _Stand,
        grown: Grown | None,
    ) -> Iterable[Reason]:
        """All that is wrong."""
        yield from self._of_answer(look)
        seconds = now.at - before.at
        if look.info is not None and grown is not None:
            refused = now.read_only - before.read_only
            yield from because.of_server(self._peer, look.info, grown, refused)
        if look.primaries > 1:
            yield because.of_one_of_many(self._peer, look.primaries)
        if look.ahead is not None:
            yield from because.of_clock(self._peer, look.ahead)
        shortage = self._server.pool.shortage()
        if shortage:
            yield Reason(f"callers wait for a connection: {shortage}", "pool")
        elif now.waits > before.waits and snapshot.utilisation >= 1:
            waited = now.waits - before.waits
            yield Reason(
                f"{waited} caller{'s' * (waited != 1)} had to wait for a connection in the last "
                f"{seconds:.0f} s, and all {snapshot.max_size} are in use "
                "(REDIS_POOL_MAX_SIZE)",
                "pool",
            )
        more = {kind: count - before.failures.get(kind, 0) for kind, count in now.failures.items()}
        yield from because.of_failures(snapshot.rates[10], more)
        yield from because.of_lag(now.lag.since(before.lag), seconds)

    def _of_answer(self, look: Look) -> Iterable[Reason]:
        error = look.error
        if error is None:
            if isinstance(look.ping, Exception):
                yield because.of_refused_ping(self._peer, code_of(look.ping), str(look.ping))
            elif look.round_trip is not None and not look.fresh:
                yield from because.of_round_trip(self._peer, look.round_trip)
            if look.stuck is not None:
                yield Reason(
                    f"the lane {look.stuck.name!r} does not answer, while {self._peer} answers on "
                    f"another connection: {look.stuck.depth} commands wait there, perhaps for a "
                    "long answer; use pool.lane(…) for what takes long",
                    "lane",
                )
        elif isinstance(error, CircuitOpen):
            yield Reason(error.message, "circuit-open", "unhealthy")
        elif look.shortage:
            told = f"no connection is free for commands: {look.shortage}"
            yield Reason(told, "pool", "unhealthy")
        else:
            why = error.message if isinstance(error, RedisUtilsError) else cut(str(error))
            yield Reason(f"{self._peer} does not answer: {why}", "unreachable", "unhealthy")

    def _notes(self, refused: Mapping[str, str]) -> Iterable[str]:
        lost = {
            "PING": "whether it serves commands is not judged",
            "TIME": "its clock is not judged",
            "INFO": "its memory, clients, persistence and replication are not judged",
            "CLUSTER INFO": "whether it is one of many is not judged",
        }
        for name, told in refused.items():
            right = name.lower().replace(" ", "|")
            yield f"{self._peer} refuses {name} ({told}): {lost[name]}; grant +{right}"

    def _remember(self, now: _Stand) -> tuple[_Stand, Grown | None]:
        """Keep where the counters stand.

        Returns where ours stood before, and how far the server's have come.
        """
        stands = self._stands
        while len(stands) > 1 and now.at - stands[1].at >= WINDOW:
            stands.popleft()
        before = stands[0]
        grown = None
        if now.info is not None:
            told = next((stand for stand in stands if stand.info is not None), now)
            grown = Grown(now.at - told.at, now.info, told.info)
        first = now.info is not None and all(stand.info is None for stand in stands)
        if first or now.at - stands[-1].at >= _SPACING:
            stands.append(now)
        return before, grown


def _stand(snapshot: MetricsSnapshot, info: Info | None) -> _Stand:
    return _Stand(
        at=snapshot.at,
        failures=snapshot.failures,
        read_only=snapshot.errors.get("ReadOnlyError", 0),
        waits=snapshot.waits,
        lag=snapshot.process.loop_lag,
        info=info,
    )
