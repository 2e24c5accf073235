"""The replies that a server owes, and how their callers are woken.

Theory of operation
-------------------
What a caller awaits between issuing a command and having its answer is a plain
``asyncio.Future``. Completing one asks the loop to run the waiting task *later*
(``call_soon``: a handle, a queue, another turn). A connection completes it otherwise:
it takes the task's wake-up out of the future and runs it *at once*, inside the read
callback (``Connection._hand_out``). The task's next command is then queued before the callback
ends, and a whole batch of next commands leaves in one write. It saves a fifth of the
cost of a command, and a turn of the loop in latency.

Rules
-----
* Only :meth:`Connection.data_received` may do so, and only while no task is running: a
  task cannot be stepped inside another task's step.
* Only when there is a single callback, or the order of several would be another one.
* Every other completion (cancelling, timeouts, lost connections) is the future's own,
  through the loop, since it may happen inside a task.
* An exception that leaves a task's step (KeyboardInterrupt, SystemExit) must not
  unwind the read loop: it is raised again from a callback of the loop.
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeAlias

from redisutils.commands import may_write
from redisutils.connection.packing import OwnPayload, unpack
from redisutils.errors import Outcome, with_outcome
from redisutils.metrics.counters import PoolMetrics

__all__ = ["Batch", "Issued", "Reply", "as_reply", "new_batch", "new_reply", "raise_"]

Issued: TypeAlias = tuple[Future[Any], bytes, bool, float, float]
"""A reply of which there is nothing to remember but the first five fields of :class:`Reply`, in
their order. Nearly every one is, and a tuple is made in a quarter of the time of an object."""


class Reply:
    """The answer that one command is owed."""

    __slots__ = (
        "attempts",
        "decode",
        "fate",
        "future",
        "issued",
        "payload",
        "redirects",
        "sent",
        "timeout",
    )

    def __init__(
        self, future: Future[Any], payload: bytes, decode: bool, issued: float, timeout: float
    ) -> None:
        self.future = future
        """What the caller awaits. An error reply is raised from it."""
        self.payload = payload
        """The packed command: kept until the answer is in, so that it can be sent again."""
        self.decode = decode
        """Whether strings in the answer are decoded."""
        self.issued = issued
        """When the caller issued it (``time.monotonic``)."""
        self.sent = issued
        """When it was last handed to a connection (``time.monotonic``)."""
        self.timeout = timeout
        """Its budget in seconds."""
        self.attempts = 0
        """How often it has been tried in vain."""
        self.redirects = 0
        """How often a server has named another one to be asked."""
        self.fate = Outcome.NOT_SENT
        """What is known of it while it is not on the wire: what became of it when it was."""

    @property
    def deadline(self) -> float:
        """When its budget ends (``time.monotonic``)."""
        return self.issued + self.timeout

    def done(self) -> bool:
        """Whether the caller has the answer or an error, or has gone."""
        return self.future.done()

    def tries(self) -> int:
        """Count one more attempt in vain and return how many there have been."""
        self.attempts += 1
        return self.attempts

    def fail(self, error: BaseException, metrics: PoolMetrics) -> None:
        """Complete with ``error``, counted in ``metrics``, unless the caller has gone."""
        if not self.future.done():
            if not self.is_own:
                metrics.failed(error, may_write=self._may_write)
            self.future.set_exception(error)

    @property
    def is_own(self) -> bool:
        """Whether no caller has issued it: see ``packing.OwnPayload``."""
        return type(self.payload) is OwnPayload

    def _may_write(self) -> bool:
        """Whether the command changes anything at the server. O(length of the payload)."""
        return any(map(may_write, unpack(self.payload)))


class Batch(Reply):
    """The answers to several commands that were written contiguously.

    The future's result is the list of their answers in order; an error reply stands in
    the list as an exception and is never raised from there.
    """

    __slots__ = ("size", "values")

    def __init__(
        self,
        future: Future[Any],
        payload: bytes,
        decode: bool,
        issued: float,
        timeout: float,
        size: int,
    ) -> None:
        super().__init__(future, payload, decode, issued, timeout)
        self.size = size
        """How many replies belong to it."""
        self.values: list[Any] = []
        """Those that have come."""

    def fill(
        self, gets: Callable[[bool], Any], incomplete: object, push: type, may_push: bool
    ) -> Any:
        """Read replies until the batch is whole.

        Returns the list of them when it is, ``incomplete`` when the reader ran dry, and a
        push message that came in between, which the caller handles before it calls again.

        Args:
            may_push: whether what does not decode might be a push, so that nobody can tell
                which reply is next. Then its UnicodeDecodeError is raised.
        """
        values = self.values
        decode = self.decode
        for _ in range(self.size - len(values)):
            try:
                value = gets(decode)
            except UnicodeDecodeError as error:
                if may_push:
                    raise
                value = with_outcome(error, Outcome.EXECUTED)
            if value is incomplete or type(value) is push:
                return value
            values.append(value)
        return values


def as_reply(owed: Issued | Reply) -> Reply:
    """``owed`` as an object, of which something can be remembered."""
    return Reply(*owed) if isinstance(owed, tuple) else owed


def new_reply(loop: AbstractEventLoop, payload: bytes, decode: bool, timeout: float) -> Reply:
    """A reply whose clock starts now, not sent yet. ``Connection.submit`` does the same inline."""
    return Reply(Future(loop=loop), payload, decode, monotonic(), timeout)


def new_batch(
    loop: AbstractEventLoop, payload: bytes, size: int, decode: bool, timeout: float
) -> Batch:
    """The same for ``size`` commands in one payload."""
    return Batch(Future(loop=loop), payload, decode, monotonic(), timeout, size)


def raise_(error: BaseException) -> None:
    """Raise what a woken task let through, where it harms no other."""
    raise error
