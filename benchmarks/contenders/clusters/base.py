"""What the workloads of a cluster ask of a contender."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from benchmarks.contenders.base import Client


class ClusterClient(Client):
    """One client of a cluster; ``server.nodes`` are the nodes it is told of."""

    mget: Callable[[Sequence[str]], Awaitable[Any]]
    """Values of keys in any slots, in order: the library's own way to do that."""

    async def routing(self) -> float:
        """For ours alone: microseconds that routing takes of a GET, by itself."""
        raise NotImplementedError
