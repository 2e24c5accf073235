"""Speaking to servers of a group, and waiting for what they do not announce.

All of it blocks: groups run it in threads. It goes by the Unix sockets, with the least that speaks
the protocol, so that nothing that is under test is part of it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import hiredis
import redis

from redisutils.connection.packing import pack_many
from redisutils.errors import ConnectFailed, ConnectTimeout, happened

from .server import EmbeddedServer

__all__ = [
    "Deadline",
    "Word",
    "ask",
    "ask_all",
    "ask_in_parallel",
    "ask_replication",
    "opened",
    "reply_of",
]

Word = str | bytes | int

# A key may be any bytes.
_ERRORS = "surrogateescape"

# How long a server may take for one answer, s: it is idle, but the machine may be busy.
_PATIENCE = 5.0

# Servers say nothing of links that come up or elections that end: they are asked this often, s.
_LOOK_INTERVAL = 0.02


class Deadline:
    """When an operation has to be finished; another thread may give it up before."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Make the present or next :meth:`wait_until` fail at once. For any thread."""
        self._given_up.set()

    def check(self, problem: str) -> None:
        """Nothing, unless it has passed or was given up: raises as :meth:`wait_until` then."""
        if time.monotonic() > self._end:
            raise ConnectTimeout(f"after {self._timeout} s {problem}")
        if self._given_up.is_set():
            raise ConnectFailed("given up")

    def wait_until(self, missing: Callable[[], str | None]) -> None:
        """Call ``missing`` until it finds nothing (None) that is still missing. An error from a
        server counts as something: it may be about to start or to end.

        :raises ConnectTimeout: past the deadline, with what was missing last.
        :raises ConnectFailed: when it was given up.
        """
        while True:
            try:
                problem = missing()
            except redis.RedisError as error:
                problem = happened(error)
            if problem is None:
                return
            if time.monotonic() > self._end:
                raise ConnectTimeout(f"after {self._timeout} s {problem}")
            if self._given_up.wait(_LOOK_INTERVAL):
                raise ConnectFailed("given up")


def ask(server: EmbeddedServer, *words: Word) -> Any:
    """A server's answer to one command: integers, texts and lists of them.

    :raises redis.RedisError: what the server says against it, or that it does not answer. The
        command, which may hold a secret, is not in it.
    """
    return ask_all(server, words)[0]


def ask_all(server: EmbeddedServer, *commands: Sequence[Word]) -> list[Any]:
    """The answers to several commands that arrive at the server at once; raises as :func:`ask`."""
    return ask_in_parallel(server, commands, 1)


def ask_in_parallel(
    server: EmbeddedServer, commands: Sequence[Sequence[Word]], connections: int
) -> list[Any]:
    """As :func:`ask_all`, over so many connections: for commands whose answers the server delays.
    The answers come in no order."""
    secret = [("AUTH", server.password)] if server.password else []
    parts = [part for part in (commands[at::connections] for at in range(connections)) if part]
    replies: list[Any] = []
    with ExitStack() as stack:
        try:
            open_ = [stack.enter_context(opened(server, [*secret, *part])) for part in parts]
            for connection, part in zip(open_, parts, strict=True):
                reader = hiredis.Reader(
                    replyError=redis.ResponseError, encoding="utf-8", errors=_ERRORS
                )
                answers = [reply_of(connection, reader) for _ in [*secret, *part]]
                for answer in answers:
                    if isinstance(answer, redis.ResponseError):
                        raise answer
                replies += answers[len(secret) :]
        except OSError as error:
            raise ConnectFailed(f"the server on port {server.port} does not answer") from error
    return replies


def ask_replication(server: EmbeddedServer) -> dict[str, str]:
    """What a server says about its replication, by field."""
    lines = ask(server, "INFO", "replication").splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def opened(server: EmbeddedServer, commands: Sequence[Sequence[Word]]) -> socket.socket:
    """A connection on which these commands have been sent."""
    with ExitStack() as undo:
        connection = undo.enter_context(socket.socket(socket.AF_UNIX))
        connection.settimeout(_PATIENCE)
        connection.connect(server.unix_socket)
        connection.sendall(pack_many(commands, errors=_ERRORS))
        undo.pop_all()  # it is the caller's to close
    return connection


def reply_of(connection: socket.socket, reader: hiredis.Reader) -> Any:
    """The next answer on such a connection. OSError when it does not come."""
    while (reply := reader.gets()) is False:
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError
        reader.feed(received)
    return reply
