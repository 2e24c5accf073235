"""A cluster whose nodes are played: for what real ones do only for a moment, or never."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import Any

from redisutils import RedisPool, create_redis_pool

from .peers import Peer

__all__ = ["PlayedCluster", "bulk", "played_cluster"]

Said = Callable[[list[bytes]], bytes | None]


def bulk(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return b"$%d\r\n%b\r\n" % (len(data), data)


class PlayedCluster:
    """Nodes that share the slots evenly, until ``ranges`` says otherwise.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.nodes = [Peer(self._answer(number)) for number in range(count)]
        bounds = [16384 * number // count for number in range(count + 1)]
        self.ranges: list[list[tuple[int, int]]] = [
            [(first, end - 1)] for first, end in pairwise(bounds)
        ]
        """By node, what the map says. Nodes without slots are not in it."""
        self.epochs = [1] * count
        """By node, the epoch that it knows."""
        self.said: list[Said] = [lambda command: b"+%b\r\n" % command[-1]] * count
        """By node, how it answers commands with keys."""
        self.told: Callable[[int], bytes] = lambda _: self.map()
        """What a node, by its number, says when it is asked for the map."""
        self.silent: set[int] = set()
        """The nodes that answer nothing at all."""

    def map(self, ranges: Sequence[Sequence[tuple[int, int]]] | None = None) -> bytes:
        """The answer to CLUSTER SLOTS."""
        lines = []
        for peer, owned in zip(self.nodes, ranges or self.ranges, strict=True):
            for first, last in owned:
                id_ = bulk(f"{peer.port:040d}")
                node = b"*3\r\n" + bulk("127.0.0.1") + b":%d\r\n" % peer.port + id_
                lines.append(b"*3\r\n:%d\r\n:%d\r\n" % (first, last) + node)
        return b"*%d\r\n" % len(lines) + b"".join(lines)

    def moved(self, slot: int, number: int) -> bytes:
        """The slot is that node's."""
        return b"-MOVED %d 127.0.0.1:%d\r\n" % (slot, self.nodes[number].port)

    def maps_asked(self) -> int:
        """How often anybody was asked for the map."""
        return sum(
            command[:2] == [b"CLUSTER", b"SLOTS"] for peer in self.nodes for command in peer.heard
        )

    def keyed(self, number: int) -> list[list[bytes]]:
        """What a node was asked that has a key."""
        ours = (b"CLUSTER", b"PING", b"UNWATCH", b"CLIENT")
        return [command for command in self.nodes[number].heard if command[0] not in ours]

    def _answer(self, number: int) -> Said:
        def answer(command: list[bytes]) -> bytes | None:
            if number in self.silent:
                return b""
            if command[0] == b"CLUSTER":
                if command[1] == b"INFO":
                    return bulk(f"cluster_current_epoch:{self.epochs[number]}\r\n")
                if command[1] == b"SLOTS":
                    return self.told(number)
                return b"-ERR unknown subcommand 'SHARDS'\r\n"
            if command[0] in (b"PING", b"UNWATCH", b"ASKING"):
                return b"+OK\r\n"
            return self.said[number](command)

        return answer


@asynccontextmanager
async def played_cluster(
    count: int = 2, **settings: Any
) -> AsyncIterator[tuple[PlayedCluster, RedisPool]]:
    """The nodes, and a pool for them that knows the first of them."""
    cluster = PlayedCluster(count)
    async with AsyncExitStack() as stack:
        for peer in cluster.nodes:
            await stack.enter_async_context(peer)
        seed = ("127.0.0.1", cluster.nodes[0].port)
        given = {"mode": "cluster", "nodes": [seed], "retry_delay_ms": 5, **settings}
        pool = await stack.enter_async_context(create_redis_pool(**given))
        yield cluster, pool
