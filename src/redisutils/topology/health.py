"""What ``pool.health()`` tells. How it is found out: :mod:`redisutils.topology.examining`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redisutils.pool.model import PoolStatus
from redisutils.topology.facts import ServerFacts
from redisutils.topology.reasons import Reason

__all__ = ["EndpointHealth", "HealthReport", "Reason", "ServerFacts"]


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """One server."""

    endpoint: str
    """``host:port``, or a path."""
    reachable: bool
    """Whether it answered, be it with an error; of one that was not asked, whether others hear
    it."""
    round_trip: float | None
    """Seconds that PING took; with connecting, if there was no connection yet."""
    server: ServerFacts | None
    """What it told of itself; None of one that was not asked."""
    told_role: Literal["primary", "replica"] | None = None
    """What others told of one that was not asked: sentinels, or other nodes of a cluster."""
    bytes_behind: int | None = None
    """Of a replica of which others told: how much of the replication stream it lacks that they know
    of."""
    told_lag: float | None = None
    """Seconds since its primary heard of a replica, which it does every second."""
    status: Literal["healthy", "degraded", "unhealthy"] | None = None
    """Its own, whatever that is for all of them; None of one that was not asked."""
    slots: tuple[tuple[int, int], ...] = ()
    """Of a primary in a cluster: the slots that it owns, first and last of each range."""
    follows: str | None = None
    """Of a replica: its primary."""
    zone: str | None = None
    """Its availability zone, where servers tell."""

    @property
    def role(self) -> Literal["primary", "replica"] | None:
        return self.server.role if self.server is not None else self.told_role

    @property
    def replication_lag(self) -> float | None:
        """Seconds: see ``ServerFacts``; of a replica that was not asked, as its primary tells."""
        return self.server.replication_lag if self.server is not None else self.told_lag


@dataclass(frozen=True, slots=True)
class HealthReport:
    """``await pool.health()``."""

    status: Literal["healthy", "degraded", "unhealthy"]
    """Unhealthy: commands cannot be served, be it the writes alone. Degraded: they can, and
    somebody should look."""
    reasons: tuple[Reason, ...]
    """Why it is not healthy, the gravest first; empty when it is. Each is a str, with ``code`` and
    ``severity``."""
    round_trip: float | None
    """Seconds that a PING took, None when it was not answered; of many servers, the longest."""
    pool: PoolStatus
    endpoints: tuple[EndpointHealth, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be judged, and why; and what is worth to know although nothing is wrong, such
    as a cache that evicts."""
