"""Who is in a cluster, as redis-py's users ask for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from redis._parsers import Encoder
from redis.cluster import AbstractRedisCluster
from redis.exceptions import DataError, RedisClusterException, SlotNotCoveredError

from redisutils.address import Address
from redisutils.client.cluster_nodes import ClusterNode, address_in
from redisutils.client.road import Road
from redisutils.errors import ConfigError, Outcome, with_outcome
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.keys import slot_of
from redisutils.topology.cluster.node import Node

__all__ = ["Members"]


class _UnknownNode(ConfigError, RedisClusterException):
    """A node that is not in the cluster, to be caught as our error or as redis-py's."""


class Members(Road):
    """The part of a cluster's client that tells who is there."""

    PRIMARIES = AbstractRedisCluster.PRIMARIES
    REPLICAS = AbstractRedisCluster.REPLICAS
    ALL_NODES = AbstractRedisCluster.ALL_NODES
    RANDOM = AbstractRedisCluster.RANDOM
    DEFAULT_NODE = AbstractRedisCluster.DEFAULT_NODE
    NODE_FLAGS = AbstractRedisCluster.NODE_FLAGS

    _default: Address | None

    @property
    def _cluster(self) -> Cluster:
        server = self._source.server()
        assert isinstance(server, Cluster)
        return server

    def _shown(self, node: Node) -> ClusterNode:
        return ClusterNode(node, self.execute_command)

    def get_nodes(self) -> list[ClusterNode]:
        """All nodes. None are known before the first command, or ``await initialize()``."""
        return [self._shown(node) for node in self._cluster.members()]

    def get_primaries(self) -> list[ClusterNode]:
        """Those that own slots."""
        return [self._shown(node) for node in self._cluster.primaries]

    def get_replicas(self) -> list[ClusterNode]:
        """Those that follow a primary."""
        return [self._shown(node) for node in self._replicas()]

    def _replicas(self) -> list[Node]:
        return [node for node in self._cluster.members() if node.primary is not None]

    def get_random_node(self) -> ClusterNode:
        """Any node.

        Raises:
            RedisClusterException: none is known yet.
        """
        return self._shown(random.choice(self._some(self._cluster.members(), "any node")))

    def get_random_primary_node(self) -> ClusterNode:
        """Any primary. Raises as :meth:`get_random_node`."""
        return self._shown(random.choice(self._some(self._cluster.primaries, "any primary")))

    def get_default_node(self) -> ClusterNode | None:
        """The node of ``set_default_node()``, or the primary with the lowest slots; None as long
        as none is known."""
        node = self._default_node()
        return None if node is None else self._shown(node)

    def _default_node(self) -> Node | None:
        cluster = self._cluster
        if self._default is not None:
            node = cluster.member_at(self._default)
            if node is not None:
                return node
        return cluster.primaries[0] if cluster.primaries else None

    def set_default_node(self, node: Any) -> None:
        """Let commands without keys that any node can answer go to this one, as long as it is in
        the cluster.

        Raises:
            redis.DataError: it is not.
        """
        found = None if node is None else self._cluster.member_at(address_in(node))
        if found is None:
            raise DataError(f"set_default_node({node!r}): it is not in the cluster")
        self._default = found.address
        self.defer()

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """The node at ``host`` and ``port``, or named ``"host:port"``; None if there is none.

        Raises:
            redis.DataError: neither is given.
        """
        if host and port:
            address = Address(host, int(port))
        elif node_name:
            address = address_in(node_name, "node_name")
        else:
            raise DataError("get_node() needs host and port, or node_name")
        node = self._cluster.member_at(address)
        if node is None and address.host == "localhost":
            node = self._cluster.member_at(Address("127.0.0.1", address.port))
        return None if node is None else self._shown(node)

    def get_node_from_key(self, key: Any, replica: bool = False) -> ClusterNode | None:
        """The owner of a key's slot.

        Args:
            replica: one of those that follow it instead; None if there is none.

        Raises:
            SlotNotCoveredError: nobody owns it, or it is not known yet who does.
        """
        slot = self.keyslot(key)
        owner = self._cluster.owners[slot]
        if owner is self._cluster.nowhere:
            error = SlotNotCoveredError(f"slot {slot}: {self._cluster.why_unknown()}")
            raise with_outcome(error, Outcome.NOT_SENT)
        if not replica:
            return self._shown(owner)
        following = [node for node in self._replicas() if node.primary is owner]
        return self._shown(following[0]) if following else None

    def keyslot(self, key: Any) -> int:
        """The slot of a key."""
        return slot_of(self._encoded(key))

    @property
    def encoder(self) -> Encoder:
        """How strings are encoded and whether replies are decoded."""
        return self.connection_pool.get_encoder()

    def _encoded(self, value: Any) -> bytes:
        encode: Callable[[Any], bytes] = self.encoder.encode
        return encode(value)

    def _some(self, nodes: list[Node], what: str) -> list[Node]:
        if not nodes:
            known = bool(self._cluster.primaries)
            why = "there is none in the cluster" if known else self._cluster.why_unknown()
            raise with_outcome(RedisClusterException(f"{what}: {why}"), Outcome.NOT_SENT)
        return nodes

    def _targets(self, targets: Any) -> list[Node]:
        """The nodes that are meant.

        Raises:
            ConfigError: what is given is no node, or one that is not in the cluster (then it is
                a RedisClusterException, too, as it is with redis-py).
            RedisClusterException: of those that are meant there is none.
        """
        cluster = self._cluster
        if isinstance(targets, str) and targets in self.NODE_FLAGS:
            default = self._default_node()
            choices: dict[str, Callable[[], list[Node]]] = {
                self.PRIMARIES: lambda: cluster.primaries,
                self.REPLICAS: self._replicas,
                self.ALL_NODES: cluster.members,
                self.RANDOM: lambda: [random.choice(cluster.primaries)],
                self.DEFAULT_NODE: lambda: [] if default is None else [default],
            }
            return self._some(list(choices[targets]()), f"target_nodes={targets!r}")
        if isinstance(targets, Mapping):
            given = list(targets.values())
        elif isinstance(targets, list | set | frozenset):
            given = list(targets)
        else:
            given = [targets]
        nodes = []
        for one in given:
            address = address_in(one, "target_nodes")
            node = cluster.member_at(address)
            if node is None:
                raise _UnknownNode(
                    f"target_nodes={str(address)!r} is not in {cluster.name}, which has "
                    + ", ".join(str(known) for known in cluster.nodes)
                )
            nodes.append(node)
        return nodes
