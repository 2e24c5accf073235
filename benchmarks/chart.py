"""The chart: how many times one contender the others reach, workload by workload."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.contenders import OURS, REFERENCE, STANDALONE
from benchmarks.results import TIMES, Results, Row, times
from benchmarks.suite import Wording

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Ours in the one strong colour; the others told apart by lightness as well as by hue, so
# that it reads without colour vision and in print.
_COLOURS = {
    OURS: "#d1495b",
    STANDALONE: "#e8a7b0",
    REFERENCE: "#2f3e46",
    "valkey-glide": "#577590",
    "coredis": "#8fb0c9",
    "valkey-py": "#cbd5dc",
}
_INK = "#22292f"
_FAINT = "#6b757d"
_RULE = "#e4e8eb"

_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)

# Inches. Bars keep their size however many there are; the picture grows.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 9.5, 2.55, 0.3, 1.25, 0.8
_BAR, _GAP = 0.155, 0.22


def draw(results: Results, wording: Wording, path: Path) -> bool:
    """Write the chart to ``path`` (SVG). False if there is nothing to compare."""
    base = wording.base
    names = [name for name in _COLOURS if name in results.contenders]
    rows = [
        row
        for row in results.rows()
        if row.metric.is_speed and any(results.ratio(row, name, base) for name in names)
    ]
    if base not in results.contenders or not rows:
        return False
    ratios = {
        (index, name): ratio
        for index, row in enumerate(rows)
        for name in names
        if (ratio := results.ratio(row, name, base)) is not None
    }
    _render(results, wording, rows, ratios, path)
    return True


def _render(
    results: Results,
    wording: Wording,
    rows: list[Row],
    ratios: dict[tuple[int, str], float],
    path: Path,
) -> None:
    import matplotlib as mpl  # slow to import, and not needed to measure
    from matplotlib.figure import Figure

    # Text as outlines looks the same everywhere; the salt makes the file reproducible.
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "redisutils"})
    names = [name for name in _COLOURS if any(who == name for _, who in ratios)]
    step = _BAR * len(names) + _GAP
    height = _TOP + step * len(rows) + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    axes = figure.add_axes(
        (
            _LEFT / _WIDTH,
            _BOTTOM / height,
            (_WIDTH - _LEFT - _RIGHT) / _WIDTH,
            step * len(rows) / height,
        )
    )
    # One unit of the vertical axis is an inch, rows from the top.
    axes.set_ylim(step * len(rows), 0)
    alone = len(names) == 1
    for name in names:
        # Where there is room, what was measured stands behind the ratio.
        figures = [results.median(row, name) if alone else None for row in rows]
        _bars(axes, name, step, ratios, figures)
    _scale(axes, wording.base, min(ratios.values()), max(ratios.values()), alone=alone)
    axes.set_yticks(
        [(index + 0.5) * step for index in range(len(rows))],
        [row.metric.title for row in rows],
        color=_INK,
        fontsize=9.5,
    )
    for index in range(1, len(rows)):
        axes.axhline(index * step, color=_RULE, linewidth=0.6, zorder=0)
    axes.tick_params(length=0, pad=8)
    for spine in axes.spines.values():
        spine.set_visible(False)
    _words(figure, axes, results, wording, height)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _bars(
    axes: Axes,
    name: str,
    step: float,
    ratios: dict[tuple[int, str], float],
    figures: list[float | None],
) -> None:
    """The bars of one contender, each with its number at its end."""
    ours = name == OURS
    own = {}
    behind = {}
    for (index, who), ratio in ratios.items():
        if who == name:
            # Those that are there stand together in the middle of their row.
            together = [other for row, other in ratios if row == index]
            place = together.index(name) - (len(together) - 1) / 2
            at = (index + 0.5) * step + place * _BAR
            own[at] = ratio
            figure = figures[index]
            if figure is not None:
                behind[at] = f"{figure:,.0f}/s"
    # From 1 outwards: a logarithmic axis has no zero for a bar to start from.
    axes.barh(
        list(own),
        [ratio - 1 for ratio in own.values()],
        left=1,
        height=_BAR * 0.86,
        color=_COLOURS[name],
        label=name,
        zorder=2,
    )
    for place, ratio in own.items():
        number = axes.annotate(
            times(ratio),
            (ratio, place),
            xytext=(4 if ratio >= 1 else -4, 0),
            textcoords="offset points",
            ha="left" if ratio >= 1 else "right",
            va="center_baseline",
            fontsize=8.5 if ours else 7,
            fontweight="bold" if ours else "normal",
            color=_COLOURS[OURS] if ours else _FAINT,
        )
        if place not in behind:
            continue
        axes.annotate(
            behind[place],
            (1, 0.5) if ratio >= 1 else (1, place),
            xycoords=number if ratio >= 1 else "data",
            xytext=(5, 0),
            textcoords="offset points",
            ha="left",
            va="center",
            fontsize=7.5,
            color=_FAINT,
        )


def _scale(axes: Axes, base: str, smallest: float, largest: float, *, alone: bool) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xscale("log")
    # Room for the numbers beyond the longest bars.
    axes.set_xlim(min(0.8, smallest / 1.7), max(2.0, largest * (2.2 if alone else 1.6)))
    axes.xaxis.set_major_locator(FixedLocator(_TICKS))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}{TIMES}"))
    axes.tick_params(axis="x", labelcolor=_FAINT, labelsize=8.5)
    axes.grid(axis="x", color=_RULE, linewidth=0.8, zorder=0)
    axes.axvline(1, color=_INK, linewidth=1, zorder=3)
    axes.annotate(
        base,
        (1, 1),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=_INK,
    )


def _words(figure: Figure, axes: Axes, results: Results, wording: Wording, height: float) -> None:
    """Title, key and the line about the machine, all from the left edge."""
    margin = 0.25 / _WIDTH

    def line(inches_from_top: float, text: str, size: float, colour: str, weight: str) -> None:
        place = 1 - inches_from_top / height
        figure.text(margin, place, text, fontsize=size, color=colour, fontweight=weight, va="top")

    line(0.22, wording.chart_title, 14, _INK, "bold")
    rounds = results.settings["rounds"]
    line(
        0.50,
        f"Median of {rounds} round{'' if rounds == 1 else 's'}, logarithmic scale; "
        "more is better."
        + (
            " redis-benchmark (C, without -P) where it has an equivalent."
            if REFERENCE in results.contenders
            else ""
        ),
        8.5,
        _FAINT,
        "normal",
    )
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(margin, 1 - 0.70 / height),
        ncols=len(labels),
        frameon=False,
        fontsize=9,
        labelcolor=_INK,
        borderpad=0,
        borderaxespad=0,
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.6,
    )
    facts = results.machine
    figure.text(
        margin,
        0.18 / height,
        f"{facts['system']}; {facts['Python']}, uvloop {facts['uvloop']}; "
        f"{facts['server']}; {facts['pinning']}"
        + (f"\nTicks: {facts['ticks']}" if "ticks" in facts else ""),
        fontsize=8,
        color=_FAINT,
        va="bottom",
    )
