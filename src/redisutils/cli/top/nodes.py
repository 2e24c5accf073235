"""The servers behind a pool that has several, a line each, as many as there is room for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.text import Text

from redisutils.cli.drawing import duration, short, size

if TYPE_CHECKING:
    from redisutils.monitor.frame import Frame, NodeFrame

__all__ = ["node_lines"]

_BAR: Final = 10
"""Columns of the longest bar."""

_COLUMNS: Final = (
    ("state", 20), ("slots", 7), ("per s", 8), ("", _BAR + 2), ("p99", 10), ("in flight", 11),
)  # fmt: skip

_DROPPED: Final = ("in flight", "")
"""Columns that a narrow terminal goes without, in this order."""


def node_lines(frame: Frame, room: int, free: int) -> Iterator[Text]:
    """A head, and a line for each; those that somebody should look at come first where there is
    not room for all.

    Args:
        room: columns.
        free: lines.
    """
    nodes = frame["nodes"]
    if len(nodes) < 2 or free < 3:
        return
    name = min(max(len(node["endpoint"]) for node in nodes) + 6, max(18, room // 3))
    columns = dict(_COLUMNS)
    for dropped in _DROPPED:
        if name + sum(columns.values()) > room:
            del columns[dropped]
    cells = [
        f"  {title}".ljust(width) if title == "state" else title.rjust(width)
        for title, width in columns.items()
    ]
    yield Text("nodes".ljust(name) + "".join(cells) + "   heard", "dim")
    most = max(node["rate"] for node in nodes)
    shown = _chosen(nodes, free - 2 if len(nodes) > free - 1 else free - 1)
    for node in shown:
        yield _line(node, name, most, columns)
    left = max(frame["nodes_in_all"], len(nodes)) - len(shown)
    if left > 0:
        yield Text(f"{' ' * 2}and {left} more, of which nothing is to be said", "dim")


def _chosen(nodes: Sequence[NodeFrame], most: int) -> list[NodeFrame]:
    """The worst, and then those that own something, in their order."""
    ranked = sorted(
        range(len(nodes)),
        key=lambda at: (_RANK[_state(nodes[at])[1]], nodes[at]["role"] == "replica", at),
    )
    return [nodes[at] for at in sorted(ranked[:most])]


_RANK: Final = {"bold red": 0, "yellow": 1, "dim": 2, "green": 2}


def _state(node: NodeFrame) -> tuple[str, str]:
    """In words, and its style."""
    replica = node["role"] == "replica"
    if not node["reachable"] or node["breaker"] == "open":
        word = "replica, offline" if replica else "down"
        return word + (", refused" if node["breaker"] == "open" else ""), "bold red"
    if node["breaker"] == "half-open":
        return "down, being tried", "yellow"
    if node["status"] in ("unhealthy", "degraded"):
        return node["status"], "bold red" if node["status"] == "unhealthy" else "yellow"
    if replica:
        return ("replica, read" if node["connected"] else "replica"), "dim"
    return ("healthy", "green") if node["status"] == "healthy" else ("not asked", "dim")


def _line(node: NodeFrame, name: int, most: float, columns: Mapping[str, int]) -> Text:
    state, style = _state(node)
    replica = node["role"] == "replica"
    mark = {"bold red": "✖", "yellow": "▲"}.get(style, " " if replica else "●")
    shown = f"{'↳ ' if replica else ''}{node['endpoint']}"
    if len(shown) > name - 2:
        kept = name - 3  # its end tells it from others: the port
        shown = f"{shown[: kept - kept // 2]}…{shown[-(kept // 2) :]}"
    width = round(node["rate"] / most * _BAR * 2) if most else 0
    slots, p99, quiet = node["slots"], node["p99"], replica and not node["connected"]
    cells = {
        "state": (f"  {state}", style),
        "slots": ("" if not slots else f"{slots:.1%}" if slots < 0.1 else f"{slots:.0%}", ""),
        "per s": ("" if quiet else short(node["rate"]), ""),
        "": (f"  {'━' * (width // 2)}{'╸' * (width % 2)}", "cyan"),
        "p99": ("" if p99 is None else duration(p99), ""),
        "in flight": ("" if quiet else f"{node['in_flight']:,}", "dim"),
    }
    line = Text.assemble((f"{mark} ", style), shown.ljust(name - 2))
    for title, columns_of_it in columns.items():
        text, look = cells[title]
        left = title in ("state", "")
        line.append(text.ljust(columns_of_it) if left else text.rjust(columns_of_it), look)
    if replica and node["lag"] is not None:
        ago = "now" if node["lag"] < 1 else f"{duration(node['lag'])} ago"
        line.append(f"   {ago}", "dim")
        if node["behind"]:
            line.append(f", {size(node['behind'])} unconfirmed", "dim")
    return line
