"""Knowing where the primary is: asking sentinels, and hearing from them.

Rounds
------
All sentinels are asked at once, over and over: now and then (see
:mod:`redisutils.topology.sentinel.pace`), and at once when one of them has news,
a connection to the primary has died, or somebody has nowhere to connect to. A round is over when a
majority of all that there are says the same; else when all have answered or failed, or after
``GRACE`` seconds if any has answered, and then those decide that have: see
:mod:`redisutils.topology.sentinel.whereabouts`. One that does not answer holds up nothing.

What one alone has to say is no reason to move: see :mod:`redisutils.topology.sentinel.suspicion`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextvars import Context
from functools import partial
from time import monotonic
from typing import Final

from redis.exceptions import RedisError

from redisutils.address import Address
from redisutils.connection.home import Home
from redisutils.errors import PoolClosed, RedisUtilsError
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.answers import Answer, Primary, Replica, Survey
from redisutils.topology.sentinel.company import Company
from redisutils.topology.sentinel.informant import ABORTED, PROMOTING, SWITCHED, Informant, concerns
from redisutils.topology.sentinel.pace import WRONG, Pace
from redisutils.topology.sentinel.suspicion import PROMOTION, RUMOUR, Suspicion
from redisutils.topology.sentinel.whereabouts import Whereabouts

__all__ = ["Watch"]

logger = logging.getLogger("redisutils.sentinel")

GRACE: Final = 0.5
"""Seconds in which the others may answer as well, when one has and there is no majority yet."""

ROUND: Final = 4.0
"""Seconds for a round at most: to connect to one, and its answer."""


class Watch:
    """See the module's docstring. Belongs to the event loop that runs when it is made; asks nothing
    before somebody wants to know.

    Args:
        plan: who is asked, and for what.
        metrics: where failures of the watch's own are counted, and events noted.
    """

    def __init__(self, plan: SentinelPlan, metrics: PoolMetrics) -> None:
        self.plan = plan
        self.name = plan.master
        self.replicas: tuple[Replica, ...] = ()
        """Its replicas, as sentinels tell."""
        self.on_moved: Callable[[Address, Address], None] = lambda *_: None
        """Called with the old and the new address."""
        self.suspicion = Suspicion()
        """While there is one, nothing may be written, nor anybody connected to."""
        self._metrics = metrics
        self._home = Home.of(asyncio.get_running_loop())
        self._company = Company(plan, self._hear)
        self._where = Whereabouts(self._has_moved, self._begun_anew)
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False
        self._doubted = False
        self._heard_any = True  # in the last round
        self._answers: tuple[Answer, ...] = ()
        self._pace = Pace()

    def __repr__(self) -> str:
        return f"<Watch of {self.name}: {self.present}, {len(self._company)} sentinels>"

    @property
    def present(self) -> Primary | None:
        """Where the primary is, as far as is known."""
        return self._where.present

    # -- for whoever connects --------------------------------------------------------

    async def primary(self) -> Address:
        """Where to connect to: at once, unless there is a reason to ask first.

        Raises:
            ConnectFailed: no sentinel knows; the message tells of each.
            PoolClosed
        """
        self.start()
        if self.present is None or (self._doubted and self._heard_any):
            await self._asked()
        while self.suspicion:
            await self._told()  # not sooner, for who waits: so do many others
        if self.present is None:
            raise self._company.ignorance()
        return self.present.address

    def doubt(self) -> None:
        """Something is wrong with the primary, or the way to it: ask before it is trusted again."""
        self._doubted = True
        self._wake()

    def trust(self) -> None:
        """The primary has proved to be one."""
        self._doubted = False

    def survey(self) -> Survey:
        """What is known of the sentinels at this moment."""
        told = self._company.answers
        answers = [answer for _, answer in told]
        return Survey(
            primary=self.present,
            replicas=self.replicas,
            size=self._company.size(answers),
            quorum=next((each.quorum for each in answers if each.quorum is not None), None),
            answers=tuple(told),
            troubles=self._company.troubles,
            suspicion=self.suspicion.why if self.suspicion else None,
        )

    # -- the task --------------------------------------------------------------------

    def start(self) -> None:
        """Find out who is there, and keep it so. Costs nothing when that is under way.

        Raises:
            PoolClosed
        """
        if self._closed:
            raise self._is_closed()
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Closed; or cancelled by somebody, and whoever connects next begins anew."""
        _tell(self._waiting)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)
        if self.suspicion and not self._closed:
            self.suspicion.settle()

    def _wake(self) -> None:
        if self._task is not None:
            self._wanted.set()

    async def _asked(self) -> None:
        """Wait for the end of a round that begins now, or when the present one is over."""
        self._wake()
        await self._told()

    async def _told(self) -> None:
        """Wait for the end of the next round."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        await told
        if self._closed:
            raise self._is_closed()

    async def _run(self) -> None:
        briefly = False
        while not self._home.forked:
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._round(briefly)
            except Exception as error:  # noqa: BLE001  # told by _failed
                self._failed(error)
            finally:
                _tell(waiting)
            pause = self._pause()
            briefly = False
            try:
                async with asyncio.timeout(pause):
                    await self._wanted.wait()
            except TimeoutError:
                briefly = pause < WRONG / 2

    def _pause(self) -> float:
        """Seconds until the next round."""
        unsettled = any(
            answer.failing_over or self._where.contradicted_by(answer) for answer in self._answers
        )
        few = 2 * len(self._answers) <= self._company.size(self._answers)
        down = any({"s_down", "o_down"} & answer.flags for answer in self._answers)
        behind = self._where.is_behind
        wrong = self.present is None or self._doubted or down or few or behind
        return self._pace.pause(urgent=bool(self.suspicion), unsettled=unsettled, wrong=wrong)

    async def _round(self, briefly: bool) -> None:
        """Ask all, and draw the conclusions.

        Args:
            briefly: whether it is one of many in a row, for which there was no news.
        """
        asked = {each.ask(briefly): each for each in self._company}
        answers: dict[str, Answer] = {}
        pending = set(asked)
        end = monotonic() + (GRACE if self.suspicion else ROUND)
        decided = False
        while pending and not decided:
            done, pending = await asyncio.wait(
                pending,
                timeout=max(0.0, end - monotonic()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if not done:
                break
            for task in done:
                if (answer := self._result(asked[task], task)) is not None:
                    # One that is known by two addresses has one voice.
                    answers.setdefault(answer.identity, answer)
                    self._weigh(asked[task], answer)
            if answers:
                end = min(end, monotonic() + GRACE)
            decided = self._decide(answers, final=False)
        if not decided:
            self._decide(answers, final=True)
        self._heard_any = bool(answers)
        self._answers = tuple(answers.values())
        for task in pending:
            task.add_done_callback(partial(self._late, asked[task]))
        if (told := self.suspicion.review(self._where.contradicted_by)) is not None:
            self._note(told)
        self._learn()
        await asyncio.sleep(0.01)  # however much news there is

    def _decide(self, answers: Mapping[str, Answer], *, final: bool) -> bool:
        told = tuple(answers.values())
        return self._where.decide(told, self._company.size(told), final=final)

    def _result(self, informant: Informant, task: asyncio.Task[Answer]) -> Answer | None:
        if task.cancelled():
            return None
        error = task.exception()
        if error is None:
            if informant.silent:
                informant.silent = False
                self._note(f"{informant.options.peer} answers again")
            return task.result()
        if not informant.silent:
            informant.silent = True
            self._note(informant.trouble or repr(error))
        if not isinstance(error, RedisUtilsError | RedisError):
            self._failed(error)
        return None

    def _failed(self, error: BaseException) -> None:
        """What nobody expects."""
        self._metrics.background_errors += 1
        with HARMLESS:
            logger.error("asking the sentinels of %s failed", self.name, exc_info=error)

    # -- conclusions -----------------------------------------------------------------

    def _has_moved(self, old: Address, new: Address) -> None:
        self.suspicion.drop()
        self._metrics.failovers += 1
        self._metrics.events.note(
            "moved",
            logging.WARNING,
            "%s has moved from %s to %s",
            self.name,
            old,
            new,
            old=str(old),
            new=str(new),
        )
        self.on_moved(old, new)

    def _begun_anew(self) -> None:
        self._note("sentinels have begun anew, and count from a lower epoch")

    # -- suspicion -------------------------------------------------------------------

    def _hear(self, informant: Informant, channel: str, words: list[str]) -> None:
        """One has news. Not all of it is about our primary."""
        if self._closed:
            return
        if channel == SWITCHED:
            if words[0] != self.name:
                return
            if len(words) == 5 and words[4].isdecimal():
                announced = Address(words[3], int(words[4]))
                new = self.plan.addresses.get(announced, announced)
                if self.present is not None and new != self.present.address:
                    self._suspect(informant, RUMOUR, f"says that it has moved to {new}")
        elif channel and not concerns(words, self.name):
            return
        elif channel == PROMOTING:
            self._suspect(informant, PROMOTION, "is about to promote a replica")
        elif channel in ABORTED and self.suspicion.raised_by(informant):
            self.suspicion.settle()
        self._wake()

    def _weigh(self, informant: Informant, answer: Answer) -> None:
        if self._where.contradicted_by(answer):
            self._suspect(informant, RUMOUR, f"says that it has moved to {answer.address}")

    def _suspect(self, informant: Informant, seconds: float, what: str) -> None:
        before = bool(self.suspicion)
        if self.present is not None:
            self.suspicion.begin(informant, seconds, what)
        if self.suspicion and not before:
            text, why = "%s: nothing is written for a moment: %s", self.suspicion.why
            self._metrics.events.note("held", logging.WARNING, text, self.name, why, error=why)

    def _late(self, informant: Informant, task: asyncio.Task[Answer]) -> None:
        """An answer that no round has waited for."""
        answer = self._result(informant, task)
        if answer is not None and self._where.contradicted_by(answer) and not self._closed:
            self._weigh(informant, answer)
            self._wake()

    def _learn(self) -> None:
        """Of other sentinels, and of replicas, from what has been said."""
        present = self.present
        told = [each for each in self._answers if present and each.address == present.address]
        if told:
            self.replicas = max(told, key=lambda answer: answer.epoch).replicas
        if self._answers and self._company.learn(keep=self.suspicion.raised_by):
            self._wake()

    # -- errors ----------------------------------------------------------------------

    def _note(self, what: str) -> None:
        text = "%s: %s"
        self._metrics.events.note("sentinel", logging.WARNING, text, self.name, what, error=what)

    def _is_closed(self) -> PoolClosed:
        return PoolClosed(f"pool of {self.name} is closed")

    # -- the end ---------------------------------------------------------------------

    def abandon(self) -> None:
        """As :meth:`aclose`, without waiting."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
        _tell(self._waiting)
        for informant in self._company:
            informant.abandon()

    async def aclose(self) -> None:
        """Ask no more, and hang up."""
        self.abandon()
        if self._task is not None:
            await asyncio.wait([self._task])
        await asyncio.gather(*(informant.aclose() for informant in self._company))
        self.abandon()  # those who wanted to know meanwhile


def _tell(waiting: list[asyncio.Future[None]]) -> None:
    """A round is over, or there will be none."""
    for told in waiting:
        if not told.done():
            told.set_result(None)
    waiting.clear()
