"""Real servers and a faulty network, for our tests and for yours."""

from __future__ import annotations

from .proxy import Direction, FaultProxy
from .server import EmbeddedServer, TLSFiles, find_servers

__all__ = ["Direction", "EmbeddedServer", "FaultProxy", "TLSFiles", "find_servers"]
