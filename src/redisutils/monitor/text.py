"""Prometheus' text format and OpenMetrics, written in a fraction of the time that a general writer
takes: a handler of ``/metrics`` may run in the very event loop whose lag it tells of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from redisutils.metrics import LatencySnapshot
from redisutils.monitor.catalogue import BUCKETS, CATALOGUE
from redisutils.monitor.reading import Reading

__all__ = ["BOUNDS", "OPENMETRICS", "PLAIN", "Place", "text_of"]

PLAIN: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"

BOUNDS: Final = (*map(repr, BUCKETS), "+Inf")
"""The values of ``le``."""

_ENDS: Final = {"counter": "_total", "info": "_info"}

Place = tuple[tuple[str, str], ...]
"""The labels that all metrics of a pool have, with their values."""


def text_of(found: Sequence[tuple[Place, Reading]], *, openmetrics: bool = False) -> bytes:
    """Every metric of some pools. O(samples), some microseconds each."""
    lines: list[str] = []
    for each in CATALOGUE:
        name = each.name + _ENDS.get(each.kind, "")
        if openmetrics:
            lines.append(f"# HELP {each.name} {each.text}\n# TYPE {each.name} {each.kind}\n")
            if each.unit:
                lines.append(f"# UNIT {each.name} {each.unit}\n")
        else:
            kind = "gauge" if each.kind == "info" else each.kind
            lines.append(f"# HELP {name} {each.text}\n# TYPE {name} {kind}\n")
        for place, reading in found:
            for values, value in each.read(reading):
                labels = _labels((*place, *zip(each.labels, values, strict=True)))
                if isinstance(value, LatencySnapshot):
                    counts = (*value.at_most(BUCKETS), value.count)
                    begin = f"{name}_bucket{{{labels}"
                    lines += [
                        f'{begin},le="{bound}"}} {count}\n'
                        for bound, count in zip(BOUNDS, counts, strict=True)
                    ]
                    lines.append(f"{name}_sum{{{labels}}} {value.total!r}\n")
                    lines.append(f"{name}_count{{{labels}}} {value.count}\n")
                else:
                    lines.append(f"{name}{{{labels}}} {value!r}\n")
    if openmetrics:
        lines.append("# EOF\n")
    return "".join(lines).encode()


def _labels(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join([f'{label}="{_escaped(value)}"' for label, value in labels])


def _escaped(value: str) -> str:
    if "\\" in value or '"' in value or "\n" in value:
        return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
    return value
