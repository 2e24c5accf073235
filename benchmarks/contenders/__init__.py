"""The contenders: which there are, and where the adapter of each is."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

from benchmarks.contenders.base import Client

__all__ = ["OURS", "REFERENCE", "ROSTER", "STANDALONE", "Client", "Entry", "load"]

OURS = "redisutils"

STANDALONE = "redisutils-standalone"
"""Ours against a server of its own, beside a cluster of the same servers."""

REFERENCE = "redis-benchmark"
"""Not a library but a program: see ``benchmarks/reference.py``."""


@dataclass(frozen=True)
class Entry:
    """One contender, without importing it."""

    name: str
    distribution: str
    """Its name in the package index, to ask for its version."""
    imports: str
    """What a user's program imports; timed by the workload ``import``."""
    adapter: str
    """``module:Class`` within this project's benchmarks."""

    def installed(self) -> bool:
        """Whether it can be imported. Its top-level package is not executed."""
        return find_spec(self.imports.partition(".")[0]) is not None


ROSTER: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        # Its root imports what it names when that is first asked for; this is all of it.
        Entry(OURS, "redisutils", "redisutils.client.redis_pool", "contenders.ours:Redisutils"),
        Entry("redis-py", "redis", "redis.asyncio", "contenders.redis_py:RedisPy"),
        Entry("valkey-py", "valkey", "valkey.asyncio", "contenders.valkey_py:ValkeyPy"),
        Entry("coredis", "coredis", "coredis", "contenders.coredis_client:Coredis"),
        Entry("valkey-glide", "valkey-glide", "glide", "contenders.valkey_glide:ValkeyGlide"),
    )
}


def load(adapter: str) -> type[Client]:
    """Import an entry's ``adapter``, and with it the library.

    Raises ImportError if the library is not installed.
    """
    module, _, attribute = adapter.partition(":")
    found: type[Client] = getattr(import_module(f"benchmarks.{module}"), attribute)
    return found
