"""One reader of an instrument's live quotes, and what becomes of those it is too slow for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final, Literal, Self, get_args

import msgspec

from redisutils.trading.errors import InvalidValue
from redisutils.trading.market.quotes import Quote

__all__ = ["Policy", "Sink", "Subscription", "Update"]

Policy = Literal["conflate", "block", "drop"]


class Update(msgspec.Struct, frozen=True, gc=False):
    """A quote as it came over the feed."""

    value: Quote
    number: int
    """Counted by the servers, for each instrument, from 1 or from where an epoch began."""
    gap: bool = False
    """Whether updates before this one were missed, by the network or a server that was lost."""
    missed: int | None = 0
    """How many; None: nobody knows."""

    def alone(self) -> Update:
        """For one who reads it as the first: nothing was missed."""
        return Update(self.value, self.number) if self.gap else self


class Sink:
    """Where a feed puts what one subscriber is to read.

    :param policy: ``"conflate"`` keeps the newest that was not read; ``"drop"`` the newest
        ``capacity``; ``"block"`` all, and the feed waits while ``capacity`` or more are unread.
    """

    __slots__ = (
        "_capacity",
        "_conflates",
        "_drops",
        "_error",
        "_items",
        "_loop",
        "_room",
        "_waiter",
        "begun",
        "blocks",
        "closed",
        "conflated",
        "dropped",
        "gaps",
        "missed",
    )

    def __init__(self, policy: Policy, capacity: int) -> None:
        given: Any = capacity
        if policy not in get_args(Policy):
            raise InvalidValue(f"policy={policy!r} must be one of {', '.join(get_args(Policy))}")
        if type(given) is not int or given < 1:
            raise InvalidValue(f"capacity={capacity!r} must be a number of updates, 1 or more")
        self.blocks: Final = policy == "block"
        self._conflates = policy == "conflate"
        self._drops = policy == "drop"
        self._capacity = 1 if self._conflates else capacity
        self._items: deque[Update] = deque()
        # Asked for once: where Python looks whether the process has forked, that is a system call.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._error: BaseException | None = None
        self.begun = False
        """Whether anything has come yet."""
        self.closed = False
        self.conflated = self.dropped = self.gaps = self.missed = 0

    def __len__(self) -> int:
        return len(self._items)

    # -- the feed's side -----------------------------------------------------------------------

    def extend(self, updates: Sequence[Update], gap: bool) -> bool:
        """More have come.

        :param gap: whether one of them has a gap before it.
        :returns: whether the reader had better come to its turn before more do.
        """
        items = self._items
        self.begun = True
        if gap:
            self._count(updates)
        if self._conflates:
            if items or len(updates) > 1:
                self._conflate(updates)
            else:
                items.append(updates[0])
        else:
            items.extend(updates)
            if self._drops and len(items) > self._capacity:
                self._drop()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)
        return not self._conflates and 2 * len(items) >= self._capacity

    def _count(self, updates: Sequence[Update]) -> None:
        for update in updates:
            if update.gap:
                self.gaps += 1
                self.missed += update.missed or 0

    def _conflate(self, updates: Sequence[Update]) -> None:
        passed = [*self._items, *updates]
        newest = passed.pop()
        self._items.clear()
        self.conflated += len(passed)
        for one in reversed(passed):
            newest = _after(one, newest)
        self._items.append(newest)

    def _drop(self) -> None:
        items = self._items
        while len(items) > self._capacity:
            gone = items.popleft()
            self.dropped += 1
            if gone.gap:
                items[0] = _after(gone, items[0])

    @property
    def full(self) -> bool:
        """Whether the feed is to wait."""
        return not self.closed and len(self._items) >= self._capacity

    async def room(self) -> None:
        """Wait until it is not full."""
        while self.full:
            if self._room is None or self._room.done():
                self._room = self._future()
            await self._room

    def end(self, error: BaseException | None = None) -> None:
        """No more will come: the reader ends when all is read, or raises ``error`` then."""
        if not self.closed:
            self.closed = True
            self._error = error
            for future in (self._waiter, self._room):
                if future is not None and not future.done():
                    future.set_result(None)

    # -- the reader's side ---------------------------------------------------------------------

    async def next(self) -> Update:
        """The next one.

        :raises StopAsyncIteration: there will be none.
        """
        while not self._items:
            await self._more()
        return self._take()

    async def value(self) -> Quote:
        """Of the next one the quote. Raises as :meth:`next` does."""
        while not self._items:
            await self._more()
        return self._take().value

    def _more(self) -> asyncio.Future[None]:
        """Done when there is something to look at."""
        if self.closed:
            if self._error is not None:
                raise self._error
            raise StopAsyncIteration
        if self._waiter is not None and not self._waiter.done():
            raise RuntimeError("a subscription is read by one task at a time: make another")
        self._waiter = self._future()
        return self._waiter

    def _future(self) -> asyncio.Future[None]:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop.create_future()

    def _take(self) -> Update:
        update = self._items.popleft()
        room = self._room
        if room is not None and len(self._items) < self._capacity and not room.done():
            room.set_result(None)
        return update


def _after(gone: Update, kept: Update) -> Update:
    """``kept`` with the gap that was before one which is not read."""
    if not gone.gap:
        return kept
    if not kept.gap:
        return msgspec.structs.replace(kept, gap=True, missed=gone.missed)
    unknown = gone.missed is None or kept.missed is None
    missed = None if unknown else (gone.missed or 0) + (kept.missed or 0)
    return msgspec.structs.replace(kept, missed=missed)


class Subscription:
    """An instrument's quotes as they come, beginning with the newest there is. Made by
    ``MarketData.subscribe()``, read by one task::

        async for quote in market.subscribe("BTCUSD"):
            ...

    It ends when the market data service is closed, and raises what made it impossible to go on. A
    connection that is lost is made again: what was missed meanwhile is counted, and the next update
    says so. :meth:`aclose`, or ``async with``, ends it; so does dropping it.
    """

    def __init__(
        self, instrument: str, policy: Policy, sink: Sink, leave: Callable[[], None]
    ) -> None:
        self.instrument: Final = instrument
        self.policy: Final[Policy] = policy
        self._sink = sink
        self._leave = leave
        self._loop = asyncio.get_running_loop()

    def __repr__(self) -> str:
        state = "closed" if self._sink.closed else "open"
        return (
            f"<Subscription {self.instrument} {self.policy} {state}: {self.pending} pending, "
            f"{self.conflated} conflated, {self.dropped} dropped, {self.gaps} gaps>"
        )

    @property
    def pending(self) -> int:
        """Updates that are there and not read yet."""
        return len(self._sink)

    @property
    def conflated(self) -> int:
        """Updates that were overtaken before they were read; of policy ``"conflate"``."""
        return self._sink.conflated

    @property
    def dropped(self) -> int:
        """Updates that had to go, the oldest first; of policy ``"drop"``."""
        return self._sink.dropped

    @property
    def gaps(self) -> int:
        """How often updates were missed on the way."""
        return self._sink.gaps

    @property
    def missed(self) -> int:
        """How many, as far as that is known."""
        return self._sink.missed

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Quote]:
        return self._sink.value()

    async def updates(self) -> AsyncIterator[Update]:
        """The same, each with its number and what was missed before it."""
        while True:
            try:
                update = await self._sink.next()
            except StopAsyncIteration:
                return
            yield update

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End it. A second call does nothing."""
        self._sink.end()
        self._leave()

    def __del__(self) -> None:
        sink = getattr(self, "_sink", None)
        if sink is not None and not sink.closed:
            try:  # whoever collects garbage may be another thread
                self._loop.call_soon_threadsafe(self._leave)
            except RuntimeError:
                pass  # the loop is closed, and nobody there to leave
