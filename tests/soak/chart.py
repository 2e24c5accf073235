"""The plot of a run: what was used, what was done, and under it the faults, on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .run import Record
from .verdict import memory_growth
from .weather import KINDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw"]

_INK: Final = "#22292f"
_FAINT: Final = "#6b757d"
_RULE: Final = "#e4e8eb"
_STRONG: Final = "#d1495b"
_BLUE: Final = "#577590"
_DARK: Final = "#2f3e46"
_PALE: Final = "#8fb0c9"

# Inches.
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 9.5, 1.35, 1.15, 0.95, 0.75
_GAP = 0.34
_HEIGHTS: Final = {"memory": 1.25, "calls": 1.25, "errors": 0.8, "counts": 1.45, "faults": 2.1}


def draw(record: Record, place: Path) -> None:
    """Write the plot to ``place`` (SVG, or what its suffix says)."""
    import matplotlib as mpl  # slow to import, and not needed to run
    from matplotlib.figure import Figure

    # Text as outlines looks the same everywhere; the salt makes the file reproducible.
    mpl.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "redisutils"})
    height = _TOP + sum(_HEIGHTS.values()) + _GAP * (len(_HEIGHTS) - 1) + _BOTTOM
    figure = Figure(figsize=(_WIDTH, height), facecolor="white")
    place_in = _places(height)
    panels = {name: figure.add_axes(place_in[name]) for name in _HEIGHTS}
    _memory(panels["memory"], record)
    _calls(panels["calls"], record)
    _errors(panels["errors"], record)
    _counts(panels["counts"], record)
    _faults(panels["faults"], record)
    for name, axes in panels.items():
        _dress(axes, record, last=name == "faults")
    _words(figure, record, height)
    figure.savefig(place, metadata={"Date": None} if place.suffix == ".svg" else None, dpi=110)


def _places(height: float) -> dict[str, tuple[float, float, float, float]]:
    places = {}
    top = height - _TOP
    for name, tall in _HEIGHTS.items():
        places[name] = (
            _LEFT / _WIDTH,
            (top - tall) / height,
            (_WIDTH - _LEFT - _RIGHT) / _WIDTH,
            tall / height,
        )
        top -= tall + _GAP
    return places


def _minutes(record: Record) -> list[float]:
    return [sample.at / 60 for sample in record.samples]


def _line(axes: Axes, record: Record, values: Sequence[Any], colour: str, name: str = "") -> None:
    """A line, with its name at its end."""
    times = _minutes(record)
    axes.plot(times, values, color=colour, linewidth=1.1, zorder=3, solid_joinstyle="round")
    known = [value for value in values if value is not None]
    if name and known:
        axes.annotate(
            name,
            (1, known[-1]),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
        )


def _dots(axes: Axes, record: Record, values: Sequence[float], colour: str) -> None:
    """What was found at each calm."""
    axes.plot(
        [calm.at / 60 for calm in record.calms],
        values,
        "o",
        markersize=4,
        color=colour,
        markeredgecolor="white",
        markeredgewidth=0.8,
        zorder=4,
        clip_on=False,
    )


def _memory(axes: Axes, record: Record) -> None:
    values = [sample.memory / 1e6 for sample in record.samples]
    _line(axes, record, values, _STRONG, f"{values[-1]:.0f} MB")
    axes.set_ylim(0, max(values) * 1.25)
    _dots(axes, record, [calm.memory / 1e6 for calm in record.calms], _STRONG)
    slope = memory_growth(record.calms)
    if slope is not None:
        half = record.samples[-1].at / 120
        axes.plot([half, 2 * half], [max(values) * 1.1] * 2, color=_FAINT, linewidth=0.8)
        axes.annotate(
            f"at rest {slope:+.1f} MB per hour",
            (1.5 * half, max(values) * 1.1),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_FAINT,
        )
    _title(axes, "Resident memory, MB; dots: at rest")


def _calls(axes: Axes, record: Record) -> None:
    values = [sample.calls for sample in record.samples]
    axes.fill_between(_minutes(record), values, color=_PALE, alpha=0.35, linewidth=0, zorder=2)
    _line(axes, record, values, _BLUE)
    axes.set_ylim(0, max(values) * 1.15)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _title(axes, "Calls answered, per second")


def _errors(axes: Axes, record: Record) -> None:
    times = _minutes(record)
    unsent = [sample.not_sent for sample in record.samples]
    unknown = [sample.unknown for sample in record.samples]
    both = [first + second for first, second in zip(unsent, unknown, strict=True)]
    axes.fill_between(times, both, step="mid", color=_STRONG, linewidth=0, zorder=2)
    axes.fill_between(times, unsent, step="mid", color=_PALE, linewidth=0, zorder=3)
    axes.set_ylim(0, max(10, *both) * 1.1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    for name, colour, place in (("NOT_SENT", _PALE, 0.35), ("UNKNOWN", _STRONG, 0.65)):
        axes.text(
            1, place, f"  {name}", transform=axes.transAxes, fontsize=8.5, color=colour, va="center"
        )
    _title(axes, "Errors by outcome, per second")


def _counts(axes: Axes, record: Record) -> None:
    samples = record.samples
    _line(axes, record, [sample.tasks for sample in samples], _PALE)
    _line(axes, record, [sample.descriptors for sample in samples], _BLUE)
    clients = [sample.clients for sample in samples]
    _line(axes, record, clients, _DARK)
    axes.set_yscale("log")
    axes.set_ylim(1, max(sample.tasks for sample in samples) * 1.5)
    from matplotlib.ticker import FixedLocator, NullLocator

    axes.yaxis.set_major_locator(FixedLocator([1, 10, 100, 1000]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    rest = record.calms[-1].found
    names = (("tasks", rest.tasks, _PALE), ("descriptors", rest.descriptors, _BLUE))
    for name, value, colour in (*names, ("server clients", rest.clients, _DARK)):
        kept = [getattr(calm.found, name.split()[-1]) for calm in record.calms]
        _dots(axes, record, kept, colour)
        axes.annotate(
            f"{value} {name}",
            (1, value),
            xycoords=("axes fraction", "data"),
            xytext=(6, 0),
            textcoords="offset points",
            va="center_baseline",
            fontsize=8.5,
            color=colour,
            annotation_clip=False,
        )
    _title(axes, "Tasks, descriptors, clients of the server; dots: at rest (logarithmic)")


def _faults(axes: Axes, record: Record) -> None:
    kinds = list(KINDS)
    for row, kind in enumerate(kinds):
        spells = [spell for spell in record.spells if spell.kind == kind]
        # What is over at once is to be seen as well.
        least = record.samples[-1].at * 0.0022
        axes.broken_barh(
            [(spell.begin / 60, max(least, spell.end - spell.begin) / 60) for spell in spells],
            (row - 0.34, 0.68),
            color=_STRONG if kind == "Kill" else _DARK,
            linewidth=0,
            zorder=3,
        )
        axes.axhline(row, color=_RULE, linewidth=0.6, zorder=1)
        axes.text(
            1, row, f"  {len(spells)}×", transform=axes.get_yaxis_transform(), fontsize=7.5,
            color=_FAINT, va="center_baseline",
        )  # fmt: skip
    axes.set_ylim(len(kinds) - 0.4, -0.6)
    axes.set_yticks(range(len(kinds)), [KINDS[kind] for kind in kinds])
    _title(axes, "Faults")


def _title(axes: Axes, text: str) -> None:
    axes.set_title(text, loc="left", fontsize=9, color=_INK, pad=5)


def _dress(axes: Axes, record: Record, *, last: bool) -> None:
    axes.set_xlim(0, record.samples[-1].at / 60)
    for calm in record.calms:
        axes.axvline(calm.at / 60, color=_RULE, linewidth=1.6, zorder=0)
    if not last:
        axes.grid(axis="y", color=_RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6, labelcolor=_FAINT, labelsize=8, labelbottom=last)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if last:
        axes.tick_params(axis="y", labelsize=7.5)
        axes.set_xlabel("minutes", fontsize=8.5, color=_FAINT, labelpad=3)


def _words(figure: Figure, record: Record, height: float) -> None:
    """The title, and what ran, all from the left edge."""
    margin = 0.25 / _WIDTH
    plan, outcomes = record.plan, record.outcomes
    figure.text(
        margin, 1 - 0.2 / height, "The soak: everything at once, under random faults",
        fontsize=14, color=_INK, fontweight="bold", va="top",
    )  # fmt: skip
    verdict = (
        "none lost, doubled, mixed up or late"
        if not record.complaints
        else f"{len(record.complaints)} complaints"
    )
    figure.text(
        margin, 1 - 0.49 / height,
        f"{outcomes['done']:,} calls answered, {len(record.spells)} faults, {verdict}. "
        f"Pale lines: the moments at which all stood still and everything was counted.",
        fontsize=8.5, color=_FAINT, va="top",
    )  # fmt: skip
    figure.text(
        margin, 0.16 / height,
        f"{plan.server}, {plan.loop}, seed {plan.seed}",
        fontsize=8, color=_FAINT, va="bottom",
    )  # fmt: skip
