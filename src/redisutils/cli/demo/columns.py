"""Tables as lines of text: quicker to draw than rich's, and cut by whole columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from rich.text import Text

__all__ = ["Cell", "Column", "beside", "fitting", "money", "row", "signed"]

GAP: Final = 2

Cell = tuple[str, str]
"""Text and its style."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Args:
        head: Its heading.
        width: In characters.
        spare: The higher, the sooner it goes when there is no room for all; 0 stays.
        left: Whether it is flush left; figures are not.
    """

    head: str
    width: int
    spare: int = 0
    left: bool = False

    def put(self, text: str) -> str:
        """A text in its place; what is too long shows so."""
        if len(text) > self.width:
            text = text[: self.width - 1] + "…"
        return text.ljust(self.width) if self.left else text.rjust(self.width)


def fitting(columns: Sequence[Column], room: int) -> list[bool]:
    """Which of the columns are shown in so many characters: those that are spared most easily go
    first."""
    shown = [True] * len(columns)
    for spare in sorted({column.spare for column in columns}, reverse=True):
        if _width(columns, shown) <= room or not spare:
            break
        shown = [column.spare < spare for column in columns]
    return shown


def _width(columns: Sequence[Column], shown: Sequence[bool]) -> int:
    widths = [column.width for column, one in zip(columns, shown, strict=True) if one]
    return sum(widths) + GAP * (len(widths) - 1)


def row(columns: Sequence[Column], shown: Sequence[bool], cells: Sequence[Cell] | None) -> Text:
    """One line; the headings if there are no cells."""
    line = Text(no_wrap=True)
    given = cells or [(column.head, "dim") for column in columns]
    for column, (text, style), one in zip(columns, given, shown, strict=True):
        if one:
            line.append(" " * GAP if line else "").append(column.put(text), style)
    return line


def beside(left: Sequence[Text], right: Sequence[Text], width: int, gap: int) -> list[Text]:
    """Two blocks of lines side by side, the left one ``width`` characters wide."""
    lines = []
    for number in range(max(len(left), len(right))):
        line = left[number].copy() if number < len(left) else Text()
        line.truncate(width, pad=True)
        line.append(" " * gap)
        lines.append(line.append_text(right[number]) if number < len(right) else line)
    return lines


def money(value: Decimal | None) -> str:
    """An amount of money to the cent; a dash for None."""
    return "–" if value is None else f"{value:,.2f}"


def signed(value: Decimal | None) -> Cell:
    """A profit or a loss, which its sign tells, too."""
    if value is None:
        return "–", "dim"
    if not round(value, 2):
        return "0.00", "dim"
    return f"{value:+,.2f}", "green" if value > 0 else "red"
