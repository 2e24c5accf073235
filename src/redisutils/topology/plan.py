"""What stands behind a pool: one server, one that sentinels watch over, or a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from typing import Literal

from redisutils.address import Address, AddressMap
from redisutils.connection.options import ConnectOptions

__all__ = ["ClusterPlan", "Plan", "ReadFrom", "Reading", "SentinelPlan"]

ReadFrom = Literal["primary", "replica", "prefer-replica", "nearest"]


@dataclass(frozen=True, slots=True)
class Reading:
    """Where commands that only read are sent. Durations in seconds."""

    source: ReadFrom = "primary"
    max_lag: float = inf
    """A replica that is further behind its primary is not read from."""
    zone: str | None = None
    """The availability zone whose servers are preferred."""
    own_writes: float = 0.0
    """For so long after a write to a slot, what a client reads of it comes from the primary."""
    hedge: float = 0.0
    """The share of reads, 0 to 1, of which at most another replica may be asked as well when the
    first has not answered within the p95."""


@dataclass(frozen=True, slots=True)
class SentinelPlan:
    """A primary that moves, and replicas, as sentinels tell."""

    sentinels: tuple[ConnectOptions, ...]
    """How to reach each; others are learnt from them, and reached as the first is."""
    master: str
    """The name under which they know the primary."""
    addresses: AddressMap = field(default_factory=dict)
    reading: Reading = Reading()


@dataclass(frozen=True, slots=True)
class ClusterPlan:
    """Many primaries, each for some of the slots, and their replicas."""

    seeds: tuple[Address, ...]
    """Nodes to ask first, any of them."""
    addresses: AddressMap = field(default_factory=dict)
    reading: Reading = Reading()


Plan = SentinelPlan | ClusterPlan
