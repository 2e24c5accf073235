"""A faulty network that no client can hold up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from redisutils.testing import FaultProxy

_T = TypeVar("_T")


class Network:
    """A :class:`FaultProxy` in a thread and an event loop of its own.

    Some clients connect without giving way to the event loop, and would wait for ever for a
    proxy on the same loop.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._loop = asyncio.new_event_loop()
        # A daemon: it may not keep a process whose client hangs.
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._proxy: FaultProxy
        self.port = 0
        """Of 127.0.0.1, for clients."""

    async def apply(self, change: Callable[[FaultProxy], _T]) -> _T:
        """Call ``change`` with the proxy, on its loop; what it returns."""

        async def there() -> _T:
            return change(self._proxy)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(there(), self._loop))

    async def __aenter__(self) -> Self:
        self._thread.start()
        future = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self._proxy = await asyncio.wrap_future(future)
        self.port = self._proxy.port
        return self

    async def _start(self) -> FaultProxy:
        return await FaultProxy(*self._target).__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        leaving = self._proxy.__aexit__(kind, error, traceback)
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(leaving, self._loop))
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()
