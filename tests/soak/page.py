"""The words about a run: for the terminal, and for the documentation."""

from __future__ import annotations

import platform
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from redisutils import __version__

from .calm import Calm
from .run import Record
from .verdict import MEMORY_LIMIT, memory_growth
from .weather import KINDS

__all__ = ["summary", "verdict", "write"]


def summary(record: Record) -> str:
    """A few lines."""
    return "\n".join(f"{name}: {value}" for name, value in _figures(record))


def write(record: Record, place: Path) -> None:
    """Write the page to ``place`` (Markdown)."""
    plan = record.plan
    table = "\n".join(f"| {name} | {value} |" for name, value in _figures(record))
    text = _PAGE.format(
        table=table,
        faults=textwrap.fill(", ".join(KINDS.values()), 95),
        limit=f"{MEMORY_LIMIT:.0f}",
        seed=plan.seed,
    )
    place.write_text(text, encoding="utf-8")


def _figures(record: Record) -> list[tuple[str, str]]:
    outcomes = record.outcomes
    on = (
        f"{record.plan.server}, {record.plan.loop}, Python {platform.python_version()}, "
        f"{sys.platform}, redisutils {__version__}"
    )
    minutes = record.samples[-1].at / 60 if record.samples else 0.0
    return [
        ("run", f"{minutes:.1f} minutes, seed {record.plan.seed}"),
        ("on", on),
        ("verdict", verdict(record)),
        ("faults", str(len(record.spells))),
        ("calls that were answered", f"{outcomes['done']:,}"),
        ("not sent", f"{outcomes['NOT_SENT']:,}"),
        ("unknown", f"{outcomes['UNKNOWN']:,}"),
        ("rejected (the server was loading)", f"{outcomes['REJECTED']:,}"),
        ("cancelled on purpose", f"{outcomes['cancelled']:,}"),
        ("given too little time on purpose", f"{outcomes['hurried']:,}"),
        ("latest end of a call after its budget", f"{record.worst_overrun * 1000:.0f} ms"),
        *(_at_rest(record.calms) if record.calms else []),
    ]  # fmt: skip


def verdict(record: Record) -> str:
    """What is to be said of it in a few words."""
    if record.complaints:
        found = f"{len(record.complaints)} complaints"
    elif not record.spells:
        found = "nothing was found, but no fault struck either: it was too short"
    elif record.interrupted:
        found = "nothing was found so far"
    else:
        found = "all is well"
    return f"interrupted: {found}" if record.interrupted else found


def _at_rest(calms: Sequence[Calm]) -> list[tuple[str, str]]:
    rest = calms[-1].found
    same = sum(calm.found == rest for calm in calms)
    at_rest = (
        f"{rest.descriptors} descriptors, {rest.tasks} tasks, {rest.clients} clients of the "
        f"server, {same} times of {len(calms)}"
    )
    memory = memory_growth(calms)
    return [
        ("slowest recovery after the faults", f"{max(c.recovery for c in calms):.2f} s"),
        ("at rest", at_rest),
        ("memory at the first rest", f"{calms[0].memory / 1e6:.1f} MB"),
        ("memory at the last rest", f"{calms[-1].memory / 1e6:.1f} MB"),
        ("its growth in the second half",
         "too short to tell" if memory is None else f"{memory:+.1f} MB per hour"),
        ("Python objects at the first and last rest",
         f"{calms[0].objects:,} and {calms[-1].objects:,}"),
    ]  # fmt: skip


_PAGE: Final = """\
# The soak

Ten minutes in which everything that users do is done at once, on a network and a server that
fail at random. After it nothing may be lost, doubled, mixed up, late or left behind.

```sh
make soak                                 # ten minutes, any seed
make soak ARGS="--minutes 2 --seed {seed}"     # shorter, and with this seed
make soak ARGS="--help"                   # --server, --loop, --plot, --page
```

It needs no server: it starts one of its own, with an append-only file that is synced at every
write, and a faulty network before it. It ends with 1 and says what was wrong, if anything was.

![Memory, throughput, descriptors, clients and tasks over the run, with its faults](soak.svg)

| | |
| --- | --- |
{table}

## What goes on

Some seventy tasks use one pool (and a small one with `retry=never`): GET and SET of values that
are unlike any other, INCR, bursts of RPUSH, pipelines, MULTI, scripts, WATCH transactions that move
money, BLPOP and those who feed it, pub/sub, a lane of its own, views with little time, checkouts,
clients and pools of a moment, wrong passwords; `resize()`, `retain()`, `health()`. Some are
cancelled anywhere. Meanwhile, on a timeline drawn from the seed:
{faults}.

## What is checked

- **Nobody gets another's reply.** Each value, echo and message is unlike any other.
- **No write is lost or doubled.** Each writes a name of its own, and the books are compared with
  the server: acknowledged ones are there once, those of unknown fate once at most, those that were
  not sent or were rejected never, and all in the order of their caller. A transaction is there as a
  whole or not at all. A subscriber hears no message twice.
- **Every call ends in its budget**, whatever happens, or at most 0.25 s after it; what the event
  loop itself was late does not count. The table says how late the latest one was.
- **Every error says what happened** to its command, and refusals have a reason in the weather.
- **Nothing is said behind our back**: no warning, no exception that nobody awaited.
- **All comes back.** Once a minute the faults end and the users stand still. Within a second every
  lane answers, and within ten every subscriber hears, who may first have to find out that his
  connection is dead. Then files and sockets, tasks and the server's clients are, to the last one,
  as many as at the beginning.
- **Memory is flat.** At rest, after a full collection and when malloc was asked to give back what
  it only holds for later (`malloc_trim`; else it runs as it is), the resident memory is taken.
  Theil and Sen's slope of it over the second half (the median of the slopes between all pairs)
  is below {limit} MB per hour, which is 1 MB in five minutes; a leak of 100 bytes a call would
  make hundreds. The first half is for caches to fill. The Python objects at rest are
  counted, too: no more than 500 may come in the second half.

The figures contain the network: it lives in the same process, and takes two descriptors and a few
tasks for each connection, and most of the processor time. They say nothing about speed.
"""
