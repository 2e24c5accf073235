"""The process that stands between a private server and the program that wants it.

Run as a script with ``python -I -S _supervisor.py PARENT_PID``; its standard input is one end
of a socket pair, the *channel*. It must stay small, single-threaded and within the standard
library: it is started for every private server.

Rules:

1. The server and its directory live no longer than the channel. End of file on it, a parent
   that is gone or a SIGTERM kill the server and remove the directory. SIGKILL of the parent is
   thereby covered too, with nothing that only one operating system has.
2. A process forked from the parent may hold a copy of the channel, so that no end of file
   comes; therefore the parent's identity is looked at every ``LOOK_AT_PARENT`` seconds.
3. Only this process signals and reaps the server, so a process number is never used after it
   may have been given to somebody else.
4. Nothing here waits without an end: who waits for the server does not see that the parent is
   gone. That a stop has come into effect is answered when the system says so, in :meth:`run`.
5. Secrets arrive over the channel and go into a file that only its owner may read; they are
   never an argument or an environment variable.

The channel carries one JSON object a line. Requests: ``{"launch": {"binary", "arguments",
"root", "config"}}`` is answered by ``{"launched": pid, "directory": path}`` or by
``{"failed": text}``; without a configuration (null) the server finds the file of the launch
before, as it left it. ``{"signal": number}`` is answered by ``{"signalled": number}``; SIGSTOP
when the server stands still, whoever has stopped it, or has ended.
``{"exited": code}`` comes by itself when the server has ended; the code is negative for a signal.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys
import time
from typing import Any

LOOK_AT_PARENT = 1.0
KILL_PATIENCE = 5.0
KILL_LOOK = 0.001
CONFIG_FILE = "server.conf"
LOG_FILE = "server.log"


class Supervisor:
    """One server, its directory and the channel to the parent."""

    def __init__(self, channel: socket.socket, parent: int) -> None:
        self._channel = channel
        self._parent = parent
        self._directory: str | None = None
        self._server: int | None = None
        self._stopped = False
        self._stop_unanswered = False
        self._unread = b""

    def run(self) -> None:
        """Serve requests until the parent is gone or has hung up."""
        signals, wake = socket.socketpair()
        signals.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        while os.getppid() == self._parent:
            ready, _, _ = select.select([self._channel, signals], [], [], LOOK_AT_PARENT)
            if signals in ready:
                if signal.SIGTERM in signals.recv(4096):
                    return
                self._look_at_server()
            if self._channel in ready:
                received = self._receive()
                if not received:
                    return
                *lines, self._unread = (self._unread + received).split(b"\n")
                for line in lines:
                    self._obey(json.loads(line))

    def clean_up(self) -> None:
        """Kill the server and remove its directory."""
        if self._server is not None:
            os.kill(self._server, signal.SIGKILL)
            deadline = time.monotonic() + KILL_PATIENCE
            # A disk that hangs can keep even a killed process.
            while not os.waitpid(self._server, os.WNOHANG)[0] and time.monotonic() < deadline:
                time.sleep(KILL_LOOK)
        if self._directory is not None:
            os.chdir("/")
            remove_tree(self._directory)

    def _obey(self, request: dict[str, Any]) -> None:
        self._stop_unanswered = False  # Nobody waits for that any more.
        if "launch" in request:
            try:
                self._launch(**request["launch"])
            except OSError as error:
                self._tell(failed=str(error))
            else:
                self._tell(launched=self._server, directory=self._directory)
        else:
            self._signal(request["signal"])

    def _launch(self, binary: str, arguments: list[str], root: str, config: str | None) -> None:
        if self._directory is None:
            directory = os.path.join(root, f"redisutils-{os.urandom(6).hex()}")
            os.mkdir(directory, 0o700)
            self._directory = directory
            os.chdir(directory)
        private = 0o600
        if config is not None:
            config_file = os.open(CONFIG_FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, private)
            with open(config_file, "w") as file:
                file.write(config)
        self._server = os.posix_spawn(
            binary,
            [binary, CONFIG_FILE, *arguments],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (
                    os.POSIX_SPAWN_OPEN,
                    1,
                    LOG_FILE,
                    os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                    private,
                ),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigdef=[signal.SIGINT, signal.SIGHUP, signal.SIGPIPE],
        )

    def _signal(self, number: int) -> None:
        self._look_at_server()
        if self._server is not None:
            os.kill(self._server, number)
            if number == signal.SIGCONT:
                self._stopped = False
            elif number == signal.SIGSTOP and not self._stopped:
                # The signal is delivered some time later: the answer must mean "has stopped".
                self._stop_unanswered = True
                self._look_at_server()
                return
        self._tell(signalled=number)

    def _look_at_server(self) -> None:
        """Notice that the server has stopped, goes on or has ended, if it has."""
        changes = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
        while self._server is not None:
            pid, status = os.waitpid(self._server, changes)
            if not pid:
                break
            self._stopped = os.WIFSTOPPED(status)
            if not (self._stopped or os.WIFCONTINUED(status)):
                self._server = None
                self._tell(exited=os.waitstatus_to_exitcode(status))
        if self._stop_unanswered and (self._stopped or self._server is None):
            self._stop_unanswered = False
            self._tell(signalled=int(signal.SIGSTOP))

    def _receive(self) -> bytes:
        try:
            return self._channel.recv(65536)
        except OSError:
            return b""

    def _tell(self, **event: object) -> None:
        try:
            self._channel.sendall(json.dumps(event).encode() + b"\n")
        except OSError:
            pass  # The parent has hung up; the next read finds that out.


def remove_tree(path: str) -> None:
    """Remove a directory with all that is in it; what cannot be removed is left."""
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            _quietly(os.unlink, os.path.join(folder, name))
        for name in folders:
            _quietly(os.rmdir, os.path.join(folder, name))
    _quietly(os.rmdir, path)


def _quietly(remove: Any, path: str) -> None:
    try:
        remove(path)
    except OSError:
        pass


def main() -> None:
    for awaited in (signal.SIGTERM, signal.SIGCHLD):
        # Only a signal with a handler reaches the wake-up descriptor, where run() reads it.
        signal.signal(awaited, lambda *_: None)
    for ignored in (signal.SIGINT, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    os.umask(0o077)
    supervisor = Supervisor(socket.socket(fileno=0), int(sys.argv[1]))
    try:
        supervisor.run()
    finally:
        supervisor.clean_up()


if __name__ == "__main__":
    main()
