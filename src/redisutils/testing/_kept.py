"""One server for a whole test session, as good as new for each test.

Rules:

1. What can be emptied is emptied: data, scripts, functions, logs, counters; connections of the
   test before are closed first, so that nothing of theirs is executed afterwards.
2. All else that a test can have changed is not put right, but found: the server has to answer as
   it did when it was new (its configuration and its users), within :data:`_PATIENCE`, and to have
   no files but its first ones. If not, or if it was killed or stopped, another takes its place on
   the same port, with the same password.
"""

from __future__ import annotations

import os
import signal
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from .server import EmbeddedServer

__all__ = ["KeptServer"]

# A server takes a few milliseconds to be emptied; one that a test left busy or paused, for ever, s.
_PATIENCE = 5.0

_EMPTYING = (
    ("CLIENT", "UNPAUSE"),
    ("FLUSHALL", "SYNC"),
    ("SCRIPT", "FLUSH"),
    ("FUNCTION", "FLUSH"),
    ("SLOWLOG", "RESET"),
    ("LATENCY", "RESET"),
    ("ACL", "LOG", "RESET"),
    ("CONFIG", "RESETSTAT"),
)
_LOOKING = (("CONFIG", "GET", "*"), ("ACL", "LIST"))


class KeptServer:
    """The server of one kind, started when it is first wanted; blocking, for fixtures.

    :param kind: ``"valkey"``, ``"redis"`` or a program, as for :class:`EmbeddedServer`.
    """

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._server: EmbeddedServer | None = None
        self._port = 0
        self._new: object = None  # what it answered and which files it had when it was new

    def ready(self) -> EmbeddedServer:
        """The server, running, empty and configured as at first.

        :raises ConfigError: when there is no such server.
        :raises ConnectFailed: when it cannot be started; the end of its log is in the message.
        """
        if self._server is not None and self._as_new(self._server):
            return self._server
        self._launch()
        assert self._server is not None
        return self._server

    def close(self) -> None:
        """End the server and remove all it had."""
        if self._server is not None:
            self._server.process.close(grace=0.0)
            self._server = None

    def _launch(self) -> None:
        password = self._server.password if self._server is not None else None
        self.close()
        server = EmbeddedServer(self._kind, port=self._port, password=password)
        server.process.launch()
        self._server = server
        self._port = server.port
        self._new = _state(server)

    def _as_new(self, server: EmbeddedServer) -> bool:
        if not server.running:
            return False
        server.process.signal(signal.SIGCONT)  # it may have been paused
        try:
            return _state(server) == self._new
        except (redis.RedisError, OSError):
            return False  # It hangs, or does not know us any more.


def _state(server: EmbeddedServer) -> object:
    """Empty the server; all by which one that was tampered with differs from a new one."""
    assert server.process.directory is not None
    client: Any = redis.Redis(
        unix_socket_path=server.unix_socket,
        password=server.password or None,
        socket_timeout=_PATIENCE,
        socket_connect_timeout=_PATIENCE,
        retry=Retry(NoBackoff(), 0),
    )
    with client, client.pipeline(transaction=False) as pipe:
        pipe.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        for command in (*_EMPTYING, *_LOOKING):
            pipe.execute_command(*command)
        replies = pipe.execute(raise_on_error=False)[1:]
    # An older server does not know each command, and says so every time.
    said = [str(reply) if isinstance(reply, Exception) else reply for reply in replies]
    return sorted(os.listdir(server.process.directory)), said
