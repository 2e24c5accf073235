"""Where reads went that replicas may answer."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["ReadCounts", "ReadMetrics"]


@dataclass(slots=True)
class ReadCounts:
    """The live counters behind :class:`ReadMetrics`."""

    from_replicas: int = 0
    lagging: int = 0
    moved_on: int = 0
    hedged: int = 0
    hedges_won: int = 0

    def absorb(self, other: ReadCounts) -> None:
        """Add what another has counted. In place: others hold these counters."""
        for each in fields(ReadCounts):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    def snapshot(self) -> ReadMetrics:
        """As they are now."""
        return ReadMetrics(*(getattr(self, each.name) for each in fields(ReadMetrics)))


@dataclass(frozen=True, slots=True)
class ReadMetrics:
    """Reads where ``read_from`` is not ``primary``: all zero where it is."""

    from_replicas: int = 0
    """Commands and pipelines that were sent to a replica."""
    lagging: int = 0
    """Choices for which a replica was left out, being further behind than ``max_lag``."""
    moved_on: int = 0
    """Reads that went on at another server, since the first was lost, silent, or refused them."""
    hedged: int = 0
    """Reads of which another server was asked as well."""
    hedges_won: int = 0
    """Of those, for how many it was the first to answer."""

    def since(self, earlier: ReadMetrics) -> ReadMetrics:
        """What was counted after ``earlier``."""
        return ReadMetrics(
            *(getattr(self, each.name) - getattr(earlier, each.name) for each in fields(self))
        )
