"""``pool.get()``: a connection of one's own, with redis-py's methods on it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Generator, Sequence
from types import TracebackType
from typing import Any, Final, Protocol, Self

from redisutils.client.pipeline import OwnConnection
from redisutils.client.redis import Redis
from redisutils.client.refusals import refuse_unanswered
from redisutils.client.source import lane_of
from redisutils.commands import is_blocking, lookup
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, LeaseReleased
from redisutils.pool.pool import Lease
from redisutils.topology.server import Server

__all__ = ["Checkout", "PooledConnection"]

_UNDONE_BY_RECYCLING: Final = frozenset({"WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD"})


class _Shared:
    """An attribute that a checkout has from its template until it sets one of its own. (With a
    ``__getattr__`` instead, every attribute would be slow to read, the others too.)"""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: PooledConnection | None, owner: type) -> Any:
        return self if instance is None else getattr(instance._template, self._name)


class PooledConnection(Redis):
    """A connection checked out of a pool, for one caller: WATCH, blocking reads, SELECT and all.

    ``await conn.execute("SET", "k", "v")`` issues any command by name; redis-py's methods
    are there too. Give it back with ``release()``, or use it as ``async with``. Commands
    are not repeated by themselves, since the connection's state would be lost.

    Returned after a command that changed its state for good (SELECT, AUTH, …) it is closed
    rather than reused; a WATCH is undone.
    """

    def __init__(self, template: Redis, lease: Lease[Connection]) -> None:
        # Not redis-py's constructor: a checkout must be cheap. What else a client has is shared
        # with the template: see _Shared.
        self._template = template
        self._lease = lease
        self._lane = lane_of(lease.item)
        self._decode = template._decode
        self._timeout = template._timeout
        self._roads = template._roads

    single_connection_client = True
    auto_close_connection_pool = False
    connection = None
    _origin: PooledConnection | None = None
    """Of a view: what it is a view of, which alone holds the lease."""

    _encoding: Any = _Shared()
    _event_dispatcher: Any = _Shared()
    _lane_name: Any = _Shared()
    _private: Any = _Shared()
    _shapes: Any = _Shared()
    _single_conn_lock: Any = _Shared()
    _source: Any = _Shared()
    _usage_counter: Any = _Shared()
    _usage_lock: Any = _Shared()
    connection_pool: Any = _Shared()
    response_callbacks: Any = _Shared()

    def __repr__(self) -> str:
        if self._holder._lane is _RELEASED:
            return f"<PooledConnection to {self._lease.item.peer}, released>"
        return f"<PooledConnection {self._lease.item!r}>"

    # An alias, since a coroutine around a coroutine costs a checkout dearly.
    execute = Redis.execute_command

    async def _execute_carefully(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        command = lookup(args)
        self._learn(command, args[0])
        refuse_unanswered(command)
        connection = self._lease.item
        if self._lease.released:
            pass  # nobody's, and to be refused; or taken, and never to be reused
        elif command.name in _UNDONE_BY_RECYCLING:
            connection.needs_reset = True
        elif command.taints:
            connection.tainted = True
        try:
            return await self._ask(self._lane, args, options, self._budget(command, args))
        except (asyncio.CancelledError, CommandTimeout):
            if is_blocking(command, args):
                connection.close()  # nobody waits for it any more, and it holds up the next
            raise

    async def _own_connection(self, args: Sequence[Any]) -> OwnConnection:
        return _Borrowed(self._holder)

    def with_timeout(self, seconds: float) -> Self:
        """A view of this connection whose commands have ``seconds`` as their whole budget. It
        ends with the lease. Raises as a client's does."""
        view = super().with_timeout(seconds)
        view._origin = self._holder
        view._lane = _Through(self._holder)
        return view

    def client(self) -> Redis:  # type: ignore[override]  # a client, no second connection
        """A client on a connection of its own, on the same pool."""
        return self._template.client()

    # -- the lease -------------------------------------------------------------------

    @property
    def _holder(self) -> PooledConnection:
        return self if self._origin is None else self._origin

    def _usable(self) -> Connection:
        if self._holder._lane is _RELEASED:
            raise _RELEASED.error()
        return self._lease.item

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
        """Give it back; a second call does nothing, nor does it after ``take()``. With commands
        unanswered it is closed."""
        if not self._lease.released:
            self._holder._lane = _RELEASED
            self._lease.release()

    def take(self) -> Self:
        """Detach it from the pool for good. It goes on working; ``aclose()`` closes it.

        Raises:
            LeaseReleased: it has been given back already.
        """
        self._usable()
        self._lease.take()
        return self

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        """Give it back; one that was taken is closed."""
        self.release()
        if self._holder._lane is not _RELEASED:
            self._holder._lane = _RELEASED
            self._lease.item.close()

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
        if self._lane is _RELEASED or self._origin is not None:
            return
        connection = self._lease.item
        end: Callable[[], None]
        if not self._lease.released:
            what, end = "released", self._lease.release
        elif not connection.closed:
            what, end = "closed after take()", connection.close
        else:
            return
        if not connection.loop.is_closed():
            connection.loop.call_soon_threadsafe(end)
        warnings.warn(f"{self!r} was never {what}", ResourceWarning, stacklevel=2, source=self)


class _Borrowed:
    """This connection as a pipeline's own: it goes back to its holder, not to the pool."""

    def __init__(self, holder: PooledConnection) -> None:
        self._holder = holder

    @property
    def item(self) -> Connection:
        """The connection, as long as its holder has it."""
        return self._holder._usable()

    def release(self, *, discard: bool = False) -> None:
        """The pipeline has undone its watching; the connection stays with its holder."""


class _Released:
    """The lane of a connection that has been given back."""

    def error(self) -> LeaseReleased:
        return LeaseReleased("this connection has been given back to its pool: check out another")

    def submit(self, *_: Any) -> Any:
        raise self.error()

    submit_many = submit


class _Through:
    """The lane of a view: that of its origin, whatever becomes of it."""

    def __init__(self, origin: PooledConnection) -> None:
        self._origin = origin

    @property
    def submit(self) -> Any:
        return self._origin._lane.submit

    @property
    def submit_many(self) -> Any:
        return self._origin._lane.submit_many


_RELEASED: Final = _Released()


class CheckoutPool(Protocol):
    """What a checkout needs of its pool."""

    @property
    def server(self) -> Server: ...

    @property
    def client(self) -> Redis: ...


class Checkout:
    """What ``pool.get()`` returns: await it, or enter it.

    Args:
        pool: where the connection comes from, and the client by whose settings its methods go.
        timeout: seconds to wait for one; None for the pool's own.
    """

    __slots__ = ("_connection", "_pool", "_timeout")

    def __init__(self, pool: CheckoutPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    def __await__(self) -> Generator[Any, None, PooledConnection]:
        return self.__aenter__().__await__()

    async def __aenter__(self) -> PooledConnection:
        checkouts = self._pool.server.checkouts_for(())
        lease = checkouts.at_once()
        if lease is None:
            lease = await checkouts.get(self._timeout)
        self._connection = connection = PooledConnection(self._pool.client, lease)
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.release()
