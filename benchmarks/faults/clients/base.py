"""What the scenarios ask of a client."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Any, Literal

Fate = Literal["no effect", "done", "unknown"]

HOST = "127.0.0.1"


class Heard:
    """What a subscriber has heard, told by the adapter as it hears it."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        self.numbers: set[int] = set()
        """The numbers in the messages that arrived."""
        self.signs: list[str] = []
        """Whatever showed the subscriber that it had been cut off, in order."""

    def confirmed(self) -> None:
        """The server has confirmed the subscription; to hear so again is a sign."""
        if self.subscribed.is_set():
            self.signs.append("a second confirmation")
        self.subscribed.set()

    def message(self, payload: Any) -> None:
        """A message whose payload is a number has arrived."""
        self.numbers.add(int(payload))

    def error(self, error: Exception) -> None:
        """Listening raised; the adapter goes on listening, as a careful program would."""
        self.signs.append(type(error).__name__)


class Client(ABC):
    """One client library, set up as its documentation recommends, with a budget.

    A subclass is opened and closed by one task, and used by many between.
    """

    def __init__(self, port: int, budget: float) -> None:
        """The server (or the network before it) is at ``port`` of 127.0.0.1. ``budget``:
        seconds that a call may take, given to whatever the library has for that."""
        self.port = port
        self.budget = budget

    @abstractmethod
    async def open(self) -> None:
        """Make the client. Whether that connects is the library's to say."""

    @abstractmethod
    async def close(self) -> None:
        """Give everything back."""

    @abstractmethod
    async def get(self, key: str) -> bytes | None:
        """GET."""

    @abstractmethod
    async def set(self, key: str, value: str) -> None:
        """SET."""

    @abstractmethod
    async def incr(self, key: str) -> int:
        """INCR."""

    @abstractmethod
    async def blpop(self, key: str, timeout: float) -> Any:
        """BLPOP of one key, for ``timeout`` seconds."""

    @abstractmethod
    async def open_pool(self, size: int) -> None:
        """Make a pool of ``size`` connections, where waiting for one is bounded by the budget.
        Called instead of :meth:`open`."""

    @abstractmethod
    async def checked_out_get(self, key: str) -> bytes | None:
        """Take a connection of that pool for oneself, GET on it, give it back."""

    @abstractmethod
    async def listen(self, channel: str, heard: Heard) -> None:
        """Subscribe, and report to ``heard`` for ever."""

    def fate(self, error: Exception) -> Fate | None:
        """What ``error`` says about the write that raised it; None: nothing."""
        return None
