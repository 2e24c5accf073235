"""Names that are given once: to calls, and to commits."""

from __future__ import annotations

from itertools import count
from os import getpid
from secrets import token_hex

__all__ = ["unique_name"]

_process = getpid(), token_hex(6)
_names = count()


def unique_name() -> str:
    """A short name that no other has been given, here or elsewhere: letters and digits."""
    global _process  # noqa: PLW0603  # a forked child is another process
    if _process[0] != getpid():
        _process = getpid(), token_hex(6)
    return f"{_process[1]}{next(_names):x}"
