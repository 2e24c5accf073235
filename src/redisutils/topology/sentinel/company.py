"""The sentinels that are asked: those that were given, and those that they tell of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Final

from redisutils.address import Address
from redisutils.connection.words import of_each
from redisutils.errors import ConnectFailed
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.answers import Answer, system_size
from redisutils.topology.sentinel.informant import Informant

__all__ = ["Company"]

MOST: Final = 64
"""Sentinels that are asked at most, unless more were given: where one alone answers, nobody else
bounds how many it tells of, and each is a connection."""


class Company:
    """See the module's docstring.

    Args:
        plan: who was given.
        hear: called with each one's news: see :class:`Informant`.
    """

    def __init__(
        self, plan: SentinelPlan, hear: Callable[[Informant, str, list[str]], None]
    ) -> None:
        self._plan = plan
        self._hear = hear
        self._members = [
            Informant(options, plan.master, plan.addresses, hear) for options in plan.sentinels
        ]

    def __iter__(self) -> Iterator[Informant]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def size(self, answers: Collection[Answer]) -> int:
        """How many sentinels there are, by these answers."""
        return system_size(answers, len(self._members))

    @property
    def answers(self) -> list[tuple[str, Answer]]:
        """What each said when it was last asked, if it answered, with its name."""
        return [(each.options.peer, each.answer) for each in self._members if each.answer]

    @property
    def troubles(self) -> dict[str, str]:
        """Why the others did not answer, by name."""
        return {each.options.peer: each.trouble for each in self._members if each.trouble}

    # -- who belongs to it -----------------------------------------------------------

    def learn(self, keep: Callable[[Informant], bool]) -> bool:
        """Of others, from what all have said; and forget those that are none of them any more,
        but for whom to ``keep``. Returns whether there is somebody new."""
        answers = [answer for _, answer in self.answers]
        voices = Counter(peer for answer in answers for peer in answer.sentinels)
        # Nobody lists himself. One alone among several makes no sentinels up.
        listed = {peer for peer, count in voices.items() if 2 * count > len(answers) - 1}
        known = {each.address for each in self._members}
        known.update(filter(None, (each.socket for each in self._members)))
        ids = {each.identity for each in self._members if each.identity}
        before = len(self._members)
        for peer in sorted(listed):
            if len(self._members) >= MOST:
                break
            if peer.address not in known and peer.identity not in ids:
                known.add(peer.address)
                ids.add(peer.identity)
                self._members.append(self._acquainted(peer.address, peer.identity or "?"))
        new = len(self._members) > before
        self._forget({peer.address for peer in listed}, keep)
        return new

    def _acquainted(self, address: Address, identity: str) -> Informant:
        """Others are reached as the first is."""
        first, plan = self._plan.sentinels[0], self._plan
        options = replace(first, host=address.host, port=address.port, path=None)
        return Informant(options, plan.master, plan.addresses, self._hear, identity)

    def _forget(self, listed: set[Address], keep: Callable[[Informant], bool]) -> None:
        """Those that were learnt, and are another's second name, or that nobody knows any more."""
        ids: set[str] = set()
        for member in sorted(self._members, key=lambda each: each.learnt):
            twice = member.answer is not None and member.identity in ids
            gone = member.trouble is not None and member.address not in listed
            if member.answer is not None:
                ids.add(member.identity)
            if member.learnt and (twice or gone) and not keep(member):
                self._members.remove(member)
                member.abandon()

    # -- errors ----------------------------------------------------------------------

    def ignorance(self) -> ConnectFailed:
        """The error when none of them knows where the primary is."""
        why = of_each(self.troubles)
        troubles = [why] if why else []
        strangers = [name for name, _ in self.answers]
        if strangers:
            troubles.append(
                f"{', '.join(strangers)} know{'s' * (len(strangers) == 1)} no primary of that "
                "name (REDIS_SENTINEL_MASTER is the name in their `sentinel monitor`)"
            )
        told = "; ".join(troubles) or "none has answered yet"
        fatal = bool(troubles) and all(each.fatal or each.answer for each in self._members)
        error = ConnectFailed(f"no sentinel knows {self._plan.master}: {told}", fatal=fatal)
        error.elsewhere = not fatal
        return error
