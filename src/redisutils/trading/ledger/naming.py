"""Names that are given once: to calls, and to commits."""

from __future__ import annotations

import os
from itertools import count
from secrets import token_hex

__all__ = ["unique_name"]

_process = token_hex(6)
_names = count()


def unique_name() -> str:
    """A short name that no other has been given, here or elsewhere: hexadecimal digits."""
    return f"{_process}{next(_names):x}"


def _begin_anew() -> None:
    global _process  # noqa: PLW0603  # a forked child is another process
    _process = token_hex(6)


if hasattr(os, "register_at_fork"):  # Windows has no fork; asking for the pid costs a system call
    os.register_at_fork(after_in_child=_begin_anew)
