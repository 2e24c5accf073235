"""Frames from elsewhere, made fit to be drawn.

They may be those of another version, or anything: what is missing or of another kind becomes the
nothing of its kind, what is too much is cut, and no character reaches the terminal that it would
obey.
"""

from __future__ import annotations

import json
from math import isfinite
from typing import Any, Final, cast

from redisutils.metrics import PARTS
from redisutils.monitor.frame import Frame

__all__ = ["read_frame", "read_frames"]

_MOST: Final = 128
"""Entries of a list."""

_LONGEST: Final = 300
"""Characters of a text."""

_SPLIT: Final = dict.fromkeys(PARTS, "number?")

_LATENCY: Final = {
    "count": "number",
    **dict.fromkeys(("mean", "p50", "p95", "p99", "p999", "max"), "number?"),
}

_SERVER: Final = {
    "kind": "text",
    **dict.fromkeys(("version", "role", "eviction_policy", "persistence"), "text?"),
    **dict.fromkeys(
        ("uptime", "used_memory", "maxmemory", "clients", "maxclients", "ops", "hit_rate",
         "replicas", "replication_lag", "keys"),
        "number?",
    ),
    "loading": "flag",
}  # fmt: skip

_FRAME: Final[dict[str, Any]] = {
    "at": "number",
    "seconds": "number",
    "endpoint": "text",
    "closed": "flag",
    "health": {"status": "text", "reasons": ["text"], "round_trip": "number?"},
    "throughput": dict.fromkeys(("commands", "failures", "bytes_in", "bytes_out"), "number"),
    "latency": _LATENCY,
    "split": dict.fromkeys(("mean", "p50", "p95", "p99", "p999"), _SPLIT),
    "pool": dict.fromkeys(("max_size", "size", "in_use", "waiting"), "number"),
    "in_flight": "number",
    "in_flight_bytes": "number",
    "lanes": [
        {
            "name": "text",
            "connected": "flag",
            "in_flight": "number",
            "waiting": "number",
            "blocked": "flag",
        }
    ],
    "errors": [{"name": "text", "outcome": "text", "rate": "number", "total": "number"}],
    "retries": [{"reason": "text", "rate": "number", "total": "number"}],
    "commands": [
        {
            "name": "text",
            "rate": "number",
            "mean": "number?",
            "p50": "number?",
            "p99": "number?",
            "errors": "number",
            "split": _SPLIT,
        }
    ],
    "slow": [
        {
            "at": "number",
            "command": "text",
            "server": "text",
            "key": "text?",
            "request_bytes": "number",
            "reply_size": "number?",
            "seconds": "number",
            "split": _SPLIT,
        }
    ],
    "breaker": {
        "state": "text",
        "seconds": "number",
        "failures": "number",
        "trips": "number",
        "refused": "number",
        "error": "text?",
    },
    "process": dict.fromkeys(
        ("loop_lag_p50", "loop_lag_p99", "loop_lag_max", "gc_pauses", "gc_pause_max", "memory",
         "cpu"),
        "number?",
    ),
    "server": (_SERVER,),
    "nodes": [
        {
            "endpoint": "text",
            **dict.fromkeys(("role", "status", "follows", "zone"), "text?"),
            **dict.fromkeys(("reachable", "connected"), "flag"),
            **dict.fromkeys(("slots", "p99", "lag", "behind"), "number?"),
            **dict.fromkeys(("rate", "in_flight", "waiting", "size"), "number"),
            **dict.fromkeys(("ranges", "breaker"), "text"),
        }
    ],
    "nodes_in_all": "number",
}  # fmt: skip
"""What is drawn. A list of one: any number of these; a tuple of one: it, or None."""


def read_frame(data: bytes) -> Frame:
    """One frame.

    Raises:
        ValueError: it is no JSON object.
    """
    found = json.loads(data)
    if not isinstance(found, dict):
        raise ValueError("a frame must be an object")
    return cast(Frame, _fit(found, _FRAME))


def read_frames(data: bytes) -> list[Frame]:
    """A list of frames.

    Raises:
        ValueError: it is none.
    """
    found = json.loads(data)
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise ValueError("the history must be a list of objects")
    return [cast(Frame, _fit(each, _FRAME)) for each in found]


def _fit(value: Any, form: Any) -> Any:
    if isinstance(form, dict):
        known = value if isinstance(value, dict) else {}
        return {name: _fit(known.get(name), part) for name, part in form.items()}
    if isinstance(form, list):
        return [_fit(each, form[0]) for each in value[:_MOST]] if isinstance(value, list) else []
    if isinstance(form, tuple):
        return _fit(value, form[0]) if isinstance(value, dict) else None
    if form == "flag":
        return value is True
    if form.startswith("number"):
        usual = isinstance(value, int | float) and not isinstance(value, bool)
        if usual and abs(value) < 1e18 and isfinite(value):
            return value
        return None if form.endswith("?") else 0
    if isinstance(value, str):
        text = value[:_LONGEST]
        return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return None if form.endswith("?") else ""
