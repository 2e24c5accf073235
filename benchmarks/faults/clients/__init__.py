"""The clients under fault: the adapter of each, loaded by name.

They share the roster of the benchmarks, but not its adapters: here what counts is how a client
is told its budget, and what its errors say.
"""

from __future__ import annotations

from importlib import import_module

from benchmarks.faults.clients.base import Client, Heard

__all__ = ["ADAPTERS", "Client", "Heard", "load"]

ADAPTERS = {
    "redisutils": "ours:Redisutils",
    "redis-py": "redis_py:RedisPy",
    "coredis": "coredis_client:Coredis",
    "valkey-glide": "valkey_glide:ValkeyGlide",
}
"""``module:Class`` within this package, by the names of the benchmarks' roster. valkey-py is
redis-py's fork and behaves as it does."""


def load(name: str) -> type[Client]:
    """Import the adapter of ``name``, and with it the library.

    Raises ImportError if the library is not installed.
    """
    module, _, attribute = ADAPTERS[name].partition(":")
    adapter: type[Client] = getattr(import_module(f"{__name__}.{module}"), attribute)
    return adapter
