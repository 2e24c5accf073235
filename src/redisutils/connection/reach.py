"""From a host name to addresses.

The system's resolver blocks, and a name server that does not answer makes it block for half a
minute. A caller's budget ends before that, and its next attempt asks again: waited for on the
event loop's executor, a few of these would occupy all of its threads, those that the program
wants for other work included, and hold up the program's end. So whoever wants a name joins those
who want it already, and the asking is done by threads that nobody has to wait for.

A query may get lost: when one has not been answered for a while, the next who comes asks anew,
ever more rarely, and the first answer is everybody's. Nothing is remembered: a name that has
moved is found at the next connect.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import Future, InvalidStateError
from time import monotonic
from typing import Any, Final, TypeAlias

__all__ = ["addresses", "why"]

Resolved: TypeAlias = list[tuple[Any, Any, int, str, Any]]
"""What ``socket.getaddrinfo`` returns."""

ASK_AGAIN: Final = 0.5
"""Seconds after which a name is asked for anew, doubled each time."""

MOST_THREADS: Final = 8
"""How many may be asking for one name: the last of them begins after a minute."""


class _Question:
    """A name that is being asked for."""

    __slots__ = ("again", "answer", "threads")

    def __init__(self) -> None:
        self.answer: Future[Resolved] = Future()
        self.answer.set_running_or_notify_cancel()  # one who gives up cancels it for nobody else
        self.threads = 0
        self.again = 0.0
        """When to ask once more (``time.monotonic``)."""


_open: Final[dict[tuple[int, str, int], _Question]] = {}
"""The questions without an answer, by process (the child of a fork has no thread of its
parent's), host and port."""


async def addresses(host: str, port: int) -> list[str]:
    """The host's addresses in figures, in the order in which they are to be tried.

    Raises:
        OSError: the name does not resolve (``socket.gaierror``), or cannot be asked for.
        UnicodeError, OverflowError: no host can have this name, or no port this number.
    """
    try:  # An address in figures is nothing to ask anybody for.
        socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return [host]
    except socket.gaierror:
        resolved = await asyncio.wrap_future(_ask(host, port))
    return [_figures(address) for *_, address in resolved]


def why(error: OSError) -> str:
    """What the system says of it. The event loops have words of their own, which are the same for
    whatever can go wrong with a connect."""
    said = error.strerror or str(error)
    if error.errno and "onnect call failed" in said:
        return os.strerror(error.errno)
    return said


def _figures(address: Any) -> str:
    """Of a link-local address, its interface is a part."""
    host: str = address[0]
    scope = address[3] if len(address) == 4 else 0
    return f"{host}%{scope}" if scope and "%" not in host else host


def _ask(host: str, port: int) -> Future[Resolved]:
    """Join the question for this name, or begin it. Ask, unless somebody has just done so."""
    key = os.getpid(), host, port
    question = _open.setdefault(key, _Question())  # atomic: loops in other threads ask here, too
    now = monotonic()
    if now >= question.again and question.threads < MOST_THREADS:
        question.again = now + ASK_AGAIN * 2**question.threads
        question.threads += 1
        thread = threading.Thread(
            target=_look_up, args=(key, question), name=f"redisutils-resolve-{host}", daemon=True
        )
        try:
            thread.start()
        except RuntimeError as error:  # no thread is to be had
            _settle(key, question, OSError(f"the name cannot be looked up: {error}"))
    return question.answer


def _look_up(key: tuple[int, str, int], question: _Question) -> None:
    _, host, port = key
    answer: Resolved | BaseException
    try:
        answer = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except BaseException as error:  # noqa: BLE001  # told to those who asked
        answer = error
    _settle(key, question, answer)


def _settle(
    key: tuple[int, str, int], question: _Question, answer: Resolved | BaseException
) -> None:
    if _open.get(key) is question:
        _open.pop(key, None)
    try:
        if isinstance(answer, BaseException):
            question.answer.set_exception(answer)
        else:
            question.answer.set_result(answer)
    except InvalidStateError:
        pass  # Another thread was quicker.
