"""How many acknowledged writes a failover can lose. Sums, no chance: upper bounds."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Failover:
    """Writes to one primary, and what it is set to. Seconds."""

    writes_per_second: float
    replication_lag: float
    """From a write's answer to its arrival at the replica that is promoted."""
    node_timeout: float
    """cluster-node-timeout: after it a silent primary is taken for dead by the others, and one
    that is cut off from most of them takes no more writes."""
    down_after: float
    """Sentinel's down-after-milliseconds."""
    election: float
    """From there until the replica has been promoted and everybody knows."""
    max_lag: float | None = None
    """min-replicas-max-lag, where min-replicas-to-write is 1 or more."""

    @property
    def crash(self) -> float:
        """Writes lost when the primary dies."""
        return self.writes_per_second * self.replication_lag

    def split_cluster(self, partition: float) -> float:
        """Writes lost when a primary is cut off together with their writers."""
        return self._split(min(self.node_timeout, partition))

    def split_sentinel(self, partition: float) -> float:
        """The same with Sentinel: by itself the old primary takes writes until it is reached."""
        return self._split(partition)

    def _split(self, until: float) -> float:
        # A replica reports once a second, so that a silence is seen up to a second late.
        stops = until if self.max_lag is None else min(until, self.max_lag + 1)
        return self.writes_per_second * stops
