"""The picture of a run: latency by percentile, and what the tail is made of."""

from __future__ import annotations

from math import log10
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from redisutils.cli.drawing import duration
from redisutils.cli.pictures import BLUE, INK, MUTED, ORANGE, style
from redisutils.metrics import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from redisutils.cli.bench.record import Record, Spread

__all__ = ["draw"]

_PALE: Final = "#8fb8f6"

_PART_COLORS: Final = dict(
    zip(PARTS, ("#d9a20d", "#a05bd6", "#1f6feb", "#d64545", "#2f9e63"), strict=True)
)
_PART_WORDS: Final = dict(
    zip(PARTS, ("waiting", "our queue", "wire and server", "event loop", "parsing"), strict=True)
)


def draw(record: Record, compared: tuple[Path, Record] | None, path: Path) -> None:
    """Draw a run to ``path``, whose suffix is one of ``FORMATS``, with an earlier one beside it.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: ``path`` cannot be written.
    """
    # Not pyplot: it keeps figures alive and may look for a display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 6.75), facecolor="white", layout=None)
    grid = figure.add_gridspec(
        1, 2, width_ratios=(2.3, 1), left=0.07, right=0.965, top=0.79, bottom=0.11, wspace=0.22
    )
    _curves(figure.add_subplot(grid[0, 0]), record, compared)
    _parts(figure.add_subplot(grid[0, 1]), record)
    told = record.told
    figure.text(
        0.07, 0.94,
        f"{record.rate:,.0f} commands a second, half within {duration(told.percentile(50))}, "
        f"99 % within {duration(told.percentile(99))}",
        size=15, weight="bold", color=INK, va="center",
    )  # fmt: skip
    troubles = [f"{record.failed:,} failed" if record.failed else "no errors"]
    if record.rate_held is False:
        troubles.append("the rate could not be held")
    facts = f"{record.settings.words} · {record.server} · {', '.join(troubles)}"
    figure.text(0.07, 0.905, "\n".join(wrap(facts, 150)[:2]), size=10, color=MUTED, va="top")
    figure.savefig(path, dpi=160, format=path.suffix.lower().removeprefix("."))


def _curves(axes: Axes, record: Record, compared: tuple[Path, Record] | None) -> None:
    curves: list[tuple[str, str, Spread]] = []
    if compared is not None:
        other = "" if compared[1].settings == record.settings else " (another load)"
        curves.append((compared[0].name + other, ORANGE, compared[1].told))
    if record.response is not None:
        curves.append(("service time", _PALE, record.service))
        curves.append(("response time", BLUE, record.response))
    else:
        curves.append(("latency", BLUE, record.service))
    curves = [curve for curve in curves if curve[2].count]
    nines = min(6.0, max([2.0, *(log10(spread.count) for _, _, spread in curves)]))
    for name, color, spread in curves:
        x, y = [], []
        for step in range(401):
            left = 10 ** (-nines * step / 400)
            if spread.count * left >= 1:
                x.append(1 / left)
                y.append(1000 * spread.percentile(100 * (1 - left)))
        axes.plot(x, y, color=color, linewidth=2, label=name, solid_joinstyle="round")
    style(axes, "Latency by percentile", "ms, logarithmic")
    if not curves:
        return
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    percents = [p for p in (0, 50, 90, 99, 99.9, 99.99, 99.999) if 1 / (1 - p / 100) <= 10**nines]
    axes.set_xticks([1 / (1 - p / 100) for p in percents], [f"{p:g} %" for p in percents])
    axes.set_xlim(1, 10**nines)
    if len(curves) > 1:
        axes.legend(frameon=False, labelcolor=INK, fontsize=9, loc="lower right")


def _parts(axes: Axes, record: Record) -> None:
    rows = [at for at in ("99.9", "99", "95", "50", "mean") if at in record.parts]
    names = [
        f"{at if at == 'mean' else f'p{at}'}\n{duration(sum(record.parts[at].values()))}"
        for at in rows
    ]
    ends = [0.0] * len(rows)
    for part in PARTS:
        wholes = [sum(record.parts[at].values()) for at in rows]
        widths = [
            100 * record.parts[at][part] / whole for at, whole in zip(rows, wholes, strict=True)
        ]
        axes.barh(
            names, widths, left=ends, height=0.55, color=_PART_COLORS[part], label=_PART_WORDS[part]
        )
        ends = [end + width for end, width in zip(ends, widths, strict=True)]
    kind = "What it is made of" if record.response is None else "What service time is made of"
    style(axes, kind, "%", grid="x")
    axes.spines["bottom"].set_visible(False)
    axes.set_xlim(0, 100)
    if rows:
        axes.legend(
            frameon=False, labelcolor=INK, fontsize=8, ncols=3, loc="upper center",
            bbox_to_anchor=(0.5, -0.05), handlelength=1, columnspacing=1.2,
        )  # fmt: skip
