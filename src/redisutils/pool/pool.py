"""A pool of reusable things, in deadpool's sense. It knows nothing of Redis.

Theory of operation
-------------------
``max_size`` permits exist. A checkout takes a permit, first come first served, and only
then looks for a thing: an idle one, which the manager recycles, or a new one. Giving a
thing back puts it among the idle and hands the permit to the longest waiter in the same
step, so that nobody who happens to run next can take it from him.

All bookkeeping is synchronous; awaiting happens between its steps and never inside one.
Cancelling at any await gives the permit back and discards the half-made thing:

===================  =======================================================
while                what a cancelled or failed checkout leaves
===================  =======================================================
waiting              the queue without it; a permit handed over goes on to the next
recycling            that thing discarded, the permit given back
creating             nothing made (the manager's part), the permit given back
post_create          the new thing discarded, the permit given back
===================  =======================================================

Sizes
-----
``size`` counts the things that exist. Those that are being made (``_making``) do not count
yet, but room is kept for them: a thing that comes back is kept, and a spare one made, only
if all of them together are within ``max_size``. So there is never an idle thing while there are
more than ``max_size``, however the pool was resized in between.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from redisutils.errors import PoolClosed, PoolTimeout, RedisUtilsError
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.model import (
    Expired,
    Hook,
    Manager,
    PoolStatus,
    QueueMode,
    Retained,
    Silent,
    Timeouts,
    Usage,
)
from redisutils.pool.permits import Permits

__all__ = [
    "Expired",
    "Hook",
    "Lease",
    "Manager",
    "Pool",
    "PoolStatus",
    "QueueMode",
    "Retained",
    "Timeouts",
    "Usage",
]

T = TypeVar("T")

logger = logging.getLogger("redisutils.pool")


class Lease(Generic[T]):
    """A thing checked out. Give it back with :meth:`release`, or keep it with :meth:`take`."""

    __slots__ = ("__weakref__", "_pool", "item", "released", "usage", "vacant")

    def __init__(self, pool: Pool[T], item: T, usage: Usage) -> None:
        self._pool = pool
        self.item = item
        self.usage = usage
        self.released = False
        """Whether it has been given back, or taken."""
        self.vacant = False
        """Whether its thing is gone and only the permit is held: see ``Pool.vacate``."""

    def release(self, *, discard: bool = False) -> None:
        """Give it back; a second call does nothing. ``discard`` closes it instead of reusing it."""
        if not self.released:
            self.released = True
            self._pool._give_back(self, discard)

    def take(self) -> T:
        """Detach it from the pool for good: it is the caller's to close."""
        if not self.released:
            self.released = True
            self._pool._detach(self)
        return self.item


_UNSET: Final[Any] = object()

_TICK: Final = 0.002
"""Seconds by which an event loop's timer may be early."""


class Pool(Generic[T]):
    """See the module's docstring.

    Args:
        manager: makes and checks the things.
        max_size: how many may exist.
        timeouts: the defaults of ``get``.
        queue_mode: ``"fifo"`` hands out the longest idle, ``"lifo"`` the last returned.
        name: stands in messages.
    """

    def __init__(
        self,
        manager: Manager[T],
        max_size: int,
        *,
        metrics: PoolMetrics,
        timeouts: Timeouts | None = None,
        queue_mode: QueueMode = "fifo",
        name: str = "pool",
    ) -> None:
        self.manager = manager
        self.timeouts = timeouts or Timeouts()
        self.queue_mode: QueueMode = queue_mode
        self.name = name
        self.metrics = metrics
        self.post_create: list[Hook[T]] = []
        self.pre_recycle: list[Hook[T]] = []
        self.post_recycle: list[Hook[T]] = []
        self.describe_users: Callable[[], str] = str
        """Adds to the message of a wait that timed out who holds the connections."""
        self._idle: deque[tuple[T, Usage]] = deque()
        self._permits = Permits(max_size)
        self._size = 0
        self._users = 0
        self._making = 0
        self.closed = False
        self._unused: asyncio.Future[None] | None = None  # for drain

    def __repr__(self) -> str:
        s = self.status()
        state = "closed" if self.closed else "open"
        return (
            f"<Pool {self.name} {state}: size {s.size} of {s.max_size}, "
            f"{s.available} available, {s.waiting} waiting>"
        )

    @property
    def in_use(self) -> int:
        """Things checked out, or on their way to a caller."""
        return self._permits.held

    @property
    def ready(self) -> bool:
        """Whether :meth:`get` would begin with an idle thing, and need not wait for it."""
        return bool(self._permits.free) and bool(self._idle)

    def status(self) -> PoolStatus:
        return PoolStatus(
            max_size=self._permits.count,
            size=self._size,
            available=max(0, self._size - self._users),
            waiting=max(0, self._users - self._size),
        )

    # -- checking out ------------------------------------------------------------

    def get_at_once(self) -> Lease[T] | None:
        """An idle one that is fit as it is, or None: then :meth:`get` finds out what is to be done.

        The quick way, without a coroutine: it is what a busy pool does nearly always.
        """
        permits = self._permits
        if not permits.free or not self._idle or self.pre_recycle or self.post_recycle:
            return None
        fifo = self.queue_mode == "fifo"
        item, usage = self._idle[0 if fifo else -1]
        if not self.manager.fit(item, usage):
            return None
        if fifo:
            self._idle.popleft()
        else:
            self._idle.pop()
        permits.free -= 1  # as its take() does, without another call
        self._users += 1
        self._note_recycled(usage)
        if self.metrics.observer is not None:
            self.metrics.observer.obtained(0.0)
        return Lease(self, item, usage)

    async def get(
        self,
        *,
        wait: float = _UNSET,
        create: float = _UNSET,
        recycle: float = _UNSET,
        total: float = inf,
    ) -> Lease[T]:
        """Check one out.

        Args:
            wait, create, recycle: seconds for each phase instead of ``timeouts``.
            total: seconds for all of them; what it leaves no time for, the last phase reports.

        Raises:
            PoolTimeout: ``phase`` says which: ``"wait"`` or ``"create"``. A recycle that takes too
                long only discards.
            PoolClosed: the pool is closed, or was closed meanwhile.
            Whatever ``manager.create`` or a ``post_create`` hook raises.
        """
        timeouts = self.timeouts
        if self.closed:
            raise self._is_closed()
        began = monotonic()
        end = inf if total == inf else monotonic() + total
        self._users += 1
        try:
            if not self._permits.take():
                await self._wait(min(total, timeouts.wait if wait is _UNSET else wait))
        except BaseException:
            self._leave()
            raise
        try:
            item, usage = await self._obtain(
                timeouts.create if create is _UNSET else create,
                timeouts.recycle if recycle is _UNSET else recycle,
                end,
            )
        except BaseException:
            self._leave()
            self._give_permit()
            raise
        if self.metrics.observer is not None:
            self.metrics.observer.obtained(monotonic() - began)
        return Lease(self, item, usage)

    async def _obtain(self, create: float, recycle: float, end: float = inf) -> tuple[T, Usage]:
        """With a permit in hand: an idle thing that is fit, or a new one, until ``end``."""
        if self.closed:  # while the permit was on its way to us
            raise self._is_closed()
        while self._idle:
            if monotonic() >= end - _TICK:
                raise PoolTimeout(
                    f"{self.name}: the idle connections were not fit in time", "recycle"
                )
            item, usage = self._idle.popleft() if self.queue_mode == "fifo" else self._idle.pop()
            try:
                if await self._recycled(item, usage, _at_most(recycle, end)):
                    return item, usage
            except Silent as why:
                # Another idle one may be as silent, and cost as long: a new one is quicker, and
                # shows that it is not the server that is slow to answer.
                with HARMLESS:
                    logger.debug("%s: %s", self.name, why)
                made = await self._create(_at_most(create, end))
                self.manager.doubt([item for item, _ in self._idle])
                return made
        return await self._create(_at_most(create, end))

    def vacate(self, lease: Lease[T]) -> None:
        """Close a lease's thing and keep its permit, for :meth:`refill`: a holder for life need
        not queue anew when its thing dies. Giving the lease back gives back the permit. Until
        it is refilled, the lease counts neither as a user nor in the size."""
        if not lease.released and not lease.vacant:
            lease.vacant = True
            self._users -= 1
            self._size -= 1
            self.discard(lease.item)

    async def refill(self, lease: Lease[T], *, create: float, recycle: float) -> None:
        """Put another thing in the place of a vacated one.

        Raises as :meth:`get` does once it need not wait; the lease stays vacant then.
        """
        self._users += 1
        try:
            item, usage = await self._obtain(create, recycle)
            if lease.released:  # meanwhile: the permit is gone, so the thing may not stay
                self._size -= 1
                self.discard(item)
                raise self._is_closed()
        except BaseException:
            self._leave()
            raise
        lease.item, lease.usage, lease.vacant = item, usage, False

    async def _wait(self, timeout: float) -> None:
        """Until a permit is handed to us."""
        if timeout <= 0:
            raise self._no_permit(timeout)
        self.metrics.waits += 1
        began = monotonic()
        try:
            await self._permits.wait(timeout, lambda: self._no_permit(timeout))
        finally:
            self.metrics.wait_time.record(monotonic() - began)

    async def _recycled(self, item: T, usage: Usage, timeout: float) -> bool:
        """Make an idle thing fit for use; False if it was not and has been discarded."""
        fit = False
        try:
            if self.pre_recycle or self.post_recycle:
                async with asyncio.timeout(None if timeout == inf else timeout):
                    await self._call(self.pre_recycle, item, usage)
                    if not self.manager.fit(item, usage):
                        await self.manager.recycle(item, usage)
                    await self._call(self.post_recycle, item, usage)
            elif not self.manager.fit(item, usage):
                async with asyncio.timeout(None if timeout == inf else timeout):
                    await self.manager.recycle(item, usage)
            fit = not self.closed
        # deadpool's rule: an idle thing that is unfit is no error, the next one is tried.
        except Expired as why:
            with HARMLESS:
                logger.debug("%s: %s", self.name, why)
        except Silent:
            raise
        except Exception as error:
            self.metrics.errors[type(error).__name__] += 1
            with HARMLESS:
                logger.debug("%s: %r is not fit for reuse", self.name, item, exc_info=error)
            # A hook's text is the program's own, and may hold anything.
            told = error.message if isinstance(error, RedisUtilsError) else type(error).__name__
            text = "%s: an idle connection was not fit for reuse: %s"
            self.metrics.events.note("discarded", logging.INFO, text, self.name, told, error=told)
        finally:
            if not fit:
                self._size -= 1
                self.discard(item)
        if self.closed:
            raise self._is_closed()
        if fit:
            self._note_recycled(usage)
        return fit

    def _note_recycled(self, usage: Usage) -> None:
        usage.recycled = monotonic()
        usage.recycle_count += 1
        self.metrics.connections_recycled += 1

    async def _create(self, timeout: float) -> tuple[T, Usage]:
        bound = asyncio.timeout(None if timeout == inf else timeout)
        try:
            async with bound:
                return await self._make()
        except TimeoutError:
            if not bound.expired():
                raise  # the manager's own, or a hook's
            raise PoolTimeout(
                f"{self.name}: making a connection took longer than {timeout:.3g} s", "create"
            ) from None

    async def _make(self) -> tuple[T, Usage]:
        self._making += 1
        try:
            item = await self.manager.create()
        finally:
            self._making -= 1
        self._size += 1
        self.metrics.connections_created += 1
        usage = Usage(monotonic())
        kept = False
        try:
            await self._call(self.post_create, item, usage)
            if self.closed:
                raise self._is_closed()
            kept = True
        finally:
            if not kept:
                self._size -= 1
                self.discard(item)
        return item, usage

    @staticmethod
    async def _call(hooks: list[Hook[T]], item: T, usage: Usage) -> None:
        for hook in hooks:
            result = hook(item, usage)
            if inspect.isawaitable(result):
                await result

    # -- giving back -------------------------------------------------------------

    def _give_back(self, lease: Lease[T], discard: bool, *, used: bool = True) -> bool:
        """Whether it is kept."""
        if lease.vacant:
            self._give_permit()
            return False
        self._users -= 1
        item, usage = lease.item, lease.usage
        if used and self.metrics.observer is not None:
            self.metrics.observer.returned(usage.last_used())
        kept = (
            not discard
            and self._size + self._making <= self._permits.count
            and self.manager.reusable(item)
        )
        if kept:
            usage.returned = monotonic()
            self._idle.append((item, usage))
        else:
            self._size -= 1
            self.discard(item)
        self._permits.give()
        if self._unused is not None:
            self._notice_unused()
        return kept

    def _detach(self, lease: Lease[T]) -> None:
        if not lease.vacant:
            self._users -= 1
            self._size -= 1
        self._give_permit()

    def _leave(self) -> None:
        self._users -= 1
        self._notice_unused()

    def _give_permit(self) -> None:
        self._permits.give()
        self._notice_unused()

    def discard(self, item: T) -> None:
        """Close a thing that is not the pool's any more, such as one that ``retain`` removed."""
        self.metrics.connections_discarded += 1
        try:
            self.manager.discard(item)
        except Exception as error:
            # Whoever gives something back could do nothing about it, and the books must be kept.
            self.metrics.background_errors += 1
            with HARMLESS:
                logger.error("%s: closing %r failed", self.name, item, exc_info=error)

    # -- the whole pool ----------------------------------------------------------

    def resize(self, max_size: int) -> None:
        """Change how many may exist. Smaller: idle ones go now, checked-out ones on return."""
        if self.closed:
            return
        self._permits.resize(max_size)
        while self._idle and self._size + self._making > max_size:
            item, _ = self._idle.popleft()
            self._size -= 1
            self.discard(item)
        self._notice_unused()

    def retain(self, predicate: Callable[[T, Usage], bool]) -> Retained[T]:
        """Look at the idle ones and keep those for which ``predicate`` says so.

        The removed ones are detached: they are the caller's to close.
        """
        kept: deque[tuple[T, Usage]] = deque()
        removed: list[T] = []
        for item, usage in self._idle:
            if predicate(item, usage):
                kept.append((item, usage))
            else:
                removed.append(item)
        self._idle = kept
        self._size -= len(removed)
        return Retained(len(kept), removed)

    def idle(self) -> tuple[tuple[T, Usage], ...]:
        """The idle ones, the next to be handed out first in ``fifo`` mode."""
        return tuple(self._idle)

    async def add_idle(self) -> bool:
        """Make one more idle thing if nobody else needs the room. Raises as ``get`` does.

        Returns whether there is one more.
        """
        if self._size + self._making >= self._permits.count or not self._permits.take():
            return False
        self._users += 1
        try:
            item, usage = await self._create(self.timeouts.create)
        except BaseException:
            self._leave()
            self._give_permit()
            raise
        return self._give_back(Lease(self, item, usage), False, used=False)

    async def take_in(self, item: T) -> bool:
        """Keep a thing that was made elsewhere among the idle, if there is room; else discard it.
        Raises what a ``post_create`` hook does.

        Returns whether it is kept. No permit is needed: who has one finds it.
        """
        self._making += 1  # keeps the room while hooks look at it
        usage = Usage(monotonic())
        kept = False
        try:
            await self._call(self.post_create, item, usage)
            kept = self._size + self._making <= self._permits.count  # never of one that is closed
        finally:
            self._making -= 1
            self._size += 1
            self.metrics.connections_created += 1
            if kept:
                usage.returned = monotonic()
                self._idle.append((item, usage))
            else:
                self._size -= 1
                self.discard(item)
        return kept

    def close(self) -> None:
        """Refuse everyone from now on: waiters get PoolClosed, idle ones are closed, checked-out
        ones go on working and are closed when they come back. A second call does nothing."""
        if self.closed:
            return
        self.resize(0)
        self.closed = True
        self._permits.refuse(self._is_closed)

    async def drained(self) -> None:
        """Wait until nothing is checked out."""
        if self._users:
            if self._unused is None:
                self._unused = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._unused)

    def _notice_unused(self) -> None:
        if self._unused is not None and not self._users:
            self._unused.set_result(None)
            self._unused = None

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"{self.name} is closed")

    def _no_permit(self, timeout: float) -> PoolTimeout:
        waited = f"within {timeout:.3g} s" if timeout > 0 else "at once"
        return PoolTimeout(
            f"{self.name}: no connection was free {waited}: {self._use()} "
            "(REDIS_POOL_MAX_SIZE, REDIS_POOL_TIMEOUT)",
            "wait",
        )

    def shortage(self) -> str:
        """Who has the connections, for messages; empty while nobody waits for one."""
        return f"{self._use()} (REDIS_POOL_MAX_SIZE)" if self._permits.waiting else ""

    def _use(self) -> str:
        s = self.status()
        count = self._permits.waiting
        waiting = f"{count or 'no'} other caller{'s' * (count != 1)} waiting"
        return f"all {s.max_size} are in use{self.describe_users()}, {waiting}"


def _at_most(seconds: float, end: float) -> float:
    """``seconds``, or what is left of them until ``end``."""
    return seconds if end == inf else min(seconds, max(0.0, end - monotonic()))
