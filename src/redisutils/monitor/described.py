"""What is known of an exported metric: see :mod:`redisutils.monitor.catalogue`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from redisutils.monitor.samples import Read

__all__ = ["Described"]


@dataclass(frozen=True, slots=True)
class Described:
    """One metric."""

    name: str
    """Prometheus', without ``_total``."""
    kind: Literal["counter", "gauge", "histogram", "info"]
    unit: Literal["seconds", "bytes", ""]
    text: str
    labels: tuple[str, ...]
    """Its own; all of them have ``endpoint`` as well."""
    read: Read
    otel: str | None
    """OpenTelemetry's name; None where a conventional metric says the same, or the exporter."""
