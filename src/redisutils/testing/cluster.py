"""A cluster on one machine, whose slots can be seen and moved."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import combinations

from redis.crc import key_slot

from redisutils.connection.directives import Directives
from redisutils.errors import ConfigError, ConnectFailed

from ._asking import Deadline, ask
from ._checks import check_count, check_flag, check_kind, check_time
from ._cluster_view import SLOTS, NodeView, owners_of, view_of
from .group import ServerGroup, data_node_directives, password_or_new
from .migration import SlotMigration
from .replication import wait_until_in_sync
from .server import EmbeddedServer, ServerKind

__all__ = ["EmbeddedCluster"]


@dataclass(frozen=True)
class _Layout:
    """What all nodes agree on: each slot's owner, and whom each replica follows, by their ids."""

    owners: tuple[str | None, ...] = (None,) * SLOTS
    followed: tuple[tuple[str, str], ...] = ()


class EmbeddedCluster(ServerGroup):
    """A cluster on 127.0.0.1.

    ::

        async with EmbeddedCluster(primaries=3, replicas=1) as cluster:
            node = cluster.node_for("k")
            redis = RedisCluster.from_url(node.url)
            other = next(primary for primary in cluster.primaries if primary is not node)
            async with cluster.migrating(cluster.slot_of("k"), other) as migration:
                ...  # asking the node for what it does not have is answered with ASK
                await migration.move_keys("k")
            # and from here on with MOVED
            await cluster.failover(cluster.replicas_of(other)[0])
            await other.kill()
            await cluster.wait_until_ok()

    Who owns a slot, and who is a primary, is what all nodes agreed on when this object last
    looked: after the start, :meth:`failover`, :meth:`move_slot` and :meth:`wait_until_ok`.
    To start takes more than 2 s: for so long a primary refuses to serve a cluster after its start.

    :param primaries: how many, default 3; they share the slots evenly.
    :param replicas: how many for each primary, default none.
    :param binary: as for :class:`EmbeddedServer`, and for all of them; Redis from version 7 on.
    :param password: of the default user on each; None (the default) makes one up, ``""`` has none.
    :param node_timeout: for how long a node is silent when others take it for failed, s,
        default 1; its replica then needs about one second more to take over.
    :param require_full_coverage: whether a slot without an owner makes all nodes refuse commands
        with CLUSTERDOWN, default True.
    :param appendonly: as for :class:`EmbeddedServer`.
    :param config: further directives for each.
    :param startup_timeout: how long it may take until the cluster is ready, s, default 20.
    :raises ConfigError: for an argument that makes no sense.
    """

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
        nodes = [
            EmbeddedServer(
                binary,
                password=self.password,
                appendonly=appendonly,
                role="cluster",
                config=data_node_directives(self.password, directives),
                startup_timeout=startup_timeout,
            )
            for _ in range(primaries * (1 + replicas))
        ]
        super().__init__(nodes, startup_timeout)
        self._count = primaries
        self._by_id: Mapping[str, EmbeddedServer] = {}
        self._layout = _Layout()

    # --- who is who ---

    @property
    def nodes(self) -> Sequence[EmbeddedServer]:
        """All nodes: the first primaries, then their first replicas in turn."""
        return self.members

    @property
    def primaries(self) -> list[EmbeddedServer]:
        """The nodes that own slots."""
        owners = set(self._layout.owners)
        return [node for id_, node in self._by_id.items() if id_ in owners]

    @property
    def replicas(self) -> list[EmbeddedServer]:
        """The nodes that follow a primary."""
        return [self._by_id[replica] for replica, _ in self._layout.followed]

    def replicas_of(self, primary: EmbeddedServer) -> list[EmbeddedServer]:
        """The nodes that follow this one."""
        id_ = self.id_of(primary)
        return [self._by_id[own] for own, followed in self._layout.followed if followed == id_]

    def id_of(self, node: EmbeddedServer) -> str:
        """A node's name in the cluster. ConfigError when it is none of this running cluster."""
        for id_, server in self._by_id.items():
            if server is node:
                return id_
        raise ConfigError(f"{node!r} is no node of {self!r}")

    def slot_of(self, key: str | bytes) -> int:
        """A key's slot, by its hash tag if it has one."""
        check_kind("key", key, (str, bytes), "a str or bytes")
        return key_slot(key if isinstance(key, bytes) else key.encode())

    def owner_of(self, slot: int) -> EmbeddedServer:
        """The primary that owns a slot. ConnectFailed when none does, ConfigError for no slot."""
        check_count("slot", slot, 0, SLOTS - 1, optional=False)
        owner = self._layout.owners[slot]
        if owner is None:
            raise ConnectFailed(f"slot {slot} of {self!r} has no owner")
        return self._by_id[owner]

    def node_for(self, key: str | bytes) -> EmbeddedServer:
        """The primary that owns a key's slot. ConnectFailed when none does."""
        return self.owner_of(self.slot_of(key))

    # --- what can be done to it ---

    async def wait_until_ok(self, timeout: float = 15.0) -> None:
        """Wait until the nodes that answer say that the cluster is ok, see each other, agree on
        the owner of each slot, and none of the owners is dead or paused.

        After the kill of a primary that is when its replica has taken over.
        """
        await self._work(timeout, self._wait_until_ok)

    async def wait_in_sync(self, timeout: float = 10.0) -> None:
        """Wait until each replica that answers has all that its primary had when this was called.
        Where either was killed or paused there is nothing to wait for."""
        await self._work(timeout, self._wait_in_sync)

    async def failover(
        self, replica: EmbeddedServer, timeout: float = 15.0, *, force: bool = False
    ) -> None:
        """Let ``replica`` take over from its primary, and wait until all nodes know.

        :param force: do not wait for the primary, which may be dead; default False, which loses
            no write.
        """
        id_ = self.id_of(replica)

        def work(deadline: Deadline) -> None:
            ask(replica, "CLUSTER", "FAILOVER", *(["FORCE"] if force else []))
            self._wait_until_ok(deadline, owner=id_)

        await self._work(timeout, work)

    async def move_slot(self, slot: int, to: EmbeddedServer, timeout: float = 10.0) -> None:
        """Move a slot with its keys to another primary. Raises as :meth:`migrating`."""
        async with self.migrating(slot, to, timeout):
            pass

    @asynccontextmanager
    async def migrating(
        self, slot: int, to: EmbeddedServer, timeout: float = 10.0
    ) -> AsyncIterator[SlotMigration]:
        """Half-way of a slot's move: within the block its owner is migrating it and ``to``
        importing it, and only the keys that are told so move. Leaving the block, by an exception
        too, moves the rest, and waits until all nodes know the new owner.

        :param timeout: for each step, s, default 10.
        :raises ConfigError: when ``to`` owns the slot already, or is no primary; for no slot.
        """
        source = self.owner_of(slot)
        if to is source or to in self.replicas:
            raise ConfigError(f"slot {slot} cannot be moved to {to!r}")
        migration = SlotMigration(
            slot, (source, self.id_of(source)), (to, self.id_of(to)), self._work, timeout
        )
        await migration.begin()
        try:
            yield migration
        finally:
            others = [node for node in self.primaries if node.answering]
            await migration.finish(others)
            await self._work(timeout, self._wait_until_ok)

    # --- blocking ---

    def _summary(self) -> str:
        return f"{self._count} primaries, {len(self.members) - self._count} replicas"

    def _arrange(self, deadline: Deadline) -> None:
        nodes, count = self.members, self._count
        self._by_id = {ask(node, "CLUSTER", "MYID"): node for node in nodes}
        for number, node in enumerate(nodes):
            # Epochs that differ from the beginning need not be sorted out by elections.
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            if number < count:
                first, end = SLOTS * number // count, SLOTS * (number + 1) // count
                ask(node, "CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        # Everybody is introduced to everybody: gossip alone would take seconds.
        for node, other in combinations(nodes, 2):
            ask(node, "CLUSTER", "MEET", other.host, other.port, str(other.process.bus_port))
        deadline.wait_until(lambda: self._strangers({node: self._view(node) for node in nodes}))
        for number, replica in enumerate(nodes[count:]):
            ask(replica, "CLUSTER", "REPLICATE", self.id_of(nodes[number % count]))
        self._wait_until_ok(deadline, followers=len(nodes) - count)
        self._wait_in_sync(deadline)

    def _wait_in_sync(self, deadline: Deadline) -> None:
        for primary in self.primaries:
            if primary.answering:
                replicas = [node for node in self.replicas_of(primary) if node.answering]
                wait_until_in_sync(primary, replicas, deadline)

    def _wait_until_ok(
        self, deadline: Deadline, *, owner: str | None = None, followers: int = 0
    ) -> None:
        """Wait for agreement, also on a node that is to own slots and a number of replicas."""

        def missing() -> str | None:
            found = self._agreed()
            if isinstance(found, str):
                return found
            if owner is not None and owner not in found.owners:
                return f"the node on port {self._by_id[owner].port} does not own any slot"
            if len(found.followed) < followers:
                return "replicas do not follow yet"
            self._layout = found
            return None

        deadline.wait_until(missing)

    def _agreed(self) -> _Layout | str:
        """The layout on which all nodes that answer agree, or what is against it."""
        answering = [node for node in self.members if node.answering]
        for node in answering:
            if "cluster_state:ok" not in ask(node, "CLUSTER", "INFO"):
                return f"the cluster is not ok for the node on port {node.port}"
        views = {node: self._view(node) for node in answering}
        strangers = self._strangers(views)
        if strangers:
            return strangers
        layouts = {_layout_of(view) for view in views.values()}
        if len(layouts) != 1:
            return "the nodes do not agree" if layouts else "no node answers"
        layout = layouts.pop()
        for owner in set(layout.owners):
            if owner is not None and self._by_id[owner] not in views:
                return f"the node on port {self._by_id[owner].port} owns slots and does not answer"
        return layout

    def _view(self, node: EmbeddedServer) -> Mapping[str, NodeView]:
        return view_of(ask(node, "CLUSTER", "NODES"))

    def _strangers(self, views: Mapping[EmbeddedServer, Mapping[str, NodeView]]) -> str | None:
        """Which node does not know all, or does not see one that answers."""
        seen_well = {id_ for id_, node in self._by_id.items() if node in views}
        for node, view in views.items():
            if view.keys() != self._by_id.keys():
                return f"the node on port {node.port} does not know all others"
            for id_ in seen_well:
                if not view[id_].connected or view[id_].flags & {"handshake", "fail?", "fail"}:
                    unseen = self._by_id[id_].port
                    return f"the node on port {node.port} does not see that on port {unseen}"
        return None


def _layout_of(view: Mapping[str, NodeView]) -> _Layout:
    followed = sorted((node.id, node.primary) for node in view.values() if node.primary)
    return _Layout(owners_of(view.values()), tuple(followed))
