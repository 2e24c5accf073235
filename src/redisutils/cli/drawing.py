"""Figures in words, and small pictures made of characters, for every command that shows some."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

__all__ = ["Braille", "duration", "share", "short", "size", "sparkline", "stacked"]

_STEPS: Final = " ▁▂▃▄▅▆▇█"


def duration(seconds: float | None) -> str:
    """For reading, with three digits: ``0.4 µs``, ``412 µs``, ``4.12 ms``, ``1.20 s``; a dash for
    None."""
    if seconds is None:
        return "–"
    for factor, unit in ((1e6, "µs"), (1e3, "ms")):
        value = seconds * factor
        if value < 999.5:
            return f"{_three(value)} {unit}"
    return f"{_three(seconds)} s" if seconds < 999.5 else f"{seconds:,.0f} s"


def _three(value: float) -> str:
    if value < 9.995:
        return f"{value:.2f}" if value >= 0.995 else f"{value:.1f}"
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def short(count: float) -> str:
    """A count with three digits: ``930``, ``12.4k``, ``3.10M``."""
    for factor, unit in ((1, ""), (1e3, "k"), (1e6, "M"), (1e9, "G")):
        value = count / factor
        if value < 999.5:
            return f"{value:.0f}" if factor == 1 else f"{_three(value)}{unit}"
    return f"{count / 1e12:,.0f}T"


def size(count: float | None) -> str:
    """Bytes: ``12 B``, ``3.4 kB``, ``1.2 GB``; a dash for None."""
    if count is None:
        return "–"
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def share(part: float | None) -> str:
    """A part of a whole in percent: ``7 %``, and below one ``0.02 %``; a dash for None."""
    if part is None:
        return "–"
    return f"{part * 100:.2g} %" if 0 < part < 0.01 else f"{part:.0%}".replace("%", " %")


def sparkline(values: Sequence[float], *, rows: int = 1) -> list[str]:
    """``values`` as bars from zero to the highest, in ``rows`` lines of text, top first."""
    top = max(values, default=0.0) or 1.0
    # In eighths of a line. Never quite empty: a bar of zero is still seen to be there.
    heights = [max(1, round(value / top * 8 * rows)) for value in values]
    return [
        "".join(_STEPS[min(8, max(0, height - 8 * row))] for height in heights)
        for row in reversed(range(rows))
    ]


def stacked(parts: Sequence[float], width: int) -> list[int]:
    """How many of ``width`` columns each part gets; what is not nothing keeps its share as well as
    whole columns can show it. Their sum is ``width``, or 0 if there is nothing."""
    whole = sum(parts)
    if whole <= 0 or width <= 0:
        return [0] * len(parts)
    exact = [part / whole * width for part in parts]
    columns = [int(value) for value in exact]
    # What is left over goes to those that lost most by rounding down.
    by_loss = sorted(range(len(parts)), key=lambda at: columns[at] - exact[at])
    for at in by_loss[: width - sum(columns)]:
        columns[at] += 1
    return columns


class Braille:
    """A canvas of dots, two by four in each character.

    Args:
        width, height: in characters.
    """

    _DOTS: Final = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))

    def __init__(self, width: int, height: int) -> None:
        self.columns, self.rows = 2 * width, 4 * height
        self._cells = [[0] * width for _ in range(height)]
        self._owner = [[0] * width for _ in range(height)]

    def curve(self, heights: Sequence[float | None], owner: int) -> None:
        """Draw one line: a height from 0.0 (bottom) to 1.0 (top), or None, for each column of
        dots. Where lines meet in a character, the one drawn last owns it.

        Args:
            owner: a number from 1 up, for the line's colour.
        """
        last: int | None = None
        for x, height in enumerate(heights[: self.columns]):
            if height is None:
                last = None
                continue
            y = self.rows - 1 - round(min(1.0, max(0.0, height)) * (self.rows - 1))
            # A steep line has no gaps.
            start = y if last is None else last + (y > last) - (y < last)
            for dot in range(min(start, y), max(start, y) + 1):
                self._set(x, dot, owner)
            last = y

    def _set(self, x: int, y: int, owner: int) -> None:
        self._cells[y // 4][x // 2] |= self._DOTS[y % 4][x % 2]
        self._owner[y // 4][x // 2] = owner

    def lines(self) -> list[list[tuple[str, int]]]:
        """Each line of text as runs of characters with their owner, 0 for nobody; top first."""
        found = []
        for cells, owners in zip(self._cells, self._owner, strict=True):
            runs: list[tuple[str, int]] = []
            for cell, owner in zip(cells, owners, strict=True):
                character = chr(0x2800 + cell) if cell else " "
                if runs and runs[-1][1] == owner:
                    runs[-1] = (runs[-1][0] + character, owner)
                else:
                    runs.append((character, owner))
            found.append(runs)
        return found
