"""``RedisCluster``: a cluster's client, with what redis-py's users rely on.

It is our :class:`~redisutils.client.redis.Redis`, whose commands find their nodes by themselves,
and offers besides what ``redis.asyncio.RedisCluster`` does: the nodes, commands at certain nodes
(``target_nodes=``), the CLUSTER commands by name. It is no instance of that class, but one of
``redis.asyncio.Redis``: libraries that take one take both.

=============================================  ====================================================
``redis.asyncio.RedisCluster``                 here
=============================================  ====================================================
MGET, MSET, … of several slots are refused     split and merged, not atomically
CONFIG SET, ACL SETUSER … go to one node       to all, as the servers' policies say
commands without a key go to the default node  to any primary, until ``set_default_node()``
``scan()`` answers a cursor for each node      one cursor for all; with ``target_nodes`` as redis-py
``pipeline()`` is no transaction               of ``RedisCluster(…)`` neither; of a pool's client it
                                               is, as ``Redis.pipeline()``
blocking commands hold up their connection     take one of their own
``db`` must be 0                               any that the servers have: Valkey 9 can
                                               (``cluster-databases``), others have 0 alone
``nodes_manager``                              the methods only
=============================================  ====================================================
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, Final, Self

from redis.asyncio.client import PubSub
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.cluster import (
    AbstractRedisCluster,
    parse_cluster_shards,
    parse_cluster_shards_unified,
    parse_cluster_shards_with_str_keys,
    parse_cluster_slots,
)
from redis.commands.cluster import AsyncClusterDataAccessCommands, AsyncClusterManagementCommands
from redis.commands.helpers import list_or_args
from redis.exceptions import (
    DataError,
    ResponseError,
)

from redisutils.address import Address
from redisutils.client.callbacks import settled
from redisutils.client.cluster_arguments import cluster_kwargs
from redisutils.client.cluster_lane import WithDefault, submit_at
from redisutils.client.cluster_members import Members
from redisutils.client.cluster_nodes import address_in
from redisutils.client.cluster_pipeline import ClusterPipeline, pairs_by_slot
from redisutils.client.cluster_pubsub import ClusterPubSub
from redisutils.client.redis import Redis
from redisutils.client.refusals import refuse_shared, refuse_unanswered
from redisutils.client.source import LaneLike, Source
from redisutils.commands import is_blocking, lookup, may_write
from redisutils.connection.packing import PlacedPayload, pack
from redisutils.errors import NotSharable
from redisutils.topology.cluster.lane import ClusterLane
from redisutils.topology.cluster.partly import failure
from redisutils.topology.plan import ReadFrom

__all__ = ["RedisCluster"]

_MERGED: Final[Mapping[str, Any]] = {
    name: merge
    for name, merge in AbstractRedisCluster.RESULT_CALLBACKS.items()
    if name != "CLUSTER SLOTS"  # parsed already
}
"""What redis-py makes of the answers of several nodes, by the command's name."""


# redis-py's own bases do not agree over command_info, readonly and readwrite.
class RedisCluster(AsyncClusterManagementCommands, Members, Redis):  # type: ignore[misc]
    """A cluster's client. Safe to use from any number of tasks.

    ``RedisCluster(host=…, port=…)``, ``RedisCluster(startup_nodes=[…])`` and
    ``RedisCluster.from_url(…)`` take what redis-py's take and open a pool of their own at first
    use, which ``aclose()`` closes. The clients of a pool in cluster mode are of this class, too.

    Args:
        host, port: one node of the cluster.
        startup_nodes: several: redis-py's ``ClusterNode``, ``"host:port"`` or ``(host, port)``.
        connection_pool: another client's.
        single_connection_client: connections for this client alone, one to each node.
        **kwargs: redis-py's, of which ``require_full_coverage``, ``dynamic_startup_nodes`` and
            ``reinitialize_steps`` change nothing; ``read_from_replicas`` and
            ``load_balancing_strategy`` mean ``read_from="prefer-replica"``. And our ``Redis``'s.

    Raises:
        ConfigError: an argument that cannot be honoured, or has a wrong value.
        TypeError: an argument that nobody knows.
    """

    def __init__(
        self,
        host: str | None = None,
        port: str | int = 6379,
        startup_nodes: Iterable[Any] | None = None,
        *,
        connection_pool: Any = None,
        single_connection_client: bool = False,
        auto_close_connection_pool: bool | None = None,
        event_dispatcher: Any = None,
        **kwargs: Any,
    ) -> None:
        if connection_pool is None:
            kwargs = cluster_kwargs(host, port, startup_nodes, kwargs)
        self._default: Address | None = None
        self._atomic = connection_pool is not None
        super().__init__(
            connection_pool=connection_pool,
            single_connection_client=single_connection_client,
            auto_close_connection_pool=auto_close_connection_pool,
            event_dispatcher=event_dispatcher,
            **kwargs,
        )

    def _settle(self, source: Source, lane_name: str, read_from: ReadFrom | None = None) -> None:
        super()._settle(source, lane_name, read_from)
        given = self.connection_pool.connection_kwargs
        if not given.get("legacy_responses", True):
            shards: Any = parse_cluster_shards_unified
        elif given.get("protocol") is None:
            shards = parse_cluster_shards_with_str_keys
        else:
            shards = parse_cluster_shards
        self.response_callbacks["CLUSTER SHARDS"] = shards
        slots: Any = parse_cluster_slots
        self.response_callbacks["CLUSTER SLOTS"] = slots

    async def initialize(self) -> Self:
        """Learn who owns which slots, which the first command does, too.

        Raises:
            ConnectFailed, CommandTimeout
        """
        await self._cluster.mapped(self._timeout)
        return self

    # -- commands at certain nodes -------------------------------------------------------

    def _open_lane(self) -> LaneLike:
        lane = super()._open_lane()
        if self._default is not None:
            lane = self._lane = WithDefault(self._own_lane(), self._default_node)
        return lane

    def _own_lane(self) -> ClusterLane:
        if self.single_connection_client:
            lane: LaneLike = self._private_lane()
        else:
            lane = self._source.server().lane_for(self._lane_name, self._read_from)
        assert isinstance(lane, ClusterLane)
        return lane

    async def _execute_at(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        targets = options.pop("target_nodes")
        if not targets:
            return await self.execute_command(*args, **options)
        command = lookup(args)
        refuse_unanswered(command)
        refuse_shared(command)
        if is_blocking(command, args):
            raise NotSharable(
                f"{command.name} blocks, and goes to the node that owns its key; at "
                f"another: async with pool.get(node=…) as conn"
            )
        payload = PlacedPayload(pack(args, *self._encoding))
        await self._cluster.mapped(self._timeout)
        nodes = self._targets(targets)
        lane = self._own_lane()
        decode = self._decode and NEVER_DECODE not in options
        answers: list[Any] = await asyncio.gather(
            *[submit_at(lane, node, payload, decode, self._timeout) for node in nodes],
            return_exceptions=True,
        )
        named = [(str(node.address), answer) for node, answer in zip(nodes, answers, strict=True)]
        if any(isinstance(answer, BaseException) for answer in answers):
            error = failure(command.name, named, may_write(args))
            if EMPTY_RESPONSE in options and isinstance(error, ResponseError):
                return options[EMPTY_RESPONSE]
            raise error
        shaped = {name: await self._shaped(answer, args, options) for name, answer in named}
        merge = _MERGED.get(args[0].upper()) if isinstance(args[0], str) else None
        if merge is not None:
            return merge(args[0], shaped)
        return next(iter(shaped.values())) if len(shaped) == 1 else shaped

    async def _shaped(self, answer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        shaped = self._shape(answer, args[0], dict(options))
        return await settled(shaped) if hasattr(shaped, "__await__") else shaped

    async def _execute_carefully(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        if self.single_connection_client:
            command = lookup(args)
            if command.stateful:
                raise NotSharable(
                    f"{command.name} changes the state of one connection, and a client of a "
                    "cluster has one to each node: use pipeline() for transactions, and "
                    "async with pool.get(key=…) as conn for all else"
                )
        return await super()._execute_carefully(args, options)

    # -- what redis-py's users call ----------------------------------------------------------

    async def mget_nonatomic(self, keys: Any, *args: Any) -> list[Any]:
        """The values of keys in any slots, in the order of the keys. ``mget()`` does the same."""
        values: list[Any] = await self.execute_command("MGET", *list_or_args(keys, args))
        return values

    async def mset_nonatomic(self, mapping: Mapping[Any, Any]) -> list[bool]:
        """Set keys in any slots, with an MSET for each slot; an answer for each."""
        slots = pairs_by_slot(mapping, self._encoded)
        return list(
            await asyncio.gather(
                *[self.execute_command("MSET", *pairs) for pairs in slots.values()]
            )
        )

    def scan_iter(  # type: ignore[override]  # of its bases one says Iterator: the blocking client's
        self, match: Any = None, count: int | None = None, _type: str | None = None, **kwargs: Any
    ) -> AsyncIterator[Any]:
        """All keys of the cluster; with ``target_nodes`` those of certain nodes."""
        if kwargs.get("target_nodes"):
            scan_iter: Any = AsyncClusterDataAccessCommands.scan_iter
            keys: AsyncIterator[Any] = scan_iter(self, match, count, _type, **kwargs)
            return keys
        kwargs.pop("target_nodes", None)
        return super().scan_iter(match, count, _type, **kwargs)

    def pipeline(
        self, transaction: bool | None = None, shard_hint: str | None = None
    ) -> ClusterPipeline:
        """Commands that leave together, and are answered together.

        Args:
            transaction: wrap them in MULTI and EXEC: then all keys must be in one slot. By default
                the client of a pool does, as ``Redis`` does, and ``RedisCluster(…)`` does not, as
                redis-py's does not.
        """
        atomic = self._atomic if transaction is None else transaction
        return ClusterPipeline(self, atomic, shard_hint)

    def pubsub(self, node: Any = None, host: Any = None, port: Any = None, **kwargs: Any) -> PubSub:
        """Subscriptions: see :class:`~redisutils.client.cluster_pubsub.ClusterPubSub`.

        Args:
            node, or host and port: where plain channels and patterns are subscribed to; by default
                at any primary, and at another when that is lost.
        """
        if (host is None) != (port is None):
            raise DataError("pubsub() needs both host and port")
        where = node if node is not None else None if host is None else (host, int(port))
        kwargs.setdefault("event_dispatcher", self._event_dispatcher)
        return ClusterPubSub(
            self.connection_pool, None if where is None else address_in(where), **kwargs
        )

    def client(self) -> Self:
        """A client on connections of its own, one to each node, on the same pool."""
        client = super().client()
        client._atomic = self._atomic
        return client
