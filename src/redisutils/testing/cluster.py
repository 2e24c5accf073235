"""A cluster on one machine, whose slots can be seen and moved, and which grows and shrinks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from time import monotonic

from redisutils.connection.ports import free_port
from redisutils.errors import ConfigError, ConnectFailed

from ._asking import Deadline, ask
from ._bus import BusSwitch
from ._checks import check_count
from ._cluster_group import ClusterGroup
from ._hearing import wait_until_heard
from ._membership import forget, introduce, readdress
from ._slot_moves import batches, move_slots
from .cluster_proxies import ClusterProxies
from .group import at_once
from .migration import SlotMigration
from .replication import wait_until_in_sync
from .server import EmbeddedServer

__all__ = ["EmbeddedCluster"]

# After 5 s a server gives up a failover that was requested; s.
_FAILOVER_TIMEOUT = 6.0


class EmbeddedCluster(ClusterGroup):
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
            new = await cluster.add_primary()
            await cluster.move_slots(range(1000), new)
            await cluster.remove(new)

    Who owns a slot, and who is a primary, is what all nodes agreed on when this object last
    looked: after the start, :meth:`wait_until_ok`, and each of the methods that change it. Those
    are used one at a time. To start takes more than 2 s: for so long a primary refuses to serve a
    cluster after its start.

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

    async def failover(
        self, replica: EmbeddedServer, timeout: float = 15.0, *, force: bool = False
    ) -> None:
        """Let ``replica`` take over from its primary, and wait until all nodes know.

        :param force: do not wait for the primary, which may be dead; default False, which loses
            no write.
        """
        id_ = self.id_of(replica)

        words = ("CLUSTER", "FAILOVER", *(["FORCE"] if force else []))

        def work(deadline: Deadline) -> None:
            ask(replica, *words)
            asked = monotonic()

            def once_more() -> None:
                """It may come to nothing: Redis now and then counts votes of an election before."""
                nonlocal asked
                if monotonic() > asked + _FAILOVER_TIMEOUT:
                    asked = monotonic()
                    ask(replica, *words)

            self._agreement.wait_until_ok(deadline, owner=id_, at_each_look=once_more)

        await self._work(timeout, work)

    async def move_slot(self, slot: int, to: EmbeddedServer, timeout: float = 10.0) -> None:
        """Move a slot with its keys to another primary. Raises as :meth:`migrating`."""
        async with self.migrating(slot, to, timeout):
            pass

    async def move_slots(
        self, slots: Iterable[int], to: EmbeddedServer, timeout: float = 60.0
    ) -> None:
        """Move many slots with their keys to ``to``, from whoever owns them, and wait until all
        nodes know. Those that it owns already stay.

        For a client that is as many moves of single slots, of which some are half-way at a time.
        A thousand slots with some thousand keys take about 0.5 s, on a Valkey with replicas 1.5 s.

        :param to: a primary, also one that owns none yet.
        :param timeout: when it ends between two slots, s, default 60; some have moved then.
        :raises ConfigError: when ``to`` is no primary; for no slot.
        :raises ConnectFailed: when a slot has no owner, or a node does not answer; a slot may stay
            half-way then.
        """
        wanted = list(dict.fromkeys(slots))
        self._check_target(to)
        sources = {slot: self.owner_of(slot) for slot in wanted}

        def work(deadline: Deadline) -> None:
            for source in dict.fromkeys(sources.values()):
                own = [slot for slot in wanted if sources[slot] is source]
                self._move(own, source, to, deadline)
            self._agreement.wait_until_ok(deadline)

        await self._work(timeout, work)

    async def add_primary(self, timeout: float = 20.0) -> EmbeddedServer:
        """As :meth:`add_primaries`, of one."""
        return (await self.add_primaries(1, timeout))[0]

    async def add_primaries(self, count: int, timeout: float = 20.0) -> list[EmbeddedServer]:
        """Let more nodes join, at once, and wait until all know them; that takes 2 s.

        They own no slots: with the first that moves to it, a node is one of the
        :attr:`primaries`. They stay until :meth:`remove` or the end of the cluster, which starts
        again with those nodes that it had at first.
        """
        check_count("count", count, 1, optional=False)
        return await self._work(timeout, lambda deadline: self._join(count, deadline))

    async def add_replica(self, primary: EmbeddedServer, timeout: float = 20.0) -> EmbeddedServer:
        """Let another node join as a replica of ``primary``, and wait until it has its data.
        Returns the node. ConfigError when ``primary`` is none."""
        followed = self._check_target(primary)

        def work(deadline: Deadline) -> EmbeddedServer:
            (node,) = self._join(1, deadline)
            ask(node, "CLUSTER", "REPLICATE", followed)
            self._agreement.wait_until_ok(deadline, followers=len(self.replicas) + 1)
            wait_until_in_sync(primary, [node], deadline)
            return node

        return await self._work(timeout, work)

    async def remove(self, node: EmbeddedServer, timeout: float = 60.0) -> None:
        """Let a node leave: its slots move, in even shares, to the other primaries, all others
        forget it, and it ends.

        One that has died can leave, too, when it owned no slot. A node that does not answer now
        does not forget it, and tells the others of it when a minute has passed.

        :raises ConfigError: when it is no node, has replicas, which have to leave before, or is
            the last primary.
        """
        if self.replicas_of(node):
            raise ConfigError(f"{node!r} has replicas: remove them first")
        own = self._agreement.slots_of(node)
        heirs = [primary for primary in self.primaries if primary is not node]
        if own and not heirs:
            raise ConfigError(f"{node!r} is the last primary of {self!r}")

        def work(deadline: Deadline) -> None:
            for number, heir in enumerate(heirs):
                first, end = (len(own) * at // len(heirs) for at in (number, number + 1))
                self._move(own[first:end], node, heir, deadline)
            if own:
                self._agreement.wait_until_ok(deadline)
            with self._lock:
                self._drop(node)
            self._agreement.wait_until_ok(deadline)

        await self._work(timeout, work)

    async def readdress(self, node: EmbeddedServer, timeout: float = 15.0) -> None:
        """Let a node that answers go to another port, with its data and its name, and wait until
        all know. Its connections end, and nobody listens at the port of before."""
        self.id_of(node)

        def work(deadline: Deadline) -> None:
            readdress(node, free_port())
            bus_port = node.process.bus_port or 0
            self._agreement.wait_until_found({node: bus_port}, deadline)
            self._agreement.wait_until_ok(deadline)

        await self._work(timeout, work)

    @asynccontextmanager
    async def isolated(self, *nodes: EmbeddedServer, timeout: float = 15.0) -> AsyncIterator[None]:
        """Within the block, these nodes and all others hear nothing of each other, while clients
        reach all: the bus of the cluster is cut. Leaving it waits until the cluster is ok.

        The side with the fewer primaries refuses commands after ``node_timeout``; until then its
        primaries go on acknowledging writes, which are lost where a replica on the other side has
        taken over meanwhile. What was not cut is replication, by the port of clients. To begin
        takes about a second. The traffic of the bus passes through the event loop: it may not be
        blocked. Pausing or killing nodes is over before the block is.

        :param timeout: for the beginning and for the end, s, default 15.
        :raises ConfigError: for what is no node.
        """
        ids = {self.id_of(node) for node in nodes}
        switches = {
            node: BusSwitch(self.id_of(node), node.process.bus_port or 0)
            for node in self._agreement.answering
        }
        try:
            for switch in switches.values():
                await switch.open()
            await self._lead({node: switch.port for node, switch in switches.items()}, timeout)
            for switch in switches.values():
                switch.isolate(ids)
            yield
        finally:
            for switch in switches.values():
                switch.isolate(())
            await self._lead({node: node.process.bus_port or 0 for node in switches}, timeout)
            for switch in switches.values():
                await switch.close()
            await self.wait_until_ok(timeout)

    def proxied(self, *, seed: int | None = None) -> ClusterProxies:
        """A fault proxy before each node that there is now, for ``async with``.

        :param seed: of what is random, as for a :class:`FaultProxy`.
        """
        return ClusterProxies(self.members, seed=seed)

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
        target = to, self._check_target(to)
        if to is source:
            raise ConfigError(f"slot {slot} is owned by {to!r} already")
        migration = SlotMigration(slot, (source, self.id_of(source)), target, self._work, timeout)
        await migration.begin()
        try:
            yield migration
        finally:
            await migration.finish(self._told())
            await self._work(timeout, self._agreement.wait_until_ok)

    # --- blocking ---

    def _check_target(self, node: EmbeddedServer) -> str:
        """The id of what may own slots. ConfigError when it is none, or a replica."""
        if node in self.replicas:
            raise ConfigError(f"{node!r} is a replica: it cannot own slots or be followed")
        return self.id_of(node)

    async def _lead(self, bus_ports: Mapping[EmbeddedServer, int], timeout: float) -> None:
        """Let each node's bus be found at another port."""

        def work(deadline: Deadline) -> None:
            for node, port in bus_ports.items():
                ask(node, "CONFIG", "SET", "cluster-announce-bus-port", port)
            self._agreement.wait_until_found(bus_ports, deadline)

        await self._work(timeout, work)

    def _told(self) -> list[EmbeddedServer]:
        """Who has to be told of a slot's new owner: replicas hear it from their primary."""
        replicas = self.replicas
        return [node for node in self.members if node.answering and node not in replicas]

    def _move(
        self,
        slots: Sequence[int],
        source: EmbeddedServer,
        target: EmbeddedServer,
        deadline: Deadline,
    ) -> None:
        if source is target:
            return
        ends = (source, self.id_of(source)), (target, self.id_of(target))
        if slots:
            wait_until_heard(source, target, deadline)
        for portion in batches(slots):
            deadline.check(f"slot {portion[0]} and others have not been moved")
            move_slots(portion, *ends, self._told())

    def _join(self, count: int, deadline: Deadline) -> list[EmbeddedServer]:
        with self._lock:
            if not self._started:
                raise ConnectFailed(f"{self!r} does not run")
            new = [self._make() for _ in range(count)]
            with ExitStack() as undo:  # nobody can end nodes that he was not given
                for node in new:
                    undo.callback(self._drop, node)
                at_once(lambda node: node.process.launch(), new)
                for node in new:
                    others = self._agreement.answering
                    self.members = (*self.members, node)
                    self._agreement.add({ask(node, "CLUSTER", "MYID"): node})
                    introduce(node, others)
                self._agreement.wait_until_ok(deadline)
                undo.pop_all()
            return new

    def _drop(self, node: EmbeddedServer) -> None:
        """End a node that is nobody's any more, and be rid of every trace of it."""
        self.members = tuple(other for other in self.members if other is not node)
        id_ = self._agreement.drop(node)
        if id_ is not None:
            forget(id_, self._agreement.answering)
        node.process.close(grace=0.0)
