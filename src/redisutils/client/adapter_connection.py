"""redis-py's connection interface on one of our connections."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf
from time import monotonic
from typing import Any

from redis._parsers import Encoder

from redisutils.client.inbox import Inbox
from redisutils.client.listening import Listening
from redisutils.client.source import Source
from redisutils.client.vigil import Vigil
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.pool.pool import Lease

__all__ = ["AdapterConnection"]


class AdapterConnection(Listening[Inbox]):
    """It reconnects when told to (``connect``).

    Args:
        source: gives the server.
        encoder: how strings are encoded and replies decoded.
        connection_kwargs: redis-py's arguments.
    """

    def __init__(
        self, source: Source, encoder: Encoder, connection_kwargs: Mapping[str, Any]
    ) -> None:
        super().__init__(source, encoder)
        self._interval = source.settings.health_check_interval
        self.health_check_interval = 0.0 if self._interval == inf else self._interval
        self.client_name = connection_kwargs.get("client_name")
        self.credential_provider = connection_kwargs.get("credential_provider")
        self._lease: Lease[Connection] | None = None

    def __repr__(self) -> str:
        state = repr(self._lease.item) if self._lease is not None else "not connected"
        return f"<AdapterConnection {state}>"

    @property
    def is_connected(self) -> bool:
        return self._lease is not None and not self._lease.item.closed

    async def _open(self) -> Inbox:
        self.give_back()
        server = self._source.server()
        lease = await server.checkouts_for(()).patiently(self.socket_timeout)
        self._lease = lease
        # What this connection will be used for cannot be undone by recycling.
        lease.item.tainted = True
        self._postpone_health_check()
        return Inbox(
            lease.item,
            decode=bool(self.encoder.decode_responses),
            vigil=Vigil(self._interval, self.socket_timeout),
        )

    async def send_command(self, *args: Any, **_: Any) -> None:
        await self.send_packed_command(
            pack(args, self.encoder.encoding, self.encoder.encoding_errors)
        )

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        if not self.is_connected:
            await self.connect()
        assert self._lease is not None
        payload = command if isinstance(command, bytes) else b"".join(command)
        self._lease.item.write(payload)

    async def _next(self, mail: Inbox, bound: float) -> tuple[Any, bool]:
        item = await super()._next(mail, bound)
        self._postpone_health_check()
        return item

    def _postpone_health_check(self) -> None:
        if self.health_check_interval:
            self.next_health_check = monotonic() + self.health_check_interval

    def give_back(self) -> None:
        """Let the pool close the connection: its state cannot be undone."""
        lease, self._lease = self._lease, None
        inbox, self._mail = self._mail, None
        if inbox is not None:
            inbox.detach()
        if lease is not None:
            lease.release(discard=True)
