"""Short texts, which are kept as they are."""

from __future__ import annotations

from redisutils.trading.errors import InvalidValue

__all__ = ["checked_text"]

_LONGEST = 512


def checked_text(name: str, value: object) -> str:
    """A short text: a remark, or a code of the venue's.

    :param name: what the argument is called, for the error.
    :raises InvalidValue: it is no string, has more than 512 characters, or some that are none (half
        of a surrogate pair).
    """
    if isinstance(value, str) and len(value) <= _LONGEST:
        try:
            value.encode()
        except UnicodeEncodeError:
            pass
        else:
            return value
    raise InvalidValue(
        f"{name}={value!r} must be a string of at most {_LONGEST} characters, encodable as UTF-8"
    )
