"""Knowing where the primary is: asking sentinels, and hearing from them.

Rounds
------
All sentinels are asked at once, over and over: every ``QUIET`` seconds, every ``WRONG`` while
something is wrong, every ``URGENT`` while a failover is on, and at once when one of them has news,
a connection to the primary has died, or somebody has nowhere to connect to. A round is over when a
majority of all that there are says the same; else when all have answered or failed, or after
``GRACE`` seconds if any has answered, and then those decide that have: see
:func:`redisutils.topology.sentinel.answers.decide`. One that does not answer holds up nothing.

Suspicion
---------
A single sentinel moves nothing. But the first to know of a failover is a single one, too, and
each write to the old primary from then on may be lost. So what one says makes us **suspect** for
a while: nothing is written until the others have said the same, or it has taken that back, or
the while is over; and whose word turned out to be nothing is not believed alone for a time.

================================================ =================================
what one sentinel says                            how long we suspect at most
================================================ =================================
it is about to promote a replica (``PROMOTING``)  ``PROMOTION`` seconds
another primary, in its news or of a later epoch  ``RUMOUR`` seconds
================================================ =================================
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable
from contextvars import Context
from dataclasses import dataclass, replace
from functools import partial
from time import monotonic
from typing import Final

from redis.exceptions import RedisError

from redisutils.address import Address
from redisutils.connection.home import Home
from redisutils.errors import ConnectFailed, PoolClosed, RedisUtilsError
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.answers import (
    Answer,
    Primary,
    Replica,
    backers,
    decide,
    system_size,
)
from redisutils.topology.sentinel.informant import ABORTED, PROMOTING, SWITCHED, Informant

__all__ = ["Survey", "Watch"]

logger = logging.getLogger("redisutils.sentinel")

QUIET: Final = 10.0
"""Seconds between rounds while all is well: news come by themselves."""

WRONG: Final = 1.0
URGENT: Final = 0.1

GRACE: Final = 0.5
"""Seconds in which the others may answer as well, when one has and there is no majority yet."""

ROUND: Final = 4.0
"""Seconds for a round at most: to connect to one, and its answer."""

PROMOTION: Final = 3.0
"""A promoted replica says so within a second: it is asked every second by who promotes it."""

RUMOUR: Final = 1.0
"""What one sentinel knows the others hear within some tenths of a second."""

DISTRUST: Final = 60.0
"""Seconds for which the word of one who has raised a false alarm does not count alone."""

HASTE: Final = 5.0
"""Seconds for which it is urgent that a failover is on, or that one contradicts the others."""

BEHIND: Final = 10.0
"""Seconds after which an older epoch is taken, if a majority of all sentinels stays with it: they
were set up anew. Who has just not heard of a failover does within two."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of the sentinels at this moment."""

    primary: Primary | None
    replicas: tuple[Replica, ...]
    size: int
    """How many sentinels there are."""
    quorum: int | None
    """How many of them must see that the primary is down."""
    answers: tuple[tuple[str, Answer], ...]
    """Of those that answer, by name."""
    troubles: tuple[str, ...]
    """Why the others do not."""
    suspicion: str | None
    """Why nothing is written at this moment, if that is so."""


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
        self.present: Primary | None = None
        """Where the primary is, as far as is known."""
        self.replicas: tuple[Replica, ...] = ()
        """Its replicas, as sentinels tell."""
        self.on_moved: Callable[[Address, Address], None] = lambda *_: None
        """Called with the old and the new address."""
        self.on_suspected: Callable[[str], None] = lambda _: None
        """Called with the reason when nothing may be written any more."""
        self.on_settled: Callable[[], None] = lambda: None
        """Called when it may again: the primary is where it was."""
        self._metrics = metrics
        self._home = Home.of(asyncio.get_running_loop())
        self._informants = [
            Informant(options, plan.master, plan.addresses, self._hear)
            for options in plan.sentinels
        ]
        self._task: asyncio.Task[None] | None = None
        self._wanted = asyncio.Event()
        self._waiting: list[asyncio.Future[None]] = []
        self._closed = False
        self._doubted = False
        self._heard_any = True  # in the last round
        self._answers: tuple[Answer, ...] = ()
        self._suspect: Informant | None = None
        self._suspicion = ""
        self._suspect_since = self._suspect_until = 0.0
        self._behind_since: float | None = None
        self._unsettled_since: float | None = None

    def __repr__(self) -> str:
        return f"<Watch of {self.name}: {self.present}, {len(self._informants)} sentinels>"

    # -- for whoever connects --------------------------------------------------------

    @property
    def suspicious(self) -> bool:
        """Whether nothing may be written, nor anybody connected to."""
        return self._suspect is not None

    async def primary(self) -> Address:
        """Where to connect to: at once, unless there is a reason to ask first.

        Raises:
            ConnectFailed: no sentinel knows; the message tells of each.
            PoolClosed
        """
        self._start()
        if self.present is None or (self._doubted and self._heard_any):
            await self._asked()
        while self.suspicious:
            await self._asked()
        if self.present is None:
            raise self._unknown()
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
        told = [(each.options.peer, each.answer) for each in self._informants if each.answer]
        answers = [answer for _, answer in told]
        return Survey(
            primary=self.present,
            replicas=self.replicas,
            size=system_size(answers, len(self._informants)),
            quorum=next((each.quorum for each in answers if each.quorum is not None), None),
            answers=tuple((name, answer) for name, answer in told),
            troubles=tuple(each.trouble for each in self._informants if each.trouble),
            suspicion=self._suspicion if self.suspicious else None,
        )

    # -- the task --------------------------------------------------------------------

    def _start(self) -> None:
        if self._closed:
            raise self._is_closed()
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(self._run(), context=Context())

    def _wake(self) -> None:
        if self._task is not None:
            self._wanted.set()

    async def _asked(self) -> None:
        """Wait for the end of a round that begins now or later."""
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(told)
        self._wake()
        await told
        if self._closed:
            raise self._is_closed()

    async def _run(self) -> None:
        while not self._home.forked:
            self._wanted.clear()
            waiting, self._waiting = self._waiting, []
            try:
                await self._round()
            except Exception as error:
                self._metrics.background_errors += 1
                with HARMLESS:
                    logger.error("asking the sentinels of %s failed", self.name, exc_info=error)
            finally:
                for told in waiting:
                    if not told.done():
                        told.set_result(None)
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wanted.wait()
            except TimeoutError:
                pass

    def _pause(self) -> float:
        """Seconds until the next round."""
        if self.suspicious:
            return URGENT
        now = monotonic()
        unsettled = any(
            answer.failing_over or self._contradicts(answer) for answer in self._answers
        )
        if not unsettled:
            self._unsettled_since = None
        elif self._unsettled_since is None:
            self._unsettled_since = now
        elif now - self._unsettled_since > HASTE:
            return WRONG * (0.75 + random.random() / 2)
        if unsettled:
            return URGENT * (0.5 + random.random())
        enough = 2 * len(self._answers) > system_size(self._answers, len(self._informants))
        down = any({"s_down", "o_down"} & answer.flags for answer in self._answers)
        wrong = self.present is None or self._doubted or down or not enough
        return (WRONG if wrong or self._behind_since else QUIET) * (0.75 + random.random() / 2)

    async def _round(self) -> None:
        """Ask all, and draw the conclusions."""
        asked = {each.ask(): each for each in self._informants}
        answers: dict[str, Answer] = {}
        pending = set(asked)
        end = monotonic() + (GRACE if self.suspicious else ROUND)
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
                if (answer := self._result(task)) is not None:
                    # One that is known by two addresses has one voice.
                    answers.setdefault(answer.identity, answer)
                    self._weigh(asked[task], answer)
            if answers:
                end = min(end, monotonic() + GRACE)
            decided = self._decide(answers.values(), final=False)
        if not decided:
            self._decide(answers.values(), final=True)
        self._heard_any = bool(answers)
        self._answers = tuple(answers.values())
        for task in pending:
            task.add_done_callback(partial(self._late, asked[task]))
        self._calm_down()
        self._learn()
        await asyncio.sleep(0.01)  # however much news there is

    def _result(self, task: asyncio.Task[Answer]) -> Answer | None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return None if task.cancelled() else task.result()
        if not isinstance(error, RedisUtilsError | RedisError):
            self._metrics.background_errors += 1
            with HARMLESS:
                logger.error("asking a sentinel of %s failed", self.name, exc_info=error)
        return None

    # -- conclusions -----------------------------------------------------------------

    def _decide(self, answers: Iterable[Answer], *, final: bool) -> bool:
        """Move if they say so. Not ``final``: only if those that are missing can change nothing.

        Returns whether there is nothing more to wait for.
        """
        answers = list(answers)
        size = system_size(answers, len(self._informants))
        found = decide(answers, self.present)
        if found is None:
            return self._begin_anew(answers, size) if final else False
        sure = 2 * backers(answers, found) > size
        if sure or final:
            self._behind_since = None
            self._adopt(found)
        return sure

    def _begin_anew(self, answers: list[Answer], size: int) -> bool:
        """All that answer speak of an older epoch than we know, or of none."""
        found = decide(answers, None)
        if found is None or 2 * backers(answers, found) <= size:
            self._behind_since = None
            return False
        now = monotonic()
        if self._behind_since is None:
            self._behind_since = now
        elif now - self._behind_since >= BEHIND:
            self._behind_since = None
            self._note("sentinels have begun anew, and count from a lower epoch")
            self._adopt(found)
        return True

    def _adopt(self, found: Primary) -> None:
        old, self.present = self.present, found
        if old is None or old.address == found.address:
            return
        self._suspect = None
        self._metrics.events.note(
            "moved",
            logging.WARNING,
            "%s has moved from %s to %s",
            self.name,
            old.address,
            found.address,
            old=str(old.address),
            new=str(found.address),
        )
        self.on_moved(old.address, found.address)

    def _contradicts(self, answer: Answer) -> bool:
        """Whether it names another primary, of a later failover than we know of."""
        present = self.present
        return (
            present is not None
            and answer.address not in (None, present.address)
            and answer.epoch > present.epoch
        )

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
                    self._be_suspicious(informant, RUMOUR, f"says that it has moved to {new}")
        elif channel and not self._is_ours(words):
            return
        elif channel == PROMOTING:
            self._be_suspicious(informant, PROMOTION, "is about to promote a replica")
        elif channel in ABORTED and informant is self._suspect:
            self._settle()
        self._wake()

    def _is_ours(self, words: list[str]) -> bool:
        """``master NAME IP PORT``, or ``KIND NAME IP PORT @ MASTER IP PORT``."""
        if "@" in words[:-1]:
            return words[words.index("@") + 1] == self.name
        return words[1:2] == [self.name] or words[:1] == [self.name]

    def _weigh(self, informant: Informant, answer: Answer) -> None:
        if self._contradicts(answer):
            self._be_suspicious(informant, RUMOUR, f"says that it has moved to {answer.address}")

    def _be_suspicious(self, informant: Informant, seconds: float, what: str) -> None:
        now = monotonic()
        if self.present is None or informant.distrusted_until > now:
            return
        until = now + seconds
        if self._suspect is None:
            self._suspect, self._suspect_since, self._suspect_until = informant, now, until
            self._suspicion = why = f"{informant.options.peer} {what}"
            text = "%s: nothing is written for a moment: %s"
            self._metrics.events.note("held", logging.WARNING, text, self.name, why, error=why)
            self.on_suspected(why)
        elif informant is not self._suspect:  # nobody prolongs what he has begun
            latest = self._suspect_since + PROMOTION
            self._suspect_until = min(max(self._suspect_until, until), latest)

    def _late(self, informant: Informant, task: asyncio.Task[Answer]) -> None:
        """An answer that no round has waited for."""
        answer = self._result(task)
        if answer is not None and self._contradicts(answer) and not self._closed:
            self._weigh(informant, answer)
            self._wake()

    def _calm_down(self) -> None:
        """After a round: end the suspicion if who has raised it takes it back, or was wrong."""
        suspect = self._suspect
        if suspect is None:
            return
        told = suspect.answer
        if monotonic() >= self._suspect_until:
            suspect.distrusted_until = monotonic() + DISTRUST
            self._note(f"{suspect.options.peer} stands alone with what it says: not believed")
            self._settle()
        elif (
            told is not None
            and suspect.asked >= self._suspect_since
            and not told.failing_over
            and not self._contradicts(told)
        ):
            self._settle()

    def _settle(self) -> None:
        self._suspect = None
        self.on_settled()

    # -- who there is ----------------------------------------------------------------

    def _learn(self) -> None:
        """Of other sentinels, and of replicas, from the answers of this round."""
        if not self._answers:
            return
        present = self.present
        told = [each for each in self._answers if present and each.address == present.address]
        if told:
            self.replicas = max(told, key=lambda answer: answer.epoch).replicas
        known = {each.address for each in self._informants}
        known.update(filter(None, (each.socket for each in self._informants)))
        ids = {each.identity for each in self._informants if each.identity}
        first = self.plan.sentinels[0]
        listed = {peer for answer in self._answers for peer in answer.sentinels}
        for peer in sorted(listed):
            if peer.address in known or peer.identity in ids:
                continue
            known.add(peer.address)
            ids.add(peer.identity)
            options = replace(first, host=peer.address.host, port=peer.address.port, path=None)
            self._informants.append(
                Informant(options, self.name, self.plan.addresses, self._hear, peer.identity or "?")
            )
            self._wake()
        self._forget({peer.address for peer in listed})

    def _forget(self, listed: set[Address]) -> None:
        """Those that were learnt, and are another's second name, or that nobody knows any more."""
        ids: set[str] = set()
        for informant in sorted(self._informants, key=lambda each: each.learnt):
            twice = informant.answer is not None and informant.identity in ids
            gone = informant.trouble is not None and informant.address not in listed
            if informant.answer is not None:
                ids.add(informant.identity)
            if informant.learnt and (twice or gone) and informant is not self._suspect:
                self._informants.remove(informant)
                informant.abandon()

    # -- errors ----------------------------------------------------------------------

    def _unknown(self) -> ConnectFailed:
        troubles = [each.trouble for each in self._informants if each.trouble]
        strangers = [each.options.peer for each in self._informants if each.answer]
        if strangers:
            troubles.append(
                f"{', '.join(strangers)} know{'s' * (len(strangers) == 1)} no primary of that "
                "name (REDIS_SENTINEL_MASTER is the name in their `sentinel monitor`)"
            )
        fatal = bool(troubles) and all(each.fatal or each.answer for each in self._informants)
        error = ConnectFailed(
            f"no sentinel knows {self.name}: {'; '.join(troubles) or 'none has answered yet'}",
            fatal=fatal,
        )
        error.elsewhere = not fatal
        return error

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
        for told in self._waiting:
            if not told.done():
                told.set_result(None)
        self._waiting.clear()
        for informant in self._informants:
            informant.abandon()

    async def aclose(self) -> None:
        """Ask no more, and hang up."""
        self.abandon()
        if self._task is not None:
            await asyncio.wait([self._task])
        await asyncio.gather(*(informant.aclose() for informant in self._informants))
        self.abandon()  # those who wanted to know meanwhile
