"""The promise of a reply, and how its caller is woken.

Theory of operation
-------------------
A ``Reply`` is what a caller awaits between issuing a command and having its
answer. It is a C ``asyncio.Future``, so that cancelling, ``asyncio.timeout`` and
task introspection work as everywhere else, with one difference: where a plain
future asks the loop to run the waiting task *later* (``call_soon``: a handle, a
queue, another turn), a reply that the connection completes runs the waiting task
*at once*, inside the read callback. The task's next command is then queued
before the callback ends, and a whole batch of next commands leaves in one write.
It saves a fifth of the cost of a command, and a turn of the loop in latency.

How: a future schedules its callbacks through ``fut._loop.call_soon(callback,
fut, context=...)``. The loop that a reply is given is a :class:`Waker`, which runs
the callback straight away if the connection is completing that very reply, and
otherwise hands it to the real loop. The task finds the real loop through
``get_loop()``, which a subclass may override.

Rules
-----
* Only :meth:`Connection.data_received` may set ``Waker.completing``, and only while no
  task is running: a task cannot be stepped inside another task's step.
* Every other completion (cancelling, timeouts, lost connections) goes through
  the real loop, since it may happen inside a task.
* An exception that leaves a task's step (KeyboardInterrupt, SystemExit) must not
  unwind the read loop: it is raised again from a callback of the real loop.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Callable
from contextvars import Context
from threading import get_ident
from time import monotonic
from types import BuiltinFunctionType
from typing import Any

from redisutils.errors import Outcome, with_outcome

__all__ = ["Batch", "Reply", "Waker", "new_batch", "new_reply"]


class Waker(weakref.ref[asyncio.AbstractEventLoop]):
    """Stands as the loop of all replies of one event loop. See the module's docstring.

    It is a weak reference because such a one, when it is called, returns what it refers to
    without a Python frame: see :attr:`Reply.get_loop`.
    """

    __slots__ = ("__weakref__", "completing", "done", "forked", "loop", "thread")

    # Asked by each new future; the answer "no" must not cost a Python call.
    # asyncio's debug mode still works: only the traceback of where each reply
    # was created is left out.
    get_debug = staticmethod(bool)

    completing: asyncio.Future[Any] | None
    """The reply that is being completed, whose task may be stepped at once."""
    done: asyncio.Future[None]
    """Any future that is done: see :meth:`call_soon`."""
    forked: bool
    """Whether this is a child of the process in which the loop was made."""
    loop: asyncio.AbstractEventLoop
    thread: int
    """The thread that runs the loop, while a connection hands out replies; else 0. Who is in it
    then is in the loop, which costs less to find out than ``get_running_loop()``: that is a
    system call before Python 3.12."""

    @classmethod
    def of(cls, loop: asyncio.AbstractEventLoop) -> Waker:
        """The one of ``loop``."""
        waker = _wakers.get(id(loop))  # which is its own for as long as its waker lives
        if waker is None:
            waker = _wakers[id(loop)] = cls(loop)
            waker.loop = loop
            waker.completing = None
            waker.done = asyncio.Future(loop=loop)
            waker.done.set_result(None)
            waker.forked = False
            waker.thread = 0
        return waker

    def is_here(self) -> bool:
        """Whether the caller runs in this loop. ``Connection.submit`` says the same inline."""
        return get_ident() == self.thread or asyncio.get_running_loop() is self.loop

    # Positional-only parameters: before Python 3.12, asyncio's keyword is not interned and
    # is compared by characters with every other name.
    def call_soon(
        self, callback: Callable[..., object], future: asyncio.Future[Any], /, *, context: Context
    ) -> None:
        if future is self.completing:
            self.completing = None
            # A C function bound to a task is its wake-up. It asks the future that it is given only
            # whether it failed, which this one did not, and a plain future is asked much more
            # cheaply than one of a subclass. What the task awaits is still the reply, and so is
            # what it gets.
            if type(callback) is BuiltinFunctionType and type(callback.__self__) is asyncio.Task:
                future = self.done
            try:
                context.run(callback, future)
            except BaseException as error:  # noqa: BLE001  # not ours: raised again by the loop
                self.loop.call_soon(_raise, error)
        else:
            self.loop.call_soon(callback, future, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.loop.call_exception_handler(context)


_wakers: weakref.WeakValueDictionary[int, Waker] = weakref.WeakValueDictionary()


def _forked() -> None:
    """In a child: no loop of its parent's is its own, even if it was forked by a woken task."""
    for waker in _wakers.values():
        waker.forked = True
        waker.thread = 0
    _wakers.clear()  # a loop that the child makes is another one, whatever its id


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


def _raise(error: BaseException) -> None:
    raise error


class Reply(asyncio.Future[Any]):
    """The answer to one command. Created by ``Connection.submit`` and by lanes."""

    __slots__ = ("attempts", "decode", "fate", "issued", "payload", "timeout")

    payload: bytes
    """The packed command: kept until the answer is in, so that it can be sent again."""
    decode: bool
    """Whether strings in the answer are decoded."""
    issued: float
    """When the caller issued it (``time.monotonic``)."""
    timeout: float
    """Its budget in seconds."""
    attempts: int
    """How often it has been tried in vain. Unset until that matters: see ``tries``."""
    fate: Outcome
    """What became of it when it was written before: UNKNOWN once a connection died with it,
    else REJECTED. Unset until it is to be written again."""

    # A future's task compares get_loop() with its own loop. This is the C getter of the loop that
    # the future was given, so reply.get_loop is the Waker, which when called returns the loop.
    get_loop = asyncio.Future._loop  # type: ignore[assignment]  # no method: see above

    @property
    def deadline(self) -> float:
        """When its budget ends (``time.monotonic``)."""
        return self.issued + self.timeout

    def tries(self) -> int:
        """Count one more attempt in vain and return how many there have been."""
        self.attempts = getattr(self, "attempts", 0) + 1
        return self.attempts

    def outcome_unsent(self) -> Outcome:
        """What is known of a command that is not on the wire now."""
        fate: Outcome = getattr(self, "fate", Outcome.NOT_SENT)
        return fate

    def fail(self, error: BaseException) -> None:
        """Complete with ``error``, unless the caller has gone."""
        if not self.done():
            self.set_exception(error)


class Batch(Reply):
    """The answers to several commands that were written contiguously.

    Its result is the list of their answers in order; an error reply stands in
    the list as an exception and is never raised from here.
    """

    __slots__ = ("size", "values")

    size: int
    """How many replies belong to it."""
    values: list[Any]
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


def new_reply(waker: Waker, payload: bytes, decode: bool, timeout: float) -> Reply:
    """A reply whose clock starts now, not sent yet. ``Connection.submit`` does the same inline."""
    reply = Reply(loop=waker)  # type: ignore[arg-type]  # stands as the loop: see above
    _fill_in(reply, payload, decode, timeout)
    return reply


def new_batch(waker: Waker, payload: bytes, size: int, decode: bool, timeout: float) -> Batch:
    """The same for ``size`` commands in one payload."""
    batch = Batch(loop=waker)  # type: ignore[arg-type]  # as above
    _fill_in(batch, payload, decode, timeout)
    batch.size = size
    batch.values = []
    return batch


def _fill_in(reply: Reply, payload: bytes, decode: bool, timeout: float) -> None:
    reply.payload = payload
    reply.decode = decode
    reply.issued = monotonic()
    reply.timeout = timeout
