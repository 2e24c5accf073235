"""Who may watch a pool's commands one by one, for tracing. Nobody does unless asked to."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

__all__ = ["Address", "Observer", "Submit", "SubmitMany"]

Submit: TypeAlias = Callable[[bytes, bool, float], Future[Any]]
"""Issues one packed command: see ``Connection.submit``."""

SubmitMany: TypeAlias = Callable[[bytes, int, bool, float], Future[Any]]
"""Issues several together: see ``Connection.submit_many``."""

Address: TypeAlias = Callable[[], object]
"""Tells where the connection in use leads to, as sockets do; None where there is none."""


class Observer(Protocol):
    """Stands between callers and what they issue commands through.

    What it puts in the place of ``submit`` must hand on what that returns or raises, and must not
    complete the future.
    """

    def watch(
        self, submit: Submit, submit_many: SubmitMany, address: Address
    ) -> tuple[Submit, SubmitMany]:
        """What callers are to call instead."""

    def retried(self, future: Future[Any], reason: str, attempt: int, pause: float) -> None:
        """The command whose answer ``future`` awaits is sent again, in ``pause`` seconds or more:
        for ``reason``, after it was tried ``attempt`` times in vain."""

    def created(self, seconds: float) -> None:
        """A connection was made, which took so long."""

    def obtained(self, seconds: float) -> None:
        """A caller or a lane was given a connection of its own, which took so long."""

    def returned(self, seconds: float) -> None:
        """It was given back after so long; not one that was taken for good, or lost by a lane."""
