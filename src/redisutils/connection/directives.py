"""Lines of a server's configuration file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from redisutils.errors import ConfigError

__all__ = ["Directives", "lines_of", "quoted"]

Directives: TypeAlias = Mapping[str, str | int | Sequence[str]]
"""Lines for the server's configuration file: a directive's name and the rest of its line, as it
would stand in ``redis.conf``; a sequence stands for one line each."""


def lines_of(config: Directives) -> list[str]:
    """The lines that stand for ``config``. ConfigError when a value has a line break."""
    lines = []
    for name, value in config.items():
        rests = [str(value)] if isinstance(value, (str, int)) else value
        lines += [f"{name} {rest}" for rest in rests]
    for line in lines:
        if "\n" in line or "\r" in line:
            raise ConfigError(f"directive {line.split()[0]!r} has a line break in its value")
    return lines


def quoted(value: str) -> str:
    """``value`` as one word of a directive, whatever characters it has."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value.encode()) + '"'
