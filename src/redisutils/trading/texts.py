"""Short texts, which are kept as they are; and values, as errors show them."""

from __future__ import annotations

from redisutils.trading.errors import InvalidValue

__all__ = ["checked_text", "shown"]

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
        f"{name}={shown(value)} must be a string of at most {_LONGEST} characters, encodable "
        "as UTF-8"
    )


_SHOWN = 200


def shown(value: object) -> str:
    """A value for an error, shortened when it is long."""
    try:
        text = repr(value)
    except ValueError:  # an int of more digits than Python writes
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
