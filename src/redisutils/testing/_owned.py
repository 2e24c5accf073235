"""Directives of a server's configuration that the kit sets itself: what a test may not override.

Overridden, the kit would look for the server where it is not, or leave behind what it cannot find;
and a test's server must never listen to the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from redisutils.errors import ConfigError

from ._checks import refuse

__all__ = ["check_config"]

_FILES = "its files lie in a directory of its own, which goes when it is stopped"
_NETWORK = "it listens on 127.0.0.1 alone"
_SOCKET = "ask its unix_socket for the path"
_CLUSTER = "use role='cluster'"
_SUPERVISED = "it has to end with the program that started it"

_INSTEAD = {
    "bind": _NETWORK,
    "cluster-enabled": _CLUSTER,
    "cluster-port": _CLUSTER + ", which chooses it",
    "daemonize": _SUPERVISED,
    "dir": _FILES,
    "logfile": "ask its log() for the text",
    "port": "use port=…",
    "requirepass": "use password=…",
    "supervised": _SUPERVISED,
    "tls-port": "use tls=TLSFiles(…), and ask its tls_port",
    "unixsocket": _SOCKET,
    "unixsocketperm": _SOCKET,
}


def check_config(config: Any) -> None:
    """ConfigError unless these are directives, and none of those that the kit sets itself."""
    if config is None:
        return
    if not isinstance(config, Mapping):
        raise ConfigError(f"config must be a mapping of directives, not {_kind(config)}")
    for name, rest in config.items():
        if not isinstance(name, str) or not name.strip():
            refuse("config", name, "must have a directive's name as its key")
        directive = name.split()[0].lower()
        if directive in _INSTEAD:
            raise ConfigError(
                f"config: {directive!r} is set by EmbeddedServer itself: {_INSTEAD[directive]}"
            )
        if isinstance(rest, bool) or not isinstance(rest, str | int | Sequence):
            # The value is not shown: some directives hold passwords.
            raise ConfigError(
                f"config: {name!r} must be a str, an int or a sequence of str, not {_kind(rest)}"
            )


def _kind(value: object) -> str:
    return type(value).__name__
