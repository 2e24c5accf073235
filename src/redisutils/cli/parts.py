"""What a latency is made of, as a bar of characters: the same colours and words everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from rich.text import Text

from redisutils.cli.drawing import stacked
from redisutils.metrics import PARTS

__all__ = ["legend", "parts_bar"]

_STYLES: Final = dict(zip(PARTS, ("yellow", "magenta", "blue", "red", "green"), strict=True))

_MARKS: Final = dict(zip(PARTS, "░▒█▓=", strict=True))
"""Told apart without colours, too."""

_PLAIN: Final = dict(zip(PARTS, ".:#%=", strict=True))

_WORDS: Final = dict(zip(PARTS, ("wait", "queue", "wire and server", "loop", "parse"), strict=True))


def parts_bar(split: Mapping[str, object], width: int, *, pictures: bool = True) -> Text:
    """A bar of ``width`` columns, or nothing where nothing was measured.

    Args:
        split: seconds by part, or None.
        pictures: whether characters beyond ASCII can be shown.
    """
    bar = Text()
    found = (split[part] for part in PARTS)
    seconds = [value if isinstance(value, int | float) else 0.0 for value in found]
    for part, columns in zip(PARTS, stacked(seconds, width), strict=True):
        bar.append(((_MARKS if pictures else _PLAIN)[part]) * columns, _STYLES[part])
    return bar


def legend(*, pictures: bool = True) -> Text:
    """What the marks mean, in 51 columns."""
    told = Text()
    for part in PARTS:
        told.append(f"{(_MARKS if pictures else _PLAIN)[part]} ", _STYLES[part])
        told.append(f"{_WORDS[part]}{'' if part == PARTS[-1] else '  '}", "dim")
    return told
