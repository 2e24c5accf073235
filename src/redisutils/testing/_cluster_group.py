"""A cluster that starts, and tells who is who in it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import combinations

from redis.crc import key_slot

from redisutils.connection.directives import Directives
from redisutils.errors import ConfigError, ConnectFailed

from ._agreement import Agreement
from ._asking import Deadline, ask
from ._checks import check_count, check_flag, check_kind, check_time
from ._cluster_view import SLOTS
from ._membership import meet
from .group import ServerGroup, data_node_directives, password_or_new
from .replication import wait_until_in_sync
from .server import EmbeddedServer, ServerKind

__all__ = ["ClusterGroup"]


class ClusterGroup(ServerGroup):
    """The nodes of a cluster, and what they agree on. Arguments: see EmbeddedCluster."""

    def __init__(
        self,
        primaries: int = 3,
        replicas: int = 0,
        binary: ServerKind | str | os.PathLike[str] | None = None,
        *,
        password: str | None = None,
        node_timeout: float = 1.0,
        require_full_coverage: bool = True,
        appendonly: bool = False,
        config: Directives | None = None,
        startup_timeout: float = 20.0,
    ) -> None:
        check_count("primaries", primaries, 1, optional=False)
        check_count("replicas", replicas, 0, optional=False)
        check_time("node_timeout", node_timeout)
        check_flag("require_full_coverage", require_full_coverage)
        self.password = password_or_new(password)
        """The password of all nodes; ``""`` for none."""
        directives: Directives = {
            "cluster-node-timeout": round(node_timeout * 1000),
            "cluster-require-full-coverage": "yes" if require_full_coverage else "no",
            "cluster-allow-replica-migration": "no",  # A primary without slots stays one.
            "cluster-replica-validity-factor": 0,  # However long it was alone, a replica stands in.
            **(config or {}),
        }

        def make() -> EmbeddedServer:
            return EmbeddedServer(
                binary,
                password=self.password,
                appendonly=appendonly,
                role="cluster",
                config=data_node_directives(self.password, directives),
                startup_timeout=startup_timeout,
            )

        super().__init__([make() for _ in range(primaries * (1 + replicas))], startup_timeout)
        self._make = make
        self._first = self.members
        self._count = primaries
        self._agreement = Agreement()

    # --- who is who ---

    @property
    def nodes(self) -> Sequence[EmbeddedServer]:
        """All nodes: the first primaries, then their first replicas in turn, then those that have
        joined."""
        return self.members

    @property
    def primaries(self) -> list[EmbeddedServer]:
        """The nodes that own slots."""
        return self._agreement.primaries

    @property
    def replicas(self) -> list[EmbeddedServer]:
        """The nodes that follow a primary."""
        return self._agreement.replicas

    def replicas_of(self, primary: EmbeddedServer) -> list[EmbeddedServer]:
        """The nodes that follow this one."""
        self.id_of(primary)
        return self._agreement.replicas_of(primary)

    def id_of(self, node: EmbeddedServer) -> str:
        """A node's name in the cluster. ConfigError when it is none of this running cluster."""
        id_ = self._agreement.id_of(node)
        if id_ is None:
            raise ConfigError(f"{node!r} is no node of {self!r}")
        return id_

    def slot_of(self, key: str | bytes) -> int:
        """A key's slot, by its hash tag if it has one."""
        check_kind("key", key, (str, bytes), "a str or bytes")
        return key_slot(key if isinstance(key, bytes) else key.encode())

    def owner_of(self, slot: int) -> EmbeddedServer:
        """The primary that owns a slot. ConnectFailed when none does, ConfigError for no slot."""
        check_count("slot", slot, 0, SLOTS - 1, optional=False)
        owner = self._agreement.owner_of(slot)
        if owner is None:
            raise ConnectFailed(f"slot {slot} of {self!r} has no owner")
        return owner

    def node_for(self, key: str | bytes) -> EmbeddedServer:
        """The primary that owns a key's slot. ConnectFailed when none does."""
        return self.owner_of(self.slot_of(key))

    async def wait_until_ok(self, timeout: float = 15.0) -> None:
        """Wait until the nodes that answer say that the cluster is ok, see each other, agree on
        the owner of each slot, and none of the owners is dead or paused.

        After the kill of a primary that is when its replica has taken over.
        """
        await self._work(timeout, self._agreement.wait_until_ok)

    async def wait_in_sync(self, timeout: float = 10.0) -> None:
        """Wait until each replica that answers has all that its primary had when this was called.
        Where either was killed or paused there is nothing to wait for."""
        await self._work(timeout, self._wait_in_sync)

    # --- blocking ---

    def _summary(self) -> str:
        replicas = len(self.replicas) if self._started else len(self.members) - self._count
        return f"{len(self.members) - replicas} primaries, {replicas} replicas"

    def _end(self) -> None:
        super()._end()
        self.members = self._first

    def _arrange(self, deadline: Deadline) -> None:
        nodes, count = self.members, self._count
        self._agreement = Agreement()
        self._agreement.add({ask(node, "CLUSTER", "MYID"): node for node in nodes})
        for number, node in enumerate(nodes):
            # Epochs that differ from the beginning need not be sorted out by elections.
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < count:
                first, end = SLOTS * number // count, SLOTS * (number + 1) // count
                ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        # Everybody is introduced to everybody: gossip alone would take seconds.
        for node, other in combinations(nodes, 2):
            meet(node, other)
        self._agreement.wait_until_known(deadline)
        for number, replica in enumerate(nodes[count:]):
            ask(replica, "CLUSTER", "REPLICATE", self.id_of(nodes[number % count]))
        self._agreement.wait_until_ok(deadline, followers=len(nodes) - count)
        self._wait_in_sync(deadline)

    def _wait_in_sync(self, deadline: Deadline) -> None:
        for primary in self.primaries:
            if primary.answering:
                replicas = [node for node in self.replicas_of(primary) if node.answering]
                wait_until_in_sync(primary, replicas, deadline)
