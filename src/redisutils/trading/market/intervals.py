"""How long bars are, and when they begin."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from redisutils.trading.errors import InvalidValue

__all__ = ["Interval"]

# From the largest: names are written with the first that divides.
_UNITS = {
    "d": 86_400_000_000_000,
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "ns": 1,
}
_NAME = re.compile(r"([0-9]{1,9})(d|h|m|s|ms|us|ns)(?:\+([0-9]{1,9})(d|h|m|s|ms|us|ns))?", re.ASCII)
_LONGEST = 366 * _UNITS["d"]


@dataclass(frozen=True, slots=True)
class Interval:
    """Bars of ``length`` nanoseconds, one of which begins ``offset`` nanoseconds after 1970-01-01
    00:00 UTC; all others begin a multiple of ``length`` before or after it. Each holds its
    beginning, and not its end.

    UTC knows no summer time: a session that begins at 17:00 in Chicago does so at 22:00 or at
    23:00 UTC, ``"1d+22h"`` or ``"1d+23h"``. Weeks from Mondays are ``"7d+4d"``, as 1970 began on a
    Thursday.

    :raises InvalidValue: ``length`` is not within 1 ns and 366 days, or ``offset`` is not
        within 0 and ``length``.
    """

    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        if type(self.length) is not int or not 1 <= self.length <= _LONGEST:
            raise InvalidValue(f"length={self.length!r} must be 1 ns to 366 days, as an int of ns")
        if type(self.offset) is not int or not 0 <= self.offset < self.length:
            raise InvalidValue(
                f"offset={self.offset!r} must be an int of ns from 0 to below the length, "
                f"{self.length}"
            )

    @classmethod
    def of(cls, value: str | Self) -> Self:
        """From a name: ``"1m"``, ``"250ms"``, ``"1d+22h"``; a number with d, h, m, s, ms, us or ns,
        and where it is not 0 the offset.

        :raises InvalidValue: it is no such name.
        """
        if isinstance(value, cls):
            return value
        found = _NAME.fullmatch(value) if isinstance(value, str) else None
        if found is None:
            raise InvalidValue(
                f"interval={value!r} must be like '1m', '250ms' or '1d+22h' (units: "
                f"{', '.join(_UNITS)})"
            )
        length, unit, offset, offset_unit = found.groups()
        return cls(int(length) * _UNITS[unit], int(offset) * _UNITS[offset_unit] if offset else 0)

    @property
    def name(self) -> str:
        """The shortest name: of ``"60s"`` it is ``"1m"``."""
        return _written(self.length) + (f"+{_written(self.offset)}" if self.offset else "")

    def __str__(self) -> str:
        return self.name

    def start(self, moment: int) -> int:
        """The beginning of the bar that a moment (ns) is in."""
        return moment - (moment - self.offset) % self.length

    def consists_of(self, finer: Interval) -> bool:
        """Whether each of these bars is made of whole ``finer`` ones."""
        return self.length % finer.length == 0 and (self.offset - finer.offset) % finer.length == 0


def _written(time: int) -> str:
    unit, size = next((unit, size) for unit, size in _UNITS.items() if time % size == 0)
    return f"{time // size}{unit}"
