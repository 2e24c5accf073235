"""HTTP connections that cannot be kept for nothing.

uvicorn gives a request all the time it wants, and counts whoever is connected: some hundreds of
silent sockets would keep everybody else out. Here a request has its time, a client that takes
nothing is left, and of too many connections it is the idle ones that go.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from redisutils.monitor.stream import PATIENCE

__all__ = ["REQUEST", "BoundedProtocol", "room"]

REQUEST: Final = 10.0
"""Seconds that a request may take to come, its body included."""

CONNECTIONS: Final = 1024
"""At a time. One more ends the oldest that has no answer under way."""

_OTHERS: Final = 64
"""Files that the process needs for all else: the pool's connections among them."""


def room() -> int:
    """Connections that there may be: ``CONNECTIONS``, or less where the process may open less."""
    if sys.platform == "win32":
        return CONNECTIONS
    import resource  # Windows has none

    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY:
        return CONNECTIONS
    return min(CONNECTIONS, max(files - _OTHERS, files // 2))


class BoundedProtocol(H11Protocol):
    """uvicorn's, with bounds of time and number."""

    _coming: asyncio.TimerHandle | None = None
    """Runs while a request is not whole."""
    _stuck: asyncio.TimerHandle | None = None
    """Runs while the client does not take what there is for it."""
    _order = 0
    """When it came, among the others."""
    _came = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """asyncio: begin."""
        super().connection_made(transport)
        BoundedProtocol._came += 1
        self._order = BoundedProtocol._came
        self._coming = self.loop.call_later(REQUEST, transport.abort)
        if len(self.connections) > room():
            others = [each for each in self.connections if isinstance(each, BoundedProtocol)]
            min(others, key=lambda each: (not each.idle, each._order))._leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is over."""
        for timer in (self._coming, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """asyncio: a piece of a request."""
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            if self._coming is not None:
                self._coming.cancel()
                self._coming = None
        elif self._coming is None:
            self._coming = self.loop.call_later(REQUEST, self.transport.abort)

    def pause_writing(self) -> None:
        """asyncio: the client takes nothing."""
        super().pause_writing()
        if self._stuck is None:
            # Not to be closed: that would wait until it takes what is written.
            self._stuck = self.loop.call_later(PATIENCE, self.transport.abort)

    def resume_writing(self) -> None:
        """asyncio: it took something."""
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    @property
    def idle(self) -> bool:
        """Whether no answer to a whole request is under way."""
        answering = self.conn.our_state in (h11.SEND_RESPONSE, h11.SEND_BODY)
        return self._coming is not None or not answering

    def _leave(self) -> None:
        self.connections.discard(self)  # now: others may come before it has ended
        self.transport.abort()
