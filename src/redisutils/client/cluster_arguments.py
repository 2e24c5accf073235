"""What ``redis.asyncio.RedisCluster(…)`` takes, as our ``Redis(mode="cluster", …)`` has it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from redisutils.address import CLUSTER_PORT, Address
from redisutils.errors import ConfigError

__all__ = ["cluster_kwargs"]

_IGNORED: Final = ("require_full_coverage", "dynamic_startup_nodes", "reinitialize_steps")
"""What changes nothing here: a slot without an owner fails by itself, and the others go on; seeds
and all nodes known are asked; the map is kept by MOVED, by errors, and by looking regularly."""

_REFUSED: Final = {
    "path": "a cluster is reached by host and port, not by a Unix socket",
    "unix_socket_path": "a cluster is reached by host and port, not by a Unix socket",
    "policy_resolver": "commands go where the servers' own policies say",
    "cache": "client-side caching is not supported",
    "cache_config": "client-side caching is not supported",
    "address_remap": (
        "give the addresses themselves: address_map={('10.0.0.1', 7000): ('localhost', 17000)}"
    ),
}


def cluster_kwargs(
    host: str | None, port: str | int, startup_nodes: Iterable[Any] | None, kwargs: dict[str, Any]
) -> dict[str, Any]:
    """The arguments for ``Redis``.

    Raises:
        ConfigError: an argument that cannot be honoured, or none that says where the cluster is.
    """
    kwargs = {name: value for name, value in kwargs.items() if name not in _IGNORED}
    for name, why in _REFUSED.items():
        if kwargs.pop(name, None):
            raise ConfigError(f"{name}= cannot be honoured: {why}")
    if kwargs.setdefault("mode", "cluster") != "cluster":
        raise ConfigError(f"mode={kwargs['mode']!r}: a RedisCluster has mode='cluster'; use Redis")
    nodes: list[Any] = [_seed(node) for node in startup_nodes or ()]
    if host is not None and not kwargs.get("nodes"):
        nodes.append(Address(host, int(port)))
    if nodes:
        kwargs["nodes"] = [*nodes, *(kwargs.get("nodes") or ())]
    elif not kwargs.get("nodes"):
        raise ConfigError(
            "RedisCluster() needs to know one node at least: host= and port=, or "
            "startup_nodes=[ClusterNode('localhost', 7000), …], or RedisCluster.from_url()"
        )
    first = kwargs["nodes"][0]
    if not isinstance(kwargs["nodes"], str) and isinstance(first, tuple):
        kwargs.setdefault("host", first[0])
        kwargs.setdefault("port", first[1])
    replicas = kwargs.pop("read_from_replicas", False)
    if kwargs.pop("load_balancing_strategy", None) or replicas:
        kwargs.setdefault("read_from", "prefer-replica")
    attempts = kwargs.pop("cluster_error_retry_attempts", None)
    if attempts is not None and kwargs.get("retry") is None:
        kwargs["retry"] = Retry(ExponentialWithJitterBackoff(base=0.1, cap=5.0), int(attempts))
    return kwargs


def _seed(node: Any) -> Any:
    """redis-py's ClusterNode, or an address in any writing."""
    host, port = getattr(node, "host", None), getattr(node, "port", CLUSTER_PORT)
    return node if host is None else Address(str(host), int(port))
