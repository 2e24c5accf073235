"""redis-py's connection interface on a cluster's subscriptions: PubSub works on it unchanged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis._parsers import Encoder
from redis.exceptions import RedisClusterException

from redisutils.address import Address
from redisutils.client.confirmations import KINDS
from redisutils.client.listening import Listening
from redisutils.client.source import Source
from redisutils.client.subscriptions import Subscriptions
from redisutils.client.vigil import Vigil
from redisutils.errors import (
    ConnectionLost,
    Outcome,
    with_outcome,
)
from redisutils.topology.cluster.cluster import Cluster

__all__ = ["ClusterConnection"]


class ClusterConnection(Listening[Subscriptions]):
    """Stands for a connection to each node that something is subscribed to at.

    What is lost comes back by itself, wherever it belongs by then. A node that stays unreachable
    is told to the reader.

    Args:
        source: gives the cluster.
        encoder: how strings are encoded and replies decoded.
        home: the node for all that is no shard channel; None for any.
    """

    # The nodes are seen to while somebody reads: redis-py's PubSub, which would by these, need not.
    health_check_interval = 0.0
    next_health_check = 0.0

    def __init__(self, source: Source, encoder: Encoder, home: Address | None = None) -> None:
        super().__init__(source, encoder)
        self._home = home

    def __repr__(self) -> str:
        subscriptions = self._mail
        state = "not connected" if subscriptions is None else repr(subscriptions)
        return f"<ClusterConnection {state}>"

    def __del__(self) -> None:
        subscriptions = self._mail
        if subscriptions is not None and not subscriptions.closed:
            loop = subscriptions.loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(subscriptions.close)

    @property
    def is_connected(self) -> bool:
        return self._mail is not None

    async def _open(self) -> Subscriptions:
        """Know who is there. Connections are made when they are needed."""
        cluster = self._source.server()
        assert isinstance(cluster, Cluster)
        await cluster.mapped(self.socket_timeout)
        if self._home is not None and cluster.member_at(self._home) is None:
            error = RedisClusterException(f"node {self._home} is not in {cluster.name}")
            raise with_outcome(error, Outcome.NOT_SENT)
        # Nobody who is kept by the connections may keep us: see __del__.
        interval = self._source.settings.health_check_interval
        patience = self._source.settings.command_timeout
        return Subscriptions(
            cluster,
            decode=bool(self.encoder.decode_responses),
            fixed=self._home,
            vigil=lambda: Vigil(interval, patience),
            patience=self.socket_timeout,
        )

    async def send_command(self, *args: Any, **_: Any) -> None:
        """Subscribe, unsubscribe, or say something at the home."""
        if self._mail is None:
            await self.connect()
        assert self._mail is not None
        verb = str(args[0]).lower()
        kind = verb.replace("unsubscribe", "subscribe")
        if kind not in KINDS:
            await self._mail.say(*args)
            return
        encode: Callable[[Any], bytes] = self.encoder.encode
        names = [bytes(encode(name)) for name in args[1:]]
        if verb == kind:
            await self._mail.subscribe(kind, names)
        else:
            self._mail.unsubscribe(kind, names)

    async def disconnect(
        self, nowait: bool = False, error: BaseException | None = None, **_: Any
    ) -> None:
        """Close the connections. Not for an ``error``: what was lost comes back by itself."""
        if error is None:
            self.give_back()

    def give_back(self) -> None:
        subscriptions, self._mail = self._mail, None
        if subscriptions is not None:
            subscriptions.close()
            subscriptions.end(ConnectionLost("the connections were given back"))
