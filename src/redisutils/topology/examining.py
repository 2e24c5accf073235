"""Looking at a server, the way to it, and what uses it: what is behind ``pool.health()``.

PING, TIME and INFO leave in one write on the pool's own lane: one round trip, 5 to 6 kB of answer,
about 0.03 ms of the server's time and 0.6 ms of ours. Looks that are asked for at once share one.

A lane may be stuck behind a long answer while the server is well. So one that has a connection and
does not answer in the first part of the time is compared with a connection of our own. What the
answers come to: :mod:`redisutils.topology.judging`.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Iterable
from time import monotonic, time
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from redisutils.connection.packing import OwnPayload, pack_many
from redisutils.connection.words import cut
from redisutils.errors import PoolClosed, RedisUtilsError, code_of
from redisutils.pool.lane import Lane
from redisutils.retry import TRANSIENT
from redisutils.topology.checkouts import Checkouts
from redisutils.topology.facts import MOST, SECTIONS, Info
from redisutils.topology.health import HealthReport
from redisutils.topology.judging import Judge, Judged, Look
from redisutils.topology.looking import Looking

__all__ = ["Examined", "Examiner"]

_LANE_SHARE: Final = 0.6
"""The part of the time in which a lane that is connected is waited for alone."""

_REFUSED_FOR: Final = 60.0
"""Seconds for which a command is not sent again that this user may not use: each refusal leaves an
entry in the server's ACL LOG."""


class Examined(Judged, Protocol):
    """A server with its pool, and the ways to connections of one's own."""

    checkouts: Checkouts

    def check_usable(self) -> None: ...

    def lane(self) -> Lane:
        """The one that everybody uses."""


class Examiner(Looking):
    """Looks at one server and its pool.

    Args:
        server: both.
    """

    def __init__(self, server: Examined) -> None:
        super().__init__(server)
        self._server = server
        self._judge = Judge(server)
        self._sections: tuple[str, ...] = SECTIONS
        self._refused: dict[str, tuple[float, str]] = {}
        self._clustered = False  # whether it is one of a cluster, and taken for the only one

    # -- asking --------------------------------------------------------------------

    async def _look(self, timeout: float) -> HealthReport:
        end = monotonic() + timeout
        look = await self._ask(end)
        if look.again:
            look = await self._ask(end)
        if isinstance(look.error, PoolClosed):
            return self._closed(look.error)
        refused = {name: told for name, (_, told) in self._refused.items()}
        return self._judge.report(look, refused)

    async def _ask(self, end: float) -> Look:
        """By the lane; by a connection of our own if that is stuck."""
        look = Look()
        try:
            lane = self._server.lane()
            look.fresh = lane.connection is None
            left = end - monotonic()
            began, since, names, reply = self._issue(lane.unwatched_many, left)
            await _settled(reply, left * _LANE_SHARE)
            look.shortage = self._server.pool.shortage() if look.fresh else ""
            if not reply.done() and lane.connection is not None and not look.fresh:
                own = await self._ask_own(end)
                if own is not None and not reply.done():
                    if not isinstance(own.ping, Exception):  # which it may wait out
                        own.stuck = lane
                    return own
            # The lane's own error tells more than that there was none.
            await _settled(reply, end - monotonic() + 0.01)
            if not reply.done():
                raise TimeoutError(f"no answer within {monotonic() - began:.2g} s")
            self._read(look, names, reply.result(), began, since)
            return look
        except (RedisError, RedisUtilsError, OSError) as error:
            look.error = error
        return look

    async def _ask_own(self, end: float) -> Look | None:
        """By a connection that nobody else uses. None if it was not answered, or none was to be
        had."""
        look = Look()
        try:
            async with asyncio.timeout(end - monotonic()):
                # Of the pool itself: if there is none, no caller has failed.
                lease = await self._server.pool.get(wait=0)
                self._server.checkouts.lend(lease)
                try:
                    left = end - monotonic()
                    began, since, names, reply = self._issue(lease.item.submit_many, left)
                    self._read(look, names, await reply, began, since)
                finally:
                    lease.release()
        except (RedisError, RedisUtilsError, OSError):
            return None
        return look

    def _issue(
        self, submit_many: Callable[[bytes, int, bool, float], Future[Any]], left: float
    ) -> tuple[float, float, list[str], Future[Any]]:
        """Send the questions.

        Returns when, by both clocks; which; and the future of the answers."""
        now = monotonic()
        asked: dict[str, tuple[str, ...]] = {
            "PING": ("PING",),
            "TIME": ("TIME",),
            "INFO": ("INFO", *self._sections),
        }
        if self._clustered:
            asked["CLUSTER INFO"] = ("CLUSTER", "INFO")
        for name, (until, _) in list(self._refused.items()):
            if now < until:
                asked.pop(name, None)
            else:
                del self._refused[name]
        if not asked:
            asked["HELLO"] = ("HELLO",)  # which everyone may say, and which changes nothing
        payload = OwnPayload(pack_many(list(asked.values())))
        reply = submit_many(payload, len(asked), False, max(left, 0.001))
        reply.add_done_callback(_retrieve)
        return now, time(), list(asked), reply

    def _read(
        self, look: Look, names: Iterable[str], answers: list[Any], began: float, since: float
    ) -> None:
        """Make sense of the answers."""
        took = monotonic() - began
        look.round_trip = took
        for name, answer in zip(names, answers, strict=True):
            if isinstance(answer, Exception):
                self._was_refused(look, name, answer)
            elif name == "PING":
                look.ping = answer
            elif name == "TIME":
                look.ahead = _ahead(answer, since, took)
            elif name == "INFO":
                look.info = Info(_text(answer))
                alone = look.info.in_cluster and not self._server.options.one_of_many
                look.again |= alone and not self._clustered
                self._clustered = alone
            elif name == "CLUSTER INFO":
                look.primaries = Info(_text(answer)).whole("cluster_size") or 0

    def _was_refused(self, look: Look, name: str, error: Exception) -> None:
        code = code_of(error)
        if code in TRANSIENT or code == "MISCONF":
            if name == "PING":
                look.ping = error
        elif name == "INFO" and self._sections and "syntax" in str(error).lower():
            self._sections = ()  # Redis before 7
            look.again = True
        elif name == "PING" and code != "NOPERM":
            look.ping = error
        elif name != "HELLO":
            self._refused[name] = (monotonic() + _REFUSED_FOR, cut(str(error)))


async def _settled(reply: Future[Any], seconds: float) -> None:
    """Wait for it, for so long; it goes on if it takes longer."""
    if not reply.done():
        await asyncio.wait([reply], timeout=max(0.0, seconds))


def _ahead(answer: Any, since: float, took: float) -> float | None:
    """How far the clock is ahead that TIME was read from, within a round trip that began at
    ``since``; less what that leaves uncertain."""
    try:
        seconds, microseconds = answer
        ahead = int(seconds) + int(microseconds) / 1e6 - (since + took / 2)
    except (TypeError, ValueError):
        return None  # whatever this is, it is no clock
    sure = max(0.0, abs(ahead) - took / 2)
    return sure if ahead > 0 else -sure


def _retrieve(reply: Future[Any]) -> None:
    """Nobody may be there any more who would."""
    if not reply.cancelled():
        reply.exception()


def _text(answer: Any) -> str:
    if isinstance(answer, bytes):
        return answer[:MOST].decode("utf-8", "replace")
    return str(answer)
