"""The report: Markdown for the repository, the same table on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import chart
from benchmarks.contenders import OURS, REFERENCE
from benchmarks.results import Results, Row, times

_PEERS = ("redis-py", "valkey-glide", REFERENCE)
"""Against whom ratios are shown."""


def write(results: Results, folder: Path, stem: str) -> list[Path]:
    """Write ``stem``.md, .json and, if there is anything to draw, .svg into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    written = [folder / f"{stem}.json", folder / f"{stem}.md"]
    written[0].write_text(json.dumps(results.as_dict(), indent=1, ensure_ascii=False) + "\n")
    picture = folder / f"{stem}.svg"
    drawn = chart.draw(results, picture)
    if drawn:
        written.append(picture)
    written[1].write_text(markdown(results, picture.name if drawn else None))
    return written


def markdown(results: Results, picture: str | None = None) -> str:
    """The whole report; ``picture`` is the chart's file name, if there is one."""
    names = list(results.contenders)
    parts = ["# Benchmark", _introduction(results)]
    if picture is not None:
        parts.append(f"![Throughput relative to redis-py]({picture})")
    peers = _peers(results)
    if peers:
        parts.append(
            f"A ratio is {OURS} to that peer: how many times faster, smaller or sooner. "
            "It is computed within each round; the median of those is shown."
        )
    parts.append(_table(_header(results), _cells(results)))
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


def show(results: Results) -> None:
    """The table on standard output, drawn by rich on a terminal."""
    header, cells = _header(results), _cells(results)
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


def _introduction(results: Results) -> str:
    rounds, seconds = results.settings["rounds"], results.settings["seconds"]
    return (
        f"Medians of {rounds} round{'' if rounds == 1 else 's'}, {seconds:g} s a measurement. "
        "Every measurement runs in a process of its own, on uvloop, all contenders in turn "
        "against the same server. redis-benchmark runs without `-P`, a connection per task; "
        "it has no equivalent of some workloads. Pipelines count commands. A checkout gives a "
        "connection of one's own with the library's methods, a bare one what lies below them, "
        "where there is such a thing: in redis-py `client.client()` and `pool.get_connection()`."
    )


def _peers(results: Results) -> list[str]:
    return [name for name in _PEERS if OURS in results.contenders and name in results.contenders]


def _header(results: Results) -> list[str]:
    return ["", *results.contenders, *(f"÷ {peer}" for peer in _peers(results))]


def _cells(results: Results) -> list[list[str]]:
    return [
        [
            _title(row),
            *(_number(results.median(row, name)) for name in results.contenders),
            *(_ratio(results, row, peer) for peer in _peers(results)),
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
