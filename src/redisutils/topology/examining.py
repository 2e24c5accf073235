"""Looking at a server, the way to it, and what uses it: what is behind ``pool.health()``.

PING, TIME and INFO leave in one write on the pool's own lane: one round trip, 5 to 6 kB of answer,
about 0.03 ms of the server's time and 0.6 ms of ours. Looks that are asked for at once share one.

A lane may be stuck behind a long answer while the server is well. So one that has a connection and
does not answer in the first part of the time is compared with a connection of our own.
"""

from __future__ import annotations

import asyncio
from asyncio import Future, Task
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from dataclasses import dataclass
from time import monotonic, time
from typing import Any, Final, Literal, Protocol

from redis.exceptions import RedisError

from redisutils.connection.options import ConnectOptions
from redisutils.connection.packing import OwnPayload, pack_many
from redisutils.connection.protocol import Connection
from redisutils.connection.words import cut
from redisutils.errors import CircuitOpen, PoolClosed, RedisUtilsError, code_of
from redisutils.metrics.latency import LatencySnapshot
from redisutils.metrics.snapshot import MetricsSnapshot
from redisutils.pool.lane import Lane
from redisutils.pool.model import PoolStatus
from redisutils.pool.pool import Pool
from redisutils.retry import TRANSIENT
from redisutils.topology import reasons as because
from redisutils.topology.checkouts import Checkouts
from redisutils.topology.facts import MOST, SECTIONS, Info
from redisutils.topology.health import EndpointHealth, HealthReport
from redisutils.topology.reasons import Grown, Reason

__all__ = ["Examined", "Examiner"]

WINDOW: Final = 10.0
"""Seconds over which it is told what has grown: since the last look, if that was earlier."""

_LANE_SHARE: Final = 0.6
"""The part of the time in which a lane that is connected is waited for alone."""

_REFUSED_FOR: Final = 60.0
"""Seconds for which a command is not sent again that this user may not use: each refusal leaves an
entry in the server's ACL LOG."""

_SPACING: Final = 0.5
"""Seconds between looks that are remembered."""


class Examined(Protocol):
    """A server with its pool."""

    options: ConnectOptions
    pool: Pool[Connection]
    checkouts: Checkouts

    def check_usable(self) -> None: ...

    def lane(self) -> Lane:
        """The one that everybody uses."""

    def snapshot(self) -> MetricsSnapshot: ...

    def status(self) -> PoolStatus: ...


@dataclass(slots=True)
class _Look:
    """What came of asking."""

    ping: Any = None
    """The answer, or the error reply."""
    round_trip: float | None = None
    ahead: float | None = None
    info: Info | None = None
    fresh: bool = False
    """Whether it had to connect first."""
    stuck: bool = False
    """Whether the lane did not answer, and a connection of our own did."""
    shortage: str = ""
    """Who had the connections while it waited for one."""
    again: bool = False
    """Whether it was asked in words that the server does not know, and others may be better."""
    error: Exception | None = None
    """Why there is no answer."""


@dataclass(frozen=True, slots=True)
class _Stand:
    """Where the counters stood at a look."""

    at: float
    failures: Mapping[tuple[str, str], int]
    read_only: int
    waits: int
    lag: LatencySnapshot
    info: Info | None


class Examiner:
    """Looks at one server and its pool.

    Args:
        server: both.
    """

    def __init__(self, server: Examined) -> None:
        self._server = server
        self._peer = server.options.peer
        self._looking: dict[float, Task[HealthReport]] = {}
        self._sections: tuple[str, ...] = SECTIONS
        self._refused: dict[str, tuple[float, str]] = {}
        self._stands: deque[_Stand] = deque([_stand(server.snapshot(), None)])

    async def look(self, timeout: float) -> HealthReport:
        """Look, or wait for one that is looking.

        Raises:
            WrongLoop
        """
        try:
            self._server.check_usable()
        except PoolClosed as error:
            return self._closed(error)
        task = self._looking.get(timeout)
        if task is None:
            # Nobody's context: others may wait for it as well.
            loop = asyncio.get_running_loop()
            task = self._looking[timeout] = loop.create_task(self._look(timeout), context=Context())
            task.add_done_callback(lambda _: self._looking.pop(timeout, None))
        return await asyncio.shield(task)

    async def ended(self) -> None:
        """Wait for the end of looks under way, after all connections were closed."""
        if self._looking:
            await asyncio.wait(list(self._looking.values()))

    def _closed(self, error: PoolClosed) -> HealthReport:
        reason = Reason(error.message, "closed", "unhealthy")
        return HealthReport("unhealthy", (reason,), None, self._server.status())

    # -- asking --------------------------------------------------------------------

    async def _look(self, timeout: float) -> HealthReport:
        end = monotonic() + timeout
        look = await self._ask(end)
        if look.again:
            look = await self._ask(end)
        if isinstance(look.error, PoolClosed):
            return self._closed(look.error)
        return self._report(look)

    async def _ask(self, end: float) -> _Look:
        """By the lane; by a connection of our own if that is stuck."""
        look = _Look()
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
                    own.stuck = not isinstance(own.ping, Exception)  # which it may wait out
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

    async def _ask_own(self, end: float) -> _Look | None:
        """By a connection that nobody else uses. None if it was not answered, or none was to be
        had."""
        look = _Look()
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
        for name, (until, _) in list(self._refused.items()):
            if now < until:
                del asked[name]
            else:
                del self._refused[name]
        if not asked:
            asked["HELLO"] = ("HELLO",)  # which everyone may say, and which changes nothing
        payload = OwnPayload(pack_many(list(asked.values())))
        reply = submit_many(payload, len(asked), False, max(left, 0.001))
        reply.add_done_callback(_retrieve)
        return now, time(), list(asked), reply

    def _read(
        self, look: _Look, names: Iterable[str], answers: list[Any], began: float, since: float
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

    def _was_refused(self, look: _Look, name: str, error: Exception) -> None:
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

    # -- judging -------------------------------------------------------------------

    def _report(self, look: _Look) -> HealthReport:
        snapshot = self._server.snapshot()
        now = _stand(snapshot, look.info)
        before, grown = self._remember(now)
        found: dict[str, Reason] = {}
        for reason in self._judge(look, snapshot, now, before, grown):
            known = found.get(reason.code)
            if known is None or (known.severity, reason.severity) == ("degraded", "unhealthy"):
                found[reason.code] = reason
        reasons = tuple(sorted(found.values(), key=lambda reason: reason.severity != "unhealthy"))
        status: Literal["healthy", "degraded", "unhealthy"] = "healthy"
        if reasons:
            status = reasons[0].severity
        facts, notes = None, list(self._notes())
        if look.info is not None and grown is not None:
            facts = look.info.facts(hit_rate=grown.hit_rate, clock_skew=look.ahead)
            notes += because.notes_of_server(self._peer, look.info, grown)
        return HealthReport(
            status=status,
            reasons=reasons,
            round_trip=look.round_trip,
            pool=self._server.status(),
            endpoints=(EndpointHealth(self._peer, look.error is None, look.round_trip, facts),),
            notes=tuple(notes),
        )

    def _judge(
        self,
        look: _Look,
        snapshot: MetricsSnapshot,
        now: _Stand,
        before: _Stand,
        grown: Grown | None,
    ) -> Iterable[Reason]:
        """All that is wrong."""
        yield from self._of_answer(look)
        seconds = now.at - before.at
        if look.info is not None and grown is not None:
            refused = now.read_only - before.read_only
            yield from because.of_server(self._peer, look.info, grown, refused)
        if look.ahead is not None:
            yield from because.of_clock(self._peer, look.ahead)
        shortage = self._server.pool.shortage()
        if shortage:
            yield Reason(f"callers wait for a connection: {shortage}", "pool")
        elif now.waits > before.waits and snapshot.utilisation >= 1:
            waited = now.waits - before.waits
            yield Reason(
                f"{waited} caller{'s' * (waited != 1)} had to wait for a connection in the last "
                f"{seconds:.0f} s, and all {snapshot.max_size} are in use "
                "(REDIS_POOL_MAX_SIZE)",
                "pool",
            )
        more = {kind: count - before.failures.get(kind, 0) for kind, count in now.failures.items()}
        yield from because.of_failures(snapshot.rates[10], more)
        yield from because.of_lag(now.lag.since(before.lag), seconds)

    def _of_answer(self, look: _Look) -> Iterable[Reason]:
        error = look.error
        if error is None:
            if isinstance(look.ping, Exception):
                yield because.of_refused_ping(self._peer, code_of(look.ping), str(look.ping))
            elif look.round_trip is not None and not look.fresh:
                yield from because.of_round_trip(self._peer, look.round_trip)
            if look.stuck:
                lane = self._server.lane()
                yield Reason(
                    f"the lane {lane.name!r} does not answer, while {self._peer} answers on "
                    f"another connection: {lane.depth} commands wait there, perhaps for a long "
                    "answer; use pool.lane(…) for what takes long",
                    "lane",
                )
        elif isinstance(error, CircuitOpen):
            yield Reason(error.message, "circuit-open", "unhealthy")
        elif look.shortage:
            told = f"no connection is free for commands: {look.shortage}"
            yield Reason(told, "pool", "unhealthy")
        else:
            why = error.message if isinstance(error, RedisUtilsError) else cut(str(error))
            yield Reason(f"{self._peer} does not answer: {why}", "unreachable", "unhealthy")

    def _notes(self) -> Iterable[str]:
        lost = {
            "PING": "whether it serves commands is not judged",
            "TIME": "its clock is not judged",
            "INFO": "its memory, clients, persistence and replication are not judged",
        }
        for name, (_, told) in self._refused.items():
            yield f"{self._peer} refuses {name} ({told}): {lost[name]}; grant +{name.lower()}"

    def _remember(self, now: _Stand) -> tuple[_Stand, Grown | None]:
        """Keep where the counters stand.

        Returns where ours stood before, and how far the server's have come.
        """
        stands = self._stands
        while len(stands) > 1 and now.at - stands[1].at >= WINDOW:
            stands.popleft()
        before = stands[0]
        grown = None
        if now.info is not None:
            told = next((stand for stand in stands if stand.info is not None), now)
            grown = Grown(now.at - told.at, now.info, told.info)
        first = now.info is not None and all(stand.info is None for stand in stands)
        if first or now.at - stands[-1].at >= _SPACING:
            stands.append(now)
        return before, grown


def _stand(snapshot: MetricsSnapshot, info: Info | None) -> _Stand:
    return _Stand(
        at=snapshot.at,
        failures=snapshot.failures,
        read_only=snapshot.errors.get("ReadOnlyError", 0),
        waits=snapshot.waits,
        lag=snapshot.process.loop_lag,
        info=info,
    )


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
