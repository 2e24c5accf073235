"""Where the users live: a server, a faulty network before it, two pools, and a gate for calm."""

from __future__ import annotations

import asyncio
import random
import traceback
from collections.abc import Awaitable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from redisutils import RedisPool, Timeouts, create_redis_pool
from redisutils.testing import EmbeddedServer, FaultProxy

from .calls import Calls, Kind, Pulse

__all__ = ["BUDGET", "CHECKOUT", "ROOM", "Gate", "User", "World"]

BUDGET: Final = 1.5
"""Of a command, s."""
CONNECT: Final = 1.0
RECYCLE: Final = 0.25
ROOM: Final = 24
"""The most connections of the big pool."""
CHECKOUT: Final = BUDGET + CONNECT + 4 * RECYCLE
"""What a checkout may take by its phases, s. Idle connections that are dead each take a phase
to be found out; more than four in a row would not be found in this weather."""

_COMPLAINTS: Final = 40


class Gate:
    """Users pass it between any two of their turns; shut, it holds them there."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._busy = 0
        self._empty = asyncio.Event()
        self._empty.set()

    def open(self) -> None:
        self._open.set()

    async def shut(self, patience: float) -> None:
        """Let nobody in, and wait until nobody is left. TimeoutError after ``patience`` s."""
        self._open.clear()
        async with asyncio.timeout(patience):
            await self._empty.wait()

    async def __aenter__(self) -> None:
        await self._open.wait()
        self._busy += 1
        self._empty.clear()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._busy -= 1
        if not self._busy:
            self._empty.set()


class World:
    """Args:
    kind: of server.
    seed: of all that is random.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.seed = seed
        self.gate = Gate()
        self.pulse = Pulse()
        self.complaints: list[str] = []
        self.calls = Calls(self.pulse, self.complain)
        self.server = EmbeddedServer(kind, appendonly=True)
        self.pool: RedisPool
        """The one that repeats what it may."""
        self.strict: RedisPool
        """A small one that repeats nothing."""
        self.proxy: FaultProxy
        self.admin: Any
        """redis-py's, by a way without faults."""
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.server)
            self.proxy = FaultProxy(self.server.host, self.server.port, seed=self.seed)
            await stack.enter_async_context(self.proxy)
            # Of one connection, for it to count as one.
            alone = redis.asyncio.BlockingConnectionPool.from_url(
                self.server.url,
                max_connections=1,
                decode_responses=True,
                socket_timeout=5,
                retry=Retry(NoBackoff(), 0),
            )
            self.admin = await stack.enter_async_context(redis.asyncio.Redis.from_pool(alone))
            self.pool = await stack.enter_async_context(
                self.make_pool(pool_max_size=ROOM, pool_max_lifetime_seconds=15)
            )
            self.strict = await stack.enter_async_context(
                self.make_pool(pool_max_size=4, retry="never")
            )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def make_pool(self, **settings: Any) -> RedisPool:
        """A pool through the faulty network, not open yet."""
        given: dict[str, Any] = {
            "command_timeout": BUDGET,
            "retry_delay_ms": 10,
            "retry_max_delay_ms": 200,
            "max_retries": 20,
            "health_check_interval": 2,
            "pool_max_idle_seconds": 5,
            "client_name": "soak",
        }
        return create_redis_pool(
            host=self.proxy.host,
            port=self.proxy.port,
            password=self.server.password,
            timeouts=Timeouts(wait=BUDGET, create=CONNECT, recycle=RECYCLE),
            **{"connection_timeout": CONNECT, **given, **settings},
        )

    def complain(self, what: str) -> None:
        """Remember what must not be."""
        if len(self.complaints) < _COMPLAINTS:
            self.complaints.append(what)

    def complain_all(self, what: Iterable[str]) -> None:
        for one in what:
            self.complain(one)


class User:
    """One task that does one thing again and again.

    Args:
        world: where it lives.
        number: among those of its kind.
    """

    pause = 0.02
    """Seconds between two turns, on average."""

    def __init__(self, world: World, number: int) -> None:
        self.world = world
        self.id = f"{type(self).__name__.lower()}:{number}"
        self.dice = random.Random(f"{world.seed} {self.id}")

    async def live(self) -> None:
        """Turn after turn until cancelled. What the weather does to a turn is no matter; anything
        else is a complaint."""
        while True:
            await asyncio.sleep(self.dice.uniform(0, 2 * self.pause))
            async with self.world.gate:
                try:
                    await self.turn()
                except RedisError:
                    pass  # counted where the call was made
                except Exception as error:  # noqa: BLE001  # a user that dies would be missed
                    where = "".join(traceback.format_exception(error)[-3:])
                    self.world.complain(f"{self.id}: {where}")

    async def turn(self) -> None:
        raise NotImplementedError

    async def audit(self) -> None:
        """Compare with the server, while all stand still."""

    async def call(
        self,
        awaitable: Awaitable[Any],
        budget: float = BUDGET,
        what: str = "",
        kind: Kind = "plain",
    ) -> Any:
        """Make a call into the library. Raises what it raises."""
        return await self.world.calls.make(f"{self.id} {what}".strip(), awaitable, budget, kind)

    async def impatiently(self, awaitable: Awaitable[Any], patience: float) -> bool:
        """Await it, and cancel it after ``patience`` s; whether it came to its end."""
        task = asyncio.ensure_future(awaitable)
        try:
            await asyncio.wait([task], timeout=patience)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise
        task.cancel()
        try:
            await task
        except asyncio.CancelledError:
            return False
        return True

    def expect(self, got: object, wanted: object, what: str = "a reply") -> None:
        """Complain when somebody else's reply has come."""
        if got != wanted:
            self.world.complain(
                f"{self.id}: {what} is {str(got)[:120]!r} and not {str(wanted)[:120]!r}"
            )

    async def hold(self, key: str) -> list[str]:
        """What the list at ``key`` holds; it is removed."""
        pipe: Any = self.world.admin.pipeline()
        pipe.lrange(key, 0, -1).delete(key)
        held, _ = await pipe.execute()
        return [str(one) for one in held]
