"""Appends to one instrument's tape, exactly once whatever fails and whoever else does the same.

What is written in one step (``lua/trades.lua``) says from which state it was decided. If somebody
else was quicker, nothing is written; the state is read anew, what is in by then are duplicates, and
the rest is decided again.

Each step's token is the tape's version: what was decided from one, is written onto that one alone.
So the next step can be sent while one is under way.

All calls of this process go through one queue per instrument, and those that wait are written
together. After a failure, those behind fail too: were they written, the earlier ones could not be
any more.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Coroutine, Iterable, Sequence
from itertools import count
from secrets import token_hex
from time import monotonic
from typing import Any

from redisutils.trading.errors import TradesMissing
from redisutils.trading.market.busts import Undoing
from redisutils.trading.market.deciding import decide, wanted_bars
from redisutils.trading.market.tape_form import TapeForm, TapeKeys
from redisutils.trading.market.tape_state import (
    Change,
    State,
    Written,
    load_state,
    mismatch,
)
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.scripts import Scripts, load

__all__ = ["Appender"]

MAX_TRADES = 512
"""Of one step: it keeps a server busy for 1 to 2 ms, in which it serves nobody else."""

MAX_FLIGHTS = 2
"""Steps under way: while a server carries one out, the next is decided, from what it will find."""

MAX_WAITING = 65_536
"""Trades of one instrument that wait, before callers have to."""

_TRADES = load("trades")

Piece = list[Trade] | TradeBust
"""What is written in one step, of a call."""


class _Call:
    """Somebody who waits for pieces of work."""

    __slots__ = ("future", "pieces", "result")

    def __init__(self, pieces: int, future: asyncio.Future[Written]) -> None:
        self.pieces = pieces
        self.future = future
        self.result = Written()

    def done(self, result: Written) -> None:
        """One of its pieces is."""
        self.result += result
        self.pieces -= 1
        if not self.pieces and not self.future.done():
            self.future.set_result(self.result)


Work = list[tuple[_Call, Piece]]


class _Flight:
    """A step that is under way."""

    __slots__ = ("reply", "results", "sent", "seq", "work")

    def __init__(
        self, work: Work, results: list[Written], seq: int, reply: asyncio.Task[bool] | None
    ) -> None:
        self.work = work
        self.results = results
        self.seq = seq
        """The place in the source that is reached by it."""
        self.sent = monotonic()
        self.reply = reply
        """Whether it was written; None where there was no news."""


class Appender:
    """Of one instrument, in one process."""

    def __init__(
        self,
        instrument: str,
        keys: TapeKeys,
        scripts: Scripts,
        undoing: Undoing,
        form: TapeForm,
    ) -> None:
        self.instrument = instrument
        self._form = form
        self._keys = keys
        self._scripts = scripts
        self._undoing = undoing
        self._state: State | None = None
        self._reached = -1  # what the server has once said it has
        self._said = 0.0  # when, at the earliest
        self._owed: list[int] = []  # places of what was given, failed, and was not given again
        self._queue: deque[tuple[_Call, Piece]] = deque()
        self._flights: deque[_Flight] = deque()
        self._waiting = 0
        self._entrance = asyncio.Lock()
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._runs = count(1)
        self._token = token_hex(8)

    def __repr__(self) -> str:
        return f"<Appender {self.instrument}: {self._waiting} waiting, at {self._reached}>"

    # -- the queue -------------------------------------------------------------------------

    async def append(self, events: Sequence[Trade | TradeBust]) -> Written:
        """Write what has been checked. Cancelling does not stop it once it is in the queue; before,
        it has failed, and is not overtaken either."""
        if len(self._owed) >= MAX_WAITING and events[0].seq > self._owed[0]:
            raise self._missing(events[0].seq)  # of more than this, nobody keeps account
        if self._waiting >= MAX_WAITING or self._entrance.locked():
            try:
                async with self._entrance:  # they go in as they came
                    while self._waiting >= MAX_WAITING:
                        self._room.clear()
                        await self._room.wait()
                    future = self._enqueue(events)
            except asyncio.CancelledError:
                self._owe(events)
                raise
        else:
            future = self._enqueue(events)
        return await future  # which is this caller's alone

    def _enqueue(self, events: Sequence[Trade | TradeBust]) -> asyncio.Future[Written]:
        pieces = _pieces_of(events)
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        call = _Call(len(pieces), future)
        self._queue.extend((call, piece) for piece in pieces)
        self._waiting += len(events)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"tape of {self.instrument}")
        return future

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do, and nothing that somebody has to do first."""
        return self._task is None and not self._owed

    async def drain(self) -> None:
        """Wait until the queue is empty, and nobody waits to be let in."""
        while self._task is not None or self._entrance.locked():
            async with self._entrance:
                task = self._task
            if task is not None:
                await asyncio.wait([task])

    def forget(self) -> None:
        """Go on without the trades that failed."""
        self._owed.clear()
        self._reached = -1
        self._state = None

    async def _run(self) -> None:
        try:
            while self._queue or self._flights:
                if not self._queue or len(self._flights) == MAX_FLIGHTS:
                    await self._land()
                elif self._state is not None and self._launch(self._state):
                    await asyncio.sleep(0)  # it leaves now, and the next is made up meanwhile
                elif self._flights:
                    await self._land()
                else:
                    await self._look()
        except Exception as error:  # noqa: BLE001  # whoever waits is told, whatever it is
            replies = (flight.reply for flight in self._flights if flight.reply)
            await asyncio.gather(*replies, return_exceptions=True)
            self._fail(error)
        except BaseException:  # cancelled: whoever waits is told that nobody writes any more
            self._fail(None)
            raise
        finally:
            self._task = None

    def _take(self) -> Work:
        """Lists of trades of together not too many; or one bust, which is a step of its own. Each
        is one while something is owed: some may come in its place, and others too early."""
        taken = [self._queue.popleft()]
        if isinstance(taken[0][1], TradeBust) or self._owed:
            return taken
        size = len(taken[0][1])
        while self._queue:
            piece = self._queue[0][1]
            if isinstance(piece, TradeBust) or size + len(piece) > MAX_TRADES:
                break
            size += len(piece)
            taken.append(self._queue.popleft())
        return taken

    def _untake(self, work: Work) -> None:
        self._queue.extendleft(reversed(work))

    def _done(self, work: Work, results: list[Written]) -> None:
        for (call, piece), result in zip(work, results, strict=True):
            self._waiting -= len(_events_of(piece))
            call.done(result)
        self._room.set()

    def _fail(self, error: Exception | None) -> None:
        work = [*(one for flight in self._flights for one in flight.work), *self._queue]
        for flight in self._flights:
            if flight.reply is not None:
                flight.reply.cancel()
        self._state = None
        self._flights.clear()
        self._queue.clear()
        self._waiting = 0
        self._room.set()
        self._owe([event for _, piece in work for event in _events_of(piece)])
        for future in {id(call): call.future for call, _ in work}.values():
            if future.done():
                continue
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # its caller may have gone

    # -- steps -----------------------------------------------------------------------------

    def _launch(self, state: State) -> bool:
        """Send the next step off, if what is known is enough to decide it."""
        if isinstance(self._queue[0][1], TradeBust) or (self._owed and self._flights):
            return False  # what is owed is known when all has landed
        work = self._take()
        lists = _trades_of(work)
        try:
            self._admit(lists[0], state)
            decision = decide(lists, state, self._form)
        except BaseException:  # whatever it is: what was taken waits again
            self._untake(work)
            raise
        if isinstance(decision, list):
            self._untake(work)
            return False
        reply = None
        if decision.change is not None:
            reply = asyncio.create_task(self._commit(state, decision.change))
        self._flights.append(_Flight(work, decision.results, state.seq, reply))
        return True

    async def _land(self) -> None:
        """Wait for the first step that is under way. If the state was another, decide it and those
        behind again, which were decided from it."""
        flight = self._flights[0]
        if flight.reply is None or await flight.reply:
            self._flights.popleft()
            self._reached, self._said = max(self._reached, flight.seq), flight.sent
            self._done(flight.work, flight.results)
            return
        self._state = None
        for behind in self._flights:
            if behind.reply is not None:
                await behind.reply
        for behind in reversed(self._flights):
            self._untake(behind.work)
        self._flights.clear()

    async def _look(self) -> None:
        """With nothing under way, read what has to be known for the next step; a bust is done."""
        state = self._state or await self._load()
        first = self._queue[0][1]
        if isinstance(first, TradeBust):
            self._admit([first], state)
            result = await self._write_bust(first, state)
            if result is None:
                self._state = None
            else:
                self._done([self._queue.popleft()], [result])
            return
        work = self._take()
        self._untake(work)
        wanted = wanted_bars(_trades_of(work), state)
        if any(wanted):
            await self._load(wanted)

    async def _write_bust(self, bust: TradeBust, state: State) -> Written | None:
        """None: the state was another."""
        if bust.seq <= state.seq:
            return Written(duplicates=1)
        change = await self._undoing.decide(bust, state, self._keys)
        state.seq, sent = bust.seq, monotonic()
        if not await self._commit(state, change):
            return None
        self._state = None  # it may have removed the newest bars
        self._reached, self._said = bust.seq, sent
        return Written(written=1, unmatched=not change.busts)

    def _commit(self, state: State, change: Change) -> Coroutine[None, None, bool]:
        """Write it, if the state is still that from which it was decided. As soon as this is
        called, ``state`` is what will be there then."""
        token = f"{self._token}:{next(self._runs)}"
        words = change.arguments(self._form, state, token)
        state.token = token
        return self._carry_out(words)

    async def _carry_out(self, words: list[Any]) -> bool:
        reply = await self._scripts.run(_TRADES, self._keys.every, words)
        if isinstance(reply, list):
            raise mismatch(self._keys, reply[0], self._form)
        return bool(reply)

    async def _load(self, wanted: Sequence[Sequence[int]] = ()) -> State:
        self._state = state = await load_state(self._scripts, self._form, self._keys, wanted)
        kept = self._form.retention.idle
        gone = not state.token and kept is not None and monotonic() - self._said >= kept
        if state.seq < self._reached and not gone:
            # A replica that has taken over had not heard of the rest.
            self._owed = sorted({*self._owed, self._reached})
        self._reached = state.seq
        return state

    def _owe(self, events: Iterable[Trade | TradeBust]) -> None:
        self._owed = sorted({*self._owed, *(event.seq for event in events)})

    def _admit(self, events: Sequence[Trade | TradeBust], state: State) -> None:
        """Let nothing overtake what has failed."""
        if not self._owed:
            return
        del self._owed[: bisect_right(self._owed, state.seq)]
        expected = iter(self._owed)
        owed = next(expected, None)
        for event in events:
            if owed is None:
                return
            if event.seq > owed:
                raise self._missing(event.seq)
            if event.seq == owed:
                owed = next(expected, None)

    def _missing(self, seq: int) -> TradesMissing:
        return TradesMissing(
            self.instrument,
            self._reached,
            f"seq {self._owed[0]} was given and is not in, seq {seq} is what comes now",
        )


def _pieces_of(events: Sequence[Trade | TradeBust]) -> list[Piece]:
    """In the same order: trades in lists of not too many, busts one by one."""
    pieces: list[Piece] = []
    trades: list[Trade] = []
    for event in events:
        if isinstance(event, TradeBust):
            pieces.append(event)
            trades = []
            continue
        if not trades or len(trades) == MAX_TRADES:
            trades = []
            pieces.append(trades)
        trades.append(event)
    return pieces


def _events_of(piece: Piece) -> Sequence[Trade | TradeBust]:
    return [piece] if isinstance(piece, TradeBust) else piece


def _trades_of(work: Work) -> list[list[Trade]]:
    return [piece for _, piece in work if isinstance(piece, list)]
