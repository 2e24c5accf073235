"""Quotes of hot feeds: what is overtaken while the servers are busy is never sent.

Theory of operation
-------------------
What is put waits, by instrument. A task takes all that waits at once, cuts it into calls and sends
them one after the other, as long as no more than ``_FLYING`` quotes are unanswered. What is put
meanwhile waits for the next round, and of each instrument only the newest, unless history is kept.
A round waits for the answers to the one before, then: so the slower the servers, the more is
overtaken, and the fresher is what goes out.

While a call is repeated nothing new is sent. So what may have come between its first run and the
next is bounded, and the script finds in history what was entered already.

What is held, waiting or unanswered, is bounded. At the bound :meth:`QuoteWriter.put` waits and
:meth:`QuoteWriter.offer` refuses. A call that fails for a reason that may pass is repeated until it
succeeds, so it is the bound that tells the feed of an outage.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

from redis.exceptions import RedisError

from redisutils.errors import Outcome, PoolClosed, code_of, outcome_of
from redisutils.retry import TRANSIENT, Backoff
from redisutils.trading.errors import InvalidValue, NotWritten, ServiceClosed
from redisutils.trading.market.applying import Applier, Call
from redisutils.trading.market.quotes import Quote, order_of

__all__ = ["QuoteWriter", "WriteFailure", "WriterStats"]

logger = logging.getLogger("redisutils.trading")

_FLYING: Final = 2048
"""Quotes that are sent and not answered: enough to keep a server busy while more are packed."""

_TURN: Final = 256
"""Quotes that a caller puts without a pause before others, who do the sending, get their turn."""

_PASSING: Final = TRANSIENT | {"MISCONF", "NOREPLICAS", "OOM"}
"""Refusals that may have an end: besides what any command meets, a full memory, too few replicas,
and a disk that cannot be written to."""


@dataclass(frozen=True, slots=True)
class WriteFailure:
    """Some quotes could not be written."""

    error: Exception
    quotes: Sequence[Quote]
    repeated: bool
    """Whether they are still held, and written again. Else they are lost."""


@dataclass(frozen=True, slots=True)
class WriterStats:
    """What has become of all that was put: ``put`` is the sum of ``conflated``, ``written``,
    ``late``, ``lost`` and ``held``."""

    put: int
    conflated: int
    """Overtaken before they were sent."""
    written: int
    """Applied; in history, where it is kept."""
    late: int
    """Sent, and not the newest: something newer was there. In history, where it is kept."""
    lost: int
    """Refused by the server for a reason that does not pass: see ``on_failure``."""
    held: int
    """Waiting, or unanswered."""
    failures: int
    """Calls that failed and were repeated."""


class QuoteWriter:
    """Made by ``MarketData.writer()``. See the module's docstring.

    Belongs to the event loop that runs when it is made. Its tasks end with :meth:`aclose`.

    :param check: refuses what is no quote.
    :param conflate: whether a quote may be overtaken by a newer one before it is sent or published.
    """

    def __init__(
        self,
        applier: Applier,
        check: Callable[[Quote], None],
        *,
        conflate: bool,
        capacity: int,
        interval: float,
        backoff: Backoff,
        on_failure: Callable[[WriteFailure], None] | None,
    ) -> None:
        given: Any = capacity
        if type(given) is not int or given < 1:
            raise InvalidValue(f"capacity={capacity!r} must be a number of quotes, 1 or more")
        pause: Any = interval
        if isinstance(pause, bool) or not (isinstance(pause, int | float) and 0 <= pause < 3600):
            raise InvalidValue(f"interval={interval!r} must be seconds, 0 or more, below 3600")
        self._applier = applier
        self._check = check
        self._all = not conflate or applier.keeps_history
        self._conflate = conflate
        self._capacity = capacity
        self._interval = float(interval)
        self._backoff = backoff
        self._on_failure = on_failure
        self._newest: dict[str, Quote] = {}
        self._lists: dict[str, list[Quote]] = {}
        self._held = self._flying = self._repeating = 0
        self._put = self._conflated = self._written = self._late = self._lost = 0
        self._failures = 0
        self._turn = 0
        self._error: Exception | None = None
        self._closed = False
        self._some = asyncio.Event()
        self._room = asyncio.Event()
        self._answered = asyncio.Event()
        self._hurry = asyncio.Event()
        self._marks: list[asyncio.Future[None]] = []
        self._flushing: set[asyncio.Future[None]] = set()
        self._calls: set[asyncio.Task[None]] = set()
        self._marking: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._sending = self._loop.create_task(self._send())

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<QuoteWriter {state}: {self._held} of {self._capacity} held>"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    # -- putting -----------------------------------------------------------------------------

    def offer(self, quote: Quote) -> bool:
        """Take a quote, unless the bound is reached.

        :returns: whether it was taken. One that is not newer than what waits already counts as
            taken, and as conflated.
        :raises InvalidValue: it cannot be meant.
        :raises ServiceClosed: the writer is closed.
        :raises redis.RedisError: an earlier quote was refused by the server for good. Raised once,
            unless there is ``on_failure``; this one was not taken.
        """
        if self._closed:
            raise ServiceClosed("the writer is closed: make another with market.writer()")
        if self._error is not None:
            self._raise()
        self._check(quote)
        name = quote.instrument
        if self._all:
            if self._held >= self._capacity:
                return False
            waiting = self._lists.get(name)
            if waiting is None:
                self._lists[name] = [quote]
            else:
                waiting.append(quote)
        else:
            held = self._newest.get(name)
            if held is not None:
                self._put += 1
                self._conflated += 1
                if quote.ts_event > held.ts_event or order_of(quote) > order_of(held):
                    self._newest[name] = quote
                return True
            if self._held >= self._capacity:
                return False
            self._newest[name] = quote
        self._put += 1
        self._held += 1
        if not self._some.is_set():
            self._some.set()
        return True

    async def put(self, quote: Quote) -> None:
        """Take a quote; wait while the bound is reached. Raises as :meth:`offer` does."""
        self._turn += 1
        if self._turn >= _TURN:
            self._turn = 0
            await asyncio.sleep(0)
        while not self.offer(quote):
            self._room.clear()
            await self._room.wait()

    async def flush(self) -> None:
        """Wait until all that was put before has been written, or refused for good.

        :raises redis.RedisError: a quote was refused for good, and there is no ``on_failure``.
        :raises NotWritten: the writer was closed, and could not write it all.
        """
        if self._held:
            if self._sending.done():
                raise self._left()
            mark: asyncio.Future[None] = self._loop.create_future()
            self._marks.append(mark)
            self._flushing.add(mark)
            mark.add_done_callback(self._flushing.discard)
            self._some.set()
            self._hurry.set()
            await mark
        if self._error is not None:
            self._raise()

    async def aclose(self, timeout: float = 5.0) -> None:
        """Take no more, and write what is held. A second call does nothing.

        :param timeout: seconds for it.
        :raises NotWritten: some could not be written; ``count`` says how many.
        :raises redis.RedisError: an earlier quote was refused for good, and nobody was told yet.
        """
        if self._closed:
            return
        self._closed = True
        self._room.set()
        try:
            async with asyncio.timeout(timeout):
                await self.flush()
        except TimeoutError:
            raise NotWritten(
                f"{self._held} quotes could not be written within timeout={timeout:.3g} s of "
                f"closing",
                self._held,
            ) from None
        finally:
            await self._end()

    async def _end(self) -> None:
        tasks = [self._sending, *self._calls, *self._marking]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for mark in self._flushing:
            if not mark.done():
                mark.set_exception(self._left())

    def _left(self) -> NotWritten:
        return NotWritten(f"the writer was closed with {self._held} quotes left", self._held)

    def stats(self) -> WriterStats:
        """Counts since it was made."""
        return WriterStats(
            put=self._put,
            conflated=self._conflated,
            written=self._written,
            late=self._late,
            lost=self._lost,
            held=self._held,
            failures=self._failures,
        )

    def _raise(self) -> None:
        error, self._error = self._error, None
        assert error is not None
        raise error

    # -- sending -----------------------------------------------------------------------------

    async def _send(self) -> None:
        while True:
            await self._some.wait()
            self._some.clear()
            began = self._loop.time()
            if self._all:
                groups, self._lists = self._lists, {}
            else:
                newest, self._newest = self._newest, {}
                groups = {name: [quote] for name, quote in newest.items()}
            marks, self._marks = self._marks, []
            for call in self._applier.calls(groups):
                size = sum(len(quotes) for _, quotes in call)
                while self._repeating or (self._flying and self._flying + size > _FLYING):
                    self._answered.clear()
                    await self._answered.wait()
                self._flying += size
                task = self._loop.create_task(self._call(call, size, tuple(self._calls)))
                self._calls.add(task)
                task.add_done_callback(self._calls.discard)
            if marks:
                marking = self._loop.create_task(_reach(marks, list(self._calls)))
                self._marking.add(marking)
                marking.add_done_callback(self._marking.discard)
            # What is overtaken by the next round need not be sent: let it fill. Where all is sent
            # in any case, the servers are better kept busy.
            while self._flying and not self._all:
                self._answered.clear()
                await self._answered.wait()
            if self._interval and not self._marks:
                self._hurry.clear()
                try:
                    async with asyncio.timeout_at(began + self._interval):
                        await self._hurry.wait()
                except TimeoutError:
                    pass

    async def _call(self, call: Call, size: int, before: tuple[asyncio.Task[None], ...]) -> None:
        """Send one call, again and again while that is of use; but then behind those that were
        under way before it, as history is in the order in which quotes arrive."""
        attempts = 0
        unknown = False
        while True:
            try:
                results = await self._applier.run(call, each=not self._conflate, again=unknown)
            except RedisError as error:
                unknown = unknown or outcome_of(error) is Outcome.UNKNOWN
                if not _may_pass(error):
                    self._tell(error, call, repeated=False)
                    break
                attempts += 1
                self._failures += 1
                self._tell(error, call, repeated=True)
                if attempts == 1:
                    self._repeating += 1
                    logger.warning("%d quotes are not written yet: %s", size, error)
                    if earlier := [one for one in before if not one.done()]:
                        await asyncio.wait(earlier)
                await asyncio.sleep(self._backoff.delay(attempts))
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, it is told
                # A record that cannot be encoded, say: no repetition helps, and the others go on.
                self._tell(error, call, repeated=False)
                break
            for entry, result in zip(call, results, strict=True):
                if isinstance(result, str):
                    late = result.count("0")
                    self._late += late
                    self._written += len(result) - late
                else:
                    self._tell(result, [entry], repeated=False)
            break
        if attempts:
            self._repeating -= 1
        self._held -= size
        self._flying -= size
        self._answered.set()
        self._room.set()

    def _tell(self, error: Exception, call: Call, *, repeated: bool) -> None:
        quotes = [quote for _, of_one in call for quote in of_one]
        if not repeated:
            self._lost += len(quotes)
        if self._on_failure is None:
            if not repeated:
                self._error = self._error or error
            return
        try:
            self._on_failure(WriteFailure(error, quotes, repeated))
        except Exception:
            # The program's own code must not end the writing of all others.
            logger.exception("on_failure= of a quote writer raised")


def _may_pass(error: RedisError) -> bool:
    if isinstance(error, PoolClosed):
        return False
    outcome = outcome_of(error)
    return outcome is not Outcome.REJECTED or code_of(error) in _PASSING


async def _reach(marks: list[asyncio.Future[None]], calls: list[asyncio.Task[None]]) -> None:
    if calls:
        await asyncio.wait(calls)
    for mark in marks:
        if not mark.done():
            mark.set_result(None)
