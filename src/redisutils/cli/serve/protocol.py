"""HTTP connections that cannot be kept for nothing.

uvicorn gives a client all the time it wants, and counts whoever is connected: some hundreds of
silent sockets would keep everybody else out. Here a client whose turn it is has a bounded time, and
when there are too many connections, the one ends that has made us wait longest. Those with an
answer under way, such as a dashboard that is watched, stay while there is any other.
"""

from __future__ import annotations

import asyncio
import sys
from math import inf
from typing import Any, Final, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from redisutils.monitor.stream import PATIENCE

__all__ = ["GRACE", "BoundedProtocol", "room"]

CONNECTIONS: Final = 1024
"""At a time."""

GRACE: Final = 2.0
"""Seconds that clients have to take their answers when the server ends."""

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
    """uvicorn's, with bounds of time and number.

    It is the client's turn while it has no whole request here that wants an answer, and while it
    does not take what was written. It has ``PATIENCE`` seconds, and then the connection is aborted:
    to close it would be to wait until everything is taken.
    """

    _due: asyncio.TimerHandle | None = None
    """When the client's turn ends; None while it is ours."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own
        """asyncio: begin."""
        super().connection_made(transport)
        self._turn()
        if len(self.connections) > room():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: it is over."""
        if self._due is not None:
            self._due.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """uvicorn: read what has come."""
        super().handle_events()
        self._turn()

    def on_response_complete(self) -> None:
        """uvicorn: all of an answer is written."""
        super().on_response_complete()
        self._turn()

    def pause_writing(self) -> None:
        """asyncio: the client takes nothing."""
        super().pause_writing()
        self._turn()

    def resume_writing(self) -> None:
        """asyncio: it took something."""
        super().resume_writing()
        self._turn()

    def shutdown(self) -> None:
        """uvicorn: the server is to end."""
        super().shutdown()
        # uvicorn cancels what has not ended in time, with a traceback for each.
        self.loop.call_later(GRACE, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """uvicorn: what has come is no HTTP."""
        answer = self._under_way()
        if answer is not None:  # it is in the body: what is answered to that is for nobody any more
            answer.disconnected = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:  # an answer has begun, and there can be no other
            self.transport.close()

    def _under_way(self) -> RequestResponseCycle | None:
        """The latest answer unless it is complete. Its request may not be whole yet."""
        latest = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        return None if latest is None or latest.response_complete else latest

    def _turn(self) -> None:
        """Time the client while it is its turn."""
        answer = self._under_way()
        ours = answer is not None and not answer.more_body and not self.flow.write_paused
        if ours and self._due is not None:
            self._due.cancel()
            self._due = None
        elif not ours and self._due is None:
            self._due = self.loop.call_later(PATIENCE, self.transport.abort)

    def _make_room(self) -> None:
        """For this one, which may be a probe that decides whether the process lives."""
        longest = min(self.connections - {self}, key=_since)
        self.connections.discard(longest)  # now: others may come before it has ended
        longest.transport.abort()


def _since(connection: Any) -> float:
    """Where it has its place among those that may end for others: the longest in debt first."""
    due: asyncio.TimerHandle | None = connection._due
    return inf if due is None else due.when()
