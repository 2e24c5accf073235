"""The frames over server-sent events.

A viewer gets ``event: history`` with the JSON list of the frames so far, and then ``event: frame``
with each that is made. What a viewer does not take in time is lost to it: of what waits for it
there is never more than its socket's buffers, one frame that is being sent, and a few references
to those that all viewers share.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from redisutils.monitor.feed import Feed, Viewer

__all__ = ["PATIENCE", "VIEWERS", "EventStream"]

VIEWERS: Final = 256
"""Streams at a time."""

_PIECE: Final = 16
"""Frames of the history that are sent in one turn of the loop, some 50 kB: a page that opens shall
not cost the program a megabyte at a stroke, nor hold its commands up."""

PATIENCE: Final = 30.0
"""Seconds that a viewer may take nothing at all. It is none any more then."""

_GLANCE: Final = 1.0
"""Seconds from one look at whether the process is stopping to the next."""

_QUIET: Final = 10
"""Glances after which a comment shows that the connection is alive."""

Write = Callable[[bytes], Awaitable[None]]


class EventStream(Response):
    """Sends what ``feed`` makes until the viewer leaves, or the feed ends."""

    media_type = "text/event-stream"

    def __init__(self, feed: Feed) -> None:
        super().__init__(headers={"X-Accel-Buffering": "no"})
        self._feed = feed
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body"})
            return

        async def write(piece: bytes) -> None:
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": piece, "more_body": True})

        async def whole() -> None:
            with self._feed.watch() as viewer:
                await _history(self._feed, write)
                await _frames(viewer, write)

        await _until_either(whole(), _gone(receive))
        # Whoever took nothing may yet take the end. Until then, or until the connection is lost,
        # this waits: some servers complain of an answer that has none, and none can be told to cut
        # it off.
        await send({"type": "http.response.body"})


async def _history(feed: Feed, write: Write) -> None:
    frames = feed.history()
    if feed.latest is not None:
        frames[-1] = feed.latest.data  # whoever comes now sees the slow commands as well
    await write(b"retry: 1000\nevent: history\ndata: [")
    for begin in range(0, len(frames), _PIECE):
        await write((b"," if begin else b"") + b",".join(frames[begin : begin + _PIECE]))
        await asyncio.sleep(0)  # to write need not be to wait
    await write(b"]\n\n")


async def _frames(viewer: Viewer, write: Write) -> None:
    quiet = 0
    while not _host_is_stopping():
        try:
            async with asyncio.timeout(_GLANCE):
                sheet = await anext(viewer)
        except TimeoutError:
            quiet += 1
            if quiet % _QUIET == 0:
                await write(b": nothing new\n\n")
            continue
        except StopAsyncIteration:
            return
        quiet = 0
        await write(b"event: frame\ndata: " + sheet.data + b"\n\n")


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _until_either(*works: Coroutine[Any, Any, None]) -> None:
    """Until one has ended; what it raised is raised, but for a viewer that is gone."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        error = None if task.cancelled() else task.exception()
        # A viewer that has hung up, or takes nothing, is no fault of ours.
        if error is not None and not isinstance(error, OSError):
            raise error


def _host_is_stopping() -> bool:
    """Whether the server that this application runs in waits for its connections to end.

    ASGI has no word for that, and uvicorn waits for ever for a stream that does not end. While it
    runs, the handler of SIGTERM is a method of its server, which knows.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
