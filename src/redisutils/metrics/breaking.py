"""What a snapshot says of a circuit breaker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["BreakerStatus"]


@dataclass(frozen=True, slots=True)
class BreakerStatus:
    """The circuit breaker of an endpoint: see :mod:`redisutils.pool.breaker`."""

    state: Literal["closed", "open", "half-open"] = "closed"
    seconds: float = 0.0
    """How long it has been closed; or how long it has not, whether open or half-open."""
    failures: int = 0
    """Attempts to connect that have failed since the endpoint was last heard."""
    trips: int = 0
    """How often it has opened."""
    refused: int = 0
    """Calls that it has refused."""
    error: str | None = None
    """What the last attempt failed of, while it is not closed."""
