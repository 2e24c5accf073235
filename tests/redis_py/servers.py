"""Private servers on loopback, one for each job."""

from __future__ import annotations

import contextlib
import functools
import socket
import subprocess
from collections.abc import Iterator

from redisutils.testing import EmbeddedServer, find_servers

KINDS = ("valkey", "redis")


class ServerError(Exception):
    """A server is not there, or not what it should be; the message says why."""


def installed(kind: str) -> bool:
    """Return whether there is a server of that kind on this machine."""
    return kind in find_servers()


@functools.cache
def describe(kind: str) -> str:
    """Return name and version, such as ``valkey 9.1.2``."""
    program = {str(name): str(path) for name, path in find_servers().items()}[kind]
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    for word in said.stdout.split():
        if word.startswith("v="):
            return f"{kind} {word.removeprefix('v=')}"
    raise ServerError(f"{program} does not say its version: {said.stdout!r}")


@contextlib.contextmanager
def running(kind: str) -> Iterator[int]:
    """Run an empty server of that kind; yields its port on 127.0.0.1.

    It has no password, for redis-py's tests expect none, and set one of their own now and then.
    They provoke errors with DEBUG.
    """
    config = {"enable-debug-command": "local"}
    with EmbeddedServer(kind, password="", config=config) as server:
        yield server.port


@contextlib.contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a loopback port that nobody else is given; a listener needs SO_REUSEADDR to use it."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))  # bound, never listening
        port: int = holder.getsockname()[1]
        yield port
