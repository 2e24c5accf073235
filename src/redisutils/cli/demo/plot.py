"""The picture of a run: latency over time, throughput under it, and each kind's tail."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redisutils.cli.demo.figures import FEEDS, KINDS, Sample
from redisutils.cli.drawing import duration
from redisutils.cli.pictures import BLUE, INK, MUTED, ORANGE, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

    from redisutils.cli.demo.summary import Finished

__all__ = ["draw"]

_PALE: Final = "#bcd6fb"

_LABELS: Final = (
    # Each on another side of its point, since neighbours may be close to each other.
    ("p50", (0, 9), "center"),
    ("p95", (0, -9), "center"),
    ("p99", (0, 9), "center"),
    ("max", (7, 0), "left"),
)
"""Of a tail's four points: name, offset and alignment."""


def draw(finished: Finished, samples: Sequence[Sample], path: Path) -> None:
    """Draw a finished run to ``path``, whose suffix is one of ``FORMATS``.

    Raises:
        ImportError: matplotlib is not installed.
        OSError: ``path`` cannot be written.
    """
    # Not pyplot: it keeps figures alive and may look for a display.
    from matplotlib.figure import Figure

    # An interval in which nothing came back has no latency to show.
    samples = [sample for sample in samples if sample.p50 > 0]
    figure = Figure(figsize=(12, 6.75), facecolor="white", layout=None)
    grid = figure.add_gridspec(
        2, 2, width_ratios=(1.3, 1), height_ratios=(2.1, 1),
        left=0.07, right=0.965, top=0.80, bottom=0.09, wspace=0.5, hspace=0.30,
    )  # fmt: skip
    over_time = figure.add_subplot(grid[0, 0])
    _latency_over_time(over_time, samples)
    _throughput(figure.add_subplot(grid[1, 0], sharex=over_time), samples)
    _tails(figure.add_subplot(grid[:, 1]), finished)

    trips = finished.metrics.latency
    rate = finished.metrics.commands / (finished.day.seconds or 1.0)
    figure.text(
        0.07, 0.94,
        f"{rate:,.0f} commands a second, half of all within "
        f"{duration(trips.p50)}, 99 % within {duration(trips.p99)}",
        size=15, weight="bold", color=INK, va="center",
    )  # fmt: skip
    day, facts = finished.day, finished.facts
    checked = (
        f"the ledger balances, all {day.checks.compared:,} values right, no event lost"
        if day.right
        else f"{day.checks.wrong:,} wrong values, {day.lost:,} events lost"
    )
    figure.text(
        0.07, 0.895,
        f"{facts.source} · {facts.tasks:,} traders on one pool · {facts.server} · {checked}",
        size=10, color=MUTED, va="center",
    )  # fmt: skip
    figure.savefig(path, dpi=160, format=path.suffix.lower().removeprefix("."))


def _latency_over_time(axes: Axes, samples: Sequence[Sample]) -> None:
    at = [sample.at for sample in samples]
    p50 = [sample.p50 * 1000 for sample in samples]
    p99 = [sample.p99 * 1000 for sample in samples]
    events = [(sample.at, sample.feeds_p99 * 1000) for sample in samples if sample.feeds_p99]
    axes.fill_between(at, p50, p99, color=_PALE, alpha=0.55, linewidth=0)
    axes.plot(at, p50, color=BLUE, linewidth=2)
    axes.plot(at, p99, color=BLUE, linewidth=1.2)
    if events:
        axes.plot(*zip(*events, strict=True), color=ORANGE, linewidth=1.2)
    style(axes, "Latency", "ms, logarithmic")
    if not samples:
        return
    # One slow start would press all else to the floor of a linear axis.
    _logarithmic(axes, axes.yaxis)
    axes.tick_params(labelbottom=False)
    ends = [("p50", p50[-1], BLUE), ("p99", p99[-1], BLUE)]
    if events:
        ends.append(("feeds p99", events[-1][1], ORANGE))
    _label_ends(axes, at[-1], ends)


def _label_ends(axes: Axes, x: float, ends: list[tuple[str, float, str]]) -> None:
    """Name each line at its right end, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high / low) ** 0.06
    below = 0.0
    for name, value, color in sorted(ends, key=lambda end: end[1]):
        below = max(value, below * gap)
        axes.annotate(
            name, (x, below), xytext=(6, 0), textcoords="offset points",
            color=color, size=9, va="center", annotation_clip=False,
        )  # fmt: skip


def _throughput(axes: Axes, samples: Sequence[Sample]) -> None:
    at = [sample.at for sample in samples]
    rate = [sample.commands / sample.seconds / 1000 for sample in samples]
    axes.fill_between(at, rate, color=_PALE, alpha=0.55, linewidth=0)
    axes.plot(at, rate, color=BLUE, linewidth=1.5)
    style(axes, "Throughput", "thousand commands/s")
    axes.set_ylim(bottom=0, top=1.2 * max(rate, default=1.0))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("seconds", color=MUTED, size=9)
    if len(at) > 1:
        axes.set_xlim(at[0], at[-1])


def _tails(axes: Axes, finished: Finished) -> None:
    shots = [(kind, finished.day.timings.kinds[kind].snapshot()) for kind in reversed(KINDS)]
    shots = [(kind, shot) for kind, shot in shots if shot.count]
    style(axes, "Tails", "ms, logarithmic", grid="x")
    _logarithmic(axes, axes.xaxis)
    for row, (kind, shot) in enumerate(shots):
        color = ORANGE if kind in FEEDS else BLUE
        points = [1000 * value for value in (shot.p50, shot.p95, shot.p99, shot.max)]
        axes.plot(points[:3], [row] * 3, color=color, linewidth=3, solid_capstyle="round")
        axes.plot(points[2:], [row] * 2, color=color, linewidth=1, alpha=0.5)
        axes.scatter(points, [row] * 4, s=(64, 40, 40, 22), color=color, zorder=3)
        for (name, (x, y), align), point in zip(_LABELS, points, strict=True):
            axes.annotate(
                f"{name} {point:.3g}", (point, row), xytext=(x, y), textcoords="offset points",
                ha=align, va=("top", "center", "bottom")[(y > 0) - (y < 0) + 1],
                size=8, color=MUTED,
            )  # fmt: skip
    axes.set_yticks(range(len(shots)), [kind for kind, _ in shots], color=INK)
    axes.set_ylim(-0.5, len(shots) - 0.5)
    axes.set_xlim(*(limit * by for limit, by in zip(axes.get_xlim(), (0.8, 1.9), strict=True)))


def _logarithmic(axes: Axes, axis: Axis) -> None:
    from matplotlib.ticker import LogLocator, NullLocator

    (axes.set_xscale if axis is axes.xaxis else axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:g}")
