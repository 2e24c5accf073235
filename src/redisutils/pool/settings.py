"""The figures that shape a pool and its lanes, apart from where they came from."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from redisutils.pool.pool import QueueMode, Timeouts
from redisutils.retry import Backoff, RetryPolicy

__all__ = ["PoolSettings"]


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """Durations in seconds, ``inf`` for none."""

    max_size: int = 10
    min_idle: int = 0
    max_idle: float = inf
    max_lifetime: float = inf
    timeouts: Timeouts = Timeouts(wait=10.0, create=30.0, recycle=10.0)
    queue_mode: QueueMode = "fifo"
    command_timeout: float = 10.0
    retry: RetryPolicy = RetryPolicy("safe", 5, Backoff(0.1, 5.0))
    health_check_interval: float = inf
    """Seconds between PINGs of a connection nobody uses."""
    circuit_breaker: float = 5.0
    """Seconds after which a server of which nothing is heard is known dead."""
    plain_keys: bool = False
    """Whether the log of slow commands shows keys; if not, hashes of them."""

    @property
    def silence(self) -> float:
        """Seconds without an answer after which a lane looks whether its peer still lives: soon
        enough that what may be repeated still has most of its budget."""
        return min(0.5, self.command_timeout / 4)
