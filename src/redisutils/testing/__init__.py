"""Real servers and a faulty network, for our tests and for yours."""

from __future__ import annotations

from .faults import (
    Bandwidth,
    Blackhole,
    Call,
    Close,
    Cut,
    Fault,
    Fragment,
    HalfClose,
    Latency,
    Outage,
    Refuse,
    Reset,
    Stall,
    Swallow,
)
from .proxy import Direction, FaultProxy
from .server import EmbeddedServer, TLSFiles, find_servers
from .server_faults import Freeze, Kill, Restart, ServerFault
from .timeline import At, Event, Playing, Timeline

__all__ = [
    # servers
    "EmbeddedServer",
    "TLSFiles",
    "find_servers",
    # the network
    "Direction",
    "FaultProxy",
    # scripts of faults
    "At",
    "Event",
    "Playing",
    "Timeline",
    # faults
    "Bandwidth",
    "Blackhole",
    "Call",
    "Close",
    "Cut",
    "Fault",
    "Fragment",
    "Freeze",
    "HalfClose",
    "Kill",
    "Latency",
    "Outage",
    "Refuse",
    "Reset",
    "Restart",
    "ServerFault",
    "Stall",
    "Swallow",
]
