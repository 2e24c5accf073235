"""The closing table of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redisutils.cli.demo.figures import KINDS
from redisutils.cli.demo.frame import Facts, milliseconds

if TYPE_CHECKING:
    from rich.console import RenderableType

    from redisutils import PoolStatus
    from redisutils.cli.demo.loop import TradingLoop
    from redisutils.metrics import LatencySnapshot, MetricsSnapshot

__all__ = ["Finished", "summary"]


@dataclass(frozen=True, slots=True)
class Finished:
    """A finished run."""

    facts: Facts
    loop: TradingLoop
    seconds: float
    """How long desks were trading."""
    metrics: MetricsSnapshot
    """The pool's, at the end of trading."""
    status: PoolStatus
    memory: int | None
    """Resident bytes of this process, before any picture is drawn."""
    paced: bool
    interrupted: bool


def summary(finished: Finished) -> RenderableType:
    """The table: verdict, figures, latencies, and examples of what went wrong."""
    loop, facts = finished.loop, finished.facts
    told = f"{facts.source} · {facts.tasks:,} tasks · {facts.server}"
    parts: list[RenderableType] = [
        _verdict(finished),
        Text(told, style="dim"),
        Text(""),
        _figures(finished),
        Text(""),
        _latencies(finished),
    ]
    wrong = loop.checks.examples
    if wrong:
        heading = f"\nwrong values, the first {len(wrong)} of {loop.checks.wrong:,}:"
        parts.append(Text(heading, style="bold red"))
        parts += [Padding(Text(line), (0, 0, 0, 2)) for line in wrong]
    if loop.errors:
        parts.append(Text("\nerrors:", style="bold red"))
        parts += [
            Padding(Text(f"{count:,} × {line}"), (0, 0, 0, 2))
            for line, count in loop.errors.most_common(5)
        ]
    return Padding(Group(*parts), (1, 2, 1, 2), expand=False)


def _verdict(finished: Finished) -> Text:
    loop = finished.loop
    early = "ended early; " if finished.interrupted else ""
    if loop.right:
        return Text(f"✓ {early}every value read back was right, no event was lost", "bold green")
    if not (loop.checks.wrong or loop.lost or loop.errors):
        return Text(f"✗ {early}nothing was traded", "bold red")
    faults = [
        f"{count:,} {what}"
        for count, what in (
            (loop.checks.wrong, "wrong values"),
            (loop.published - loop.received, "events lost"),
            (loop.errors.total(), "errors"),
        )
        if count
    ]
    return Text(f"✗ {early}{', '.join(faults)}", "bold red")


def _figures(finished: Finished) -> Table:
    loop, metrics, status = finished.loop, finished.metrics, finished.status
    seconds = finished.seconds or 1e-9
    kinds = loop.timings.kinds
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", width=18)
    table.add_column(justify="right", min_width=11)
    table.add_column()

    def count(name: str, value: int, *, rate: bool = False, note: str = "") -> None:
        told = f"{value / seconds:,.0f}/s" if rate else note
        table.add_row(name, f"{value:,}", told)

    table.add_row("time", f"{seconds:,.1f} s")
    count("commands", metrics.commands, rate=True)
    count("trades", loop.trades, rate=True)
    count("prices cached", kinds["price write"].snapshot().count, rate=True)
    count("portfolio updates", kinds["portfolio update"].snapshot().count, rate=True)
    count("events received", loop.received, rate=True)
    count("events lost", loop.published - loop.received, note=f"of {loop.published:,}")
    count("values compared", loop.checks.compared)
    count("mismatches", loop.checks.wrong)
    if finished.paced:
        table.add_row("behind the tape", milliseconds(loop.behind_max), "at most")
    table.add_row(
        "pool",
        f"{status.size} of {status.max_size}",
        f"at work; {metrics.connections_created:,} made, "
        f"{metrics.connections_discarded:,} discarded",
    )
    table.add_row("network", _size(metrics.bytes_out), f"sent, {_size(metrics.bytes_in)} received")
    for name, counts in (("command errors", metrics.errors), ("retries", metrics.retries)):
        count(name, sum(counts.values()), note=_by_reason(counts))
    if finished.memory is not None:
        table.add_row("memory", _size(finished.memory), "resident")
    return table


def _latencies(finished: Finished) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("latency", width=18, style="dim")
    for head in ("count", "p50", "p95", "p99", "max"):
        table.add_column(head, justify="right", min_width=8)
    timings = finished.loop.timings
    rows: list[tuple[str, LatencySnapshot]] = [
        *((kind, timings.kinds[kind].snapshot()) for kind in KINDS),
        ("pool, round trips", finished.metrics.latency),
    ]
    for name, shot in rows:
        figures = (shot.p50, shot.p95, shot.p99, shot.max)
        table.add_row(name, f"{shot.count:,}", *map(milliseconds, figures))
    return table


def _by_reason(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count:,}" for reason, count in sorted(counts.items()))


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:,.0f} {unit}" if unit == "B" else f"{count:,.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"
