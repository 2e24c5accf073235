"""Exported metrics of each server behind a pool, by the label ``node``.

Of a pool that speaks to one server they say the same as the metrics of the whole. Of many, the
whole says that something is wrong, and these where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from redisutils.metrics import LatencySnapshot, NodeMetrics
from redisutils.monitor.described import Described
from redisutils.monitor.reading import Reading
from redisutils.monitor.samples import Read, Sample, valid

__all__ = ["NODES"]

_STATES: Final = ("closed", "open", "half-open")


def _each(read: Callable[[NodeMetrics], float | LatencySnapshot]) -> Read:
    """A figure of each node. There are as many as the cluster has."""
    return lambda reading: (
        ((valid(node.endpoint),), read(node)) for node in reading.snapshot.nodes
    )


def _breakers(reading: Reading) -> Iterable[Sample]:
    return (
        ((valid(node.endpoint), state), float(state == node.breaker.state))
        for node in reading.snapshot.nodes
        for state in _STATES
    )


NODES: Final = (
    Described(
        "redisutils_node_commands",
        "counter",
        "",
        "Replies received from the server.",
        ("node",),
        _each(lambda node: node.commands),
        "redisutils.node.commands",
    ),
    Described(
        "redisutils_node_command_duration_seconds",
        "histogram",
        "seconds",
        "From issuing a command to handing over the server's answer; a pipeline is one. Without "
        "commands that block.",
        ("node",),
        _each(lambda node: node.latency),
        "redisutils.node.command.duration",
    ),
    Described(
        "redisutils_node_errors",
        "counter",
        "",
        "Troubles met with the server, each once, whether or not a retry mended it.",
        ("node",),
        _each(lambda node: node.errors),
        "redisutils.node.errors",
    ),
    Described(
        "redisutils_node_in_flight_commands",
        "gauge",
        "",
        "Commands written to the server or about to be, and not answered.",
        ("node",),
        _each(lambda node: node.in_flight),
        "redisutils.node.in_flight.commands",
    ),
    Described(
        "redisutils_node_connections",
        "gauge",
        "",
        "Connections to the server.",
        ("node",),
        _each(lambda node: node.size),
        "redisutils.node.connections.count",
    ),
    Described(
        "redisutils_node_in_use_connections",
        "gauge",
        "",
        "Those in use, lanes included, and on their way to a caller.",
        ("node",),
        _each(lambda node: node.in_use),
        "redisutils.node.connections.used",
    ),
    Described(
        "redisutils_node_breaker_state",
        "gauge",
        "",
        "1 for the state that the server's circuit breaker is in, 0 for the others.",
        ("node", "state"),
        _breakers,
        "redisutils.node.breaker.state",
    ),
)
