"""The circuit breaker of an endpoint: while a server is known dead, nobody waits for it.

States
------
=========  ==============================  ========================================================
state      who needs a connection          left for
=========  ==============================  ========================================================
closed     connects                        open, when the endpoint is known dead
open       is refused at once              half-open, after a pause; closed, when it was heard
half-open  is refused at once              open, when the probe failed; closed, when it got through
                                           or the endpoint was heard
=========  ==============================  ========================================================

Known dead
----------
An endpoint is known dead when for ``seconds`` nothing but attempts to connect that failed has
happened: ``FEWEST`` of them or more, none long after the one before, and not one byte heard since
the first. A server that refuses with an error, be it a wrong password, and one that still answers
on some connection is alive, and its callers are told what it says. So a blip opens nothing, and
neither do failures that are far apart: it may have been there in between.

What a caller does not wait for proves nothing: an attempt that is cancelled counts only if it has
taken as long as a scout's (:mod:`redisutils.pool.scouting`).

While it is open
----------------
Those who wait are refused as it opens, and others as they come. Connections that there are go on
being used, idle ones too: if one of them is answered, the breaker closes. One **probe** connects by
itself, with a pause of at most ``LONGEST_PAUSE`` after each failure, whether or not callers come,
until it gets through; scouts go with it, so that neither a server that swallows all nor one that
is slow to answer holds it up. Its connection is put to use.

Each time it opens there is a new probe: the one before may have got through and be held up by a
hook that looks at its connection. Should somebody cancel the probe, whoever comes next begins
another.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import Context
from math import inf
from time import monotonic
from typing import Any, Final, Literal, TypeVar

from redisutils.connection.home import Home
from redisutils.connection.words import cut
from redisutils.errors import CircuitOpen, ConnectFailed, RedisUtilsError, happened
from redisutils.metrics.breaking import BreakerStatus
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.scouting import SCOUT_FOR
from redisutils.retry import LONGEST_PAUSE, half_certain

__all__ = ["Breaker"]

T = TypeVar("T")

logger = logging.getLogger("redisutils.breaker")

FEWEST: Final = 3
"""Failed attempts without which no endpoint is known dead, however long it takes."""

_LONGEST_GAP: Final = 2 * LONGEST_PAUSE
"""Seconds from one failure to the next at which they still belong together, or half of the
breaker's own seconds if that is more: whoever waits for a connection tries more often."""

_REFUSAL: Final = CircuitOpen.__name__

_LONG: Final = SCOUT_FOR - 0.05
"""Seconds after which a cancelled attempt counts as failed. A timer may be early."""


class Breaker:
    """See the module's docstring. Belongs to the event loop that runs when it is made.

    Args:
        peer: the endpoint, for messages.
        seconds: for how long nothing but failures must have happened; ``inf`` never opens it.
        metrics: whose ``bytes_in`` tells whether the endpoint was heard, and ``failures`` who was
            refused; and where failures of the probe's own are counted.
    """

    def __init__(self, peer: str, seconds: float, metrics: PoolMetrics) -> None:
        self._peer = peer
        self._seconds = seconds
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._home = Home.of(self._loop)
        self.on_open: Callable[[], None] = lambda: None
        """Called as it opens: whoever waits for a connection is to be refused."""
        self.on_failed: Callable[[], None] = lambda: None
        """Called when an attempt to connect has failed, of which the endpoint knows nothing."""
        self.probe: Callable[[], Awaitable[None]] = _nothing
        """Connects, by way of :meth:`attempt`, and puts the connection to use."""
        self.ready: Callable[[], bool] = lambda: False
        """Whether a connection stands idle, for which nobody has to connect."""
        self.state: Literal["closed", "open", "half-open"] = "closed"
        self._changed = monotonic()
        self._held: set[asyncio.Timeout] = set()
        self._failures = 0
        self._first = 0.0  # when the first of them had failed
        self._last = 0.0
        self._error = ""  # what the last failed of
        self._heard = 0  # bytes, as the first failed
        self._reached = 0.0  # when it last was
        self._probing: asyncio.Task[None] | None = None
        self._probes: set[asyncio.Task[None]] = set()  # with those that are being cancelled
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Breaker of {self._peer}, {self.state}, {self._failures} failures>"

    def status(self) -> BreakerStatus:
        """What is shown of it."""
        self._listen()
        return BreakerStatus(
            state=self.state,
            seconds=monotonic() - self._changed,
            failures=self._failures,
            trips=self._metrics.trips,
            refused=self._metrics.refused,
            error=None if self.state == "closed" else self._error,
        )

    # -- who needs a connection ------------------------------------------------------

    @property
    def refuses(self) -> bool:
        """Whether nobody is to connect now."""
        if self.state != "closed":
            self._listen()
        if self.state == "closed":
            return False
        if self._probing is None or self._probing.done():  # somebody has cancelled it
            self._begin()
        return True

    def refusal(self) -> CircuitOpen:
        """The error for one caller who is refused."""
        return CircuitOpen(
            f"{self._peer} is known dead: nothing was heard from it for "
            f"{monotonic() - self._first:.3g} s, and {self._failures} attempts to connect failed; "
            f"the last: {self._error}. It is tried again every {LONGEST_PAUSE} s or sooner, and "
            "calls fail at once until it answers "
            f"(REDIS_CIRCUIT_BREAKER_SECONDS={self._seconds:g}; off lets them wait)"
        )

    def check(self) -> None:
        """Raise if nobody is to connect now.

        Raises:
            CircuitOpen
        """
        if self.refuses:
            raise self.refusal()

    @asynccontextmanager
    async def guard(self) -> AsyncIterator[None]:
        """Wait for a connection within, as long as the breaker is closed or one stands idle.

        Raises:
            CircuitOpen: neither is so, or it opened meanwhile.
        """
        if self.refuses:
            await asyncio.sleep(0)  # who tries over and over must leave the probe its turn
            if not self.ready():
                self.check()
        bound = asyncio.timeout(None)
        try:
            async with bound:
                self._held.add(bound)
                yield
        except TimeoutError:
            if bound.expired():
                raise self.refusal() from None
            raise
        finally:
            self._held.discard(bound)

    # -- what happens ----------------------------------------------------------------

    async def attempt(self, dial: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Connect, and learn from it. Raises what ``dial`` does."""
        began, heard = monotonic(), self._metrics.bytes_in
        try:
            connection = await dial()
        except ConnectFailed as error:
            if error.fatal or self._metrics.bytes_in != heard:
                self._forget()
            elif not error.own:
                self._fail(began, error.message)
            raise
        except asyncio.CancelledError:
            took = monotonic() - began
            if self._metrics.bytes_in != heard:
                self._forget()
            elif took >= _LONG:
                self._fail(began, f"connecting to {self._peer} took longer than {took:.2g} s")
            raise
        self._reached = monotonic()
        self._forget()
        return connection

    def _fail(self, began: float, error: str) -> None:
        """An attempt has failed that began then."""
        self._listen()
        if began < self._reached:
            return  # others got through meanwhile
        now = monotonic()
        gap = max(_LONGEST_GAP, self._seconds / 2) if self._seconds != inf else _LONGEST_GAP
        if self.state == "closed" and self._failures and now - self._last > gap:
            self._failures = 0
        if not self._failures:
            self._first = now
            self._heard = self._metrics.bytes_in
        self._failures += 1
        self._last = now
        self._error = cut(error)
        self.on_failed()
        dead = self._failures >= FEWEST and now - self._first >= self._seconds
        if dead and self.state == "closed" and not self._stopped:
            self._open()

    def _listen(self) -> None:
        """Look whether anything was heard."""
        if self._failures and self._metrics.bytes_in != self._heard:
            self._forget()

    def renew(self) -> None:
        """The endpoint is another server from now on: nothing is known of that one."""
        self._forget("it has moved")

    def _forget(self, why: str = "it answers") -> None:
        """It lives."""
        self._failures = 0
        if self.state == "closed":
            return
        self._enter("closed")
        self._metrics.events.note(
            "circuit",
            logging.WARNING,
            "the circuit to %s is closed again: %s",
            self._peer,
            why,
            state="closed",
        )

    def _enter(self, state: Literal["closed", "open", "half-open"]) -> None:
        if "closed" in (state, self.state):  # to probe is a moment of being open
            self._changed = monotonic()
        self.state = state

    def _open(self) -> None:
        self._enter("open")
        self._metrics.trips += 1
        if self._probing is not None:
            self._probing.cancel()
        self._begin()
        held, self._held = self._held, set()
        for bound in held:
            bound.reschedule(self._loop.time())
        self.on_open()
        self._metrics.events.note(
            "circuit",
            logging.ERROR,
            "the circuit to %s is open: %d attempts to connect failed within %.3g s; the last: %s",
            self._peer,
            self._failures,
            self._last - self._first,
            self._error,
            state="open",
            error=self._error,
        )

    # -- the probe -------------------------------------------------------------------

    def _begin(self) -> None:
        if self._stopped or self._home.forked:
            return
        # Nobody's context: it outlives whoever's attempt was the last.
        self._probing = self._loop.create_task(self._probe(), context=Context())
        self._probes.add(self._probing)
        self._probing.add_done_callback(self._probes.discard)

    async def _probe(self) -> None:
        """Try until the endpoint is heard, or another probe has taken over."""
        own = asyncio.current_task()
        while True:
            await asyncio.sleep(LONGEST_PAUSE * half_certain())
            if self._probing is not own or self._home.forked or not self.refuses:
                return
            self._enter("half-open")
            try:
                await self.probe()
            except ConnectFailed as error:
                self._error = cut(error.message)
            except Exception as error:
                self._error = cut(f"{type(error).__name__}: {happened(error)}")
                self._metrics.background_errors += 1
                expected = isinstance(error, RedisUtilsError)
                with HARMLESS:
                    logger.warning(
                        "trying to reach %s again failed: %s",
                        self._peer,
                        self._error,
                        exc_info=None if expected else error,
                    )
            finally:
                if self.state == "half-open" and self._probing is own:
                    self._enter("open")

    async def stop(self) -> None:
        """End the probe, and open no more."""
        self.abandon()
        if self._probes:
            await asyncio.wait(self._probes)

    def abandon(self) -> None:
        """As :meth:`stop`, without waiting."""
        self._stopped = True
        task, self._probing = self._probing, None
        if task is not None:
            task.cancel()


async def _nothing() -> None:
    """Until it is told how to probe."""
