"""What a server sends on its own account: messages, confirmations, MONITOR's lines."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from math import inf
from typing import Any, Final

from redis.exceptions import RedisError

from redisutils.client.vigil import Vigil
from redisutils.connection.owner import Owner
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Reply
from redisutils.errors import ConnectionLost

__all__ = ["Inbox", "Mail"]

CAPACITY: Final = 8192
"""Messages kept for a slow reader. At it the socket is not read any more until half are gone:
the server keeps the rest, within its own ``client-output-buffer-limit pubsub``."""

CAPACITY_BYTES: Final = 64 * 1024 * 1024
"""The same for the bytes of what was published."""


class Mail(ABC):
    """Keeps what comes, in order. Several readers take turns."""

    def __init__(self) -> None:
        self._items: deque[tuple[Any, bool]] = deque()
        self._readers: deque[asyncio.Future[None]] = deque()
        self._error: RedisError | None = None
        self._bytes = 0
        self._full = False

    def __len__(self) -> int:
        return len(self._items)

    async def get(self, timeout: float) -> tuple[Any, bool]:
        """The next item, and whether it came as a push message.

        Args:
            timeout: seconds; 0 takes only what is there; ``inf`` waits for ever.

        Raises:
            TimeoutError: nothing came.
            ConnectionLost, PoolClosed: all that had come was read, and no more will.
        """
        if not self._items:
            # What the socket holds is read in the loop's next turn; a poll deserves that much.
            async with asyncio.timeout(None if timeout == inf else timeout):
                while not self._items:
                    if self._error is not None:
                        raise self._error
                    await self._turn()
        item = self._items.popleft()
        self._bytes -= _size(item[0])
        few = len(self._items) <= CAPACITY // 2
        if self._full and few and self._bytes <= CAPACITY_BYTES // 2:
            self._full = False
            self.resume()
        return item

    async def _turn(self) -> None:
        """Wait in line until there is something to look at."""
        reader: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.append(reader)
        try:
            await reader
        except BaseException:  # cancelled: the next in line must not miss what came
            if reader in self._readers:
                self._readers.remove(reader)
            elif self._items:
                self._wake()  # woken as we were cancelled: on to the next
            raise

    def add(self, value: Any, is_push: bool) -> None:
        self._items.append((value, is_push))
        self._bytes += _size(value)
        much = self._bytes >= CAPACITY_BYTES or len(self._items) >= CAPACITY
        if much and not self._full:
            self._full = True
            self.pause()
        self._wake()

    @abstractmethod
    def pause(self) -> None:
        """Let no more come."""

    @abstractmethod
    def resume(self) -> None:
        """Let more come."""

    @abstractmethod
    def left(self) -> float:
        """Seconds until it is time to :meth:`look`, for a reader that waits."""

    @abstractmethod
    def look(self) -> None:
        """See to it that who should send lives."""

    def _wake(self) -> None:
        """The longest waiting reader, or all of them when nothing more will come."""
        while self._readers:
            reader = self._readers.popleft()
            if not reader.done():
                reader.set_result(None)
                if self._error is None:
                    return

    def end(self, error: RedisError) -> None:
        """No more will come: readers that wait are told."""
        if self._error is None:
            self._error = error
        self._wake()


def _size(value: Any) -> int:
    """Of what was published, which is the last part of a message. All else is short."""
    last = value[-1] if isinstance(value, list) and value else value
    return len(last) if isinstance(last, bytes | str) else 0


class Inbox(Mail, Owner[Connection]):
    """Owns a connection and keeps what comes.

    Args:
        connection: whose owner this becomes.
        decode: whether strings are decoded.
        vigil: sees to it that the server lives. Its own PINGs' answers are nobody's.
    """

    name = "subscription"
    hears_unasked = True

    def __init__(self, connection: Connection, *, decode: bool, vigil: Vigil) -> None:
        super().__init__()
        self._vigil = vigil
        self._connection = connection
        connection.owner = self
        connection.decode_pushes = decode

    def pause(self) -> None:
        self._connection.pause_reading()

    def resume(self) -> None:
        self._connection.resume_reading()

    def left(self) -> float:
        return self._vigil.left(self._connection)

    def look(self) -> None:
        self._vigil.look(self._connection)

    def detach(self) -> None:
        """Stop: a reader that waits is told."""
        self._connection.owner = Owner()
        self.end(ConnectionLost("the connection was given back"))

    def on_push(self, connection: Connection, message: Any) -> None:
        if not self._vigil.is_answer(message):
            self.add(message, True)

    def on_unsolicited(self, connection: Connection, value: Any) -> None:
        if not self._vigil.is_answer(value):
            self.add(value, False)

    def on_unreadable(self, connection: Connection, error: UnicodeDecodeError) -> None:
        self.add(error, False)

    def on_lost(
        self,
        connection: Connection,
        error: ConnectionLost,
        unanswered: Sequence[Reply],
        unsent: int,
    ) -> None:
        super().on_lost(connection, error, unanswered, unsent)
        self.end(error)
