"""The report: Markdown for the repository, the same table on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import chart
from benchmarks.contenders import OURS
from benchmarks.results import Results, Row, times
from benchmarks.suite import Wording


def write(results: Results, wording: Wording, folder: Path) -> list[Path]:
    """Write the report's .md, .json and, if there is anything to draw, .svg into ``folder``."""
    stem = wording.stem
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.json", folder / f"{stem}.md"]
    whole = {**results.as_dict(), "goals": _goals(results, wording)}
    written[0].write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
    picture = folder / f"{stem}.svg"
    drawn = chart.draw(results, wording, picture)
    if drawn:
        written.append(picture)
    written[1].write_text(markdown(results, wording, picture.name if drawn else None))
    return written


def markdown(results: Results, wording: Wording, picture: str | None = None) -> str:
    """The whole report; ``picture`` is the chart's file name, if there is one."""
    names = list(results.contenders)
    parts = [f"# {wording.title}", _introduction(results, wording)]
    if picture is not None:
        parts.append(f"![{wording.chart_title}]({picture})")
    peers = _peers(results, wording)
    if peers:
        parts.append(
            f"A ratio is {OURS} to that peer: how many times faster, smaller or sooner. "
            "It is computed within each round; the median of those is shown."
        )
    parts.append(_table(_header(results, peers), _cells(results, peers)))
    if goals := _goals(results, wording):
        rows = [list(goal.values()) for goal in goals]
        parts += ["## What is wanted", _table(_GOAL_HEADER, rows)]
    if results.settings["rounds"] > 1:
        spread = [
            [_title(row), *(_spread(results.of(row, name)) for name in names)]
            for row in results.rows()
        ]
        parts += ["## Noise", "Lowest to highest of the rounds.", _table(["", *names], spread)]
    facts = [f"- {name}: {fact}" for name, fact in results.machine.items()]
    versions = [f"- {name} {version}" for name, version in results.contenders.items()]
    parts += ["## Machine", "\n".join(facts), "## Contenders", "\n".join(versions)]
    for title, lines in (("Notes", results.notes), ("Failures", results.failures)):
        if lines:
            parts += [f"## {title}", "\n".join(f"- {line}" for line in lines)]
    return "\n\n".join(parts) + "\n"


def show(results: Results, wording: Wording) -> None:
    """The table on standard output, and what was wanted; drawn by rich on a terminal."""
    peers = _peers(results, wording)
    _print(_header(results, peers), _cells(results, peers))
    if goals := _goals(results, wording):
        print()
        _print(_GOAL_HEADER, [list(goal.values()) for goal in goals])


def _print(header: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    if not sys.stdout.isatty():
        print(_table(header, cells))
        return
    from rich.console import Console  # only where it is seen
    from rich.table import Table

    table = Table(header_style="bold")
    for number, name in enumerate(header):
        style = "bold green" if name == OURS else None
        table.add_column(name, justify="right" if number else "left", style=style)
    for row in cells:
        table.add_row(*row)
    Console().print(table)


_GOAL_HEADER = ("", "wanted", "measured", "reached")


def _goals(results: Results, wording: Wording) -> list[dict[str, str]]:
    return [told for goal in wording.goals if (told := goal.told(results)) is not None]


def _introduction(results: Results, wording: Wording) -> str:
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    return (
        f"Medians of {rounds} round{'' if rounds == 1 else 's'}, {seconds:g} s a measurement. "
        f"{wording.introduction}"
    )


def _peers(results: Results, wording: Wording) -> list[str]:
    return [
        name for name in wording.peers if OURS in results.contenders and name in results.contenders
    ]


def _header(results: Results, peers: Sequence[str]) -> list[str]:
    return ["", *results.contenders, *(f"÷ {peer}" for peer in peers)]


def _cells(results: Results, peers: Sequence[str]) -> list[list[str]]:
    return [
        [
            _title(row),
            *(_number(results.median(row, name)) for name in results.contenders),
            *(_ratio(results, row, peer) for peer in peers),
        ]
        for row in results.rows()
    ]


def _ratio(results: Results, row: Row, peer: str) -> str:
    ratio = results.ratio(row, OURS, peer)
    return "" if ratio is None else times(ratio)


def _title(row: Row) -> str:
    unit = "per second" if row.metric.is_speed else row.metric.unit
    return f"{row.metric.title} ({unit})"


def _number(value: float | None) -> str:
    """Three digits at least, thousands whole."""
    if value is None:
        return ""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}"


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    return f"{_number(min(values))} to {_number(max(values))}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown, padded so that it can be read as it is."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    first, *others = widths
    rule = f"| {'-' * first} | " + " | ".join(f"{'-' * (width - 1)}:" for width in others) + " |"
    return "\n".join([line(header), rule, *map(line, rows)])
