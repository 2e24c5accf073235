"""Faults of servers as plain data, for a timeline."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field

from ._checks import refuse
from .faults import Fault
from .proxy import FaultProxy
from .server import EmbeddedServer

__all__ = ["Freeze", "Kill", "Restart", "ServerFault"]


@dataclass(frozen=True)
class ServerFault(Fault):
    """A fault of a server, whatever the proxy does. One server has one at a time.

    ``name`` stands for the server in a timeline's text, and should tell several apart: ports and
    process numbers change from run to run. Default ``"server"``.
    """

    server: EmbeddedServer = field(repr=False)
    name: str = "server"

    def __post_init__(self) -> None:
        if not isinstance(self.server, EmbeddedServer):
            refuse("server", self.server, "must be an EmbeddedServer")

    @property
    def claims(self) -> frozenset[str]:
        """The server."""
        return frozenset({f"server {id(self.server):#x}"})

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.name})"


@dataclass(frozen=True)
class Freeze(ServerFault):
    """The server stands still (SIGSTOP), and goes on at the end."""

    def begin(self, proxy: FaultProxy) -> Awaitable[None]:
        """It stops."""
        return self.server.pause()

    def end(self, proxy: FaultProxy) -> Awaitable[None]:
        """It goes on."""
        return self.server.resume()


@dataclass(frozen=True)
class Kill(ServerFault):
    """The server is killed (SIGKILL), and started again at the end; with ``lasting=0`` at once.
    What it had is there again only if it was started with ``appendonly=True``."""

    def begin(self, proxy: FaultProxy) -> Awaitable[None]:
        """It is killed."""
        return self.server.kill()

    async def end(self, proxy: FaultProxy) -> None:
        """It starts, unless somebody has started it already."""
        if not self.server.running:
            await self.server.start()


@dataclass(frozen=True)
class Restart(ServerFault):
    """The server is ended gently and started again."""

    @property
    def lasts(self) -> bool:
        """No: it is over when the server answers again."""
        return False

    def begin(self, proxy: FaultProxy) -> Awaitable[None]:
        """It restarts."""
        return self.server.restart()
