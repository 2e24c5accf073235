"""Whether a caller runs where a connection lives: in its event loop, in its process."""

from __future__ import annotations

import asyncio
import os
import weakref
from threading import get_ident

__all__ = ["Affinity"]


class Affinity:
    """One event loop, for all the connections in it."""

    __slots__ = ("__weakref__", "forked", "loop", "thread")

    forked: bool
    """Whether this is a child of the process in which the loop was made."""
    loop: asyncio.AbstractEventLoop
    thread: int
    """The thread that runs the loop, while a connection hands out replies; else 0. Who is in it
    then is in the loop, which costs less to find out than ``get_running_loop()``: that is a
    system call before Python 3.12."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Affinity:
        """The one of ``loop``."""
        affinity = _known.get(id(loop))  # which is its own for as long as its affinity lives
        if affinity is None:
            affinity = _known[id(loop)] = cls()
            affinity.loop = loop
            affinity.forked = False
            affinity.thread = 0
        return affinity

    def is_here(self) -> bool:
        """Whether the caller runs in this loop. ``Connection.submit`` says the same inline."""
        return get_ident() == self.thread or asyncio.get_running_loop() is self.loop


_known: weakref.WeakValueDictionary[int, Affinity] = weakref.WeakValueDictionary()


def _forked() -> None:
    """In a child: no loop of its parent's is its own, even if it was forked by a woken task."""
    for affinity in _known.values():
        affinity.forked = True
        affinity.thread = 0
    _known.clear()  # a loop that the child makes is another one, whatever its id


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
