"""Where frames come from: a pool of our own, or a dashboard."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from redisutils import create_redis_pool
from redisutils.cli.top.events import Address, EventsFailed, read_events
from redisutils.cli.top.reading import read_frame, read_frames
from redisutils.monitor.feed import Feed
from redisutils.monitor.probing import probing

if TYPE_CHECKING:
    from redisutils import RedisConfig
    from redisutils.monitor.frame import Frame
    from redisutils.secret import Secret

__all__ = ["News", "OwnPool", "Remote", "Source"]

PAUSE: Final = 1.0
"""Seconds before a lost dashboard is tried again."""


@dataclass(frozen=True, slots=True)
class News:
    """What has come."""

    frames: tuple[Frame, ...] = ()
    """Oldest first; several when there is a history."""
    trouble: str | None = None
    """Why there are none."""


class Source(Protocol):
    """Something that frames come from."""

    title: str
    """What is watched."""
    own: bool
    """Whether the pool is our own, and does nothing but ask how the server is."""

    def news(self) -> AsyncIterator[News]:
        """What comes, from now on."""


class OwnPool:
    """A pool of our own to a server.

    Args:
        config: which server.
    """

    own = True

    def __init__(self, config: RedisConfig) -> None:
        self.title = config.endpoint
        self._config = config

    async def news(self) -> AsyncIterator[News]:
        """A frame each second. A server that does not answer is told in the frames."""
        async with create_redis_pool(self._config) as pool:
            feed = Feed(pool)
            try:
                async with probing(pool):
                    with feed.watch() as viewer:
                        async for sheet in viewer:
                            # By the same way as those of others, for errors may quote a server.
                            yield News((read_frame(sheet.data),))
            finally:
                await feed.stop()


class Remote:
    """The pool behind a dashboard: ``redisutils serve``, or wherever ``monitor_app`` is mounted.

    Args:
        address: the dashboard's.
        token: what it wants to hear.
        pause: seconds before it is tried again.
    """

    own = False

    def __init__(self, address: Address, token: Secret | None, pause: float = PAUSE) -> None:
        self.title = address.shown
        self._address = address
        self._token = token
        self._pause = pause

    async def news(self) -> AsyncIterator[News]:
        """The history, and each frame as it is made; trouble when it is lost, and so on.

        Raises:
            EventsFailed: the first attempt failed.
        """
        reached = False
        while True:
            try:
                async for name, data in read_events(self._address, self._token):
                    reached = True
                    if name == "history":
                        yield News(tuple(read_frames(data)))
                    elif name == "frame":
                        yield News((read_frame(data),))
                trouble = f"{self.title} has ended"
            except EventsFailed as error:
                if not reached:
                    raise
                trouble = str(error)
            except (json.JSONDecodeError, ValueError, RecursionError):
                failed = EventsFailed(f"{self.title}: what it sends is no frame", final=True)
                if not reached:
                    raise failed from None
                trouble = str(failed)
            yield News(trouble=trouble)
            await asyncio.sleep(self._pause)
