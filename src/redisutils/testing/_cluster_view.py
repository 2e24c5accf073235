"""What one node of a cluster knows of all: the reply of CLUSTER NODES."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

__all__ = ["SLOTS", "NodeView", "owners_of", "view_of"]

SLOTS = 16384


@dataclass(frozen=True)
class NodeView:
    """One node, as another one sees it; ``primary`` is the id of a replica's primary."""

    id: str
    port: int
    bus_port: int
    flags: frozenset[str]
    primary: str | None
    epoch: int
    connected: bool
    slots: tuple[range, ...]


def view_of(reply: str) -> Mapping[str, NodeView]:
    """The nodes in a reply of CLUSTER NODES by their id."""
    return {node.id: node for node in map(_node, reply.splitlines())}


def owners_of(nodes: Iterable[NodeView]) -> tuple[str | None, ...]:
    """The id of each slot's owner, by slot; None where there is none."""
    owners: list[str | None] = [None] * SLOTS
    for node in nodes:
        for slots in node.slots:
            owners[slots.start : slots.stop] = [node.id] * len(slots)
    return tuple(owners)


def _node(line: str) -> NodeView:
    # id address flags primary ping pong epoch link slot...
    id_, address, flags, primary, _, _, epoch, link, *slots = line.split()
    # host:port@busport, then perhaps a comma and more.
    place, _, bus = address.partition("@")
    return NodeView(
        id_,
        int(place.rpartition(":")[2]),
        int(bus.partition(",")[0]),
        frozenset(flags.split(",")),
        None if primary == "-" else primary,
        int(epoch),
        link == "connected",
        # In brackets stand the slots that move.
        tuple(_range(slot) for slot in slots if not slot.startswith("[")),
    )


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
