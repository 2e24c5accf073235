"""Whom to read from.

============== ==============================================================================
``source``     who is asked, in this order
============== ==============================================================================
replica        replicas in the zone, other replicas; nobody if none is fit
prefer-replica replicas in the zone, other replicas, the primary
nearest        the primary and replicas alike: those in the zone before others, and of them those
               that are near; the others when none of these is fit
============== ==============================================================================

A replica is **fit** if it answered when it was last looked at, and is no further behind than
``max_lag``. *Near* is whoever is not much further away than the nearest (``MARGIN``), so that
servers of one machine room share the load, whatever their round trips happen to be.

Who stands together takes turns; of the next two the one is asked that owes fewer answers, which
keeps load away from a server that is slow at the moment without starving it of reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from time import monotonic
from typing import Final, Generic, TypeVar

from redisutils.metrics.reading import ReadCounts
from redisutils.topology.plan import Reading
from redisutils.topology.reading.figures import Copy

__all__ = ["MARGIN", "Choosing", "Ranks", "ranks"]

C = TypeVar("C", bound=Copy)  # hashable, and equal to itself alone

MARGIN: Final = (1.3, 0.0002)
"""How much further away than the nearest is near as well: so many times, and so many seconds more.
A round trip within one machine room is some tenths of a millisecond, to the next zone one or two
milliseconds."""

VALID_FOR: Final = 0.1
"""Seconds for which what was found stands, unless something is heard."""


@dataclass(frozen=True, slots=True)
class Ranks(Generic[C]):
    """Who may be asked."""

    groups: tuple[tuple[C, ...], ...]
    """The best first; those within one are equals. No group is empty."""
    until: float
    """For how long this holds (``time.monotonic``)."""
    behind: tuple[C, ...] = ()
    """Those that are left out since they are too far behind."""


def ranks(reading: Reading, primary: C, replicas: Sequence[C], now: float) -> Ranks[C]:
    """Who may be asked for what ``primary`` and its replicas have. O(replicas), or O(n log n) for
    ``nearest``."""
    if reading.source == "primary":
        return Ranks(((primary,),), inf)
    until = now + VALID_FOR
    fit: list[C] = []
    behind: list[C] = []
    for replica in replicas:
        figures = replica.figures
        if not figures.proven:
            continue
        fit_until = inf if reading.max_lag == inf else figures.fresh_at + reading.max_lag
        if fit_until > now:
            fit.append(replica)
            until = min(until, fit_until)
        elif figures.fresh_at > -inf:  # if not, it has not been asked yet
            behind.append(replica)
    if reading.source == "nearest":
        groups = _by_distance(_by_zone(reading.zone, [primary, *fit]))
        if not primary.figures.proven and replicas:
            # Down, or not looked at yet: the last to be asked, and by no means left out.
            others = [tuple(copy for copy in group if copy is not primary) for group in groups]
            groups = [*filter(None, others), (primary,)]
    else:
        groups = [tuple(group) for group in _by_zone(reading.zone, fit)]
        if reading.source != "replica":
            groups.append((primary,))
    return Ranks(tuple(groups), until, tuple(behind))


def _by_zone(zone: str | None, copies: list[C]) -> list[list[C]]:
    if zone is None:
        return [copies] if copies else []
    here = [copy for copy in copies if copy.figures.zone == zone]
    elsewhere = [copy for copy in copies if copy.figures.zone != zone]
    return [group for group in (here, elsewhere) if group]


def _by_distance(zones: list[list[C]]) -> list[tuple[C, ...]]:
    groups: list[tuple[C, ...]] = []
    times, more = MARGIN
    for copies in zones:
        known = [copy.figures.round_trip for copy in copies]
        # Whose distance is not known is taken for near: it is about to be.
        near = min((each for each in known if each is not None), default=0.0)
        far = {
            copy: near if each is None else each for copy, each in zip(copies, known, strict=True)
        }
        left = sorted(copies, key=far.__getitem__)
        while left:
            bound = far[left[0]] * times + more
            group = [copy for copy in left if far[copy] <= bound]
            groups.append(tuple(group))
            left = left[len(group) :]
    return groups


class Choosing(Generic[C]):
    """Chooses, quickly: who may be asked is worked out ten times a second at most.

    Args:
        reading: how.
        replicas_of: the replicas of a primary.
        load: how many answers a server owes.
        counts: where it is counted that a replica was left out.
        clock: seconds, such as ``time.monotonic``.
    """

    __slots__ = ("_clock", "_counts", "_load", "_ranks", "_replicas_of", "_turn", "reading")

    def __init__(
        self,
        reading: Reading,
        replicas_of: Callable[[C], Sequence[C]],
        load: Callable[[C], int],
        counts: ReadCounts,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self.reading = reading
        self._replicas_of = replicas_of
        self._load = load
        self._counts = counts
        self._clock = clock
        self._ranks: dict[C, Ranks[C]] = {}
        self._turn = 0

    def ranks(self, primary: C) -> Ranks[C]:
        """Who may be asked instead of ``primary``, itself included where it may be."""
        now = self._clock()
        found = self._ranks.get(primary)
        if found is None or found.until < now:
            found = ranks(self.reading, primary, self._replicas_of(primary), now)
            self._ranks[primary] = found
        return found

    def choose(self, primary: C) -> C | None:
        """Whom to ask for what ``primary`` has; None if nobody may be asked."""
        found = self.ranks(primary)
        if found.behind:
            self._counts.lagging += 1
        if not found.groups:
            return None
        group = found.groups[0]
        size = len(group)
        if size == 1:
            return group[0]
        self._turn = turn = self._turn + 1
        first, second = group[turn % size], group[(turn + 1) % size]
        return second if self._load(second) < self._load(first) else first

    def another(self, primary: C, than: C) -> C | None:
        """The best that may be asked besides; None if there is none."""
        for group in self.ranks(primary).groups:
            others = [copy for copy in group if copy is not than]
            if others:
                return min(others, key=self._load)
        return None

    def changed(self) -> None:
        """Something is known that was not: work it out anew."""
        self._ranks.clear()
