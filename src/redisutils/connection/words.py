"""A server's own words, as they are shown: it may say as much as it likes."""

from __future__ import annotations

from typing import Final

__all__ = ["MOST", "cut"]

MOST: Final = 200
"""Characters of them. The longest error that a server has by itself is shorter."""


def cut(words: str) -> str:
    """Not more of them than can be read."""
    return words if len(words) <= MOST else f"{words[: MOST - 3]}..."
