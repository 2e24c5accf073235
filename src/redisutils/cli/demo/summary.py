"""The closing account: the verdict, the ledger, the figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redisutils.cli.demo.columns import money, signed
from redisutils.cli.demo.figures import KINDS
from redisutils.cli.demo.frame import Facts
from redisutils.cli.drawing import duration, size

if TYPE_CHECKING:
    from rich.console import RenderableType

    from redisutils import PoolStatus
    from redisutils.cli.demo.day import TradingDay
    from redisutils.metrics import LatencySnapshot, MetricsSnapshot

__all__ = ["Finished", "summary"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run."""

    facts: Facts
    day: TradingDay
    metrics: MetricsSnapshot
    """The pool's, at the end of trading."""
    status: PoolStatus
    memory: int | None
    """Resident bytes of this process, before any picture is drawn."""
    paced: bool
    interrupted: bool


def summary(finished: Finished) -> RenderableType:
    """All of it, and examples of what went wrong."""
    day, facts = finished.day, finished.facts
    told = f"{facts.source} · {facts.tasks:,} traders · {facts.server}"
    parts: list[RenderableType] = [_verdict(finished), Text(told, style="dim"), Text("")]
    if day.statement:
        parts += [_ledger(day), Text("")]
    parts += [_positions(day), Text("")] if day.blotter.valuation else []
    parts += [_figures(finished), Text(""), _latencies(finished)]
    wrong = day.checks.examples
    if wrong:
        heading = f"\nwrong values, the first {len(wrong)} of {day.checks.wrong:,}:"
        parts.append(Text(heading, style="bold red"))
        parts += [Padding(Text(line), (0, 0, 0, 2)) for line in wrong]
    if day.errors:
        parts.append(Text("\nerrors:", style="bold red"))
        parts += [
            Padding(Text(f"{count:,} × {line}"), (0, 0, 0, 2))
            for line, count in day.errors.most_common(5)
        ]
    return Padding(Group(*parts), (1, 2, 1, 2), expand=False)


def _verdict(finished: Finished) -> Text:
    day = finished.day
    early = "ended early; " if finished.interrupted else ""
    if day.right:
        told = "the ledger balances, every value was right, no event was lost"
        return Text(f"✓ {early}{told}", "bold green")
    if not (day.checks.wrong or day.lost or day.errors):
        return Text(f"✗ {early}nothing was traded", "bold red")
    faults = [
        f"{count:,} {what}"
        for count, what in (
            (day.checks.wrong, "wrong values"),
            (day.lost, "events lost"),
            (day.errors.total(), "errors"),
        )
        if count
    ]
    unbalanced = [line.name for line in day.statement if not line.right]
    if unbalanced:
        faults.insert(0, f"the ledger does not balance ({', '.join(unbalanced)})")
    return Text(f"✗ {early}{', '.join(faults)}", "bold red")


def _ledger(day: TradingDay) -> Table:
    """What was sent, and what the database has."""
    table = _table("ledger", "sent", "stored", width=15, min_width=20)
    table.add_column(no_wrap=True)
    for line in day.statement:
        mark = ("✓", "green") if line.right else ("✗", "bold red")
        note = Text.assemble(mark, (f" {line.note}", "dim"))
        table.add_row(line.name, _sum(line.sent), _sum(line.stored), note)
    return table


def _sum(value: Decimal | int) -> str:
    """With all its digits: it is exact or wrong."""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value.normalize():,f}" if value else "0"


def _positions(day: TradingDay) -> Table:
    table = _table("positions", "held", "avg price", "value", "unrealised", "realised", width=10)
    assert day.blotter.valuation is not None
    for symbol, valued in day.blotter.valuation.positions.items():
        position, places = valued.position, day.instruments[symbol].places
        table.add_row(
            symbol,
            f"{position.qty:+f}" if position.qty else "flat",
            f"{position.avg_px:.{places + 1}f}" if position.qty else "",
            money(valued.value),
            Text(*signed(valued.unrealised)),
            Text(*signed(position.realised)),
        )
    for total in day.blotter.valuation.totals.values():
        table.add_row(
            f"all, {total.currency}",
            "",
            "",
            money(total.value),
            Text(*signed(total.unrealised)),
            Text(*signed(total.realised)),
        )
    return table


def _figures(finished: Finished) -> Table:
    day, metrics, status = finished.day, finished.metrics, finished.status
    seconds = day.seconds or 1e-9
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", width=18)
    table.add_column(justify="right", min_width=11)
    table.add_column()

    def count(name: str, value: int, *, rate: bool = False, note: str = "") -> None:
        table.add_row(name, f"{value:,}", f"{value / seconds:,.0f}/s" if rate else note)

    table.add_row("time", f"{day.seconds:,.1f} s")
    count("commands", metrics.commands, rate=True)
    count("trades", day.trades, rate=True)
    count("orders", day.desk.placed, rate=True)
    count("reports", day.desk.venue.reports, note=f"{day.desk.repeated:,} of them came twice")
    count("fills", day.fills, rate=True)
    count("live quotes", day.blotter.live, note=f"{day.blotter.gaps:,} gaps")
    count("events lost", day.lost, note=f"of {day.desk.told:,}")
    count("values compared", day.checks.compared)
    count("mismatches", day.checks.wrong)
    if finished.paced:
        table.add_row("behind the tape", duration(day.feed.behind_max), "at most")
    table.add_row(
        "pool",
        f"{status.size} of {status.max_size}",
        f"at work; {metrics.connections_created:,} made, "
        f"{metrics.connections_discarded:,} discarded",
    )
    table.add_row("network", size(metrics.bytes_out), f"sent, {size(metrics.bytes_in)} received")
    for name, counts in (("command errors", metrics.errors), ("retries", metrics.retries)):
        count(name, sum(counts.values()), note=_by_reason(counts))
    if finished.memory is not None:
        table.add_row("memory", size(finished.memory), "resident")
    return table


def _latencies(finished: Finished) -> Table:
    table = _table("latency", "count", "p50", "p95", "p99", "max", min_width=8)
    timings = finished.day.timings
    rows: list[tuple[str, LatencySnapshot]] = [
        *((kind, timings.kinds[kind].snapshot()) for kind in KINDS),
        ("all commands", finished.metrics.latency),
    ]
    for name, shot in rows:
        figures = (shot.p50, shot.p95, shot.p99, shot.max)
        table.add_row(name, f"{shot.count:,}", *map(duration, figures))
    return table


def _table(name: str, *heads: str, width: int = 18, min_width: int = 6) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(name, width=width, style="dim")
    for head in heads:
        table.add_column(head, justify="right", min_width=min_width, no_wrap=True)
    return table


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))
