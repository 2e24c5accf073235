"""Appends to one instrument's tape, exactly once whatever fails and whoever else does the same.

What is written in one step (``lua/trades.lua``) says from which state it was decided: the place
in the source up to which everything is in. If somebody else was quicker, nothing is written; the
state is read anew, what is in by then are duplicates, and the rest is decided again.

All calls of this process go through one queue per instrument, and those that wait are written
together. After a failure, those behind fail too: were they written, the earlier ones could not be
any more.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections import deque
from collections.abc import Sequence
from itertools import count
from secrets import token_hex

from msgspec.structs import replace

from redisutils.trading.errors import TradesMissing
from redisutils.trading.market.bars import notional_of
from redisutils.trading.market.busts import Undoing
from redisutils.trading.market.tape_form import TapeForm
from redisutils.trading.market.tape_state import (
    Change,
    State,
    Written,
    load_state,
    mismatch,
    name_of,
    order_key,
)
from redisutils.trading.market.trade import Trade, TradeBust
from redisutils.trading.scripts import Scripts, load

__all__ = ["Appender"]

MILLISECOND = 1_000_000

MAX_TRADES = 512
"""Of one step: it keeps a server busy for 1 to 2 ms, in which it serves nobody else."""

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


class Appender:
    """Of one instrument, in one process."""

    def __init__(self, instrument: str, scripts: Scripts, undoing: Undoing, form: TapeForm) -> None:
        self.instrument = instrument
        self._form = form
        self._keys = form.keys(instrument)
        self._scripts = scripts
        self._undoing = undoing
        self._state: State | None = None
        self._reached = -1  # what the server has once said it has
        self._owed: list[int] = []  # places of what was given, failed, and was not given again
        self._queue: deque[tuple[_Call, Piece]] = deque()
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
        """Write what has been checked. Cancelling does not stop it once it is in the queue."""
        if self._waiting >= MAX_WAITING or self._entrance.locked():
            async with self._entrance:  # they go in as they came
                while self._waiting >= MAX_WAITING:
                    self._room.clear()
                    await self._room.wait()
                future = self._enqueue(events)
        else:
            future = self._enqueue(events)
        return await asyncio.shield(future)

    def _enqueue(self, events: Sequence[Trade | TradeBust]) -> asyncio.Future[Written]:
        pieces = _pieces_of(events)
        future: asyncio.Future[Written] = asyncio.get_running_loop().create_future()
        call = _Call(len(pieces), future)
        self._queue.extend((call, piece) for piece in pieces)
        self._waiting += len(events)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"tape of {self.instrument}")
        return future

    async def drain(self) -> None:
        """Wait until the queue is empty."""
        while self._task is not None:
            await asyncio.wait([self._task])

    def forget(self) -> None:
        """Go on without the trades that failed."""
        self._owed.clear()
        self._reached = -1
        self._state = None

    async def _run(self) -> None:
        work: Work = []
        try:
            while self._queue:
                work = self._take()
                results = await self._write(work)
                for (call, piece), result in zip(work, results, strict=True):
                    self._waiting -= len(_events_of(piece))
                    call.done(result)
                work = []
                self._room.set()
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            self._fail([*work, *self._queue], error)
        except BaseException:
            self._fail([*work, *self._queue], None)
            raise
        finally:
            self._task = None

    def _take(self) -> Work:
        """Lists of trades of together not too many; or one bust, which is a step of its own."""
        taken = [self._queue.popleft()]
        if isinstance(taken[0][1], TradeBust):
            return taken
        size = len(taken[0][1])
        while self._queue:
            piece = self._queue[0][1]
            if isinstance(piece, TradeBust) or size + len(piece) > MAX_TRADES:
                break
            size += len(piece)
            taken.append(self._queue.popleft())
        return taken

    def _fail(self, work: Work, error: Exception | None) -> None:
        self._state = None
        self._queue.clear()
        self._waiting = 0
        self._room.set()
        if not isinstance(error, TradesMissing):
            places = {event.seq for _, piece in work for event in _events_of(piece)}
            self._owed = sorted(places.union(self._owed))
        for future in {id(call): call.future for call, _ in work}.values():
            if future.done():
                continue
            if error is None:
                future.cancel()
            else:
                future.set_exception(error)
                future.exception()  # its caller may have gone

    # -- one step --------------------------------------------------------------------------

    async def _write(self, work: Work) -> list[Written]:
        first = work[0][1]
        if isinstance(first, TradeBust):
            return [await self._write_bust(first)]
        return await self._write_trades([piece for _, piece in work if isinstance(piece, list)])

    async def _write_trades(self, lists: list[list[Trade]]) -> list[Written]:
        while True:
            state = self._state or await self._load()
            self._admit(lists[0][0].seq, state)
            news = _news_of(lists, state.seq)
            moments = [trade.ts_event for some in news for trade in some]
            if not moments:
                return [Written(duplicates=len(trades)) for trades in lists]
            wanted = [series.missing(moments) for series in state.series]
            if any(wanted):
                # It may be another state by now: all is looked at anew.
                self._state = await self._load(wanted)
                continue
            change = Change(len(state.series))
            late = [self._add(some, state, change) for some in news]
            self._close(state, change)
            if await self._commit(state, change):
                return [
                    Written(written=len(some), duplicates=len(trades) - len(some), late=came_late)
                    for trades, some, came_late in zip(lists, news, late, strict=True)
                ]

    def _add(self, trades: list[Trade], state: State, change: Change) -> int:
        """Decide what trades change, but for the bars; how many came late."""
        encode, words, every = self._form.trades.encode, change.trades, state.series
        drop = self._form.late == "drop"
        top, slack, late = state.top, state.slack, 0
        for trade in trades:
            moment, seq = trade.ts_event, trade.seq
            key = moment, seq
            price, quantity, notional = trade.price, trade.quantity, notional_of(trade)
            written = trade
            missed: tuple[str, ...] = ()
            for series in every:
                if not series.add(key, price, quantity, notional):
                    missed = (*missed, series.interval.name)
            if missed:
                late += 1
                if drop:
                    written = replace(trade, left_out=missed)
            time = moment // MILLISECOND
            if time > top:
                top = time
            elif top - time > slack:
                slack = top - time
            record = encode(written)
            words.append(f"{top}-{seq}")
            words.append(record)
            if key > state.latest:
                state.latest = key
                change.latest = "", record
        if trades:
            state.top, state.slack, state.seq = top, slack, trades[-1].seq
        return late

    def _close(self, state: State, change: Change) -> None:
        """Add what is written once a step: bars, and the latest trade's key."""
        if change.latest[1]:
            change.latest = order_key(state.latest), change.latest[1]
        encode = self._form.bars.encode
        for series, words in zip(state.series, change.bars, strict=True):
            for bar in series.take_changed(self.instrument):
                words.extend((name_of(bar.start), encode(bar)))

    async def _write_bust(self, bust: TradeBust) -> Written:
        while True:
            state = self._state or await self._load()
            self._admit(bust.seq, state)
            if bust.seq <= state.seq:
                return Written(duplicates=1)
            change = await self._undoing.decide(bust, state, self._keys)
            if change is None:
                self._state = None
                continue
            matched = bool(change.busts)
            state.seq = bust.seq
            if await self._commit(state, change):
                self._state = None  # it may have removed the newest bars
                return Written(written=1, unmatched=not matched)

    async def _commit(self, state: State, change: Change) -> bool:
        """Write it, if the state is still the one from which it was decided."""
        token = f"{self._token}:{next(self._runs)}"
        words = change.arguments(self._form, state, token)
        reply = await self._scripts.run(_TRADES, self._keys.every, words)
        if isinstance(reply, list):
            raise mismatch(self._keys, reply[0], self._form)
        if not reply:
            self._state = None
            return False
        state.said = str(state.seq)
        self._reached = state.seq
        return True

    async def _load(self, wanted: Sequence[Sequence[int]] = ()) -> State:
        self._state = state = await load_state(self._scripts, self._form, self._keys, wanted)
        if state.seq < self._reached:  # a replica that took over had not heard of the rest
            self._owed = sorted({*self._owed, self._reached})
        self._reached = state.seq
        return state

    def _admit(self, first: int, state: State) -> None:
        """Let nothing overtake what has failed."""
        if not self._owed:
            return
        del self._owed[: bisect_right(self._owed, state.seq)]
        if self._owed and first > self._owed[0]:
            raise TradesMissing(
                self.instrument,
                state.seq,
                f"seq {self._owed[0]} was given and is not in, seq {first} is what comes now",
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


def _news_of(lists: list[list[Trade]], reached: int) -> list[list[Trade]]:
    """Of each list, what is not in yet; what does not come in order is no news."""
    every = []
    for trades in lists:
        news = []
        for trade in trades:
            if trade.seq > reached:
                reached = trade.seq
                news.append(trade)
        every.append(news)
    return every
