"""How the pictures of the command line look, and where they may be put."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "BLUE",
    "FORMATS",
    "GRID",
    "INK",
    "MUTED",
    "ORANGE",
    "check_file",
    "check_picture",
    "style",
]

FORMATS: Final = (".png", ".svg")

INK: Final = "#1b2733"
MUTED: Final = "#6b7785"
GRID: Final = "#e4e8ec"
BLUE: Final = "#1f6feb"
ORANGE: Final = "#d9730d"


def check_file(option: str, path: Path) -> None:
    """Refuse before the run what could not be written after it.

    Raises:
        typer.BadParameter: ``path`` is a folder, or in none that there is.
    """
    if not path.parent.is_dir():
        raise typer.BadParameter(f"{path}: there is no folder {path.parent}", param_hint=option)
    if path.is_dir():
        raise typer.BadParameter(f"{path}: is a folder", param_hint=option)


def check_picture(option: str, path: Path) -> None:
    """The same of what could not be drawn.

    Raises:
        typer.BadParameter: as :func:`check_file`, or the name or matplotlib is wanting.
    """
    wrong = None
    if path.suffix.lower() not in FORMATS:
        wrong = f"{path}: the name must end in {' or '.join(FORMATS)}"
    elif find_spec("matplotlib") is None:
        wrong = "drawing needs matplotlib; install it with:  pip install 'redisutils[plot]'"
    if wrong:
        raise typer.BadParameter(wrong, param_hint=option)
    check_file(option, path)


def style(axes: Axes, title: str, unit: str, *, grid: str = "y") -> None:
    """Title and unit above, one grid, no frame."""
    axes.set_title(title, loc="left", size=11, weight="bold", color=INK, pad=10)
    axes.set_title(unit, loc="right", size=9, color=MUTED, pad=10)
    axes.grid(axis="y" if grid == "y" else "x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelsize=9, length=0)
