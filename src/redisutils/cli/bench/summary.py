"""A finished run in the terminal: verdict, percentiles, their plot, commands, and what the time
went into."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import compress
from math import log10
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redisutils.cli.bench.record import PERCENTILES
from redisutils.cli.drawing import Braille, duration, share, short, size
from redisutils.cli.parts import legend, parts_bar

if TYPE_CHECKING:
    from rich.console import RenderableType

    from redisutils.cli.bench.record import Record, Row, Spread

__all__ = ["summary"]

Compared = tuple[str, "Record"] | None
"""The file's name, and the run in it."""

WIDEST: Final = 100
PLOT_ROWS: Final = 11
MARGIN: Final = 10
"""Columns of the plot's labels."""
NARROWEST: Final = 36
ROOMY: Final = 72
"""Columns for all of the figures of a command; below, the most telling ones are shown."""


def summary(
    record: Record,
    compared: Compared,
    broken: Sequence[str] = (),
    *,
    width: int,
    pictures: bool = True,
) -> RenderableType:
    """All of it.

    Args:
        record: the run.
        compared: an earlier one, to be shown beside it.
        broken: the conditions under which it has failed, and what was measured.
        width: columns of the terminal.
        pictures: whether it can show characters beyond ASCII.
    """
    room = max(NARROWEST, min(width - 4, WIDEST))
    parts: list[RenderableType] = [_verdict(record, broken, pictures), *_facts(record), Text("")]
    parts += [_percentiles(record, compared), Text("")]
    if pictures and record.told.count > 10:
        parts += [*_plot(record, compared, room), Text("")]
    parts += [_commands(record, room), Text("")]
    if record.parts:
        parts += [*_made_of(record, room, pictures), Text("")]
    parts += [_surroundings(record, compared), *_errors(record)]
    return Padding(Group(*parts), (1, 2, 1, 2), expand=False)


def _verdict(record: Record, broken: Sequence[str], pictures: bool) -> Text:
    faults = [told.removeprefix("--fail-if ") for told in broken]
    if record.rate_held is False and record.settings.rate:
        faults.append(f"{record.settings.rate:,.0f}/s could not be held")
    if record.failed:
        faults.append(f"{record.failed:,} calls failed")
    good, bad = ("✓", "✗") if pictures else ("ok:", "failed:")
    early = "ended early; " if record.interrupted else ""
    told = f"{record.rate:,.0f} commands/s for {record.seconds:,.1f} s"
    if faults:
        return Text(f"{bad} {early}{told}: {', '.join(faults)}", "bold red")
    held = " as asked" if record.rate_held else ""
    return Text(f"{good} {early}{told}{held}, no errors", "bold green")


def _facts(record: Record) -> Iterator[Text]:
    yield Text(record.settings.words, style="dim")
    yield Text(record.server, style="dim")


def _table(first: str, *, wide: int = 12) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(first, min_width=wide, style="dim", no_wrap=True)
    return table


# -- percentiles -------------------------------------------------------------------------


def _percentiles(record: Record, compared: Compared) -> Table:
    table = _table("percentile")
    shown = [record.service]
    if record.response is None:
        table.add_column("latency", justify="right", min_width=8, style="bold")
    else:
        shown.insert(0, record.response)
        table.add_column("response", justify="right", min_width=8, style="bold")
        table.add_column("service", justify="right", min_width=8)
    if compared is not None:
        table.add_column(compared[0], justify="right", min_width=8, max_width=24, no_wrap=True)
        table.add_column("ratio", justify="right")
    rows = [(f"{percent:g} %", percent) for percent in PERCENTILES]
    for name, percent in rows:
        cells = [duration(spread.percentile(percent)) for spread in shown]
        then = compared[1].told.percentile(percent) if compared else 0.0
        table.add_row(name, *cells, *_then(shown[0].percentile(percent), then, compared))
    for name in ("max", "mean"):
        cells = [duration(getattr(spread, name)) for spread in shown]
        then = getattr(compared[1].told, name) if compared else 0.0
        table.add_row(name, *cells, *_then(getattr(shown[0], name), then, compared))
    return table


def _then(now: float, then: float, compared: Compared) -> list[RenderableType]:
    if compared is None:
        return []
    return [duration(then), _ratio(now, then, more_is_better=False)]


def _ratio(now: float, then: float, *, more_is_better: bool) -> Text:
    if not (now and then):
        return Text("–")
    ratio = now / then
    better = ratio > 1 if more_is_better else ratio < 1
    # Within a tenth it is as likely the machine's mood.
    style = "" if 0.9 < ratio < 1.1 else "green" if better else "red"
    told = f"{ratio:,.0f}" if ratio >= 99.5 else f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"
    return Text(f"× {told}", style=style)


# -- the plot ----------------------------------------------------------------------------


def _plot(record: Record, compared: Compared, room: int) -> Iterator[Text]:
    """Latency over percentile, both logarithmic: each further nine is as wide as the last."""
    curves: list[tuple[str, str, Spread]] = []
    if compared is not None:
        curves.append((compared[0], "bright_black", compared[1].told))
    if record.response is not None:
        curves.append(("service", "blue", record.service))
    curves.append(("latency" if record.response is None else "response", "cyan", record.told))
    curves = [curve for curve in curves if curve[2].count]

    nines = min(5.0, max(2.0, log10(max(spread.count for _, _, spread in curves))))
    columns = room - MARGIN
    canvas = Braille(columns, PLOT_ROWS)
    # The few that were quickest would take half of the height.
    low = min(spread.percentile(2) for _, _, spread in curves) or 1e-7
    high = max(spread.max for _, _, spread in curves)
    low, high = log10(low), max(log10(high), log10(low) + 0.5)
    for owner, (_, _, spread) in enumerate(curves, start=1):
        canvas.curve(_heights(spread, canvas.columns, nines, low, high), owner)

    legend = Text()
    for name, style, _ in reversed(curves):
        legend.append("━━ ", style).append(f"{name}   ", "dim")
    yield legend
    for row, runs in enumerate(canvas.lines()):
        # A label on every other line.
        level = 10 ** (high - (high - low) * row / (PLOT_ROWS - 1))
        label = f"{duration(level):>{MARGIN - 2}} " if row % 2 == 0 else " " * (MARGIN - 1)
        line = Text(label, style="dim").append("│", "bright_black")
        for text, who in runs:
            line.append(text, curves[who - 1][1] if who else "")
        yield line
    yield from _axis(columns, nines)


def _heights(
    spread: Spread, dots: int, nines: float, low: float, high: float
) -> list[float | None]:
    found: list[float | None] = []
    for dot in range(dots):
        left = 10 ** (-nines * dot / (dots - 1))
        if spread.count * left < 1:
            # Nobody is left to tell of: the longest was the last.
            found.append(None)
            continue
        value = spread.percentile(100 * (1 - left)) or 1e-7
        found.append((log10(value) - low) / (high - low))
    return found


def _axis(columns: int, nines: float) -> Iterator[Text]:
    ticks, names = ["─"] * columns, [" "] * columns
    for percent in (0.0, 50.0, 90.0, 99.0, 99.9, 99.99, 99.999):
        place = round(-log10(1 - percent / 100) / nines * (columns - 1))
        if place >= columns:
            break
        ticks[place] = "┴"
        name = f"{percent:g}%"
        begin = min(max(0, place - len(name) // 2), columns - len(name))
        # With a gap to the one before, or not at all.
        if "".join(names[max(0, begin - 1) : begin + len(name)]).isspace():
            names[begin : begin + len(name)] = name
    yield Text(" " * (MARGIN - 1) + "└" + "".join(ticks), style="bright_black")
    yield Text(" " * MARGIN + "".join(names), style="dim")


# -- commands ----------------------------------------------------------------------------


def _commands(record: Record, room: int) -> Table:
    table = _table("command", wide=12 if room >= ROOMY else 8)
    heads = ("calls", "per s", "p50", "p99", "p99.9", "max", "errors")
    kept = [head in ("calls", "p99", "errors") or room >= ROOMY for head in heads]
    for head in compress(heads, kept):
        table.add_column(head, justify="right", min_width=7)
    # On a schedule that was not held, what came after its end is no part of the rate.
    rate = record.rate / record.settings.pipeline / (sum(row.calls for row in record.rows) or 1)
    for row in record.rows:
        table.add_row(
            row.name,
            *compress(_cells(row, rate), kept),
        )
    return table


def _cells(row: Row, rate: float) -> tuple[RenderableType, ...]:
    spread = row.service if row.response is None else row.response
    return (
        f"{row.calls:,}" if row.calls < 1_000_000 else short(row.calls),  # whole in the JSON
        f"{row.calls * rate:,.0f}",
        *(duration(spread.percentile(percent)) for percent in (50, 99, 99.9)),
        duration(spread.max),
        Text(f"{row.failed:,}", "bold red" if row.failed else ""),
    )


# -- what the time went into -------------------------------------------------------------


def _made_of(record: Record, room: int, pictures: bool) -> Iterator[Text]:
    head = "latency is made of" if record.response is None else "service time is made of"
    yield Text(head, style="dim")
    for at in ("50", "99", "99.9"):
        split = record.parts.get(at)
        if split is None:
            continue
        whole = sum(split.values())
        line = Text(f"p{at}".ljust(10), style="dim").append(f"{duration(whole):>8}    ", "default")
        yield line.append_text(parts_bar(split, room - 22, pictures=pictures))
    yield Text(" " * max(0, min(22, room - 51))).append_text(legend(pictures=pictures))


def _surroundings(record: Record, compared: Compared) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", min_width=12, no_wrap=True)
    table.add_column()
    opened, client = record.open, record.client
    if compared is not None:
        then = compared[1]
        told = Text(f"{then.rate:,.0f} commands/s in {compared[0]}: ")
        table.add_row("compared", told.append(_ratio(record.rate, then.rate, more_is_better=True)))
        if then.settings != record.settings:
            table.add_row("", Text(f"with another load: {then.settings.words}", "yellow"))
    if opened is not None:
        _schedule(record, table)
    table.add_row(
        "this program",
        f"{share(client.cpu)} of a core; event loop late by {duration(client.loop_lag_p99)} (p99), "
        f"{duration(client.loop_lag_max)} at most; {client.gc_pauses:,} GC pauses"
        + (f", up to {duration(client.gc_pause_max)}" if client.gc_pauses else "")
        + f"; {client.event_loop}",
    )
    server = f"{share(record.server_cpu)} of a core"
    table.add_row("server", server if record.server_cpu is not None else "does not tell its CPU")
    seconds = record.seconds
    table.add_row(
        "network",
        f"{size(record.bytes_out / seconds)}/s sent, {size(record.bytes_in / seconds)}/s received",
    )
    if limit := _limit(record):
        table.add_row("limit", limit)
    return table


def _schedule(record: Record, table: Table) -> None:
    opened, asked = record.open, record.settings
    assert opened is not None
    assert asked.rate is not None
    started = (opened.due - opened.behind) * asked.pipeline / record.seconds
    told = f"{asked.rate:,.0f}/s asked, {started:,.0f}/s started in time"
    if opened.behind:
        told += f"; {short(opened.behind)} calls behind at the end"
    if opened.unstarted:
        told += f", {short(opened.unstarted)} never started"
    table.add_row("schedule", Text(told, "" if record.rate_held else "bold red"))
    own = opened.late - opened.late_busy
    of = opened.due or 1
    table.add_row(
        "late starts",
        f"{share(opened.late / of)} by more than 1 ms: {short(opened.late_busy)} since all "
        f"{asked.tasks:,} tasks were at work, {short(own)} since this program was late"
        if opened.late
        else "none by more than 1 ms",
    )
    lag = opened.lag
    table.add_row(
        "generator",
        f"{duration(lag.percentile(50))} late when it had time (p50), "
        f"{duration(lag.percentile(99))} (p99)",
    )


def _limit(record: Record) -> str | None:
    """What kept it from more, if that can be told; None if it was not asked for more."""
    if record.rate_held or record.failed:
        return None
    if record.server_cpu is not None and record.server_cpu > 0.9:
        return "the server: it used up a core"
    if record.client.cpu > 0.8 and record.settings.tasks >= 8:
        return "this program: it used up its core; another one beside it may get more"
    return "neither used up a core: the network, or how many tasks there are (--tasks)"


def _errors(record: Record) -> Iterator[Text]:
    if record.errors:
        yield Text("\nerrors", style="bold red")
        for name, count in record.errors.items():
            yield Text(f"  {count:,} × {name}")
        for example in record.examples:
            yield Text(f"  {example}", style="dim")
    if record.retries:
        told = ", ".join(f"{count:,} × {name}" for name, count in record.retries.items())
        yield Text(f"\nsent again: {told}", style="yellow")
