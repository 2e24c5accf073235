"""A subscription that fell silent looks like one that has no news: a PING tells them apart."""

from __future__ import annotations

from math import inf
from time import monotonic
from typing import Any, Final

from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectionLost

__all__ = ["Vigil"]

_ECHO: Final = "redisutils-vigil"
_PING: Final = pack(("PING", _ECHO))
_ANSWERS: Final = (_ECHO, _ECHO.encode(), ["pong", _ECHO], [b"pong", _ECHO.encode()])


class Vigil:
    """Watches one connection for a reader that waits.

    Args:
        interval: seconds without a word after which it PINGs; ``inf`` for never.
        patience: seconds that the answer may take.
    """

    __slots__ = ("_asked", "_interval", "_patience")

    def __init__(self, interval: float, patience: float) -> None:
        self._interval = interval
        self._patience = patience
        self._asked = -inf

    def begin(self) -> None:
        """Another connection is watched from now on."""
        self._asked = -inf

    def left(self, connection: Connection) -> float:
        """Seconds until it is time to :meth:`look`."""
        if self._asked > connection.last_heard:
            due = self._asked + self._patience
        else:
            due = connection.last_heard + self._interval
        return max(0.0, due - monotonic())

    def look(self, connection: Connection) -> None:
        """PING when it is time to, and abort a connection on which that was not answered. To be
        called when the loop has just read what there was to be read."""
        if connection.closed or self.left(connection) > 0:
            return
        if self._asked <= connection.last_heard:
            self._asked = monotonic()
            connection.write(_PING)
        else:
            unheard = monotonic() - connection.last_heard
            connection.lose(
                ConnectionLost(
                    f"{connection.peer} has been silent on a subscription's connection for "
                    f"{unheard:.3g} s, a PING included"
                )
            )

    @staticmethod
    def is_answer(value: Any) -> bool:
        """Whether this is the answer to a PING of ours, which is nobody's message."""
        return value in _ANSWERS
