"""What the workloads ask of a contender."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from benchmarks.server import Server

Batch = Sequence[tuple[str, bytes | None]]
"""Commands of a pipeline: a key and a value to SET, or None to GET."""


class Client(ABC):
    """One client library, opened the way its documentation recommends.

    ``get``, ``set`` and the like are the library's own bound methods wherever their
    arguments allow it: an ``async def`` in between would cost the fastest the most.
    """

    get: Callable[[str], Awaitable[Any]]
    set: Callable[[str, bytes], Awaitable[Any]]

    def __init__(self, server: Server, *, tasks: int, connections: int | None = None) -> None:
        """``tasks`` will call at once. ``connections`` is the size of the pool for
        workloads that check connections out, None for those that do not care."""
        self.server = server
        self.tasks = tasks
        self.connections = connections

    @abstractmethod
    async def open(self) -> None:
        """Connect. ``close`` is called by the same task, after all others have ended."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    @abstractmethod
    async def pipeline(self, batch: Batch) -> Sequence[Any]:
        """Send ``batch`` as one non-transactional pipeline; its replies in order."""


class Contender(Client):
    """A client of one server. ``close`` gives back what ``hold_open`` holds, too."""

    publish: Callable[[str, str], Awaitable[Any]]

    @abstractmethod
    def subscribe(self, channel: str) -> AbstractAsyncContextManager[AsyncIterator[str | bytes]]:
        """A subscription, confirmed by the server on entering; iterates payloads."""

    @abstractmethod
    async def checkout_get(self, key: str) -> Any:
        """Take a connection of one's own, GET on it by the library's own method, give it back."""

    async def bare_checkout_get(self, key: str) -> Any:
        """The same by what lies below the methods, where the library has such a thing."""
        return await self.checkout_get(key)

    @abstractmethod
    async def acquire_release(self) -> None:
        """Take a connection of one's own from the pool and give it back, unused."""

    def without_measuring(self) -> AbstractContextManager[None]:
        """For ours alone: meanwhile no command is measured."""
        raise NotImplementedError

    @abstractmethod
    async def hold_open(self, keys: Sequence[str]) -> Sequence[Any]:
        """Open a connection per key, GET the key on it, and keep all of them until
        ``close``. The replies, in order."""
