"""Speaking to servers of a group, and waiting for what they do not announce.

All of it blocks: groups run it in threads. redis-py's blocking client on the Unix socket is the
way, so that neither a lack of ports nor our own connections under test are part of it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from redisutils.errors import ConnectFailed, ConnectTimeout

from .server import EmbeddedServer

__all__ = ["Deadline", "ask", "ask_all"]

Word = str | int

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
                problem = str(error)
            if problem is None:
                return
            if time.monotonic() > self._end:
                raise ConnectTimeout(f"after {self._timeout} s {problem}")
            if self._given_up.wait(_LOOK_INTERVAL):
                raise ConnectFailed("given up")


def ask(server: EmbeddedServer, *words: Word) -> Any:
    """A server's answer to one command, as redis-py decodes it.

    :raises redis.RedisError: what the server says against it, or that it does not answer.
    """
    return ask_all(server, words)[0]


def ask_all(server: EmbeddedServer, *commands: Sequence[Word]) -> list[Any]:
    """The answers to several commands that arrive at the server at once; raises as :func:`ask`."""
    with (
        redis.Redis.from_url(
            server.process.unix_url,
            decode_responses=True,
            socket_timeout=_PATIENCE,
            retry=Retry(NoBackoff(), 0),
        ) as client,
        client.pipeline(transaction=False) as pipeline,
    ):
        for command in commands:
            pipeline.execute_command(*command)
        return list(pipeline.execute())
