"""Who issues commands by a way that somebody keeps an eye on: what it may have written."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable
from typing import Any, TypeAlias

from redisutils.metrics.observer import Submit, SubmitMany

__all__ = ["Note", "noted"]

Note: TypeAlias = Callable[[bytes, Future[Any]], None]
"""Is told of each packed command, or run of commands, as it is issued, and of its answer."""


def noted(submit: Submit, submit_many: SubmitMany, note: Note) -> tuple[Submit, SubmitMany]:
    """The same two, of which ``note`` is told."""

    def one(payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        answer = submit(payload, decode, timeout)
        note(payload, answer)
        return answer

    def many(payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        answer = submit_many(payload, size, decode, timeout)
        note(payload, answer)
        return answer

    return one, many
