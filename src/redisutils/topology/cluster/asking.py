"""Asking a node by way of exception, on a connection of one's own: see the ASK redirection
(https://valkey.io/topics/cluster-spec/#ask-redirection)."""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Any

from redisutils.topology.cluster.gathered import Gathered
from redisutils.topology.cluster.redirects import ASKING
from redisutils.topology.server import LaneLike

__all__ = ["AskingLane"]


class AskingLane:
    """``lane``, with ASKING before each command."""

    __slots__ = ("_lane",)

    def __init__(self, lane: LaneLike) -> None:
        self._lane = lane

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command behind ASKING; both are one payload."""
        both = self._lane.submit_many(type(payload)(ASKING + payload), 2, decode, timeout)
        return Gathered.of(asyncio.get_running_loop(), [both], _second)

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue a transaction behind ASKING, which holds until EXEC."""
        all_ = self._lane.submit_many(type(payload)(ASKING + payload), 1 + size, decode, timeout)
        return Gathered.of(asyncio.get_running_loop(), [all_], lambda answers: _list(answers)[1:])


def _list(answers: list[Any]) -> list[Any]:
    (both,) = answers
    if isinstance(both, BaseException):
        raise both
    assert isinstance(both, list)
    return both


def _second(answers: list[Any]) -> Any:
    answer = _list(answers)[1]
    if isinstance(answer, BaseException):
        raise answer
    return answer
