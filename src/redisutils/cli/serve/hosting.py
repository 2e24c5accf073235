"""Serving an application over HTTP inside a running event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from types import TracebackType
from typing import Final, Self

import uvicorn

from redisutils.cli.serve.protocol import GRACE, BoundedProtocol
from redisutils.monitor.app import MonitorApp
from redisutils.monitor.guard import LoopbackOnly

__all__ = ["Address", "CannotListen", "Host", "addresses", "listen"]

_BACKLOG: Final = 128
_LAST: Final = 2
"""Seconds after those that clients have at the end, in which answers that are for nobody may yet
see it."""


class CannotListen(Exception):
    """The address is taken, or none of this machine's."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    family: socket.AddressFamily
    host: str

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return ip_address(self.host.partition("%")[0]).is_loopback


def addresses(host: str) -> list[Address]:
    """What ``host`` means on this machine.

    Raises:
        CannotListen: nothing.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise CannotListen(f"the host {host!r} cannot be resolved: {why}") from None
    return list(dict.fromkeys(Address(family, str(place[0])) for family, *_, place in found))


def listen(places: Iterable[Address], port: int) -> list[socket.socket]:
    """Sockets that accept connections, one for each address.

    Args:
        port: 0 for any free one, the same for all.

    Raises:
        CannotListen: saying what is wrong.
    """
    sockets: list[socket.socket] = []
    for place in places:
        here = (place.host, port)
        # "::" is every address, as 0.0.0.0 is not: those of IPv4 as well.
        both = place.host == "::" and socket.has_dualstack_ipv6()
        try:
            sockets.append(
                socket.create_server(
                    here, family=place.family, backlog=_BACKLOG, dualstack_ipv6=both
                )
            )
        except OSError as error:
            for opened in sockets:
                opened.close()
            raise CannotListen(f"cannot listen on {_shown(*here)}: {_said(error)}") from None
        port = sockets[0].getsockname()[1]
    return sockets


def _shown(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _said(error: OSError) -> str:
    """Without the address, which Python's own text repeats."""
    return (error.strerror or str(error)).partition(" (")[0].lower()


class Host:
    """Serves ``app`` on ``sockets`` while it is entered.

    Args:
        any_name: answer whatever name the client knows this machine by. Without it, only as
            localhost: see :class:`redisutils.monitor.guard.LoopbackOnly`.
        name: another name that this machine's loopback has.
    """

    def __init__(
        self,
        app: MonitorApp,
        sockets: list[socket.socket],
        *,
        any_name: bool,
        name: str = "localhost",
    ) -> None:
        self._app = app
        self._sockets = sockets
        self._server = _Server(
            uvicorn.Config(
                app if any_name else LoopbackOnly(app, [name]),
                http=BoundedProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                log_level="error",  # whoever sends garbage shall not fill the log
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=int(GRACE) + _LAST,
            )
        )
        self._task: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where a browser on this machine finds it."""
        host, port, *_ = self._sockets[0].getsockname()
        if ip_address(host.partition("%")[0]).is_unspecified:
            host = "localhost"
        return f"http://{_shown(host, port)}/"

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._server.serve(self._sockets))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._task is not None
        await self._app.stop()  # or it would wait for streams that do not end
        self._server.should_exit = True
        await self._task

    async def ended(self) -> None:
        """Wait until it ends, which it does not by itself unless it fails: that is raised here,
        and when it is left."""
        assert self._task is not None
        await asyncio.shield(self._task)


class _Server(uvicorn.Server):
    """Leaves the signals to us."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
