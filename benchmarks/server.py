"""The server under the benchmark: where it is and what it holds.

Imports next to nothing: every measured process loads it, and its memory counts.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

KEYS = 1000
"""How many keys the workloads read and write, one small value each."""

PREFIX = "redisutils-bench:"


def key_name(number: int) -> str:
    """Twelve digits, since that is what redis-benchmark puts for ``__rand_int__``."""
    return f"{PREFIX}{number:012d}"


def small_value(number: int) -> bytes:
    """32 bytes that no other key holds, so that a reply gone astray is noticed."""
    return f"value {number:012d}".encode().ljust(32, b".")


def large_value(number: int) -> bytes:
    """10,000 bytes that no other key holds."""
    return small_value(number).ljust(10_000, b"x")


@dataclass(frozen=True)
class Node:
    """A primary of a cluster, with the slots that are its own."""

    host: str
    port: int
    pid: int
    first_slot: int
    last_slot: int


@dataclass(frozen=True)
class Server:
    """Where the server listens and who may enter."""

    host: str
    port: int
    username: str | None = None
    password: str | None = None
    nodes: tuple[Node, ...] = ()
    """Of a cluster, the server itself being the first; empty for a server of its own."""

    @classmethod
    def from_url(cls, url: str) -> Server:
        """``redis://[user:password@]host[:port]``, which all contenders can reach.

        Raises ValueError for what some of them would need other settings for (TLS,
        unix sockets, database numbers).
        """
        parts = urlsplit(url)
        if parts.scheme not in ("redis", "valkey"):
            raise ValueError(f"redis:// or valkey:// is wanted, not {parts.scheme!r}")
        if parts.path.strip("/") not in ("", "0") or parts.query:
            raise ValueError("a database number or options cannot be given")
        return cls(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 6379,
            username=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
        )

    def as_dict(self) -> dict[str, Any]:
        """What :meth:`from_dict` takes, for the way to a child process."""
        return asdict(self)

    @classmethod
    def from_dict(cls, facts: dict[str, Any]) -> Server:
        """The server that :meth:`as_dict` was asked of."""
        return cls(**{**facts, "nodes": tuple(Node(**node) for node in facts["nodes"])})
