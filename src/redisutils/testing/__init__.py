"""Real servers and a faulty network, for our tests and for yours."""

from __future__ import annotations

from .cluster import EmbeddedCluster
from .migration import SlotMigration
from .proxy import Direction, FaultProxy
from .replication import EmbeddedReplication
from .sentinels import EmbeddedSentinels
from .server import EmbeddedServer, TLSFiles, find_servers

__all__ = [
    "Direction",
    "EmbeddedCluster",
    "EmbeddedReplication",
    "EmbeddedSentinels",
    "EmbeddedServer",
    "FaultProxy",
    "SlotMigration",
    "TLSFiles",
    "find_servers",
]
