"""Our pools for a primary that sentinels watch over."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redisutils import RedisPool, create_redis_pool
from redisutils.connection.address import Address, AddressMap
from redisutils.connection.options import ConnectOptions
from redisutils.testing import EmbeddedSentinels
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.server import SentinelServer

__all__ = ["plan_for", "pool_for", "reaching", "watched"]


def reaching(host: str, port: int, password: str = "") -> ConnectOptions:
    """How to connect to a sentinel."""

    async def credentials() -> tuple[str, ...]:
        return (password,) if password else ()

    return ConnectOptions(host, port, credentials=credentials, timeout=5.0)


def plan_for(
    group: EmbeddedSentinels,
    at: Iterable[tuple[str, int]] | None = None,
    addresses: AddressMap | None = None,
) -> SentinelPlan:
    """What a pool knows at first: all sentinels, or those ``at`` which it is to ask."""
    places = group.addresses if at is None else at
    return SentinelPlan(
        tuple(reaching(host, port, group.sentinel_password) for host, port in places),
        group.master_name,
        addresses or {},
    )


def pool_for(
    group: EmbeddedSentinels, plan: SentinelPlan | None = None, **settings: Any
) -> RedisPool:
    """A pool of the group's primary, not open yet."""
    pool = create_redis_pool(**{"password": group.password, **settings})
    pool._plan = plan or plan_for(group)
    return pool


def watched(pool: RedisPool) -> SentinelServer:
    """What it stands on."""
    server = pool.server
    assert isinstance(server, SentinelServer)
    return server


def address_of(server: Any) -> Address:
    return Address(server.host, server.port)
