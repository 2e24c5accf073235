"""Connections to those nodes of a cluster that something is subscribed to at."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextvars import Context
from time import monotonic
from typing import Any

from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redisutils.client.branch import Branch, Subscription
from redisutils.client.inbox import Mail
from redisutils.client.vigil import Vigil
from redisutils.connection.protocol import Connection
from redisutils.errors import ConfigError, ConnectFailed, PoolClosed, RedisUtilsError
from redisutils.pool.pool import Lease
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.node import Node

__all__ = ["Branches"]


class Branches(Mail, ABC):
    """Makes connections, and makes them again, until they are not needed any more. What comes over
    any of them comes to one reader.

    Args:
        cluster: whose nodes.
        decode: whether strings are decoded.
        vigil: makes what sees to it that a node lives.
        patience: seconds for each connection to be made.
    """

    def __init__(
        self, cluster: Cluster, decode: bool, vigil: Callable[[], Vigil], patience: float
    ) -> None:
        super().__init__()
        self._cluster = cluster
        self._decode = decode
        self._vigil = vigil
        self._patience = patience
        self._branches: dict[Node, Branch] = {}
        self._connecting: dict[Branch, asyncio.Task[None]] = {}
        self._changed = asyncio.Event()
        self.closed = False

    # -- what is to be done ------------------------------------------------------------

    @abstractmethod
    def settle(self) -> None:
        """There is a connection now, or one less: let things stand where they belong."""

    @abstractmethod
    def heard(self, branch: Branch, value: Any, is_push: bool) -> None:
        """Something came."""

    @abstractmethod
    def _gone(self, held: set[Subscription]) -> None:
        """These are not subscribed to any more, where they were."""

    @abstractmethod
    def _cut_off(self, branch: Branch) -> None:
        """Its connection was lost."""

    @abstractmethod
    def _unreachable(self, branch: Branch) -> None:
        """No connection to its node can be made at present."""

    # -- connections -------------------------------------------------------------------

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._cluster.loop

    async def _settled(self, needed: Callable[[], Collection[Node | None]]) -> None:
        """Wait until there is a connection to each of the nodes that are needed by then.

        Raises:
            ConnectFailed, CommandTimeout, PoolClosed
        """
        until = monotonic() + self._patience
        while True:
            branches = {self._branches.get(node) for node in needed() if node is not None}
            missing = [one for one in branches if one is not None and one.connection is None]
            if branches and None not in branches and not missing:
                return
            for branch in missing:
                if isinstance(branch.error, PoolClosed):
                    self._cluster.check_usable()  # else the node has left, and others are there
                elif isinstance(branch.error, ConfigError):
                    raise branch.error
            self._changed.clear()
            try:
                async with asyncio.timeout(max(0.0, until - monotonic())):
                    await self._changed.wait()
            except TimeoutError:
                errors = [branch.error for branch in missing if branch.error is not None]
                raise (errors or [self._too_late(missing)])[0] from None

    def _too_late(self, missing: list[Branch]) -> RedisError:
        if not missing:
            return ConnectFailed(self._cluster.why_unknown())
        return RedisTimeoutError(
            f"no connection to {missing[0].node.address} could be had within {self._patience:.3g} s"
        )

    def _branch(self, node: Node) -> Branch:
        branch = self._branches[node] = Branch(node, self, self._decode, self._vigil())
        return branch

    def _close(self, node: Node) -> None:
        branch = self._branches.pop(node)
        self._gone(branch.drop())
        task = self._connecting.pop(branch, None)
        if task is not None:
            task.cancel()

    def _connect(self, branch: Branch) -> None:
        if branch not in self._connecting:
            # Nobody's context: it outlives whoever subscribed.
            task = self._cluster.loop.create_task(self._connected(branch), context=Context())
            self._connecting[branch] = task

    async def _connected(self, branch: Branch) -> None:
        """Have a connection, however often it takes."""
        policy = self._cluster.settings.retry
        lease: Lease[Connection] | None = None
        while lease is None:
            try:
                self._cluster.check_usable()
                server = branch.node.server
                lease = await server.checkouts.once(self._patience)
                server.checkouts.lend(lease)
            except (RedisUtilsError, RedisError, OSError) as error:
                if not self._in_vain(branch, error):
                    return
                await asyncio.sleep(policy.backoff.delay(branch.failures))
        self._connecting.pop(branch, None)
        branch.begin(lease)
        if self._full:
            lease.item.pause_reading()
        self.settle()

    def _in_vain(self, branch: Branch, error: Exception) -> bool:
        """No connection could be made. Returns whether to try again."""
        failure = error if isinstance(error, RedisError) else ConnectFailed(str(error))
        branch.error = failure
        branch.failures += 1
        allowed = self._cluster.settings.retry.max_retries
        closed = isinstance(error, PoolClosed) and self._cluster.closed  # else its node has left
        final = closed or getattr(error, "fatal", False)
        if final or branch.failures > allowed:
            self._complain(failure)
        self._changed.set()
        if closed:
            return False
        self._cluster.suspect(branch.node)
        self._unreachable(branch)
        return True

    def _complain(self, error: RedisError) -> None:
        """Tell the reader, unless the last that is there for it is such news already."""
        if not (self._items and isinstance(self._items[-1][0], Exception)):
            self.add(error, False)

    def lost(self, branch: Branch) -> None:
        """The connection of ``branch`` is gone."""
        self._gone(branch.drop())
        if self.closed:
            return
        self._cluster.suspect(branch.node)
        self._cut_off(branch)
        # Not within the callback of what was lost, which may be one of many that end together.
        self._cluster.loop.call_soon(self.settle)

    def pause(self) -> None:
        for branch in self._branches.values():
            if branch.connection is not None:
                branch.connection.pause_reading()

    def resume(self) -> None:
        for branch in self._branches.values():
            if branch.connection is not None:
                branch.connection.resume_reading()

    def left(self) -> float:
        """Seconds until it is time to :meth:`look`."""
        return min((branch.left() for branch in self._branches.values()), default=float("inf"))

    def look(self) -> None:
        """See to it that the nodes live."""
        for branch in list(self._branches.values()):
            branch.look()
