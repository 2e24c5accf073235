"""One snapshot of many servers.

Each server of a cluster counts by itself, and the whole is their sum, with what is counted of no
server in particular. Durations are not added up but measured in the whole from the beginning: its
histograms, means and slow commands are as exact as those of one server, and cost no more. Of the
breakers the worst is shown. The figures of the process are there once.

Servers come and go. What one has counted that is gone is adopted by the whole
(:meth:`redisutils.metrics.counters.PoolMetrics.adopt`): nothing that is counted ever falls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Final, TypeAlias

from redisutils.metrics.counters import WINDOWS, Gauges, PoolMetrics
from redisutils.metrics.snapshot import BreakerStatus, MetricsSnapshot, Rates

__all__ = ["Counted", "merged"]

Counted: TypeAlias = tuple[PoolMetrics, Gauges]
"""What a server counts, and what it knows at the moment."""

_WORSE: Final = ("closed", "half-open", "open")


def merged(whole: Counted, servers: Sequence[Counted]) -> MetricsSnapshot:
    """The snapshot of many servers, some 50 µs for each beyond that of one.

    Args:
        whole: what is counted and known of no server in particular, under the name of them all.
        servers: each of those there are; made with the former as their ``whole``. Of two with one
            endpoint, one about to leave, the latter stands among the snapshot's ``nodes``; both
            are counted.
    """
    own, known = whole
    counters = own.together([metrics for metrics, _ in servers])
    nodes = {gauges.endpoint: metrics.node(gauges) for metrics, gauges in servers}
    now = monotonic()
    return counters.snapshot(
        _summed(counters, known, [gauges for _, gauges in servers]),
        nodes=tuple(nodes.values()),
        rates=_rates([metrics.rates(now) for metrics in (own, *(each for each, _ in servers))]),
    )


def _summed(counters: PoolMetrics, known: Gauges, servers: Sequence[Gauges]) -> Gauges:
    every = (known, *servers)
    return Gauges(
        endpoint=known.endpoint,
        max_size=sum(each.max_size for each in every),
        size=sum(each.size for each in every),
        in_use=sum(each.in_use for each in every),
        waiting=sum(each.waiting for each in every),
        uncounted=sum(each.uncounted for each in every),
        in_flight=sum(each.in_flight for each in every),
        in_flight_bytes=sum(each.in_flight_bytes for each in every),
        lanes=tuple(lane for each in every for lane in each.lanes),
        breaker=replace(
            _worst([each.breaker for each in servers] or [known.breaker]),
            trips=counters.trips,
            refused=counters.refused,
        ),
    )


def _worst(breakers: Sequence[BreakerStatus]) -> BreakerStatus:
    """That which refuses, for the longest; of those that are closed, the one nearest to opening."""

    def badness(breaker: BreakerStatus) -> tuple[int, float, float]:
        state = _WORSE.index(breaker.state)
        return (state, breaker.seconds, 0.0) if state else (0, breaker.failures, -breaker.seconds)

    return max(breakers, key=badness)


def _rates(every: Sequence[Mapping[int, Rates]]) -> dict[int, Rates]:
    return {
        window: Rates(
            commands=sum(each[window].commands for each in every),
            failures=sum(each[window].failures for each in every),
            bytes_in=sum(each[window].bytes_in for each in every),
            bytes_out=sum(each[window].bytes_out for each in every),
        )
        for window in WINDOWS
    }
