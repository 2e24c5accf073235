"""A fault proxy that knows which server it stands before."""

from __future__ import annotations

from urllib.parse import quote

from ._checks import check_kind
from .proxy import FaultProxy
from .server import EmbeddedServer

__all__ = ["ServerProxy"]


class ServerProxy(FaultProxy):
    """A :class:`FaultProxy` before a running ``server``, with a URL for clients.

    ::

        async with ServerProxy(server) as proxy, create_redis_pool(url=proxy.url) as pool:
            ...

    :param seed: of what is random, as for a FaultProxy.
    :raises ConfigError: when ``server`` is none.
    :raises ConnectFailed: when it has no port, or none yet: it has to be started first.
    """

    __slots__ = ("_server",)

    def __init__(self, server: EmbeddedServer, *, seed: int | None = None) -> None:
        check_kind("server", server, EmbeddedServer, "an EmbeddedServer")
        super().__init__(server.host, server.port, seed=seed)
        self._server = server

    @property
    def url(self) -> str:
        """A URL of the server by way of this proxy, with the password in it.

        :raises RuntimeError: before the proxy is entered.
        """
        password = quote(self._server.password, safe="")
        credentials = f":{password}@" if password else ""
        return f"redis://{credentials}{self.host}:{self.port}/0"
