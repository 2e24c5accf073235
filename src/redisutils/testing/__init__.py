"""Real servers and a faulty network, for our tests and for yours.

The pytest plugin in this package is loaded at the start of every pytest run where redisutils is
installed. Therefore the names below are imported when they are first asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .proxy import Direction, FaultProxy
    from .server import EmbeddedServer, TLSFiles, find_servers
    from .server_proxy import ServerProxy

__all__ = [
    "Direction",
    "EmbeddedServer",
    "FaultProxy",
    "ServerProxy",
    "TLSFiles",
    "find_servers",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        for home in (
            import_module("redisutils.testing.proxy"),
            import_module("redisutils.testing.server"),
            import_module("redisutils.testing.server_proxy"),
        ):
            if name in home.__all__:
                return globals().setdefault(name, getattr(home, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
