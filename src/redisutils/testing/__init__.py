"""Real servers and a faulty network, for our tests and for yours.

The pytest plugin in this package is loaded at the start of every pytest run where redisutils is
installed. Therefore the names below are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .cluster import EmbeddedCluster
    from .cluster_proxies import ClusterProxies
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
    from .migration import SlotMigration
    from .proxy import Direction, FaultProxy
    from .replication import EmbeddedReplication
    from .sentinels import EmbeddedSentinels
    from .server import EmbeddedServer, TLSFiles, find_servers
    from .server_faults import Freeze, Kill, Restart, ServerFault
    from .server_proxy import ServerProxy
    from .timeline import At, Event, Playing, Timeline

__all__ = [
    # servers
    "EmbeddedCluster",
    "EmbeddedReplication",
    "EmbeddedSentinels",
    "EmbeddedServer",
    "SlotMigration",
    "TLSFiles",
    "find_servers",
    # the network
    "ClusterProxies",
    "Direction",
    "FaultProxy",
    "ServerProxy",
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


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in (
            import_module("redisutils.testing.proxy"),
            import_module("redisutils.testing.server"),
            import_module("redisutils.testing.server_proxy"),
            import_module("redisutils.testing.timeline"),
            import_module("redisutils.testing.faults"),
            import_module("redisutils.testing.server_faults"),
            import_module("redisutils.testing.replication"),
            import_module("redisutils.testing.sentinels"),
            import_module("redisutils.testing.cluster"),
            import_module("redisutils.testing.migration"),
            import_module("redisutils.testing.cluster_proxies"),
        ):
            if name in home.__all__:
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
