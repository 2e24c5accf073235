"""From the host's name to its addresses; for a Unix socket, the file."""

from __future__ import annotations

import os
import socket
import stat
from time import perf_counter
from typing import Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import listed, span
from redisutils.connection.reach import addresses, why

__all__ = ["check_name"]

SLOW: Final = 0.2
"""Seconds for a name beyond which new connections are felt to be slow."""


async def check_name(case: Case, say: Say) -> None:
    """The step."""
    path = case.config.unix_socket_path
    if path is not None:
        _look_at_socket(path, say)
        return
    host = case.config.host
    started = perf_counter()
    try:
        found = await addresses(host, case.config.port)
    except (OSError, UnicodeError) as error:
        told = why(error) if isinstance(error, OSError) else "no host can have such a name"
        passing = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
        say.error(
            f"{host} does not resolve: {told}",
            "The name server did not answer: see /etc/resolv.conf, and try again."
            if passing
            else f"Check the spelling of REDIS_HOST; `getent hosts {host}` asks as this program "
            "does. Names of containers are known on their own network only; in Kubernetes write "
            "service.namespace.",
            host=host,
        )
        raise Stop from None
    took = perf_counter() - started
    case.addresses = list(dict.fromkeys(found))
    if case.addresses == [host]:
        say.ok(f"{host} is an address", addresses=case.addresses)
        return
    facts = {"addresses": case.addresses, "seconds": took}
    told = f"{host} is {listed(case.addresses)}; to ask took {span(took)}"
    if took < SLOW:
        say.ok(told, **facts)
    else:
        say.warning(
            told,
            "Each new connection waits for that. Use a resolver on this machine that remembers "
            "(systemd-resolved, nscd, dnsmasq), or an address in REDIS_HOST.",
            **facts,
        )


def _look_at_socket(path: str, say: Say) -> None:
    try:
        found = os.stat(path)
    except OSError as error:
        say.error(
            f"the socket {path}: {error.strerror}",
            "Is the server running, and is this the `unixsocket` of its configuration? "
            "In a container the socket's folder must be mounted.",
            path=path,
        )
        raise Stop from None
    if not stat.S_ISSOCK(found.st_mode):
        say.error(f"{path} is no socket", "Set REDIS_URL=unix:///path to the server's socket.")
        raise Stop
    if not os.access(path, os.W_OK):
        say.error(
            f"this user may not write to the socket {path}",
            "Set `unixsocketperm 770` in the server's configuration, and add this user to the "
            "server's group.",
            path=path,
        )
        raise Stop
    say.ok(f"the socket {path} is there, and may be used", path=path)
