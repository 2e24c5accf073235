"""Every setting as a commented ``.env``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Final

from redisutils.cli.env.catalogue import Setting, catalogue

__all__ = ["template"]

WIDTH: Final = 100

_PLAIN: Final = frozenset({"text", "a path"})
"""What says nothing that the meaning does not."""

_HEAD: Final = """\
# Settings of redisutils, as `redisutils env` prints them. Copy this file to .env, and take the #
# away from what you want to change. The values shown are the defaults, or examples where there is
# none. The environment goes before this file."""


def template() -> str:
    """The text, of lines up to ``WIDTH``."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for section in catalogue():
        yield ""
        yield f"# --- {section.title} ".ljust(WIDTH, "-")
        for setting in section.settings:
            yield from _explained(setting)


def _explained(setting: Setting) -> Iterator[str]:
    yield ""
    yield from _comment(setting.meaning)
    if setting.allowed not in _PLAIN:
        yield from _comment(f"Allowed: {setting.allowed}.")
    shown = setting.example if setting.default is None else setting.default
    yield f"#{setting.variable}={shown}"


def _comment(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ")
