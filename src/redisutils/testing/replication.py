"""A primary with replicas."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Sequence

from redisutils.connection.directives import Directives
from redisutils.errors import ConfigError

from ._asking import Deadline, ask_all, ask_replication
from ._checks import check_count
from .group import ServerGroup, data_node_directives, password_or_new
from .server import EmbeddedServer, ServerKind

__all__ = ["EmbeddedReplication", "ReplicatedGroup", "wait_until_in_sync"]


class ReplicatedGroup(ServerGroup):
    """One primary and its replicas; others may watch over them."""

    def __init__(
        self,
        replicas: int,
        binary: ServerKind | str | os.PathLike[str] | None,
        *,
        password: str | None,
        appendonly: bool,
        config: Directives | None,
        watchers: Sequence[EmbeddedServer] = (),
        startup_timeout: float,
    ) -> None:
        check_count("replicas", replicas, 0, optional=False)
        self.password = password_or_new(password)
        """The password of the primary and its replicas; ``""`` for none."""
        self._data = [
            EmbeddedServer(
                binary,
                password=self.password,
                appendonly=appendonly,
                config=data_node_directives(self.password, config),
                startup_timeout=startup_timeout,
            )
            for _ in range(1 + replicas)
        ]
        self._primary = self._data[0]
        super().__init__([*self._data, *watchers], startup_timeout)

    @property
    def primary(self) -> EmbeddedServer:
        """The primary, as last arranged or seen by this group."""
        return self._primary

    @property
    def replicas(self) -> list[EmbeddedServer]:
        """All but the primary, in an order that stays."""
        return [server for server in self._data if server is not self._primary]

    async def wait_in_sync(self, timeout: float = 10.0) -> None:
        """Wait until each replica that answers has all that the primary had when this was called.
        A replica that was killed or paused is not waited for."""
        await self._work(timeout, self._wait_in_sync)

    def _wait_in_sync(self, deadline: Deadline) -> None:
        replicas = [replica for replica in self.replicas if replica.answering]
        wait_until_in_sync(self._primary, replicas, deadline)

    def _arrange(self, deadline: Deadline) -> None:
        self._primary = self._data[0]
        for replica in self.replicas:
            _follow(replica, self._primary)
        self._wait_in_sync(deadline)

    @abstractmethod
    def _summary(self) -> str: ...


class EmbeddedReplication(ReplicatedGroup):
    """A primary and its replicas on 127.0.0.1.

    ::

        async with EmbeddedReplication(replicas=2) as group:
            redis = Redis.from_url(group.primary.url)
            await redis.set("k", "v")
            await group.wait_in_sync()
            await group.primary.kill()
            await group.promote(group.replicas[0])

    :param replicas: how many, default 1.
    :param binary: as for :class:`EmbeddedServer`, and for all of them.
    :param password: of the default user on each; None (the default) makes one up, ``""`` has none.
    :param appendonly: as for :class:`EmbeddedServer`.
    :param config: further directives for each.
    :param startup_timeout: how long starting and the first synchronisation may take, s, default 10.
    :raises ConfigError: for an argument that makes no sense.
    """

    def __init__(
        self,
        replicas: int = 1,
        binary: ServerKind | str | os.PathLike[str] | None = None,
        *,
        password: str | None = None,
        appendonly: bool = False,
        config: Directives | None = None,
        startup_timeout: float = 10.0,
    ) -> None:
        super().__init__(
            replicas,
            binary,
            password=password,
            appendonly=appendonly,
            config=config,
            startup_timeout=startup_timeout,
        )

    async def promote(self, replica: EmbeddedServer, timeout: float = 10.0) -> None:
        """Make ``replica`` the primary, and all others that answer its replicas; wait until they
        are in sync.

        What it had not received yet is lost. A primary that was killed or paused goes on as one
        when it comes back: promote the present primary again then, and it follows.

        :raises ConfigError: when it does not belong to this group.
        """
        if replica not in self._data:
            raise ConfigError(f"{replica!r} is not a member of {self!r}")

        def work(deadline: Deadline) -> None:
            ask_all(replica, ("REPLICAOF", "NO", "ONE"), ("CONFIG", "REWRITE"))
            self._primary = replica
            for other in self.replicas:
                if other.answering:
                    _follow(other, replica)
            self._wait_in_sync(deadline)

        await self._work(timeout, work)

    def _summary(self) -> str:
        port = self._primary.process.port
        return f"primary on port {port} with {len(self.replicas)} replicas"


def _follow(replica: EmbeddedServer, primary: EmbeddedServer) -> None:
    """Make one server the other's replica, and let it remember that across restarts."""
    ask_all(replica, ("REPLICAOF", primary.host, primary.port), ("CONFIG", "REWRITE"))


def wait_until_in_sync(
    primary: EmbeddedServer, replicas: Sequence[EmbeddedServer], deadline: Deadline
) -> None:
    """Wait until each of ``replicas`` has all that ``primary`` has now."""
    history, offset = _position(primary)

    def missing() -> str | None:
        nonlocal history, offset
        now = _position(primary)
        if now[0] != history:  # A primary begins a new one with its first replica.
            history, offset = now
        lacks = (_lacks(replica, history, offset) for replica in replicas)
        return next(filter(None, lacks), None)

    deadline.wait_until(missing)


def _position(primary: EmbeddedServer) -> tuple[str, int]:
    """A primary's history, by its name, and how far it has come, in bytes."""
    told = ask_replication(primary)
    return told["master_replid"], int(told["master_repl_offset"])


def _lacks(replica: EmbeddedServer, history: str, offset: int) -> str | None:
    """What ``replica`` lacks to have all of a primary's history up to an offset; None: nothing."""
    told = ask_replication(replica)
    name = f"the replica on port {replica.port}"
    if told["role"] != "slave":
        return f"{name} does not replicate"
    if told["master_link_status"] != "up":
        return f"{name} has no link to its primary"
    if told["master_replid"] != history:
        return f"{name} follows another primary"
    if int(told["slave_repl_offset"]) < offset:
        return f"{name} has {told['slave_repl_offset']} of {offset} bytes"
    return None
