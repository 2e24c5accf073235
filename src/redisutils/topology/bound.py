"""What belongs to the event loop and the process in which it was made, and ends there."""

from __future__ import annotations

import asyncio
import os
import weakref
from abc import ABC, abstractmethod

from redisutils.connection.home import Home
from redisutils.errors import PoolClosed, WrongLoop

__all__ = ["Bound"]


class Bound(ABC):
    """See the module's docstring. Made inside the event loop that it belongs to.

    Args:
        title: what it is called in messages.
    """

    def __init__(self, title: str) -> None:
        self._title = title
        self._loop = asyncio.get_running_loop()
        self._home = Home.of(self._loop)
        self._pid = os.getpid()
        self._forked = False
        _alive.add(self)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process in which it was made."""
        return self._forked

    @property
    @abstractmethod
    def closed(self) -> bool:
        """Whether it has been closed."""

    # -- may it be used ------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise if this is another event loop or process than ours, or if we are closed.

        Raises:
            WrongLoop, PoolClosed
        """
        if self._forked:
            raise self._wrong_process()
        if self.closed:
            raise self._is_closed()
        if not self._home.is_here():
            raise self._wrong_loop()

    def check_closable(self) -> None:
        """Raise if closing must be left to another event loop.

        Raises:
            WrongLoop
        """
        ours = self._forked or self._loop.is_closed()
        if not ours and asyncio.get_running_loop() is not self._loop:
            raise self._wrong_loop()

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"{self._title} is closed")

    def _wrong_loop(self) -> WrongLoop:
        return WrongLoop(
            f"{self._title} was opened in another event loop: open one in each loop "
            "(asyncio.run makes a new loop each time)"
        )

    def _wrong_process(self) -> WrongLoop:
        return WrongLoop(
            f"{self._title} was opened in process {self._pid} and this is its child "
            f"{os.getpid()}: open a pool of its own after the fork"
        )

    def _after_fork(self) -> None:
        """In the child: what is open is the parent's."""
        self._forked = True

    # -- the end -------------------------------------------------------------------------

    async def aclose(self, drain: float = 0.0) -> None:
        """Close everything.

        Args:
            drain: seconds to let commands in flight and checkouts finish first; new
                checkouts are refused at once.

        Raises:
            WrongLoop: its own loop is another one, which still lives.
        """
        self.check_closable()
        if self._forked:
            return  # the sockets are the parent's
        self._shut()
        if self._loop.is_closed():  # and has left nothing that could be closed in order
            await self._outlive_loop()
        else:
            await self._wind_up(drain)

    def abandon(self) -> None:
        """Close everything now, for an owner that was dropped without a word."""
        if not self._forked:
            self._shut()
            self._drop_all()

    @abstractmethod
    def _shut(self) -> None:
        """Be closed from now on: take nothing new."""

    @abstractmethod
    async def _outlive_loop(self) -> None:
        """Shut, with a loop that has ended."""

    @abstractmethod
    async def _wind_up(self, drain: float) -> None:
        """Shut: end what is under way, in order, after ``drain`` seconds at most."""

    @abstractmethod
    def _drop_all(self) -> None:
        """Shut: end what is under way, now."""


_alive: weakref.WeakSet[Bound] = weakref.WeakSet()


def _mark_forked() -> None:
    for one in list(_alive):
        one._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_mark_forked)
