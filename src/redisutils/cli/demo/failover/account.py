"""The closing table: what was said, what is there, and why the two may differ."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.console import Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from redisutils.cli.drawing import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from redisutils.cli.demo.failover.story import Story
    from redisutils.cli.demo.failover.view import Facts
    from redisutils.metrics import MetricsSnapshot

__all__ = ["account"]


def account(
    facts: Facts, story: Story, metrics: MetricsSnapshot, interrupted: bool
) -> RenderableType:
    """All of it."""
    parts: list[RenderableType] = [
        _verdict(story, interrupted),
        Text(f"{facts.tasks} tasks · {facts.servers}", style="dim"),
        Text(""),
        _times(story),
        Text(""),
        _writes(story),
        *(Text(f"\n{words}") for words in _explained(story)),
    ]
    if story.findings.examples:
        parts.append(Text("\nwhat must not be:", style="bold red"))
        parts += [Padding(Text(line), (0, 0, 0, 2)) for line in story.findings.examples]
    if story.errors:
        parts.append(Text("\nwhat callers were told:", style="dim"))
        for name, count in story.errors.most_common(5):
            parts.append(Padding(Text(f"{count:,} × {name}"), (0, 0, 0, 2)))
    retries = ", ".join(f"{reason} {count:,}" for reason, count in metrics.retries.items())
    if retries:
        parts.append(Text(f"\nsent again by the pool, unseen by callers: {retries}", style="dim"))
    return Padding(Group(*parts), (1, 2))


def _verdict(story: Story, interrupted: bool) -> Text:
    found = story.findings
    if found.faults:
        return Text(f"✗ {found.faults:,} faults: what must not be has been", style="bold red")
    if story.killing.killed_at is None:
        return Text("✗ ended before a primary was killed", style="bold yellow")
    if story.first_success is None:
        why = "ended before another took over" if interrupted else "nobody took over in time"
        return Text(f"✗ {why}", style="bold yellow")
    if story.unread:
        told = f"✗ {story.unread:,} of {len(story.books):,} lists could not be read in the end"
        return Text(told, style="bold red")
    lost = found.lost_by_servers
    if lost:
        told = f"✓ no wrong reply and no doubled write; {lost:,} lost by the servers themselves"
        return Text(told, style="bold yellow")
    return Text("✓ a primary died, and nothing was lost, doubled or wrong", style="bold green")


def _times(story: Story) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=18)
    table.add_column(justify="right", min_width=10)
    table.add_column(style="dim")
    killing = story.killing
    if killing.killed_at is None:
        return table
    if killing.elected_at is not None:
        table.add_row(
            "election",
            duration(killing.elected_at - killing.killed_at),
            "from the death, by the servers",
        )
        if story.first_success is not None:
            late = max(0.0, story.first_success - killing.elected_at)
            table.add_row("first success", duration(late), "from the election, by this library")
    table.add_row(
        "longest wait", duration(story.longest(True)), "of a write to the dead one's keys"
    )
    others = [book for book in story.books if not book.bereaved]
    if others:
        table.add_row("", duration(story.longest(False)), "of a write elsewhere, at the same time")
    return table


def _writes(story: Story) -> Table:
    found = story.findings
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", min_width=18)
    table.add_column(justify="right", min_width=10)
    table.add_column(style="dim")

    def count(name: str, number: int, note: str = "", bad: bool = False) -> None:
        table.add_row(name, Text(f"{number:,}", style="bold red" if bad and number else ""), note)

    count("acknowledged", found.acknowledged, f"writes, of which {found.kept:,} are there")
    count("unknown", found.unknown, f"of which {found.done:,} are there, and none twice")
    count("refused", found.refused, "writes that were certainly not executed")
    count("lost by servers", found.lost_by_servers, "acknowledged by the dead, not passed on")
    count("lost otherwise", found.lost, "must be 0", bad=True)
    count("doubled", found.doubled, "must be 0", bad=True)
    count("refused, but there", found.undead, "must be 0", bad=True)
    count("out of order", found.out_of_order, "must be 0", bad=True)
    count("wrong answers", found.wrong, "must be 0", bad=True)
    return table


def _explained(story: Story) -> Iterator[str]:
    found = story.findings
    if found.lost_by_servers:
        yield (
            "Replication is asynchronous: a primary answers, and then passes on. What it had "
            "answered and not passed on when it died is gone with it, whatever the client. "
            "min-replicas-to-write bounds how much; WAIT 1 after a write that must not go makes "
            "sure of it."
        )
    if found.unknown:
        yield (
            "Unknown: written to a connection that died before the answer came. Nobody can say "
            "then; pushing to a list is not idempotent, so it is not sent again, and the caller is "
            "told (outcome UNKNOWN)."
        )
