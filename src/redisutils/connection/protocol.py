"""One socket: bytes out, replies in, in order.

Rules
-----
1. ``_expected`` is the one first-in-first-out queue of replies that the server owes.
   Whoever writes a command appends to it in the same step. A caller that goes away
   (cancelled, out of time) leaves its reply in place; it is read and dropped.
2. ``_out`` holds what this turn of the loop has issued. It leaves in one write: at the
   end of the read callback or of the turn, or at once when nothing is in flight.
   While replies are handed out it also leaves each time half of what was in flight has
   been issued anew, so that the server works on one half while we handle the other.
   There is no timer. While little is in flight the loop is kept awake for the answers: see
   :mod:`redisutils.connection.home`.
3. One timer at most: ``_alarm`` is never later than the earliest deadline in flight. It
   also finds a silent peer, by the oldest unanswered command.
4. What is in flight is bounded in commands and bytes. At a bound the owner is told and
   holds callers back; it is told again at half of it.
5. The connection knows nothing of retries: replies that it cannot complete go to its
   :class:`~redisutils.connection.owner.Owner`.

Cost per command: no lock, no task, no timer; two clock readings, one future. (A few more readings
for a command that is awaited awake.)
"""

from __future__ import annotations

import asyncio
import os
from asyncio import Future, InvalidStateError, current_task, get_running_loop
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from threading import get_ident
from time import monotonic, perf_counter
from typing import Any, Final, cast

import hiredis

from redisutils.connection.alarm import FOREVER, Alarm
from redisutils.connection.error_replies import ErrorReplies, refusal_of
from redisutils.connection.flights import (
    FLIGHT_FROM,
    MAX_BYTES_IN_FLIGHT,
    MAX_IN_FLIGHT,
    Flights,
)
from redisutils.connection.home import ASLEEP, Home
from redisutils.connection.noting import Note
from redisutils.connection.owner import NOBODY, Owner, Witness
from redisutils.connection.packing import name_in, pack
from redisutils.connection.reply import Batch, Issued, Reply, as_reply, new_batch, raise_
from redisutils.connection.timing import Timing
from redisutils.errors import (
    CommandTimeout,
    ConnectionLost,
    Outcome,
    ProtocolError,
    WrongLoop,
    with_outcome,
)
from redisutils.metrics.counters import PoolMetrics

__all__ = ["Connection"]

MAX_REPLY_BYTES: Final = 1024 * 1024 * 1024
"""A single reply past this is refused. Twice the server's own default limit for one
string (``proto-max-bulk-len``, 512 MiB)."""

FEW: Final = 16
"""Commands in flight up to which their answers are awaited without sleeping: with more, there is
hardly time to sleep. See :mod:`redisutils.connection.home`."""

FLUSH_AT_LEAST: Final = 16
"""Commands worth a system call of their own while replies are still being handed out."""

FLUSH_AT_MOST: Final = 512
"""Commands after which a turn writes early, so that one turn cannot queue without bound."""

FLUSH_FROM: Final = 64 * 1024
"""Bytes of one command that are written at once, for the same reason: what a turn may gather is
bounded by this times the former."""

_WRITE_BUFFER: Final = 1024 * 1024
"""Bytes in the transport's buffer at which it asks us to pause."""

_OF_SENTINELS: Final = (
    "set REDIS_MODE=sentinel and REDIS_SENTINEL_MASTER to use the primary that it watches"
)

_INCOMPLETE: Final = object()  # hiredis' default, False, is also a RESP3 value
_Push: Final[type] = hiredis.PushNotification


class Connection(asyncio.Protocol):
    """One socket to one server. Made by :func:`redisutils.connection.dial.dial`.

    Args:
        peer: the server's name for messages, ``host:port`` or a path.
        metrics: where commands, bytes and errors are counted.
        silence: seconds without an answer after which the owner is told.
        encoding, errors: how strings are decoded for those who ask for it.
    """

    __slots__ = (
        "__weakref__",
        "_alarm",
        "_answered",
        "_asleep",
        "_awake_until",
        "_error_replies",
        "_expected",
        "_flights",
        "_flush_at",
        "_gets",
        "_home",
        "_kept",
        "_loop",
        "_out",
        "_pid",
        "_reader",
        "_silence",
        "_timing",
        "_transport",
        "_unparsed",
        "_write",
        "_written",
        "blocked",
        "closed",
        "decode_pushes",
        "held",
        "last_heard",
        "metrics",
        "needs_reset",
        "note",
        "one_of_many",
        "owner",
        "peer",
        "protocol_version",
        "retire_at",
        "server",
        "tainted",
        "witness",
    )

    def __init__(
        self,
        peer: str,
        metrics: PoolMetrics,
        *,
        silence: float = inf,
        encoding: str = "utf-8",
        errors: str = "strict",
    ) -> None:
        self.peer = peer
        self.metrics = metrics
        self.owner: Owner[Connection] = NOBODY
        self.closed = False
        self.blocked = False
        self.tainted = False
        """Set by whoever changed the connection's state in a way that recycling cannot undo."""
        self.needs_reset = False
        """Set by whoever changed it in a way that recycling undoes (WATCH)."""
        self.note: Note | None = None
        """To be told of each command, and of its answer, that somebody issues who has the
        connection for himself."""
        self.one_of_many = False
        """Set (:meth:`be_one_of_many`) where tasks speak to several servers in turn: what is issued
        as answers are handed out waits for the end of the loop's turn, in which others answer,
        too."""
        self.retire_at = inf
        """When it has lived long enough (``time.monotonic``)."""
        self.last_heard = monotonic()
        """When the server last sent anything (``time.monotonic``)."""
        self.decode_pushes = False
        self.protocol_version = 2
        self.server: dict[str, Any] = {}
        """What HELLO told of the server."""
        self.held = False
        """Whether nothing is written: see :meth:`hold`."""
        self.witness: Witness | None = None
        """Told of refusals and of its loss, beside the owner and whoever that is."""

        self._loop = get_running_loop()
        self._pid = os.getpid()
        self._home = Home.of(self._loop)
        self._transport: asyncio.Transport
        self._error_replies = ErrorReplies(peer)
        self._reader = hiredis.Reader(
            protocolError=ProtocolError,
            replyError=self._error_replies.parse,
            encoding=encoding,
            errors=errors,
            notEnoughData=_INCOMPLETE,
        )
        self._gets = self._reader.gets
        self._expected: deque[Issued | Reply] = deque()
        self._out: list[bytes] = []
        self._flush_at = 1
        self._timing = Timing(peer, metrics)
        self._asleep = 0  # how often not to stay awake for answers
        self._awake_until = 0.0  # when it turns out that doing so was in vain
        self._silence = silence
        self._alarm = Alarm(self._loop, self._on_alarm)
        self._unparsed = 0
        self._flights = Flights()
        self._written = 0
        self._answered = 0
        self._write: Callable[[bytes], object]
        self._kept: list[bytes] = []  # what was to be written, beside commands, while it was held

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<Connection {self.peer} {state}, {len(self._expected)} in flight>"

    def be_one_of_many(self) -> None:
        """The server is a node of a cluster."""
        self.one_of_many = True
        self._error_replies.expect_redirections()

    # -- what callers use ------------------------------------------------------

    def submit(self, payload: bytes, decode: bool, timeout: float) -> Future[Any]:
        """Issue one packed command; its bytes leave within this turn of the loop.

        Args:
            payload: from :func:`redisutils.connection.packing.pack`.
            decode: whether to decode the strings of the answer.
            timeout: its budget in seconds; ``FOREVER`` for none.

        Returns a future of the answer. An error reply is raised from it.
        """
        # The hot path. `send` below says the same for a reply that exists already.
        if get_ident() != self._home.thread and get_running_loop() is not self._loop:
            raise self._wrong_loop()
        future: Future[Any] = Future(loop=self._loop)
        issued = monotonic()
        self._expected.append((future, payload, decode, issued, timeout))
        out = self._out
        out.append(payload)
        if len(out) >= self._flush_at:
            self._flush_or_schedule()
        elif len(payload) >= FLUSH_FROM:
            self.flush()
        alarm = self._alarm
        if timeout < alarm.span and issued + timeout < alarm.at:
            self._arm(issued + timeout)
        return future

    def submit_many(self, payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
        """Issue ``size`` packed commands contiguously. The future's result is the list of
        their answers; an error reply stands in it as an exception."""
        if not self._home.is_here():
            raise self._wrong_loop()
        batch = new_batch(self._loop, payload, size, decode, timeout)
        self.send(batch)
        if size >= FLUSH_AT_LEAST and not self.one_of_many:
            self.flush()
        return batch.future

    def send(self, reply: Reply) -> None:
        """Issue a reply made earlier, perhaps by another connection. Its clock runs on."""
        reply.sent = monotonic()
        self._expected.append(reply)
        self._out.append(reply.payload)
        if len(self._out) >= self._flush_at:
            self._flush_or_schedule()
        elif len(reply.payload) >= FLUSH_FROM:
            self.flush()
        if reply.deadline < self._alarm.at:
            self._arm(reply.deadline)

    async def execute(self, *args: Any) -> Any:
        """Issue a command and return its answer as it came: for hooks of a pool."""
        return await self.submit(pack(args), False, FOREVER)

    def write(self, payload: bytes) -> None:
        """Write bytes whose answers, if any, come as pushes or unsolicited: pub/sub, MONITOR.
        While the connection is held they are kept, and leave after commands that are: nobody
        issues both."""
        if not self._home.is_here():
            raise self._wrong_loop()
        self.flush()
        self.metrics.bytes_out += len(payload)
        self._write(payload)  # nor is a reply to it counted, or a moment kept

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop it belongs to."""
        return self._loop

    @property
    def address(self) -> object:
        """Where the socket leads to."""
        return self._transport.get_extra_info("peername")

    @property
    def in_flight(self) -> int:
        """Commands written or about to be, and not answered."""
        return len(self._expected)

    @property
    def uncounted(self) -> int:
        """Answers of the present read, handed out and not yet counted in the metrics."""
        return self._written - len(self._expected) + len(self._out) - self._answered

    @property
    def bytes_in_flight(self) -> int:
        """The size of these commands. O(in flight)."""
        return sum(
            len(owed[1] if isinstance(owed, tuple) else owed.payload) for owed in self._expected
        )

    def owed(self) -> Sequence[Reply]:
        """The replies that the server owes, oldest first; the same objects at each call, until
        they are answered. O(in flight)."""
        owed = [as_reply(each) for each in self._expected]
        self._expected.clear()  # in place: replies may be being handed out
        self._expected.extend(owed)
        return owed

    @property
    def unwritten(self) -> int:
        """Bytes that the socket has not taken yet. Fewer than before show that the peer reads."""
        return 0 if self.closed else self._transport.get_write_buffer_size()

    def close(self) -> None:
        """Close the socket. Unanswered commands fail; what is buffered is not sent."""
        self.abort(ConnectionLost(f"the connection to {self.peer} was closed"))

    def discard(self) -> None:
        """Close, however far the connection has come: it may have no transport yet."""
        if hasattr(self, "_transport"):
            self.close()

    def abort(self, error: ConnectionLost) -> None:
        """Drop the socket now; unanswered commands get ``error`` through the owner."""
        if self.closed:
            return
        self.closed = True
        if self._loop.is_closed() or os.getpid() != self._pid:
            return  # nobody waits any more; or socket and selector are the parent's
        self._alarm.off()
        self._home.sleep(self._awake_until)
        self.metrics.commands += self.uncounted
        unsent = len(self._out)
        self._out.clear()
        self._kept.clear()
        unanswered = self.owed()
        self._expected.clear()
        self._flush_at = 0  # whatever is issued from now on is refused: _flush_or_schedule
        self._transport.abort()
        owner, self.owner = self.owner, NOBODY
        owner.on_lost(self, error, unanswered, min(unsent, len(unanswered)))

    def lose(self, error: ConnectionLost) -> None:
        """As :meth:`abort`, of one that nobody wanted to end: it is counted and told."""
        if not self.closed:
            owner = self.owner
            self.metrics.lost(error, owner.name, len(self._expected), owner.hears_unasked)
            if self.witness is not None:
                self.witness.lost(self)
        self.abort(error)

    # -- holding ---------------------------------------------------------------

    def hold(self) -> None:
        """Write nothing more, and hold callers back. What is issued all the same is kept, and
        leaves with :meth:`let_go`; if the connection is lost first, or its budget ends, it was
        never written. Answers are still read."""
        if not (self.held or self.closed):
            self.held = True
            self._write = self._kept.append
            self.pause_writing()

    def let_go(self) -> None:
        """Write again, and what was kept first."""
        if self.held and not self.closed:
            self.held = False
            self._write = self._transport.write
            if self._out:
                self._withdraw(monotonic())
                self.flush()
            if self._kept:
                self._write(b"".join(self._kept))
                self._kept.clear()
            self.resume_writing()

    @property
    def awaited(self) -> int:
        """How many commands the server has been sent, and has not answered."""
        return len(self._expected) - len(self._out)

    # -- writing ---------------------------------------------------------------

    def _flush_or_schedule(self) -> None:
        """``_out`` has reached ``_flush_at``: write, or see to it that this turn ends so."""
        if self.closed:
            self._refuse()
        elif self._flush_at == 1 and len(self._expected) > 1:
            self._flush_at = FLUSH_AT_MOST
            self._loop.call_soon(self._flush_turn)
        else:
            self.flush()
            self._stay_awake()

    def _stay_awake(self) -> None:
        """Wait for the answers to what was written without sleeping, if that may pay."""
        if not 0 < len(self._expected) <= FEW:
            return
        if self._asleep:
            self._asleep -= 1
        elif not isinstance(self._expected[0], Batch):  # whose answer takes longer
            self._awake_until = self._home.stay_awake()
            self._asleep = ASLEEP  # until it turns out that it paid

    def _flush_turn(self) -> None:
        if not self.closed:
            self._flush_at = 1
            self.flush()
            self._stay_awake()

    def _refuse(self) -> None:
        """Something was issued on a closed connection."""
        self._out.clear()
        for reply in self.owed():
            reply.fail(
                ConnectionLost(f"the connection to {self.peer} is closed", outcome=reply.fate),
                self.metrics,
            )
        self._expected.clear()

    def flush(self) -> None:
        """Write what has been issued, unless the connection is held."""
        out = self._out
        if not out or self.held:
            return
        data = out[0] if len(out) == 1 else b"".join(out)
        self._written += len(out)
        self._timing.writes.append((self._written, monotonic()))
        out.clear()
        size = len(data)
        self.metrics.bytes_out += size
        if size >= FLIGHT_FROM:
            self._flights.leave(self._written, size)
        self._write(data)
        if not self.blocked and (
            self._flights.bytes > MAX_BYTES_IN_FLIGHT or len(self._expected) >= MAX_IN_FLIGHT
        ):
            self.pause_writing()

    def pause_writing(self) -> None:
        """From the transport, and from the bounds on what is in flight."""
        if not self.blocked:
            self.blocked = True
            self.owner.on_blocked(self)

    def resume_writing(self) -> None:
        if (
            self.blocked
            and not (self.closed or self.held)
            and len(self._expected) <= MAX_IN_FLIGHT // 2
            and self._flights.bytes <= MAX_BYTES_IN_FLIGHT // 2
            and self._transport.get_write_buffer_size() <= _WRITE_BUFFER // 2
        ):
            self.blocked = False
            self.owner.on_unblocked(self)

    # -- reading ---------------------------------------------------------------

    def count_into(self, metrics: PoolMetrics) -> None:
        """Count in ``metrics`` from now on, and add there the bytes that were counted so far."""
        metrics.bytes_in += self.metrics.bytes_in
        metrics.bytes_out += self.metrics.bytes_out
        self.metrics = metrics
        self._timing.count_into(metrics)

    def pause_reading(self) -> None:
        """Leave what comes in the socket, for an owner that cannot keep up."""
        if not self.closed:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.closed:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        home = self._home
        if home.forked:
            return  # the child of a fork that goes on with its parent's loop: nothing here is its
        metrics = self.metrics
        metrics.bytes_in += len(data)
        self.last_heard = monotonic()
        if self._awake_until:
            if perf_counter() < self._awake_until:
                self._asleep = 0
            home.sleep(self._awake_until)
            self._awake_until = 0.0
        self._unparsed += len(data)
        self._reader.feed(data)
        # A task may be running only under patched, re-entrant loops (notebooks).
        direct = current_task(self._loop) is None
        home.thread = get_ident()
        half = len(self._expected) // 2
        scheduled = self._flush_at == FLUSH_AT_MOST
        self._flush_at = FLUSH_AT_LEAST
        if half > FLUSH_AT_LEAST:  # not max(): its call costs as much as parsing a reply
            self._flush_at = half
        try:
            while True:
                try:
                    self._hand_out(direct)
                    break
                except UnicodeDecodeError as error:
                    self._undecodable(error)
        except (ProtocolError, MemoryError, TypeError) as error:
            # hiredis' own error, or its values could not be built: a length past all memory, a
            # list as a key.
            self.lose(self._protocol_error(error))
            return
        finally:
            home.thread = 0
        if self.closed:  # by a task that was woken
            return
        self._flush_at = 1
        answered = self._written - len(self._expected) + len(self._out)
        came = answered - self._answered
        if came:
            metrics.commands += came
            self._answered = answered
            self._unparsed = 0
            if self._flights.under_way:
                self._flights.land(answered)
        elif self._unparsed > MAX_REPLY_BYTES:
            self.lose(
                ProtocolError(f"{self.peer} sent a reply of more than {MAX_REPLY_BYTES:,} bytes")
            )
            return
        if self.one_of_many and came > 1 and self._out:
            self._await_others(scheduled)
        else:
            self.flush()
            self._stay_awake()
        if self.blocked:
            self.resume_writing()

    def _await_others(self, scheduled: bool) -> None:
        """What other servers' answers of this turn bring for this one is to go with what its own
        have brought: write at the end of the turn, unless that is ``scheduled`` already."""
        self._flush_at = FLUSH_AT_MOST
        if not scheduled:
            self._loop.call_soon(self._flush_turn)

    def _hand_out(self, direct: bool) -> None:  # noqa: PLR0912, PLR0915  # a call costs more
        """Parse what has arrived and complete the replies it answers. The hot loop.

        Args:
            direct: whether tasks may be woken at once: see :mod:`redisutils.connection.reply`.
        """
        expected = self._expected
        gets = self._gets
        error_replies = self._error_replies.parsed
        # What a woken task issues meanwhile cannot be answered by what has been received already.
        owed = len(expected) - len(self._out)
        timing = self._timing
        due = owed - timing.skip  # so many are owed when the next is measured
        if owed:
            first = expected[0]
            waited = self.last_heard - (first[3] if isinstance(first, tuple) else first.issued)
            if waited > timing.slow.floor:
                timing.measure_all(waited)
                due = owed
        try:
            while owed and expected:  # a woken task may have closed the connection
                reply = expected[0]
                if owed == due:
                    future = reply[0] if isinstance(reply, tuple) else reply.future
                    value, gap = self._measure(reply)
                    due -= gap
                elif isinstance(reply, tuple):
                    future, _, decode, _, _ = reply
                    value = gets(decode)
                else:
                    future = reply.future
                    value = self._read_for(reply)
                if value is _INCOMPLETE:
                    return
                if type(value) is _Push:
                    self._pushed(value)
                    continue
                expected.popleft()
                owed -= 1
                if error_replies and self._refused(reply, value):
                    continue
                callbacks = future._callbacks  # none when it is done, or nobody awaits it yet
                if direct and callbacks and len(callbacks) == 1:
                    ((callback, context),) = callbacks
                    future.remove_done_callback(callback)
                    future.set_result(value)
                    try:
                        context.run(callback, future)
                    except BaseException as error:  # noqa: BLE001  # not ours: told by the loop
                        self._tell(error, callback)
                else:
                    try:
                        future.set_result(value)
                    except InvalidStateError:  # the caller has gone: the reply is read and dropped
                        pass
        finally:
            if timing.whole:
                timing.whole = False
            else:
                timing.skip = owed - due
        if self._reader.has_data():
            self._read_unsolicited()

    def _measure(self, reply: Issued | Reply) -> tuple[Any, int]:
        """Parse the answer to ``reply`` and measure what it took.

        Returns the answer, and how many on from it the next is to be measured: none if it has
        not come yet.
        """
        began = monotonic()
        value = self._gets(reply[2]) if isinstance(reply, tuple) else self._read_for(reply)
        if value is _INCOMPLETE or type(value) is _Push:
            return value, 0
        place = self._written - len(self._expected) + len(self._out) + 1
        gap = self._timing.note(reply, value, place, received=self.last_heard, began=began)
        return value, gap

    def _pushed(self, message: Any) -> None:
        """A push message came between two answers."""
        self._unparsed = 0
        if self._error_replies.parsed:
            self._error_replies.disown(message)
        self.owner.on_push(self, message)

    def _tell(self, error: BaseException, callback: object) -> None:
        """A caller's callback failed, or its task was ended by SystemExit or the like."""
        if isinstance(error, Exception):
            self._loop.call_exception_handler(
                {"message": f"Exception in callback {callback!r}", "exception": error}
            )
        else:
            self._loop.call_soon(raise_, error)

    def _read_for(self, reply: Reply) -> Any:
        """Parse the answer to ``reply``."""
        if not isinstance(reply, Batch):
            return self._gets(reply.decode)
        had = len(reply.values)
        value = reply.fill(self._gets, _INCOMPLETE, _Push, self.tainted)
        if len(reply.values) > had:
            self._unparsed = 0
        if value is reply.values:
            self.metrics.commands += reply.size - 1
        return value

    def _refused(self, refused: Issued | Reply, value: Any) -> bool:
        """An error reply was parsed, at the top of ``value`` or within it. Count it; return
        True if the reply has been dealt with."""
        reply = as_reply(refused)
        errors = self._error_replies.take(reply, self.metrics)
        codes = [code for _, code in errors]
        if self.witness is not None:
            self.witness.refused(self, codes)
        code: str | None = codes[0]
        if isinstance(reply, Batch):
            code = refusal_of(value, codes)
        elif not isinstance(value, BaseException):
            code = None
        if code is not None:
            if self.owner.on_rejected(self, reply, value, code):
                return True
        elif isinstance(reply, Batch) and self.owner.on_partly_rejected(self, reply, value):
            return True
        if isinstance(value, BaseException):
            if self.server.get("mode") == "sentinel" and "unknown command" in str(value):
                value.args = (f"{value} ({self.peer} is a sentinel: {_OF_SENTINELS})",)
            reply.fail(value, self.metrics)
            return True
        if not (reply.done() or reply.is_own):  # the caller is told by what it is given
            for error, _ in errors:
                self.metrics.failed(error)
        return False

    def _undecodable(self, error: UnicodeDecodeError) -> None:
        """What came is not text in the asked-for encoding. The reader has moved on."""
        if not self._expected:
            self.owner.on_unreadable(self, error)
            return
        if self.tainted:
            # It may have been a push, which would leave the reply at the head still owed.
            self.lose(self._protocol_error(error))
            return
        reply = as_reply(self._expected.popleft())
        self._error_replies.parsed.clear()
        self.metrics.errors[type(error).__name__] += 1
        reply.fail(with_outcome(error, Outcome.EXECUTED), self.metrics)

    def _read_unsolicited(self) -> None:
        while not self.closed:
            value = self._gets(self.decode_pushes)
            if value is _INCOMPLETE:
                return
            self._unparsed = 0
            self._error_replies.parsed.clear()
            if type(value) is _Push:
                self.owner.on_push(self, value)
            else:
                self.owner.on_unsolicited(self, value)

    def _protocol_error(self, cause: Exception) -> ProtocolError:
        what = str(cause) if isinstance(cause, ProtocolError) else repr(cause)
        error = ProtocolError(f"{self.peer} does not speak the Redis protocol: {what}")
        error.__cause__ = cause
        return error

    # -- time ------------------------------------------------------------------

    def _arm(self, deadline: float) -> None:
        """Wake at ``deadline`` or when silence would be noticed, whichever is first."""
        if self.closed:
            return  # what was issued has been refused, and the loop would hold us until then
        now = monotonic()
        self._alarm.set(min(deadline, now + self._silence), now)

    def _on_alarm(self) -> None:
        """Fail what is past its deadline, notice silence, set the next alarm. O(in flight)."""
        now = monotonic()
        if self._out:
            self._withdraw(now)
        if not self._expected:
            return
        unanswered = self.owed()
        earliest = inf
        for reply in unanswered:
            if reply.done():
                continue
            if reply.deadline <= now:
                self._time_out(reply, now, Outcome.UNKNOWN)
            elif reply.deadline < earliest:
                earliest = reply.deadline
        since = max(self.last_heard, unanswered[0].issued)
        silent = now - since
        if self.held:  # and nobody expects an answer
            self._arm(min(earliest, now + self._silence))
        elif silent < self._silence:
            self._arm(min(earliest, since + self._silence))
        else:
            self._arm(earliest)
            self.owner.on_silent(self, silent)

    def _withdraw(self, now: float) -> None:
        """Of what has been issued and not written, fail what is past its deadline: it is not
        written any more. Either the connection is held, or this turn has kept the whole loop
        waiting for as long."""
        unsent = self.owed()[-len(self._out) :]
        self._out.clear()
        for _ in unsent:
            self._expected.pop()
        for reply in unsent:
            if reply.deadline <= now and not reply.done():
                self._time_out(reply, now, reply.fate)
            else:
                self._expected.append(reply)
                self._out.append(reply.payload)

    def _time_out(self, reply: Reply, now: float, outcome: Outcome) -> None:
        """The budget of ``reply`` is spent."""
        error = CommandTimeout(
            f"no answer from {self.peer} to {name_in(reply.payload)} within its "
            f"{reply.timeout:.3g} s "
            f"({len(self._expected)} in flight, last heard {now - self.last_heard:.3g} s ago)",
            outcome=outcome,
        )
        if not reply.is_own:
            self.metrics.ran_out(error)
        reply.fail(error, self.metrics)

    # -- the transport's callbacks ----------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass of it
        self._write = self._transport.write  # to bind a method at each write would cost
        self._transport.set_write_buffer_limits(high=_WRITE_BUFFER)

    def eof_received(self) -> bool:
        return False  # close our side too: connection_lost follows

    def connection_lost(self, exc: Exception | None) -> None:
        why = f": {exc}" if exc is not None else " by the server"
        error = ConnectionLost(f"the connection to {self.peer} was lost{why}")
        # Its frames, in the event loop, have what was being written among their locals.
        error.__cause__ = exc.with_traceback(None) if exc is not None else None
        self.lose(error)

    def _wrong_loop(self) -> WrongLoop:
        if os.getpid() != self._pid:
            return WrongLoop(
                f"this connection to {self.peer} was opened in process {self._pid} and this is its "
                f"child {os.getpid()}: open a pool of its own after the fork"
            )
        return WrongLoop(
            f"this connection to {self.peer} belongs to another event loop: open a pool in "
            "each loop (asyncio.run makes a new one each time), and close it before the loop ends"
        )
