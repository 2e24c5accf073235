"""Our pools for a primary that sentinels watch over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from time import monotonic
from typing import Any, Self

import redis

from redisutils import RedisPool, create_redis_pool
from redisutils.address import Address, AddressMap
from redisutils.connection.options import ConnectOptions
from redisutils.errors import Outcome, outcome_of
from redisutils.testing import EmbeddedSentinels, EmbeddedServer, FaultProxy
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.server import SentinelServer

from .ours import until
from .servers import client_of

__all__ = [
    "Load",
    "address_of",
    "elected",
    "plan_for",
    "pool_for",
    "proxied",
    "reaching",
    "watched",
]


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
    """A pool of the group's primary, not open yet, as its settings have it; or by another plan."""
    pool = create_redis_pool(
        **{
            "mode": "sentinel",
            "nodes": [f"{host}:{port}" for host, port in group.addresses],
            "sentinel_master": group.master_name,
            "sentinel_password": group.sentinel_password,
            "password": group.password,
            **settings,
        }
    )
    if plan is not None:
        pool._plan = plan
    return pool


def watched(pool: RedisPool) -> SentinelServer:
    """What it stands on."""
    server = pool.server
    assert isinstance(server, SentinelServer)
    return server


def address_of(server: Any) -> Address:
    return Address(server.host, server.port)


def elected(servers: list[EmbeddedServer], patience: float = 20.0) -> float:
    """Wait until one of them says that it is the primary. Returns when it did; blocking."""
    clients = [client_of(server.url) for server in servers]
    end = monotonic() + patience
    try:
        while monotonic() < end:
            for client in clients:
                with suppress(redis.ConnectionError):  # who is promoted hangs up
                    if client.role()[0] == "master":
                        return monotonic()
        raise AssertionError(f"none was elected within {patience} s")
    finally:
        for client in clients:
            client.close()


@asynccontextmanager
async def proxied(
    group: EmbeddedSentinels, *, servers: bool = False
) -> AsyncIterator[tuple[dict[Address, FaultProxy], SentinelPlan]]:
    """A faulty network before the sentinels, and before the servers if asked for.

    Yields the proxies by what they stand before, and a plan that leads through them only.
    """
    async with AsyncExitStack() as stack:
        proxies = {}
        for place in [*group.sentinels, *([group.primary, *group.replicas] if servers else ())]:
            proxy = await stack.enter_async_context(FaultProxy(place.host, place.port))
            proxies[address_of(place)] = proxy
        via = {before: address_of(proxy) for before, proxy in proxies.items()}
        at = [address_of(proxies[address_of(each)]) for each in group.sentinels]
        yield proxies, plan_for(group, at, via)


class Load:
    """Tasks that append numbers, each to a list of its own, and count what becomes of them.

    Args:
        client: of the pool.
        tasks: how many.
    """

    def __init__(self, client: Any, tasks: int = 4) -> None:
        self._client = client
        self.acknowledged: dict[str, list[int]] = {f"load:{name}": [] for name in range(tasks)}
        self.unknown: set[tuple[str, int]] = set()
        """Those of which nobody knows whether they were executed."""
        self.refused: list[BaseException] = []
        """What other errors there were."""
        self.successes: list[float] = []
        """When one was acknowledged (``time.monotonic``)."""

    async def __aenter__(self) -> Self:
        self._running = True
        self._tasks = [asyncio.create_task(self._run(key)) for key in self.acknowledged]
        await self.more(50)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)

    async def more(self, count: int, patience: float = 15.0) -> None:
        """Wait until so many more have been acknowledged."""
        wanted = len(self.successes) + count
        await until(lambda: len(self.successes) >= wanted, f"{count} writes", patience)

    async def _run(self, key: str) -> None:
        number = 0
        while self._running:
            number += 1
            try:
                length = await self._client.rpush(key, number)
                echo = f"{key} {number}"
                assert await self._client.echo(echo) == echo.encode(), "somebody else's answer"
            except redis.RedisError as error:
                if outcome_of(error) is Outcome.UNKNOWN:
                    self.unknown.add((key, number))
                else:
                    self.refused.append(error)
            else:
                assert 0 < length <= number
                self.acknowledged[key].append(number)
                self.successes.append(monotonic())
            await asyncio.sleep(0.001)

    def lost(
        self, there: redis.Redis, acknowledged: dict[str, list[int]] | None = None
    ) -> dict[str, list[int]]:
        """What was acknowledged, or was until then, and is not on this server. Asserts that what is
        there is in order, and once; and if the load has ended, that it was issued."""
        lost = {}
        for key, numbers in (acknowledged or self.acknowledged).items():
            found = [int(each) for each in there.lrange(key, 0, -1)]
            assert found == sorted(set(found)), "out of order, or doubled"
            if not self._running:
                uncertain = {number for name, number in self.unknown if name == key}
                assert set(found) <= set(numbers) | uncertain
            missing = sorted(set(numbers) - set(found))
            if missing:
                lost[key] = missing
        return lost
