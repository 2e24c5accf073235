"""Clusters of the tests, and our pools for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from redisutils import RedisPool, create_redis_pool
from redisutils.testing import ClusterProxies, EmbeddedCluster, EmbeddedServer

from .servers import client_of

__all__ = ["cluster_pool", "empty", "emptied", "keys_of", "other_primary", "slots_of", "told"]


def cluster_pool(
    cluster: EmbeddedCluster, network: ClusterProxies | None = None, **settings: Any
) -> RedisPool:
    """A pool of a cluster, not open yet; by way of ``network`` if given."""
    given: dict[str, Any] = {
        "mode": "cluster",
        "nodes": [(node.host, node.port) for node in cluster.nodes if node.answering],
        "password": cluster.password,
    }
    if network is not None:
        given |= {"nodes": network.addresses, "address_map": network.address_map}
    return create_redis_pool(**{**given, **settings})


def other_primary(cluster: EmbeddedCluster, key: str) -> EmbeddedServer:
    """A primary that does not own a key's slot."""
    return next(node for node in cluster.primaries if node is not cluster.node_for(key))


def keys_of(cluster: EmbeddedCluster, node: EmbeddedServer, prefix: str = "k") -> Iterator[str]:
    """Keys that a node owns, without end."""
    number = 0
    while True:
        key = f"{prefix}:{number}"
        if cluster.node_for(key) is node:
            yield key
        number += 1


def slots_of(cluster: EmbeddedCluster, node: EmbeddedServer) -> list[int]:
    """The slots that a node owns."""
    return [slot for slot in range(16384) if cluster.owner_of(slot) is node]


def told(node: EmbeddedServer, *words: object) -> Any:
    """What a node itself answers; errors are raised."""
    with client_of(node.url) as client:
        return client.execute_command(*words)


def empty(cluster: EmbeddedCluster) -> None:
    """Remove all data, scripts and figures."""
    for node in cluster.nodes:
        with client_of(node.url) as client:
            try:
                client.flushall()
                client.script_flush()
            except redis.ReadOnlyError:
                pass  # a replica has what its primary has
            client.config_resetstat()


async def emptied(cluster: EmbeddedCluster) -> EmbeddedCluster:
    """The cluster, whole, empty and in sync, whatever the last test did to it.

    Roles settle first: who is a primary only a moment later would keep its data, which the next
    test, with the same names, would take for its own.
    """
    await cluster.wait_until_ok()
    empty(cluster)
    await cluster.wait_in_sync()
    full = {node.port: size for node in cluster.nodes if (size := told(node, "DBSIZE"))}
    assert not full, f"keys are left after FLUSHALL: {full}"
    return cluster
