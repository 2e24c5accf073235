"""The words in which a pool is spoken of: what it manages, remembers, allows and reports."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from time import monotonic
from typing import Generic, Literal, Protocol, TypeVar

__all__ = [
    "Expired",
    "Hook",
    "Manager",
    "PoolStatus",
    "QueueMode",
    "Retained",
    "Silent",
    "Timeouts",
    "Usage",
]

T = TypeVar("T")
QueueMode = Literal["fifo", "lifo"]


@dataclass(slots=True)
class Usage:
    """What a pool remembers of one thing. Times are ``time.monotonic``."""

    created: float
    recycled: float | None = None
    """When it was last handed out again, None while it is in its first use."""
    recycle_count: int = 0
    returned: float | None = None
    """When it last came back to the pool, None while it is in its first use."""

    def age(self) -> float:
        """Seconds since it was made."""
        return monotonic() - self.created

    def last_used(self) -> float:
        """Seconds since it was last handed out."""
        return monotonic() - (self.created if self.recycled is None else self.recycled)

    def idle_for(self) -> float:
        """Of an idle one: seconds since it came back to the pool."""
        return monotonic() - (self.created if self.returned is None else self.returned)


Hook = Callable[[T, Usage], Awaitable[None] | None]
"""Called with a thing and its usage; raising refuses the thing."""


class Expired(Exception):
    """An idle thing has had its time. It is discarded, and that is no error."""


class Silent(Exception):
    """An idle thing did not answer. It is discarded, and a new one made instead of trying the other
    idle ones; if that succeeds, the manager is to look at these: ``Manager.doubt``."""


class Manager(Protocol[T]):
    """Makes, checks and lets go of things."""

    async def create(self) -> T:
        """Make one. What it raises goes to the caller of ``get``."""

    def fit(self, item: T, usage: Usage) -> bool:
        """Whether an idle one may be handed out as it is, without recycling. Quick: no I/O."""

    async def recycle(self, item: T, usage: Usage) -> None:
        """Make an idle one that is not fit so before it is handed out again. Raise to discard it:
        ``Expired`` if nothing is wrong with it, ``Silent`` if others are suspect, too."""

    def doubt(self, items: Sequence[T]) -> None:
        """A thing was silent, and another could be made: find out which of these idle ones are as
        silent, and close them. Quick: no waiting."""

    def discard(self, item: T) -> None:
        """Close one that leaves the pool for good."""

    def reusable(self, item: T) -> bool:
        """Whether one that comes back may be kept. Quick: no I/O."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each phase of a checkout; ``inf`` for no bound, ``wait=0`` tries once.

    The hooks of a phase are a part of it: ``post_create`` of creating, ``pre_recycle`` and
    ``post_recycle`` of recycling.
    """

    wait: float = inf
    create: float = inf
    recycle: float = inf


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool at one moment."""

    max_size: int
    size: int
    """Connections that exist: idle, checked out, or carrying a lane."""
    available: int
    """Connections that nobody holds or waits for."""
    waiting: int
    """Callers that wait for a connection."""
    breaker: Literal["closed", "open", "half-open"] = "closed"
    """Of the circuit breaker: unless it is closed, nobody waits for a connection."""


@dataclass(frozen=True, slots=True)
class Retained(Generic[T]):
    """What :meth:`Pool.retain` kept (a number) and removed (the things, which are the caller's)."""

    retained: int
    removed: list[T] = field(default_factory=list)
