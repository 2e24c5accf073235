"""A server's own words, as they are shown: it may say as much as it likes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["MOST", "cut", "of_each"]

MOST: Final = 200
"""Characters of them. The longest error that a server has by itself is shorter."""


def cut(words: str) -> str:
    """Not more of them than can be read."""
    return words if len(words) <= MOST else f"{words[: MOST - 3]}..."


def of_each(told: Mapping[str, str]) -> str:
    """What is told of each of several servers; what is the same of many is said once, and of the
    others only who they are.

    Args:
        told: by address.
    """
    alike: dict[str, list[str]] = {}
    for address, words in told.items():
        alike.setdefault(words.replace(address, ""), []).append(address)
    return "; ".join(_of_all(addresses, told[addresses[0]]) for addresses in alike.values())


def _of_all(addresses: list[str], words: str) -> str:
    first, *others = addresses
    if first not in words:
        return f"{', '.join(addresses)}: {words}"
    return f"{words}; the same of {', '.join(others)}" if others else words
