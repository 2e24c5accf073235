"""The parent's end of the conversation with ``_supervisor.py``.

A :class:`Supervision` starts that small process, has it launch and signal one server, and hears
from it when the server ends. All of it blocks, but never long; :func:`in_thread` is for callers
on an event loop. It is not safe for several threads at once, with the exception of
:meth:`Supervision.abandon`.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout

from . import _supervisor

__all__ = ["Supervision", "in_thread"]

_T = TypeVar("_T")

# What the supervisor does on request takes it no time; only a machine at its limits needs this, s.
_PATIENCE = 10.0

# How long the supervisor may take to remove everything before it is killed too, s: more than it
# gives the system to end a killed server.
_END_PATIENCE = 10.0


class Supervision:
    """One supervisor, the server that it runs and their directory.

    Every method raises ConnectFailed when the supervisor has gone, after removing what it left.
    """

    def __init__(self) -> None:
        self.pid: int | None = None
        """The server's process number while it runs, as last heard."""
        self.directory: Path | None = None
        """The private directory, from the first launch to :meth:`end`."""
        self.exit_code: int | None = None
        """How the server last ended; negative for a signal."""
        self._owner = os.getpid()
        self._channel, theirs = socket.socketpair()
        self._unread = b""
        with theirs:
            self._process = self._run(theirs)

    def launch(self, binary: Path, config: str | None, arguments: Sequence[str] = ()) -> None:
        """Run the server on a configuration file with this text, or with None on the one of the
        launch before, as the server may have rewritten it."""
        self.exit_code = None
        request = {
            "binary": str(binary),
            "arguments": list(arguments),
            "root": tempfile.gettempdir(),
            "config": config,
        }
        self._request("launch", request, answer="launched")

    def signal(self, number: int) -> None:
        """Send the server a signal, if it still runs. After SIGSTOP it has stopped on return."""
        self._request("signal", int(number), answer="signalled")

    def wait_ended(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the server to end; whether it has."""
        deadline = time.monotonic() + timeout
        while self.pid is not None:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self.listen(remaining)
        return True

    def listen(self, timeout: float) -> set[str]:
        """Take in what the supervisor says within ``timeout`` seconds; the names of the events."""
        self._check()
        poll = select.poll()  # select() would fail on descriptors past 1023
        poll.register(self._channel, select.POLLIN)
        if not poll.poll(max(0.0, timeout) * 1000):
            return set()
        try:
            received = self._channel.recv(65536)
        except OSError:
            received = b""
        if not received:
            self.end()
            raise ConnectFailed("the private server's supervisor has gone")
        *lines, self._unread = (self._unread + received).split(b"\n")
        events: set[str] = set()
        for line in lines:
            event = json.loads(line)
            events |= event.keys()
            self._hear(event)
        return events

    def abandon(self) -> None:
        """Let the supervisor kill the server and go. For any thread: the one that listens hears
        of it at once."""
        try:
            self._channel.shutdown(socket.SHUT_RDWR)  # closing would not wake a reader
        except OSError:
            pass  # It is shut or closed already.

    def end(self) -> None:
        """End supervisor and server and remove the directory, whatever their state.

        A supervisor that does not go by itself in time is killed, and its server with it."""
        if os.getpid() != self._owner:
            self._channel.close()  # A forked copy of the owner: the server is not ours to end.
            return
        self.abandon()
        self._wait_for_supervisor()
        self._channel.close()
        directory, self.directory = self.directory, None
        pid, self.pid = self.pid, None
        if directory is not None and directory.exists():
            # The supervisor was killed, or it would have left nothing.
            if pid is not None:
                _kill(pid)
            _supervisor.remove_tree(str(directory))

    def _wait_for_supervisor(self) -> None:
        try:
            self._process.wait(_END_PATIENCE)
        except subprocess.TimeoutExpired:
            # Its session is its own, so its group is it and the server.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _run(self, channel: socket.socket) -> subprocess.Popen[bytes]:
        try:
            return subprocess.Popen(  # noqa: S603  # our own interpreter and script
                [sys.executable, "-I", "-S", _supervisor.__file__, str(self._owner)],
                stdin=channel.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,  # Ctrl-C is for the program, not for its server.
            )
        except OSError as error:
            self._channel.close()
            raise ConfigError(
                f"a private server needs a Python interpreter to watch over it, and "
                f"sys.executable={sys.executable!r} cannot be run: {error}"
            ) from error

    def _check(self) -> None:
        if os.getpid() != self._owner:
            raise ConnectFailed("the private server belongs to the process that started it")
        if self._channel.fileno() < 0:
            raise ConnectFailed("the private server's supervisor has gone")

    def _request(self, name: str, value: object, *, answer: str) -> None:
        self._check()
        try:
            self._channel.sendall(json.dumps({name: value}).encode() + b"\n")
        except OSError as error:
            self.end()
            raise ConnectFailed("the private server's supervisor has gone") from error
        deadline = time.monotonic() + _PATIENCE
        while answer not in self.listen(deadline - time.monotonic()):
            if time.monotonic() > deadline:
                raise ConnectTimeout("the private server's supervisor does not answer")

    def _hear(self, event: Mapping[str, Any]) -> None:
        if "launched" in event:
            self.pid = event["launched"]
            self.directory = Path(event["directory"])
        elif "exited" in event:
            self.pid = None
            self.exit_code = event["exited"]
        elif "failed" in event:
            raise ConnectFailed(f"the private server could not be run: {event['failed']}")


async def in_thread(work: Callable[[], _T], give_up: Callable[[], None] | None = None) -> _T:
    """Run ``work`` in a thread of its own, not on the event loop's executor, which may be full.

    A cancelled call still waits for the thread, after calling ``give_up`` to shorten that.
    """
    executor = ThreadPoolExecutor(1, thread_name_prefix="redisutils-server")
    future = asyncio.get_running_loop().run_in_executor(executor, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        if give_up is not None:
            give_up()
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue  # Once more changes nothing: the end is near, and must be waited for.
        future.exception()  # Seen; the cancellation is what the caller hears of.
        raise
    finally:
        executor.shutdown(wait=False)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except OSError:
        pass  # It has ended by itself.
