"""What a command's latency is made of.

=========  =====================================================================================
part       from … to
=========  =====================================================================================
wait       issued … handed to a connection: it waited for one, for room on it, or to be repeated
queue      handed to a connection … written to its socket: the turn of the loop that gathers
wire       written … its answer received: the network, the server, and the socket's buffers
loop       received … its turn to be parsed: answers before it, and the tasks that they woke
parse      its parsing
=========  =====================================================================================

An answer that lies in the socket while the program does other things is still on the wire, as far
as a program can see. How long the loop keeps such things waiting is measured apart: see
:mod:`redisutils.metrics.pulse`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from redisutils.metrics.latency import LatencySnapshot, bucket_of

__all__ = ["PARTS", "Composition", "Split", "Sums", "band_of"]

PARTS: Final = ("wait", "queue", "wire", "loop", "parse")


@dataclass(frozen=True, slots=True)
class Split:
    """One latency in seconds, or a mean of many, by its parts."""

    wait: float = 0.0
    queue: float = 0.0
    wire: float = 0.0
    loop: float = 0.0
    parse: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.wait + self.queue + self.wire + self.loop + self.parse

    def as_dict(self) -> dict[str, float]:
        """By the names of ``PARTS``, in their order."""
        return {part: getattr(self, part) for part in PARTS}


def band_of(seconds: float) -> int:
    """Commands are told apart by how long they took to an eighth of a power of two."""
    return bucket_of(seconds) // 4


Sums = tuple[float, float, float, float, float, float]
"""Of the commands in one band: how many they are, and the sum of each part."""

_NOTHING: Final[Sums] = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Composition:
    """What commands are made of, by how long they took: what are the slowest waiting for?"""

    latency: LatencySnapshot
    """Of whole commands."""
    sums: Mapping[int, Sums] = field(repr=False)
    """By the latency's band: see :func:`band_of`."""

    def at(self, percent: float) -> Split:
        """The parts of a command at this percentile. They add up to the percentile's latency.

        It is the mean of the commands that took about as long (the same eighth of a power of
        two), scaled.
        """
        whole = self.latency.percentile(percent)
        _, *together = self.sums.get(band_of(whole), _NOTHING)
        scale = whole / sum(together) if sum(together) else 0.0
        return Split(*(part * scale for part in together))

    def mean(self) -> Split:
        """The mean of each part."""
        count, *together = _summed(list(self.sums.values()))
        return Split(*(part / count for part in together)) if count else Split()

    def since(self, earlier: Composition) -> Composition:
        """What was counted after ``earlier``, of the same pool."""
        sums: dict[int, Sums] = {}
        for bucket, now in self.sums.items():
            before = earlier.sums.get(bucket, _NOTHING)
            left = tuple(max(0.0, a - b) for a, b in zip(now, before, strict=True))
            if left[0]:
                sums[bucket] = cast(Sums, left)
        return Composition(self.latency.since(earlier.latency), sums)


def _summed(rows: Sequence[Sums]) -> Sums:
    """Column by column."""
    return cast(Sums, tuple(map(sum, zip(*rows, strict=True)))) if rows else _NOTHING
