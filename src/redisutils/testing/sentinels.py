"""A primary with replicas, watched by sentinels."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from itertools import chain

import redis

from redisutils.connection.directives import Directives
from redisutils.errors import ConnectFailed

from ._asking import Deadline, ask, ask_all, ask_replication
from ._checks import check_count, check_kind, check_time
from .group import password_or_new
from .replication import ReplicatedGroup
from .server import EmbeddedServer, ServerKind

__all__ = ["EmbeddedSentinels"]

# Sentinels ask each other and the servers every 1, 2 and 10 s, which is right for production.
# These are ms; where a server has no SENTINEL DEBUG, all takes longer.
_HASTE: dict[str, str | int] = {
    # Links are made anew once in it: it must be well below the time after which a server is down.
    # What a replica told more than five of them ago, while it tells once a second, does not count.
    "ping-period": 300,
    "info-period": 500,
    # After four of them a primary that should be none is made a replica: by then all must have
    # heard of one that was just promoted, which its promoter may notice a second late.
    "publish-period": 500,
    "ask-period": 200,
    # A busy machine must not be taken for a clock that jumps.
    "tilt-trigger": 10_000,
    "tilt-period": 2000,
}


class EmbeddedSentinels(ReplicatedGroup):
    """Sentinels on 127.0.0.1 with the primary and the replicas that they watch over.

    ::

        async with EmbeddedSentinels() as group:
            sentinels = Sentinel(
                group.addresses, sentinel_kwargs={"password": group.sentinel_password}
            )
            redis = sentinels.master_for(group.master_name, password=group.password)
            await group.failover()  # or:
            await group.primary.kill()
            await group.wait_for_primary()

    A sentinel that is killed and started again knows what it knew, since it writes all into its
    configuration file, but asks no more often than any other: it learns of changes seconds later.

    :param sentinels: how many, default 3.
    :param replicas: how many, default 2.
    :param binary: as for :class:`EmbeddedServer`, and for all of them.
    :param master_name: by which clients ask for the primary, default ``"mymaster"``.
    :param password: of the default user on primary and replicas, which the sentinels know; None
        (the default) makes one up, ``""`` has none.
    :param sentinel_password: the same for the sentinels.
    :param quorum: how many sentinels must see that the primary is down; None (the default) is
        the majority, which a failover needs in any case.
    :param down_after: for how long a server is silent when a sentinel takes it for down, s,
        default 1; much less, and a link that is being made is taken for silence.
    :param failover_timeout: how long each phase of a failover may take before it is tried again,
        s, default 5.
    :param appendonly: as for :class:`EmbeddedServer`; for primary and replicas.
    :param config: further directives for primary and replicas.
    :param startup_timeout: how long it may take until all know each other, s, default 20.
    :raises ConfigError: for an argument that makes no sense.
    """

    def __init__(
        self,
        sentinels: int = 3,
        replicas: int = 2,
        binary: ServerKind | str | os.PathLike[str] | None = None,
        *,
        master_name: str = "mymaster",
        password: str | None = None,
        sentinel_password: str | None = None,
        quorum: int | None = None,
        down_after: float = 1.0,
        failover_timeout: float = 5.0,
        appendonly: bool = False,
        config: Directives | None = None,
        startup_timeout: float = 20.0,
    ) -> None:
        check_count("sentinels", sentinels, 1, optional=False)
        check_count("quorum", quorum, 1, sentinels)
        check_kind("master_name", master_name, str, "a str")
        check_time("down_after", down_after)
        check_time("failover_timeout", failover_timeout)
        self.sentinel_password = password_or_new(sentinel_password)
        """The password of the sentinels; ``""`` for none."""
        self.sentinels = [
            EmbeddedServer(
                binary,
                password=self.sentinel_password,  # They show it to each other, too.
                role="sentinel",
                startup_timeout=startup_timeout,
            )
            for _ in range(sentinels)
        ]
        """The sentinels, each with its ``host`` and ``port``."""
        super().__init__(
            replicas,
            binary,
            password=password,
            appendonly=appendonly,
            config=config,
            watchers=self.sentinels,
            startup_timeout=startup_timeout,
        )
        self.master_name = master_name
        """The name of the primary at the sentinels."""
        self._quorum = quorum or sentinels // 2 + 1
        self._options: dict[str, str | int] = {
            "down-after-milliseconds": round(down_after * 1000),
            "failover-timeout": round(failover_timeout * 1000),
            "parallel-syncs": max(1, replicas),
        }

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each sentinel, as clients want them."""
        return [(sentinel.host, sentinel.port) for sentinel in self.sentinels]

    async def failover(self, timeout: float = 20.0) -> EmbeddedServer:
        """Let a sentinel replace the primary, which lives, by a replica (SENTINEL FAILOVER); wait
        as :meth:`wait_for_primary` does, and return the new one."""

        def work(deadline: Deadline) -> EmbeddedServer:
            old = self._primary

            def not_begun() -> None:
                ask(self._witnesses()[0], "SENTINEL", "FAILOVER", self.master_name)

            # One who has not seen how the last failover ended would undo this one.
            deadline.wait_until(self._unknown)
            deadline.wait_until(not_begun)  # It refuses until it is ready for one.
            return self._wait_for_primary(deadline, but=old)

        return await self._work(timeout, work)

    async def wait_for_primary(
        self, timeout: float = 20.0, *, but: EmbeddedServer | None = None
    ) -> EmbeddedServer:
        """Wait until all sentinels that answer name the same primary, which answers, is one, and
        is not ``but``, and have finished their failover; take it for :attr:`primary`, and return
        it.

        After a kill or a pause of the primary that is the next one. The replicas follow it a
        moment later: see :meth:`wait_in_sync`.
        """
        return await self._work(timeout, lambda deadline: self._wait_for_primary(deadline, but))

    def _summary(self) -> str:
        watched = f"{1 + len(self.replicas)} servers, primary on port {self._primary.process.port}"
        return f"{len(self.sentinels)} sentinels over {watched}"

    def _arrange(self, deadline: Deadline) -> None:
        super()._arrange(deadline)
        for sentinel in self.sentinels:
            self._set_to_watch(sentinel)
        deadline.wait_until(self._unknown)

    def _set_to_watch(self, sentinel: EmbeddedServer) -> None:
        options = dict(self._options)
        if self.password:
            options["auth-pass"] = self.password
        name, primary = self.master_name, self._primary
        # At once, so that it does not knock at the primary's door without the password.
        ask_all(
            sentinel,
            ("SENTINEL", "MONITOR", name, primary.host, primary.port, self._quorum),
            ("SENTINEL", "SET", name, *chain.from_iterable(options.items())),
        )
        try:
            ask(sentinel, "SENTINEL", "DEBUG", *chain.from_iterable(_HASTE.items()))
        except redis.ResponseError:
            pass  # It is of before Redis 7, and takes its time.

    def _unknown(self) -> str | None:
        """What a sentinel does not know yet of those that answer."""
        replicas = {str(server.port) for server in self.replicas if server.answering}
        others = len(self._witnesses()) - 1
        for sentinel in self._witnesses():
            state = self._state(sentinel)
            known = {
                replica["port"]
                for replica in map(_pairs, ask(sentinel, "SENTINEL", "REPLICAS", self.master_name))
                if replica["role-reported"] == "slave" and replica["master-link-status"] == "ok"
            }
            if (
                state["flags"] != "master"
                or int(state["num-other-sentinels"]) < others
                or not known >= replicas
            ):
                return f"the sentinel on port {sentinel.port} does not know all others"
        return None

    def _state(self, sentinel: EmbeddedServer) -> Mapping[str, str]:
        return _pairs(ask(sentinel, "SENTINEL", "MASTER", self.master_name))

    def _witnesses(self) -> list[EmbeddedServer]:
        answering = [sentinel for sentinel in self.sentinels if sentinel.answering]
        if not answering:
            raise ConnectFailed(f"no sentinel of {self!r} answers")
        return answering

    def _wait_for_primary(self, deadline: Deadline, but: EmbeddedServer | None) -> EmbeddedServer:
        found = self._primary

        def missing() -> str | None:
            nonlocal found
            # There is another command for it, which is ahead of this one during a failover: what
            # both say, all clients find.
            states = [self._state(sentinel) for sentinel in self._witnesses()]
            named = {int(state["port"]) for state in states}
            chosen = [server for server in self._data if named == {server.port}]
            if not chosen or chosen[0] is but or not chosen[0].answering:
                return f"the sentinels name as primary what is on port {named}"
            if any(state["flags"] != "master" for state in states):
                return "the sentinels are at a failover"
            if ask_replication(chosen[0])["role"] != "master":
                return f"the server on port {named} is no primary yet"
            found = chosen[0]
            return None

        deadline.wait_until(missing)
        self._primary = found
        return found


def _pairs(flat: Sequence[str]) -> Mapping[str, str]:
    """A reply of field after field."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
