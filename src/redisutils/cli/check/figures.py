"""The server's figures. One that is none costs the judgement that needs it, and no other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from redisutils.cli.check.finding import Say

__all__ = ["judgement", "number", "printable", "whole"]

LONGEST: Final = 200
"""Characters of a server's or an error's words that are shown."""


class Nonsense(Exception):
    """The server told something else where a figure should be."""


@contextmanager
def judgement(say: Say) -> Iterator[None]:
    """Around what is judged by figures of the server's: told as not judged when one is none."""
    try:
        yield
    except Nonsense as error:
        say.note(
            f"could not be judged: {error}",
            "Is it a server of another make, or a proxy? Ask it by hand: `redis-cli INFO`.",
        )


def whole(told: Mapping[str, Any], name: str, otherwise: int = 0) -> int:
    """The whole number of that name; ``otherwise`` where the server is silent about it."""
    return int(number(told, name, otherwise))


def number(told: Mapping[str, Any], name: str, otherwise: float = 0.0) -> float:
    """The finite number of that name; ``otherwise`` where the server is silent about it."""
    value = told.get(name, otherwise)
    try:
        found = float(value)
    except (TypeError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise Nonsense(f"the server says {name}={printable(value)}, which is no figure")
    return found


def printable(value: object) -> str:
    """A stranger's words on one line, without what would steer a terminal."""
    text = str(value)
    shown = text if text.isprintable() else repr(text)[1:-1]
    return shown if len(shown) <= LONGEST else shown[:LONGEST] + "…"
