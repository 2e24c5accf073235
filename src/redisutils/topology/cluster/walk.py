"""SCAN over all primaries: one step of the walk that ``scanning`` describes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from time import monotonic
from typing import Any

from redisutils.connection.packing import pack
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known, LaneOver
from redisutils.topology.cluster.scanning import (
    Scanning,
    cursor_in,
    slot_of_pattern,
    with_cursor,
)

__all__ = ["scan"]


async def scan(
    cluster: Known, lane: LaneOver, words: Sequence[bytes], decode: bool, timeout: float
) -> Any:
    """The answer to one SCAN of a caller's. Raises what the node raises that is asked, and
    CommandTimeout when the slots go on moving until ``timeout`` seconds are over."""
    until = monotonic() + timeout
    await cluster.mapped(timeout)
    cursor = cursor_in(words)
    only = slot_of_pattern(words)
    while True:
        version = cluster.version
        nodes, scanning = _walk(cluster)
        place = None if cursor is None else scanning.resume(cursor, only)
        left = max(0.001, until - monotonic())
        if place is not None:
            asked = lane.lane_of(nodes[place.node])
            reply = await asked.submit(with_cursor(words, place.cursor), decode, left)
            if cluster.version == version:
                return scanning.answer(place, reply)
        elif cursor is None:  # for a server to refuse
            return await lane.target(None).submit(pack(words), decode, left)
        else:
            return ["0" if decode else b"0", []]


def _walk(cluster: Known) -> tuple[dict[str, Node], Scanning]:
    """The primaries by their ids, and the walk over them. O(slots), 0.5 ms."""
    nodes: dict[str, Node] = {}
    ranges: dict[str, list[tuple[int, int]]] = {}
    first = 0
    for node, run in groupby(cluster.owners):
        end = first + sum(1 for _ in run)
        if node is not cluster.nowhere:
            id_ = node.member.id if node.member is not None else str(node.address)
            nodes[id_] = node
            ranges.setdefault(id_, []).append((first, end - 1))
        first = end
    return nodes, Scanning(ranges)
