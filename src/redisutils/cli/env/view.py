"""The effective settings on the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from redisutils.cli.env.catalogue import catalogue
from redisutils.cli.env.effective import Effective, Value
from redisutils.cli.loading import DOTENV

__all__ = ["show"]

_GAP: Final = 2
_WIDEST_VALUE: Final = 40
"""Columns that values are aligned in; a longer one moves what follows it."""


def show(found: Effective, console: Console) -> None:
    """Print it. What does not fit a terminal goes to the next line; a pipe's lines are whole."""
    width = console.width if console.is_terminal else None
    for line in _lines(found, width):
        console.print(line, soft_wrap=True)
    if not found.right:
        console.print()
    for complaint in _complaints(found):
        sign = Text("✗ " if not console.options.ascii_only else "x ", "bold red")
        for part in complaint.wrap(console, width - len(sign)) if width else [complaint]:
            part.rstrip()
            console.print(Text.assemble(sign, part), soft_wrap=True)
            sign = Text(" " * len(sign))


def _lines(found: Effective, width: int | None) -> Iterator[Text]:
    values = {value.name: value for value in found.values}
    names = max(len(value.variable) for value in found.values) + _GAP
    column = min(_WIDEST_VALUE, max(len(_shown(value)) for value in found.values)) + _GAP
    longest = max(len(value.where) for value in found.values)
    narrow = width is not None and names + column + longest > width
    file = Path(DOTENV).absolute()
    yield Text(f"From the environment, {file}{'' if file.is_file() else ' (not there)'}", "dim")
    for section in catalogue():
        inside = [values[one.name] for one in section.settings if one.name in values]
        if inside:
            yield Text()
        for value in inside:
            given = value.source != "default"
            name = Text(value.variable, "bold" if given else "")
            shown = Text(_shown(value), "cyan" if given else "dim")
            gap = max(_GAP, names - len(name))
            where = Text(value.where, "" if given and not narrow else "dim")
            if not narrow:
                end = " " * max(_GAP, column - len(shown))
                yield Text.assemble(name, " " * gap, shown, end, where)
                continue
            if width is not None and len(name) + gap + len(shown) > width:
                yield name
                name, gap = Text(), _GAP
            yield Text.assemble(name, " " * gap, shown)
            if given:
                yield Text.assemble(" " * _GAP, where)


def _complaints(found: Effective) -> Iterator[Text]:
    yield from map(Text, found.problems)
    for name, meant in found.unknown:
        hint = f": did you mean {meant}?" if meant else ": it is ignored"
        yield Text(f"{name} is no setting of redisutils{hint}")


def _shown(value: Value) -> str:
    return "–" if value.value is None else value.value
