"""Moments: whole nanoseconds since 1970 UTC, as a float of seconds has no digits for."""

from __future__ import annotations

from time import time_ns

from redisutils.trading.errors import InvalidValue
from redisutils.trading.texts import shown

__all__ = ["MAX_AHEAD", "SECOND", "checked_age", "checked_bound", "checked_span", "moment"]

SECOND = 1_000_000_000

MAX_AHEAD = 5 * SECOND
"""How far clocks of venues may be ahead of ours; what is later than that was not meant, and as the
newest of all it would keep out everything that comes until then."""

# Seconds, milliseconds and microseconds of this century are all below it: taken for one another,
# they are the commonest wrong timestamps. (2001-09-09 in nanoseconds.)
_EARLIEST = 1_000_000_000 * SECOND


def moment(name: str, value: object, now: int | None = None) -> int:
    """A moment in nanoseconds.

    :param name: what the argument is called, for the error.
    :param now: the present, ns; without it, this machine's clock is asked.
    :raises InvalidValue: it is no int; is before 2001-09-09, as moments in other units are; or
        more than 5 s in the future.
    """
    if type(value) is not int:
        raise InvalidValue(
            f"{name}={shown(value)} must be an int: nanoseconds since 1970 UTC, as time.time_ns() "
            "says"
        )
    if value < _EARLIEST:
        raise InvalidValue(
            f"{name}={shown(value)} is before 2001-09-09 as nanoseconds since 1970 UTC: is it in "
            "another unit?"
        )
    if now is None:
        now = time_ns()
    if value > now + MAX_AHEAD:
        ahead = min(value - now, 10**30) / SECOND
        raise InvalidValue(
            f"{name}={shown(value)} is {ahead:.3f} s in the future: at most "
            f"{MAX_AHEAD // SECOND} s are taken for a clock that is ahead"
        )
    return value


def checked_age(max_age: float | None) -> None:
    """:raises InvalidValue: it is no number of seconds above 0."""
    given: object = max_age
    if given is not None and not (
        isinstance(given, int | float) and not isinstance(given, bool) and given > 0
    ):
        raise InvalidValue(f"max_age={shown(max_age)} must be a number of seconds, more than 0")


def checked_span(start: object, end: object) -> None:
    """:raises InvalidValue: they are no moments."""
    checked_bound("start", start)
    if end is not None:
        checked_bound("end", end)


def checked_bound(name: str, value: object) -> None:
    """:raises InvalidValue: it is no moment, nor 0, the beginning of all."""
    if type(value) is not int:
        raise InvalidValue(f"{name}={shown(value)} must be an int: nanoseconds since 1970 UTC")
    if 0 < value < _EARLIEST:
        raise InvalidValue(
            f"{name}={value} is before 2001-09-09 as nanoseconds since 1970 UTC: is it in another "
            "unit? (0 is the beginning)"
        )
