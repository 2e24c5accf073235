"""Whom a lane asks when its server says that another one should have been asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from redisutils.connection.reply import Batch, Reply

__all__ = ["Router"]


class Router(Protocol):
    """Knows several servers. Everything happens within the callback in which the lane heard of it,
    so that commands keep their order."""

    def on_refused(self, reply: Reply, value: Any, code: str) -> bool:
        """The server refused ``reply`` with an error of ``code``; of a batch, all of it, and
        ``value`` is the list of answers. Return True to take it over."""

    def on_partly_refused(self, batch: Batch, values: list[Any]) -> bool:
        """Errors are among the answers to ``batch``. Return True to take it over."""

    def on_lost(self, again: Sequence[Reply]) -> list[Reply]:
        """The connection is lost, and ``again`` are to be sent again. Return those for which this
        lane is the right one; the others are taken over."""

    def on_silent(self) -> None:
        """The server does not answer, although an answer is due."""
