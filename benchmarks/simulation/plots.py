"""The pictures of ``docs/scaling.md``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "#d1495b"
_INK, _FAINT, _RULE = "#22292f", "#6b757d", "#e4e8eb"
# Told apart by lightness as well as by hue.
_OTHERS = ("#2f3e46", "#577590", "#8fb0c9", "#c8a15a", "#9a8c98")

Series = Sequence[tuple[float, float]]


@contextmanager
def _picture(path: Path, title: str, subtitle: str, x: str, y: str) -> Iterator[Axes]:
    """Axes in the project's style; written to ``path`` (SVG) at the end."""
    import matplotlib as mpl  # slow to import
    from matplotlib.figure import Figure

    # Text as outlines looks the same everywhere; the salt makes the file reproducible.
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "redisutils"})
    figure = Figure(figsize=(8.6, 4.6), facecolor="white")
    axes = figure.add_axes((0.1, 0.13, 0.87, 0.68))
    yield axes
    figure.text(0.02, 0.965, title, fontsize=13, fontweight="bold", color=_INK, va="top")
    figure.text(0.02, 0.895, subtitle, fontsize=9, color=_FAINT, va="top")
    axes.set_xlabel(x, color=_FAINT, fontsize=9)
    axes.set_ylabel(y, color=_FAINT, fontsize=9)
    axes.tick_params(length=0, labelcolor=_FAINT, labelsize=8.5)
    axes.grid(color=_RULE, linewidth=0.8)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    figure.savefig(path, format="svg", metadata={"Date": None})


def _lines(axes: Axes, series: Mapping[str, Series], ours: str, place: str = "best") -> None:
    """Lines with a legend at ``place``; ``ours`` in the strong colour and on top."""
    others = iter(_OTHERS)
    for name, points in series.items():
        own = name == ours
        axes.plot(
            [x for x, _ in points],
            [y for _, y in points],
            color=OURS if own else next(others),
            linewidth=2.4 if own else 1.5,
            zorder=4 if own else 3,
            label=name,
        )
    axes.legend(frameon=False, fontsize=8.5, labelcolor=_INK, loc=place)


def _thousands(axes: Axes, which: str) -> None:
    from matplotlib.ticker import FuncFormatter

    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))


def connections(path: Path, series: Mapping[str, Series], ours: str, limit: int) -> None:
    """Connections at a server over pods, with the default ``limit``."""
    with _picture(
        path,
        "Connections at each primary",
        "While nothing is deployed. The line is maxclients as it comes.",
        "pods",
        "connections",
    ) as axes:
        _lines(axes, series, ours)
        axes.axhline(limit, color=_INK, linewidth=1, linestyle=(0, (4, 3)), zorder=2)
        axes.annotate(
            f"maxclients {limit:,}",
            (0, limit),
            xytext=(6, 4),
            textcoords="offset points",
            fontsize=8.5,
            color=_INK,
        )
        axes.set_xlim(0, None)
        axes.set_ylim(0, limit * 2.6)
        _thousands(axes, "y")


def capacity(path: Path, series: Mapping[str, Series], ours: str) -> None:
    """What a cluster bears over its primaries, for each naming of keys."""
    with _picture(
        path,
        "What a cluster bears, by how its keys are named",
        "Commands of all primaries when the busiest is full, in multiples of one primary. "
        "Median over sets of symbols.",
        "primaries",
        "times one primary",
    ) as axes:
        most = max(x for points in series.values() for x, _ in points)
        axes.plot([1, most], [1, most], color=_RULE, linewidth=6, zorder=1, label="even load")
        _lines(axes, series, ours)
        axes.set_xlim(1, most)
        axes.set_ylim(0, most * 0.62)


def storm(path: Path, series: Mapping[str, Series], ours: str, subtitle: str) -> None:
    """Clients without a connection over time since the server's return."""
    with _picture(
        path,
        "A server comes back: clients that are still without it",
        subtitle,
        "seconds since it accepts connections again",
        "connections missing",
    ) as axes:
        _lines(axes, series, ours)
        axes.set_xlim(0, 5)
        axes.set_ylim(0, None)
        _thousands(axes, "y")


def looks(path: Path, series: Mapping[str, Series], ours: str, subtitle: str) -> None:
    """Looks at the map over time; logarithmic."""
    with _picture(
        path,
        "A primary dies: who asks for the new map",
        subtitle,
        "seconds since its death",
        "looks in 10 ms, at all nodes",
    ) as axes:
        _lines(axes, series, ours, "upper right")
        axes.set_yscale("symlog", linthresh=10)
        axes.set_ylim(0, 3e6)  # room for the legend
        axes.set_xlim(0, None)
        _thousands(axes, "y")
