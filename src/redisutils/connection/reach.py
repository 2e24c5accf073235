"""From a host name to a connected socket.

The system's resolver blocks, and a name server that does not answer makes it block for half a
minute. A caller's budget ends before that, and its next attempt asks again: waited for on the
event loop's executor, a few of these would occupy all of its threads, those that the program
wants for other work included, and hold up the program's end. So each name is asked for once at a
time, however many connections want it, in a thread that nobody has to wait for. Nothing is
remembered: a name that has moved is found at the next connect.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

__all__ = ["connect", "why"]

Addresses: TypeAlias = list[tuple[Any, Any, int, str, Any]]
"""What ``socket.getaddrinfo`` returns."""

_under_way: Final[dict[tuple[int, str, int], Future[Addresses]]] = {}
"""The lookups that have not ended, by process (the child of a fork has no thread of its
parent's), host and port."""


async def connect(host: str, port: int) -> socket.socket:
    """A socket without blocking that is connected to the first of the host's addresses that
    accepts.

    Raises:
        OSError: the name does not resolve (``socket.gaierror``), or no address accepts.
        UnicodeError, OverflowError: no host can have this name, or no port this number.
    """
    failures: list[OSError] = []
    told: list[str] = []
    for family, kind, protocol, _, address in await _resolve(host, port):
        try:
            return await _connect_to(family, kind, protocol, address)
        except OSError as error:
            failures.append(error)
            told.append(f"{address[0]}: {why(error)}")
    if len({error.errno for error in failures}) == 1:
        raise failures[0]
    raise OSError("; ".join(told) or "the name has no address")


def why(error: OSError) -> str:
    """What the system says of it. The event loops have words of their own, which are the same for
    whatever can go wrong with a connect."""
    said = error.strerror or str(error)
    if error.errno and said.startswith("Connect call failed"):
        return os.strerror(error.errno)
    return said


async def _connect_to(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    connection = socket.socket(family, kind, protocol)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _resolve(host: str, port: int) -> Addresses:
    try:  # An address in figures is nothing to ask anybody for.
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:
        return await asyncio.wrap_future(_lookup(host, port))


def _lookup(host: str, port: int) -> Future[Addresses]:
    """The lookup that is under way, or one that begins now."""
    key = os.getpid(), host, port
    mine: Future[Addresses] = Future()
    mine.set_running_or_notify_cancel()  # one who gives up cancels it for nobody else
    lookup = _under_way.setdefault(key, mine)  # atomic: loops in other threads ask here, too
    if lookup is mine:
        name = f"redisutils-resolve-{host}"
        try:
            threading.Thread(target=_ask, args=(key, mine), name=name, daemon=True).start()
        except BaseException:  # no thread to be had: the next one may have more luck
            del _under_way[key]
            raise
    return lookup


def _ask(key: tuple[int, str, int], lookup: Future[Addresses]) -> None:
    _, host, port = key
    try:
        addresses: Addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except BaseException as error:  # noqa: BLE001  # told to those who asked
        del _under_way[key]
        lookup.set_exception(error)
    else:
        del _under_way[key]
        lookup.set_result(addresses)
