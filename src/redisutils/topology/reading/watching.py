"""Keeping the figures of those that are read from: one look at each, once a second.

A look is PING and INFO replication. Where ``max_lag`` bounds how far behind a replica may be, the
primary is asked first and its replicas when that is in: so one that keeps up is seen to. Where
``max_lag`` is short, looks are more frequent, since what is not known counts as lag.

Only what is read from is looked at, and for ``LINGER`` seconds more. Who did not answer is asked
again every ``SOON`` for as long, and then as often as others; until it has, nobody reads from it.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from collections.abc import Callable, Coroutine, Sequence
from contextvars import Context
from functools import partial
from math import inf
from time import monotonic
from typing import Any, Final, Generic, TypeVar

from redis.exceptions import RedisError

from redisutils.connection.packing import OwnPayload, pack
from redisutils.errors import RedisUtilsError, code_of, happened
from redisutils.topology.plan import Reading
from redisutils.topology.reading.figures import Copy
from redisutils.topology.reading.standing import Course, Standing, standing

__all__ = ["Watching"]

C = TypeVar("C", bound=Copy)

PERIOD: Final = 1.0
"""Seconds between looks."""

SOON: Final = 0.2
"""Seconds until one is looked at again that has not answered."""

SHORTEST: Final = 0.05
"""Seconds between looks however short ``max_lag`` is."""

LINGER: Final = 10.0
"""Seconds after the last read for which looks go on."""

PATIENCE: Final = 2.0
"""Seconds that a look may take."""

_PING: Final = OwnPayload(pack(("PING",)))
"""Refused, as reads are, by a server that loads its data, or whose link to its primary is down
where that matters to it (``replica-serve-stale-data no``). INFO never is."""

_INFO: Final = OwnPayload(pack(("INFO", "replication")))

Ask = Callable[[C, bytes, bool, float], "Future[Any]"]


class Watching(Generic[C]):
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        reading: what is to be known.
        replicas_of: the replicas of a primary.
        ask: issues a command of ours to one server (payload, decode, timeout).
        zone_of: the availability zone that a server has told, if it has.
        changed: called when somebody may be read from who might not before, or not any more.
        roles: whether to see to it that replicas are replicas, where nobody else does.
    """

    def __init__(
        self,
        reading: Reading,
        replicas_of: Callable[[C], Sequence[C]],
        ask: Ask[C],
        zone_of: Callable[[C], str | None],
        changed: Callable[[], None],
        *,
        roles: bool = False,
    ) -> None:
        self._reading = reading
        self._replicas_of = replicas_of
        self._ask = ask
        self._zone_of = zone_of
        self._changed = changed
        self._bounded = reading.max_lag < inf
        self._roles = roles
        self._period = min(PERIOD, max(SHORTEST, reading.max_lag / 3))
        self._wanted: dict[C, float] = {}
        self._courses: dict[C, Course] = {}
        self._looking: dict[C, asyncio.Task[object]] = {}
        self._task: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()
        self._soon_until = 0.0
        self._stopped = False

    def want(self, primary: C) -> None:
        """What this one has is read."""
        if primary not in self._wanted:
            self._soon_until = monotonic() + LINGER
            self._hurry.set()
        self._wanted[primary] = monotonic()
        if (self._task is None or self._task.done()) and not self._stopped:
            # At first, or somebody has cancelled it. Nobody's context: it outlives who read first.
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())

    def away(self, copy: C, why: str) -> None:
        """It was lost, is silent, or refuses to be read from: nobody asks it before it has answered
        us."""
        figures = copy.figures
        if figures.proven:
            figures.failed(why)
            self._changed()
            self._soon_until = monotonic() + LINGER
            self._hurry.set()

    def keep(self, wanted: Callable[[C], bool]) -> None:
        """Look no more at others than those that are wanted."""
        for primary in [primary for primary in self._wanted if not wanted(primary)]:
            del self._wanted[primary]
            self._courses.pop(primary, None)

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        for task in (self._task, *self._looking.values()):
            if task is not None:
                task.cancel()

    async def stopped(self) -> None:
        """Wait for the end of what was under way."""
        tasks = [task for task in (self._task, *self._looking.values()) if task is not None]
        if tasks:
            await asyncio.wait(tasks)

    # -- rounds ------------------------------------------------------------------------

    async def _run(self) -> None:
        while not self._stopped:
            self._hurry.clear()
            now = monotonic()
            for primary, when in list(self._wanted.items()):
                if now - when > LINGER:
                    del self._wanted[primary]
                    self._courses.pop(primary, None)
                else:
                    self._look_at(primary)
            hasty = now < self._soon_until and not self._all_well()
            pause = min(self._period, SOON) if hasty else self._period
            await asyncio.sleep(SHORTEST)
            try:
                async with asyncio.timeout(pause - SHORTEST):
                    await self._hurry.wait()
            except TimeoutError:
                pass

    def _all_well(self) -> bool:
        """Where there are no replicas at all, nobody may have told yet."""
        found = [self._replicas_of(primary) for primary in self._wanted]
        return all(
            replicas and all(replica.figures.proven for replica in replicas) for replicas in found
        )

    def _look_at(self, primary: C) -> None:
        if self._bounded:
            self._start(primary, partial(self._bound, primary))
            return
        for copy in self._replicas_of(primary):
            self._start(copy, partial(self._standing, copy))
        if self._reading.source == "nearest":
            self._start(primary, partial(self._standing, primary, role="primary"))

    def _start(self, copy: C, look: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Look, unless the last look is still under way: one that is silent holds up no other."""
        if copy in self._looking or self._stopped:
            return
        task = self._looking[copy] = asyncio.get_running_loop().create_task(look())
        task.add_done_callback(lambda _: self._looking.pop(copy, None))

    async def _bound(self, primary: C) -> None:
        asked_at = monotonic()
        told = await self._standing(primary, role="primary")
        course = self._courses.setdefault(primary, Course())
        if told is not None and told.primary:
            course.note(asked_at, told)
        for replica in self._replicas_of(primary):
            self._start(replica, partial(self._follow, course, replica))

    async def _follow(self, course: Course, replica: C) -> None:
        told = await self._standing(replica)
        if told is None or told.primary:
            return
        figures = replica.figures
        fresh_at = course.fresh_at(told)
        if fresh_at > figures.fresh_at:
            figures.fresh_at = fresh_at
            self._changed()

    async def _standing(self, copy: C, role: str = "replica") -> Standing | None:
        def complaint(info: Any) -> str:
            told = standing(str(info))
            if told is None:
                return ""
            if self._roles and told.primary is not (role == "primary"):
                return f"it says that it is no {role}"
            return "" if told.synchronized else "it has not got the data of its primary yet"

        info = await self._asked(copy, complaint)
        return None if info is None else standing(str(info))

    async def _asked(self, copy: C, complaint: Callable[[Any], str]) -> Any:
        """What INFO answers; None if there is none, or it is one with a complaint."""
        figures = copy.figures
        trouble = ""
        began = monotonic()
        try:
            asked = [self._ask(copy, payload, True, PATIENCE) for payload in (_PING, _INFO)]
            answer = (await asyncio.gather(*asked))[-1]
        except (RedisError, RedisUtilsError, OSError) as error:
            trouble = happened(error)
            refused = code_of(error) != "NOPERM"
            answer = None  # a user who may not ask: it answers all the same
        else:
            refused = bool(trouble := complaint(answer))
        if refused:
            figures.trouble = trouble
            self.away(copy, trouble)
            return None
        was = figures.proven, figures.zone
        took = monotonic() - began
        # The first had to wait for a connection.
        figures.answered(took if figures.proven else None)
        figures.trouble = trouble
        figures.zone = self._zone_of(copy)
        if was != (True, figures.zone):
            self._changed()
        return answer
