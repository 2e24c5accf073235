"""``--fail-if "p99>5ms"``: what must not be, for continuous integration."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from redisutils.cli.bench.record import Record
from redisutils.cli.drawing import duration

__all__ = ["Threshold", "parse_threshold"]

_COMPARISONS: Final[dict[str, Callable[[float, float], bool]]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}
_UNITS: Final[dict[str | None, float]] = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0}

_FORM: Final = re.compile(
    r"(?P<what>p[0-9]{1,2}(?:\.[0-9]{1,3})?|mean|max|rate|errors)\s*(?P<how><=|>=|<|>)\s*"
    r"(?P<limit>[0-9]{1,12}(?:\.[0-9]{1,9})?)\s*(?P<unit>us|µs|ms|s|k|%)?"
)


@dataclass(frozen=True, slots=True)
class Threshold:
    """One condition under which a run has failed."""

    text: str
    what: str
    how: str
    limit: float
    of_all: bool = False
    """Whether ``errors`` is a share of all calls."""

    def broken(self, record: Record) -> str | None:
        """What was measured, in words, if that is so; or else None."""
        found = self._value(record)
        if not _COMPARISONS[self.how](found, self.limit):
            return None
        if self.what == "rate":
            told = f"{found:,.0f}/s"
        elif self.what == "errors":
            told = f"{found:.2%}" if self.of_all else f"{found:,.0f}"
        else:
            told = duration(found)
        return f"--fail-if '{self.text}': {self.what} is {told}"

    def _value(self, record: Record) -> float:
        spread = record.told
        if self.what == "rate":
            return record.rate
        if self.what == "errors":
            calls = sum(row.calls + row.failed for row in record.rows)
            return record.failed / (calls or 1) if self.of_all else record.failed
        if self.what in ("mean", "max"):
            return float(getattr(spread, self.what))
        return spread.percentile(float(self.what[1:]))


def parse_threshold(text: str) -> Threshold:
    """``p99>5ms``, ``p99.9>=1s``, ``max>50ms``, ``rate<10000``, ``errors>0``, ``errors>0.1%``.

    Raises:
        ValueError: in words for whoever typed it.
    """
    found = _FORM.fullmatch(text.strip().lower())
    right = "right are p99>5ms, p99.9>10ms, mean>1ms, max>50ms, rate<10000, errors>0 or errors>0.1%"
    if found is None:
        raise ValueError(f"{text!r} is no condition; {right}")
    what, unit, limit = found["what"], found["unit"], float(found["limit"])
    if what in ("rate", "errors"):
        if unit not in ((None, "k") if what == "rate" else (None, "%")):
            raise ValueError(f"{text!r}: {unit} is no unit of {what}; {right}")
    elif unit not in _UNITS:
        raise ValueError(f"{text!r}: {what} needs a unit, us, ms or s; {right}")
    factors = _UNITS | {"k": 1e3, "%": 1e-2, None: 1.0}
    return Threshold(text.strip(), what, found["how"], limit * factors[unit], unit == "%")
