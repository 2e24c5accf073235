"""A peer that says nothing.

A slow server and a dead connection look alike from here. Another connection tells: if the
server answers there and still not here, this one is dead, unless the server says that it lets
this one wait. When no other can be had, it is given up after ``patience``, or at the end of its
oldest command's budget if that is later.
"""

from __future__ import annotations

import asyncio
import logging
import re
from contextvars import Context
from time import monotonic
from typing import Final

from redis.exceptions import ResponseError

from redisutils.connection.packing import OwnPayload, pack
from redisutils.connection.protocol import Connection
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    PoolClosed,
    PoolTimeout,
)
from redisutils.metrics.counters import PoolMetrics
from redisutils.metrics.events import HARMLESS
from redisutils.pool.connecting import SHORTEST_ATTEMPT
from redisutils.pool.judgement import blocks
from redisutils.pool.pool import Lease, Pool

__all__ = ["Prober"]

logger = logging.getLogger("redisutils.lane")

_LONGEST_PROBE: Final = 5.0
"""Seconds for each step of asking a server by another connection; then it is asked anew."""

_PAUSE: Final = 0.25
"""Seconds until the server is asked anew when nothing could be learnt."""

_PING: Final = OwnPayload(pack(("PING",)))


class Prober:
    """Finds out about silent connections of a lane, and closes those that are dead.

    The connection by which it found out takes the dead one's place, if another is wanted.

    Args:
        name: the lane's, for messages.
        peer: the server's name, for messages.
        pool: where the other connection is taken from.
        metrics: where errors of its own are counted.
        patience: seconds of silence after which a connection is given up even though no other
            one could be opened to compare.
    """

    __slots__ = (
        "_loop",
        "_metrics",
        "_name",
        "_patience",
        "_peer",
        "_pool",
        "_probing",
        "_spare",
    )

    def __init__(
        self,
        name: str,
        peer: str,
        pool: Pool[Connection],
        metrics: PoolMetrics,
        *,
        patience: float,
    ) -> None:
        self._name = name
        self._peer = peer
        self._pool = pool
        self._metrics = metrics
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._probing: asyncio.Task[None] | None = None
        self._spare: Lease[Connection] | None = None

    def suspect(self, connection: Connection, seconds: float) -> None:
        """Nothing has been heard on ``connection`` for ``seconds``, although an answer is due."""
        oldest = connection.owed()[0]
        if blocks(oldest):
            return  # on a client's single connection: silence is what it asked for
        wanted = 0.0 if oldest.done() else oldest.timeout
        if seconds >= max(self._patience, wanted):
            connection.lose(_silent(self._peer, seconds))
        elif self._probing is None:
            self._probing = self._loop.create_task(self._probe(connection), context=Context())
            self._probing.add_done_callback(self._probed)

    def take_spare(self) -> Lease[Connection] | None:
        """The connection that answers while another is silent, as that one is closed; else None."""
        lease = self._spare
        if lease is None or lease.item.closed:
            return None
        self._spare = None
        return lease

    def close(self) -> None:
        """Ask no more."""
        if self._probing is not None:
            self._probing.cancel()

    async def _probe(self, connection: Connection) -> None:
        """Ask until the server answers somebody, or the connection is heard from or given up."""
        heard = connection.last_heard
        while not await self._learnt(connection):
            await asyncio.sleep(_PAUSE)
            if connection.closed or connection.last_heard != heard:
                return

    async def _learnt(self, connection: Connection) -> bool:
        """Ask the server by another connection, and close this one if it is dead; False if nobody
        has answered."""
        heard, unwritten = connection.last_heard, connection.unwritten
        attempt = min(max(SHORTEST_ATTEMPT, self._patience / 4), _LONGEST_PROBE)
        try:
            lease = await self._pool.get(wait=0, create=attempt, recycle=attempt)
        except (ConnectFailed, PoolTimeout, ConnectionLost):
            return False
        except PoolClosed:
            return True
        try:
            # The first shows that the server answers now, and not only a moment ago. What it
            # owed us on the silent connection it has sent by then: the second lets it arrive.
            await lease.item.submit(_PING, False, attempt)
            held_up = await _is_held_up(connection, lease.item, attempt)
        except ResponseError as error:
            # If it runs a script, perhaps the one that we wait for.
            held_up = str(error).startswith("BUSY")
        except (CommandTimeout, ConnectionLost):
            lease.release(discard=True)
            return False
        except BaseException:  # cancelled, above all, with an answer owed
            lease.release(discard=True)
            raise
        silent = connection.last_heard == heard and connection.unwritten >= unwritten
        if silent and not held_up and not connection.closed:
            self._spare = lease
            connection.lose(_silent(self._peer, monotonic() - heard, "while it answers others"))
            self._release_spare()
        else:
            lease.release()
        return True

    def _release_spare(self) -> None:
        """Nobody has taken it: no command waits for another connection."""
        lease, self._spare = self._spare, None
        if lease is not None:
            lease.release()

    def _probed(self, task: asyncio.Task[None]) -> None:
        self._probing = None
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._metrics.background_errors += 1
            with HARMLESS:
                logger.error("lane %s: probing failed", self._name, exc_info=error)


async def _is_held_up(connection: Connection, other: Connection, timeout: float) -> bool:
    """Ask over ``other`` whether the server itself lets ``connection`` wait, as it does with writes
    after CLIENT PAUSE (https://valkey.io/commands/client-list/, flag ``b``). It cannot be asked in
    RESP2, where connections do not know their number, nor by a user who may not CLIENT LIST. One
    round trip all the same."""
    number = connection.server.get("id")
    if number is None or other.address != connection.address:
        await other.submit(_PING, False, timeout)
        return False
    try:
        told = await other.submit(OwnPayload(pack(("CLIENT", "LIST", "ID", number))), True, timeout)
    except ResponseError as error:
        if str(error).startswith("BUSY"):
            raise
        return False  # an older server, or a user who may not ask
    flags = re.search(r" flags=(\S+)", str(told))
    return flags is not None and "b" in flags[1]


def _silent(peer: str, seconds: float, more: str = "") -> ConnectionLost:
    return ConnectionLost(
        f"{peer} has been silent on this connection for {seconds:.3g} s {more}".rstrip()
    )
