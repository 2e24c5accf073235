"""Our client without its measuring, to tell what that costs. For the benchmark only: it reaches
into the connection, which has no such setting."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic

from redisutils import RedisPool
from redisutils.connection.reply import Issued, Reply
from redisutils.connection.timing import Timing
from redisutils.metrics.counters import PoolMetrics
from redisutils.topology.standalone import Standalone


class _Nowhere(list[tuple[int, float]]):
    """Keeps nothing."""

    def append(self, moment: tuple[int, float]) -> None:
        pass


class _NoTiming(Timing):
    """Measures no command, and keeps no moment."""

    def __init__(self, metrics: PoolMetrics) -> None:
        super().__init__("nobody", metrics)
        self.skip = sys.maxsize
        self.writes = _Nowhere()

    def begin(self, first: Issued | Reply, received: float) -> None:
        pass


@contextmanager
def unmeasured(pool: RedisPool) -> Iterator[None]:
    """Nothing on the shared connection of ``pool`` is measured meanwhile. No command may be in
    flight at either end."""
    server = pool.server
    assert isinstance(server, Standalone)
    connection = server.lane().connection
    assert connection is not None
    timing = connection._timing
    connection._timing = _NoTiming(server.metrics)
    metrics = server.metrics
    metrics.close()  # nor is the loop looked at
    began = monotonic()
    try:
        yield
    finally:
        connection._timing = timing
        timing.writes.clear()
        metrics.meter._began += monotonic() - began  # as if no time had passed
        assert metrics._pulse is not None
        metrics._pulse.join(metrics)
