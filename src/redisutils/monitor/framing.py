"""A frame, made of two snapshots of a pool's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import frexp
from typing import Any, Final, cast

from redisutils.metrics import (
    CommandMetrics,
    LatencySnapshot,
    MetricsSnapshot,
    SlowCommand,
    Split,
)
from redisutils.monitor.frame import (
    CommandFrame,
    Frame,
    HealthFrame,
    LatencyFrame,
    ProcessFrame,
    ServerFrame,
    SlowFrame,
    SplitFrame,
)
from redisutils.monitor.members import lanes_together, node_frames
from redisutils.topology.facts import ServerFacts
from redisutils.topology.health import EndpointHealth

__all__ = ["COMMANDS", "SENTENCE", "brief", "make_frame", "server_frame"]

COMMANDS: Final = 12
"""Commands that a frame tells of: the busiest."""

_KINDS: Final = 20
"""Kinds of errors and of retries that a frame tells of."""

_NAME: Final = 200
"""Characters of a name at most: some are a server's, which may say anything at any length."""

SENTENCE: Final = 1000
"""Characters of a sentence at most, which may quote a server."""

_BANDS: Final = 4
"""Bands of the heat map in each power of two."""


def make_frame(
    before: MetricsSnapshot,
    now: MetricsSnapshot,
    *,
    at: float,
    health: HealthFrame,
    server: ServerFrame | None = None,
    endpoints: Sequence[EndpointHealth] = (),
    closed: bool = False,
    sidecar: bool = False,
) -> Frame:
    """The frame of what happened between two snapshots of one pool.

    Args:
        at: ``time.time()`` when ``now`` was taken.
        endpoints: what the latest health check tells of each server.
        closed: whether the pool is closed.
        sidecar: whether it is the monitor's own.
    """
    delta = now.since(before)
    seconds = max(delta.seconds, 1e-6)
    parts = delta.composition
    measured = bool(parts.latency.count)
    lanes = now.lanes if len(now.nodes) < 2 else lanes_together(now.lanes)
    nodes = node_frames(delta.nodes, endpoints, seconds)
    return {
        "at": round(at, 3),
        "seconds": _seconds(seconds),
        "endpoint": now.endpoint,
        "closed": closed,
        "sidecar": sidecar,
        "health": health,
        "throughput": {
            "commands": _rate(delta.commands, seconds),
            "failures": _rate(sum(delta.failures.values()), seconds),
            "bytes_in": _rate(delta.bytes_in, seconds),
            "bytes_out": _rate(delta.bytes_out, seconds),
        },
        "latency": _latency(delta.latency),
        "split": {
            "mean": _split(parts.mean(), measured),
            "p50": _split(parts.at(50), measured),
            "p95": _split(parts.at(95), measured),
            "p99": _split(parts.at(99), measured),
            "p999": _split(parts.at(99.9), measured),
        },
        "heat": _heat(delta.latency),
        "pool": {
            "max_size": now.max_size,
            "size": now.size,
            "in_use": now.in_use,
            "waiting": now.waiting,
        },
        "in_flight": now.in_flight,
        "in_flight_bytes": now.in_flight_bytes,
        "lanes": [
            {
                "name": brief(lane.name),
                "connected": lane.connected,
                "in_flight": lane.in_flight,
                "waiting": lane.waiting,
                "blocked": lane.blocked,
            }
            for lane in lanes
        ],
        "errors": [
            {"name": name, "outcome": outcome, "rate": rate, "total": total}
            for (name, outcome), rate, total in _counted(now.failures, delta.failures, seconds)
        ],
        "retries": [
            {"reason": brief(reason), "rate": rate, "total": total}
            for reason, rate, total in _counted(now.retries, delta.retries, seconds)
        ],
        "commands": _commands(delta.by_command, seconds),
        "slow": [_slow(command) for command in now.slow],
        "breaker": {
            "state": now.breaker.state,
            "seconds": _seconds(now.breaker.seconds),
            "failures": now.breaker.failures,
            "trips": now.breaker.trips,
            "refused": now.breaker.refused,
            "error": now.breaker.error and brief(now.breaker.error, SENTENCE),
        },
        "process": _process(delta, seconds),
        "server": server,
        "nodes": nodes,
        "nodes_in_all": max(len(nodes), len(now.nodes), len(endpoints)),
    }


def brief(text: str, most: int = _NAME) -> str:
    """``text``, or its beginning."""
    return text if len(text) <= most else text[: most - 1] + "…"


def server_frame(facts: ServerFacts) -> ServerFrame:
    """The part of them that is shown."""
    shown = {name: getattr(facts, name) for name in ServerFrame.__annotations__}
    for name, value in shown.items():
        if isinstance(value, str):
            shown[name] = brief(value)
    return cast(ServerFrame, shown)


def _seconds(seconds: float) -> float:
    """To the tenth of a microsecond: what is more is noise, and fills the wire."""
    return round(seconds, 7)


def _rate(count: float, seconds: float) -> float:
    return round(count / seconds, 3)


def _latency(latency: LatencySnapshot) -> LatencyFrame:
    if not latency.count:
        return {
            "count": 0,
            "mean": None,
            "p50": None,
            "p95": None,
            "p99": None,
            "p999": None,
            "max": None,
        }
    return {
        "count": latency.count,
        "mean": _seconds(latency.mean),
        "p50": _seconds(latency.p50),
        "p95": _seconds(latency.p95),
        "p99": _seconds(latency.p99),
        "p999": _seconds(latency.p999),
        "max": _seconds(latency.max),
    }


def _split(split: Split, measured: bool) -> SplitFrame:
    if not measured:
        return {"wait": None, "queue": None, "wire": None, "loop": None, "parse": None}
    return {
        "wait": _seconds(split.wait),
        "queue": _seconds(split.queue),
        "wire": _seconds(split.wire),
        "loop": _seconds(split.loop),
        "parse": _seconds(split.parse),
    }


def _heat(latency: LatencySnapshot) -> list[tuple[float, int]]:
    bands: dict[float, int] = {}
    for seconds, count in latency.spread():
        bound = _band(seconds)
        bands[bound] = bands.get(bound, 0) + count
    return list(bands.items())


def _band(seconds: float) -> float:
    """Where the band of ``seconds`` ends."""
    fraction, exponent = frexp(seconds)  # a fraction from a half to 1
    step = int((2 * fraction - 1) * _BANDS) + 1
    return float((1 + step / _BANDS) * 2.0 ** (exponent - 1))


def _counted(
    totals: Mapping[Any, int], more: Mapping[Any, int], seconds: float
) -> list[tuple[Any, float, int]]:
    """(what, rate, total), the most first."""
    found = [(what, _rate(more.get(what, 0), seconds), total) for what, total in totals.items()]
    found.sort(key=lambda row: (-row[1], -row[2], row[0]))
    return found[:_KINDS]


def _commands(by_command: Mapping[str, CommandMetrics], seconds: float) -> list[CommandFrame]:
    busy = [
        (name, calls, sum(calls.errors.values()))
        for name, calls in by_command.items()
        if calls.latency.count or calls.errors
    ]
    busy.sort(key=lambda row: (-row[1].latency.count, -row[2], row[0]))
    found: list[CommandFrame] = []
    for name, calls, errors in busy[:COMMANDS]:
        latency = _latency(calls.latency)
        found.append(
            {
                "name": name,
                "rate": _rate(calls.latency.count, seconds),
                "mean": latency["mean"],
                "p50": latency["p50"],
                "p99": latency["p99"],
                "errors": _rate(errors, seconds),
                "split": _split(calls.split, bool(calls.latency.count)),
            }
        )
    return found


def _slow(command: SlowCommand) -> SlowFrame:
    return {
        "at": round(command.at, 3),
        "command": command.command,
        "server": brief(command.server),
        "key": command.key and brief(command.key),
        "request_bytes": command.request_bytes,
        "reply_size": command.reply_size,
        "seconds": _seconds(command.seconds),
        "split": _split(command.split, measured=True),
    }


def _process(delta: MetricsSnapshot, seconds: float) -> ProcessFrame:
    process = delta.process
    lag, pauses = _latency(process.loop_lag), _latency(process.gc_pauses)
    return {
        "loop_lag_p50": lag["p50"],
        "loop_lag_p99": lag["p99"],
        "loop_lag_max": lag["max"],
        "gc_pauses": _rate(pauses["count"], seconds),
        "gc_pause_max": pauses["max"],
        "memory": process.memory,
        "cpu": round(process.cpu_seconds / seconds, 4),
    }
