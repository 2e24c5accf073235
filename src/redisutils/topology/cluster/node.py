"""One server of several, and our pool for it once something goes there."""

from __future__ import annotations

from collections.abc import Callable

from redisutils.address import Address
from redisutils.topology.cluster.map import Member
from redisutils.topology.reading.figures import Figures
from redisutils.topology.standalone import Standalone

__all__ = ["Node"]


class Node:
    """See the module's docstring.

    Args:
        address: where it is reached from here.
        open_server: opens the pool.
    """

    __slots__ = (
        "_open",
        "_server",
        "address",
        "figures",
        "member",
        "primary",
        "replicas",
        "suspect",
    )

    def __init__(self, address: Address, open_server: Callable[[Address], Standalone]) -> None:
        self.address = address
        self.member: Member | None = None
        """As the cluster's map has it; None for a seed that is not in it."""
        self.primary: Node | None = None
        """Whom it follows, if it is a replica."""
        self.replicas: list[Node] = []
        """Who follows it, and is well as far as the cluster knows."""
        self.figures = Figures()
        """What is known of it as one to read from."""
        self.suspect = False
        """Whether it was lost or silent, and has not been heard since."""
        self._open = open_server
        self._server: Standalone | None = None

    def __repr__(self) -> str:
        return f"<Node {self.address}>"

    @property
    def server(self) -> Standalone:
        """Our pool for it, opened when first asked for; connections come later still."""
        if self._server is None:
            self._server = self._open(self.address)
        return self._server

    @property
    def opened(self) -> Standalone | None:
        """Our pool for it if there is one."""
        return self._server

    @property
    def connected(self) -> bool:
        """Whether the lane of all who name none has a connection."""
        return self._server is not None and self._server.lane().connection is not None

    @property
    def trouble(self) -> str | None:
        """Why that lane could not connect the last time, if it has none now."""
        return None if self._server is None else self._server.lane().connect_failure

    def retire(self) -> Standalone | None:
        """It has left: our pool for it is the caller's to close."""
        server, self._server = self._server, None
        return server
