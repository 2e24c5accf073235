"""A report as JSON can say it."""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

from redisutils.topology.health import Reason

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """``value`` as JSON can say it: dataclasses by their fields, infinite numbers as None."""
    if isinstance(value, Reason):
        return {"reason": str(value), "code": value.code, "severity": value.severity}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, enum.Enum):
        return plain(value.value)
    if isinstance(value, Mapping):
        return {str(key): plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple | Set):
        return [plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
