"""What the road of a packed command to the lane of its node takes: for ours alone, whose inside it
reaches into."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import thread_time
from typing import Any

from benchmarks.server import KEYS, key_name
from redisutils import RedisPool
from redisutils.connection.packing import pack
from redisutils.topology.cluster.cluster import Cluster

CALLS = 2_000
"""Commands of one kind."""

_RUNS = 200


class _Sink:
    """Takes commands, and does nothing with them."""

    def submit(self, _payload: bytes, _decode: bool, _timeout: float) -> None:
        pass


def gets() -> list[bytes]:
    """Packed GETs of keys all over the slots."""
    return [pack(("GET", key_name(number % KEYS))) for number in range(CALLS)]


async def by_itself(pool: RedisPool, commands: dict[str, list[bytes]]) -> dict[str, float]:
    """Microseconds of routing for each kind of command, least of many short runs: that is the same
    work each time, and whatever else the machine does only adds to the others.

    No command may be in flight on ``pool``; it is as before afterwards.
    """
    await pool.client.ping()
    cluster = pool.server
    assert isinstance(cluster, Cluster)
    lane = cluster.lane()
    sink: Any = _Sink()
    kept = dict(lane._lanes)
    lane._lanes.update(dict.fromkeys(set(cluster.owners), sink))
    try:
        return {
            name: _least(lane.submit, packed) - _least(sink.submit, packed)
            for name, packed in commands.items()
        }
    finally:
        lane._lanes.clear()
        lane._lanes.update(kept)


def _least(submit: Callable[[bytes, bool, float], Any], commands: Sequence[bytes]) -> float:
    """Microseconds for a call of ``submit``."""
    best = float("inf")
    for _ in range(_RUNS):
        began = thread_time()
        for command in commands:
            submit(command, True, 1.0)
        best = min(best, thread_time() - began)
    return best / len(commands) * 1e6
