"""The parts of a picture: each a few lines of text about one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from redisutils.cli.drawing import duration, share, short, size, sparkline
from redisutils.cli.parts import parts_bar

if TYPE_CHECKING:
    from redisutils.monitor.frame import Frame, ServerFrame

__all__ = [
    "LABEL",
    "error_lines",
    "few",
    "label",
    "long_time",
    "pool_lines",
    "process_line",
    "server_lines",
    "spark",
    "tables",
]

LABEL: Final = 12
"""Columns of the words on the left."""


def spark(
    values: Sequence[float], room: int, style: str, rows: int, words: Callable[[float], str]
) -> Iterator[Text]:
    """A sparkline with its highest value at the end."""
    peak = 10
    shown = list(values)[-(room - LABEL - peak) :]
    top = max(shown)
    for number, row in enumerate(sparkline(shown, rows=rows)):
        line = Text(" " * LABEL).append(row, style)
        if number == 0 and len(shown) > 1 and top:
            line.append(f" ≤ {words(top)}", "dim")
        yield line


def pool_lines(frame: Frame, room: int) -> Iterator[Text]:
    """How full the pool is, what is in flight, and each lane."""
    pool = frame["pool"]
    bar = _bar(pool["in_use"], pool["max_size"], 20)
    yield Text.assemble(
        label("pool"),
        bar,
        f" {pool['in_use']:,} of {pool['max_size']:,}",
        (f"   {pool['waiting']:,} waiting", "bold yellow" if pool["waiting"] else "dim"),
        (f"   in flight {frame['in_flight']:,}, {size(frame['in_flight_bytes'])}", "dim"),
    )
    line = Text.assemble(label("lanes"))
    if not frame["lanes"]:
        line.append("none in use", "dim")
    # What is wrong is seen, however many there are.
    lanes = sorted(frame["lanes"], key=lambda lane: lane["connected"] and not lane["blocked"])
    for place, lane in enumerate(lanes):
        good = lane["connected"] and not lane["blocked"]
        word = "full" if lane["blocked"] else "ok" if lane["connected"] else "down"
        told = Text.assemble(
            (lane["name"], ""),
            (f" {word}", "green" if good else "bold red"),
            (f" {lane['in_flight']:,} in flight", "dim"),
            (f", {lane['waiting']:,} waiting" if lane["waiting"] else "", "yellow"),
            "   ",
        )
        if line.cell_len + told.cell_len > room - 8 and place + 1 < len(lanes):
            line.append(f"+{len(lanes) - place} more", "dim")
            break
        line.append_text(told)
    yield line


def error_lines(frame: Frame) -> Iterator[Text]:
    """What callers were told, and what was sent again."""
    line = Text.assemble(label("errors"))
    if not frame["errors"]:
        line.append("none", "green")
    for error in frame["errors"][:3]:
        now = error["rate"] > 0
        line.append(f"{error['name']} ", "bold red" if now else "")
        line.append(f"{error['outcome'].lower().replace('_', ' ')} ", "red" if now else "dim")
        line.append(f"{few(error['rate'])}/s" if now else f"{error['total']:,}", "")
        line.append("   ")
    if frame["retries"]:
        retried = frame["retries"][0]
        line.append(
            f"sent again: {few(sum(each['rate'] for each in frame['retries']))}/s, "
            f"mostly {retried['reason']}",
            "yellow" if any(each["rate"] for each in frame["retries"]) else "dim",
        )
    yield line


def tables(frame: Frame, room: int, free: int) -> Iterator[Text]:
    """The busiest and the slowest commands, as many as there is room for."""
    busy, slow = frame["commands"], frame["slow"]
    if free < 3 or not (busy or slow):
        return
    yield Text()
    free -= 1
    both = bool(busy and slow) and free >= 7
    # The busiest first; the slowest have what is left, and a blank line.
    most = min(len(busy), free - 1 - (5 if both else 0))
    if busy:
        yield _row(_BUSY, ("busiest", "per s", "share", "p50", "p99", "errors/s"), "dim")
        whole = sum(command["rate"] for command in busy) or 1.0
        for command in busy[:most]:
            cells = (
                command["name"],
                short(command["rate"]),
                "<1 %" if 0 < command["rate"] / whole < 0.01 else share(command["rate"] / whole),
                duration(command["p50"]),
                duration(command["p99"]),
                few(command["errors"]) if command["errors"] else "–",
            )
            row = _row(_BUSY, cells)
            if command["errors"]:
                row.stylize("red")
            row.append("   ").append_text(parts_bar(command["split"], room - row.cell_len))
            yield row
        free -= most + 1
    if both:
        yield Text()
    if slow and (both or not busy):
        several = len(frame["nodes"]) > 1
        titles = _row(_SLOW, ("slowest", "took", "ago", "sent", "reply"), "dim")
        yield titles.append("   key, and where" if several else "   key", "dim")
        for each in slow[: max(1, min(8, free - 2))]:
            reply = each["reply_size"]
            facts = (
                each["command"],
                duration(each["seconds"]),
                long_time(max(0.0, frame["at"] - each["at"])),
                size(each["request_bytes"]),
                "–" if reply is None else short(reply),
            )
            where = f" at {each['server']}" if several else ""
            yield _row(_SLOW, facts).append(f"   {each['key'] or '–'}{where}", "dim")


_BUSY: Final = (14, 7, 6, 9, 9, 9)
_SLOW: Final = (14, 9, 10, 9, 7)


def _row(widths: Iterable[int], cells: Iterable[str], style: str = "") -> Text:
    """The first to the left, the others to the right."""
    row = Text(style=style)
    for number, (width, cell) in enumerate(zip(widths, cells, strict=True)):
        cut = cell if len(cell) < width or number else f"{cell[: width - 2]}…"
        row.append(cut.rjust(width) if number else cut.ljust(width))
    return row


def server_lines(server: ServerFrame | None, room: int) -> Iterator[Text]:
    """What the server says of itself."""
    if server is None:
        yield Text.assemble(label("server"), ("says nothing of itself", "dim"))
        return
    used, limit = server["used_memory"], server["maxmemory"]
    line = Text.assemble(label("memory"))
    if used is not None and limit:
        line.append_text(Text.assemble(_bar(used, limit, 20), f" {size(used)} of {size(limit)}"))
    else:
        line.append(f"{size(used)}, no limit" if limit == 0 else size(used))
    if server["eviction_policy"]:
        line.append(f"   {server['eviction_policy']}", "dim")
    yield line
    clients = Text.assemble(label("clients"))
    if server["clients"] is not None and server["maxclients"]:
        clients.append_text(
            Text.assemble(
                _bar(server["clients"], server["maxclients"], 20),
                f" {server['clients']:,} of {server['maxclients']:,}",
            )
        )
    else:
        clients.append("–" if server["clients"] is None else f"{server['clients']:,}")
    yield clients
    told: list[tuple[str, str]] = []  # what is wrong first
    if server["loading"]:
        told.append(("loading its data", "bold yellow"))
    if server["persistence"] == "failing":
        told.append(("persistence failing", "bold red"))
    if server["ops"] is not None:
        told.append((f"{short(server['ops'])} commands/s", ""))
    if server["keys"] is not None:
        told.append((f"{short(server['keys'])} keys", ""))
    if server["hit_rate"] is not None:
        told.append((f"{share(server['hit_rate'])} hits", ""))
    if server["replicas"] or server["role"] in ("replica", "slave"):
        lag = server["replication_lag"]
        behind = f", last heard {duration(lag)} ago" if lag is not None else ""
        count = server["replicas"] or 0
        told.append((f"{count:,} replica{'' if count == 1 else 's'}{behind}", ""))
    if server["persistence"] in ("ok", "off"):
        told.append((f"persistence {server['persistence']}", "dim"))
    facts = Text.assemble(label("server"))
    for number, (text, style) in enumerate(told):
        facts.append(" · " if number else "", "dim").append(text, style)
    facts.truncate(room, overflow="ellipsis")
    yield facts


def process_line(frame: Frame) -> Text:
    """The program's own share."""
    process = frame["process"]
    late = process["loop_lag_p99"]
    return Text.assemble(
        label("program"),
        f"{share(process['cpu'])} of a core",
        (f" · {size(process['memory'])}", ""),
        " · loop late ",
        (duration(late), "bold yellow" if late is not None and late > 0.01 else ""),
        (f", max {duration(process['loop_lag_max'])}", ""),
        (f" · GC {few(process['gc_pauses'] or 0.0)}/s", "dim"),
        (f" ≤ {duration(process['gc_pause_max'])}" if process["gc_pause_max"] else "", "dim"),
    )


def _bar(part: float, whole: float, width: int) -> Text:
    level = min(1.0, part / whole) if whole else 0.0
    halves = round(level * width * 2)
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    style = "green" if level < 0.7 else "yellow" if level < 0.9 else "red"
    return Text.assemble((done, style), ("─" * (width - len(done)), "bright_black"))


def few(rate: float) -> str:
    """Per second: small ones matter, too."""
    return "0" if not rate else f"{rate:.2g}" if rate < 10 else short(rate)


def long_time(seconds: float) -> str:
    """A long time in two words at most: ``48 s``, ``5 m 12 s``, ``3 h 4 m``, ``12 d``."""
    seconds = int(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} m {seconds % 60} s"
    if seconds < 86_400:
        return f"{seconds // 3600} h {seconds % 3600 // 60} m"
    return f"{seconds // 86_400:,} d"


def label(text: str) -> tuple[str, str]:
    """The words on the left."""
    return text.ljust(LABEL), "dim"
