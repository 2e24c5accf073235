"""``pool.get()``: a connection of one's own, with redis-py's methods on it."""

from __future__ import annotations

import warnings
from collections.abc import Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from redisutils.client.redis import Redis
from redisutils.commands import Command, block_timeout, is_blocking
from redisutils.connection.packing import pack
from redisutils.connection.protocol import FOREVER, Connection
from redisutils.errors import LeaseReleased
from redisutils.pool.pool import Lease

if TYPE_CHECKING:
    from redisutils.client.redis_pool import RedisPool

__all__ = ["Checkout", "PooledConnection"]

_UNDONE_BY_RECYCLING: Final = frozenset({"WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD"})


class PooledConnection(Redis):
    """A connection checked out of a pool, for one caller: WATCH, blocking reads, SELECT and all.

    ``await conn.execute("SET", "k", "v")`` issues any command by name; redis-py's methods
    are there too. Give it back with ``release()``, or use it as ``async with``. Commands
    are not repeated by themselves, since the connection's state would be lost.

    Returned after a command that changed its state for good (SELECT, AUTH, …) it is closed
    rather than reused; a WATCH is undone.
    """

    def __init__(self, template: Redis, lease: Lease[Connection]) -> None:
        # Not redis-py's constructor: a checkout must be cheap, and all of this is shared.
        self._template = template
        self._lease = lease
        self._lane = lease.item
        self._decode = template._decode
        self._encoding = template._encoding
        self._timeout = template._timeout
        self._callback = template._callback

    single_connection_client = True
    auto_close_connection_pool = False
    connection = None

    def __getattr__(self, name: str) -> Any:
        # What a client has and a checkout seldom needs: response_callbacks, connection_pool, …
        if name.startswith("__") or name == "_template":
            raise AttributeError(name)
        return getattr(self._template, name)

    def __repr__(self) -> str:
        if self._lease.released:
            return f"<PooledConnection to {self._lease.item.peer}, released>"
        return f"<PooledConnection {self._lease.item!r}>"

    async def execute(self, *args: Any, **options: Any) -> Any:
        """Issue any command by name. The same as redis-py's ``execute_command``.

        Raises:
            LeaseReleased: the connection has been given back.
            Otherwise what a client's command raises.
        """
        return await self.execute_command(*args, **options)

    async def _execute_apart(
        self, command: Command, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        connection = self._lease.item
        if command.name in _UNDONE_BY_RECYCLING:
            connection.needs_reset = True
        elif command.stateful:
            connection.tainted = True
        timeout = self._timeout
        if is_blocking(command, args):
            waits = block_timeout(command, args)
            timeout = FOREVER if waits is None else min(FOREVER, timeout + waits)
        reply = self._lane.submit(pack(args, *self._encoding), self._decode, False, timeout)
        shaped = self._shape(await reply, args[0], options)
        return await shaped if hasattr(shaped, "__await__") else shaped

    # -- the lease -------------------------------------------------------------------

    @property
    def created(self) -> float:
        """When it was opened (``time.monotonic``)."""
        return self._lease.usage.created

    @property
    def recycled(self) -> float | None:
        """When it was last handed out again (``time.monotonic``); None in its first use."""
        return self._lease.usage.recycled

    @property
    def recycle_count(self) -> int:
        """How often it was handed out again."""
        return self._lease.usage.recycle_count

    def age(self) -> float:
        """Seconds since it was opened."""
        return self._lease.usage.age()

    def last_used(self) -> float:
        """Seconds since it was handed out."""
        return self._lease.usage.last_used()

    @property
    def released(self) -> bool:
        return self._lease.released

    def release(self) -> None:
        """Give it back; a second call does nothing. With commands unanswered it is closed."""
        self._lane = _RELEASED
        self._lease.release()

    def take(self) -> Self:
        """Detach it from the pool for good. It goes on working; ``aclose()`` closes it."""
        self._lease.take()
        return self

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give it back; one that was taken is closed."""
        if self._lease.released and self._lane is not _RELEASED:
            self._lease.item.close()
        self.release()

    async def initialize(self) -> Self:
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:  # type: ignore[override]  # redis-py's takes private arguments
        if not self._lease.released:
            warnings.warn(f"{self!r} was never released", ResourceWarning, source=self)
            loop = self._lease.item.loop
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._lease.release)


class _Released:
    """The lane of a connection that has been given back."""

    def submit(self, *_: Any) -> Any:
        raise LeaseReleased("this connection has been given back to its pool: check out another")

    submit_many = submit


_RELEASED: Final = _Released()


class Checkout:
    """What ``pool.get()`` returns: await it, or enter it."""

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: RedisPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, PooledConnection]:
        return self._get().__await__()

    async def _get(self) -> PooledConnection:
        lease = await self._pool.server.checkout(self._timeout)
        return PooledConnection(self._pool.client, lease)

    async def __aenter__(self) -> PooledConnection:
        self._connection = connection = await self._get()
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.release()
