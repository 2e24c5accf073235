"""The bus of a cluster, by which nodes speak to each other, led through here so that it can be cut.

Each node is told to announce a port of ours in place of that of its bus; the others then come
there, and are let through, or into a void. Who comes stands in the first message of each
connection: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ and the
servers' ``cluster_legacy.h`` (``clusterMsg``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress

__all__ = ["BusSwitch"]

_HOST = "127.0.0.1"

# Where the sender's id stands in a message: after a signature, a length, eight bytes of small
# fields and three numbers of eight.
_ID_AT, _ID_LENGTH = 40, 40

_CHUNK = 65536


class BusSwitch:
    """The way to the bus of one node, for an event loop.

    :param id_: the node's.
    :param port: of its bus.
    """

    def __init__(self, id_: str, port: int) -> None:
        self.port = 0
        """Where the others come in its stead, once it is open."""
        self._id = id_
        self._target = port
        self._isolated: Collection[str] = ()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._held: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._serve, _HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Let nobody in any more, and end what is open."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def isolate(self, ids: Collection[str]) -> None:
        """Lose what passes between these nodes and all others, and nothing else. Connections that
        lost something end when it is over: a message may have been torn."""
        self._isolated = ids
        for writer in self._held:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        ends = [writer]
        try:
            with suppress(OSError, EOFError):
                first = await reader.readexactly(_ID_AT + _ID_LENGTH)
                sender = first[_ID_AT:].decode("ascii", "replace")
                back, forth = await asyncio.open_connection(_HOST, self._target)
                ends.append(forth)

                def lost() -> bool:
                    if (sender in self._isolated) == (self._id in self._isolated):
                        return False
                    self._held.update(ends)
                    return True

                if not lost():
                    forth.write(first)
                await _both(_pump(reader, forth, lost), _pump(back, writer, lost))
        finally:
            for end in ends:
                self._held.discard(end)
                end.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: Callable[[], bool]
) -> None:
    while data := await reader.read(_CHUNK):
        if not lost():
            writer.write(data)
            await writer.drain()


async def _both(one: Awaitable[None], other: Awaitable[None]) -> None:
    """Wait until either has ended, and end the other."""
    tasks = [asyncio.ensure_future(one), asyncio.ensure_future(other)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
