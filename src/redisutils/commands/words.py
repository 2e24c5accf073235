"""The words of a call, in the forms in which they go to the server and are compared by it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from redis.typing import EncodableT

__all__ = ["encoded", "folded", "number", "split"]


def split(args: Sequence[EncodableT]) -> Sequence[EncodableT]:
    """``args`` with each word of the name an argument of its own, as they go to the server."""
    if not args or (isinstance(args[0], (str, bytes)) and args[0].isalpha()):
        return args
    words = encoded(args[0]).split()
    return args if len(words) < 2 else (*words, *args[1:])


def encoded(value: EncodableT) -> bytes:
    """``value`` as it goes to the server; of what cannot go there, anything."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return repr(value).encode("utf-8", "surrogatepass")


def folded(value: EncodableT) -> bytes:
    """A word as names and options are compared: in capitals, ASCII's only."""
    return encoded(value).upper()


def number(value: EncodableT) -> float | None:
    """A finite number, or None. Whole numbers stay exact as far as any count or time needs."""
    try:
        found = float(encoded(value))
    except ValueError:
        return None
    return found if math.isfinite(found) else None
