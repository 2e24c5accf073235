"""Ports of the loopback interface for private servers."""

from __future__ import annotations

import socket
from random import SystemRandom

from redisutils.errors import ConnectFailed

__all__ = ["HOST", "free_port"]

HOST = "127.0.0.1"

# Below the ranges from which Linux (32768) and macOS (49152) take ports for outgoing connections.
# A client that keeps connecting to a free port within such a range is sooner or later given that
# very port for its own end, is connected to itself, and the server cannot come back.
_PORTS = range(16384, 32768)

# Not the global generator: test suites seed it, alike in all processes that run them side by side,
# which would then try the same ports; and its numbers are the program's own.
_DRAWS = SystemRandom()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, from a range that outgoing connections avoid.

    :raises ConnectFailed: when there is none.
    """
    for port in _DRAWS.sample(_PORTS, 200):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port
    raise ConnectFailed(f"no free port found between {_PORTS[0]} and {_PORTS[-1]}")
